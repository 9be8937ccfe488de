"""What a search text may refer to, and conditions that an index can use."""

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
    """The type of a payment's object whose id `text` is."""
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
    """The lower and upper bound for `expression` (the first 200 characters in lower case, in byte
    order) to begin with `text` (a parameter, at most as long), ignoring case. LIKE could not use
    the index, because its pattern is a parameter."""
    beginning = f"pg_catalog.left(pg_catalog.lower({text}), 200)"
    return f"{expression} >= {beginning}", f"{expression} < {beginning} || chr(1114111)"


def with_email(email: str) -> str:
    """SELECT of the ids of the customers with this email address (a parameter)."""
    return f"""SELECT c.provider_customer_id FROM payments.customers AS c
        WHERE c.provider = 'stripe' AND c.environment = $1
          AND pg_catalog.left(pg_catalog.lower(c.email), 200) COLLATE "C"
            = pg_catalog.left(pg_catalog.lower({email}), 200)
          AND pg_catalog.lower(c.email) = pg_catalog.lower({email})"""


def distinct(column: str, table: str, conditions: str) -> str:
    """SELECT of the distinct values of an indexed column (not null), with one lookup per value.
    `conditions` fix the columns before it."""
    return f"""
        WITH RECURSIVE found(value) AS (
            (SELECT {column} FROM {table} WHERE {conditions} ORDER BY {column} LIMIT 1)
            UNION ALL
            SELECT (SELECT {column} FROM {table} WHERE {conditions} AND {column} > found.value
                    ORDER BY {column} LIMIT 1)
            FROM found WHERE found.value IS NOT NULL
        )
        SELECT value AS {column} FROM found WHERE value IS NOT NULL"""
