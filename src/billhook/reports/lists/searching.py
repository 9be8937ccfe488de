"""What a search text may name, and conditions by which an index finds it."""

from __future__ import annotations

from typing import Literal

StripeKind = Literal[
    "payment_intent",
    "charge",
    "invoice",
    "checkout_session",
    "refund",
    "subscription",
    "customer",
]
_PREFIXES: dict[str, StripeKind] = {
    "pi": "payment_intent",
    "ch": "charge",
    "py": "charge",
    "in": "invoice",
    "cs": "checkout_session",
    "re": "refund",
    "pyr": "refund",
    "sub": "subscription",
    "cus": "customer",
}


def kind_of(text: str) -> StripeKind | None:
    """Of which object of a payment `text` is the id."""
    prefix, underscore, rest = text.partition("_")
    return _PREFIXES.get(prefix) if underscore and rest else None


def subject_of(text: str) -> tuple[str, str] | None:
    """Type and id, written `type:id`."""
    kind, _, name = text.partition(":")
    return (kind, name) if kind and name else None


def is_email(text: str) -> bool:
    """Whether it could be one."""
    return "@" in text


def begins_with(expression: str, text: str) -> tuple[str, str]:
    """The conditions (from where, up to where) that `expression`, the first 200 characters in lower
    case in the order of bytes, begins with `text` (a place in the statement; no longer), whatever
    its case. LIKE would find no index: its pattern is a parameter."""
    beginning = f"pg_catalog.left(pg_catalog.lower({text}), 200)"
    return f"{expression} >= {beginning}", f"{expression} < {beginning} || chr(1114111)"


def with_email(email: str) -> str:
    """SELECT of the ids of the customers with this e-mail (a place in the statement)."""
    return f"""SELECT c.provider_customer_id FROM payments.customers AS c
        WHERE c.provider = 'stripe' AND c.environment = $1
          AND pg_catalog.left(pg_catalog.lower(c.email), 200) COLLATE "C"
            = pg_catalog.left(pg_catalog.lower({email}), 200)
          AND pg_catalog.lower(c.email) = pg_catalog.lower({email})"""


def distinct(column: str, table: str, conditions: str) -> str:
    """SELECT of the values of an index's column (not null), from one to the next: as many look-ups
    as there are values. `conditions` fix the columns before it."""
    return f"""
        WITH RECURSIVE found(value) AS (
            (SELECT {column} FROM {table} WHERE {conditions} ORDER BY {column} LIMIT 1)
            UNION ALL
            SELECT (SELECT {column} FROM {table} WHERE {conditions} AND {column} > found.value
                    ORDER BY {column} LIMIT 1)
            FROM found WHERE found.value IS NOT NULL
        )
        SELECT value AS {column} FROM found WHERE value IS NOT NULL"""
