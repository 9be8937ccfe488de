"""One search over everything: names, email addresses, amounts, order ids, any value of metadata,
numbers of invoices and Stripe's ids. Each part is a look-up in an index."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import get_args

from billhook.errors import BillhookError
from billhook.models import (
    LISTS,
    Customer,
    CustomersQuery,
    MirroredRow,
    Payment,
    ProductsQuery,
    ProductWithPrices,
    Subscription,
    SubscriptionsQuery,
    TransactionsQuery,
)
from billhook.models.queries import TransactionStatus, TransactionType
from billhook.money import decimals
from billhook.postgres import Database
from billhook.reports import lists
from billhook.settings import Environment

MOST = 8
"""Results of each kind."""
_FEW = 2
_INVOICES = LISTS["invoices"]
_AMOUNT = re.compile(
    r"[^\d\s,.-]?\s*(?P<whole>\d{1,3}(?:,\d{3})+|\d{1,13})(?:[.,](?P<rest>\d{1,3}))?\s*"
    r"(?P<currency>[A-Za-z]{3})?[€£]?"
)
_VALUES = (
    "pg_catalog.jsonb_path_query_array({metadata}, "
    "'$.keyvalue() ? (!(@.key starts with \"insforge_\")).value', '{{}}', true) "
    "@> pg_catalog.jsonb_build_array($2::text)"
)
# PostgreSQL plans a materialized query without the LIMIT outside of it, so it uses the index even
# if it expects many matches, and still stops early.
_OF_RAW = _VALUES.format(metadata="t.raw -> 'metadata'::text")
_BY_METADATA = "\nUNION\n".join(
    f"""(WITH m AS MATERIALIZED (
        SELECT {key} AS id FROM payments.{table} AS t
        WHERE {condition} AND t.environment = $1)
    SELECT '{kind}' AS kind, m.id FROM m LIMIT {MOST})"""  # noqa: S608
    for kind, key, table, condition in (
        (
            "transaction",
            "t.provider_object_id",
            "transactions",
            f"t.type <> 'refund' AND t.raw -> 'metadata'::text <> '{{}}' AND t.provider = 'stripe' "
            f"AND {_OF_RAW}",
        ),
        (
            "transaction",
            "coalesce(t.payment_intent_id, t.checkout_session_id)",
            "stripe_checkout_sessions",
            f"t.metadata <> '{{}}' AND t.status = 'completed' "
            f"AND {_VALUES.format(metadata='t.metadata')}",
        ),
        (
            "customer",
            "t.provider_customer_id",
            "customers",
            f"t.metadata <> '{{}}' AND t.provider = 'stripe' "
            f"AND {_VALUES.format(metadata='t.metadata')}",
        ),
        (
            "subscription",
            "t.subscription_id",
            "stripe_subscriptions",
            f"t.metadata <> '{{}}' AND {_VALUES.format(metadata='t.metadata')}",
        ),
        (
            "invoice",
            "t.invoice_id",
            "stripe_invoices",
            "pg_catalog.upper(pg_catalog.left(t.number, 200)) = pg_catalog.upper($2) "
            "AND t.number IS NOT NULL",
        ),
    )
)
# One scan of the index transactions_by_amount for each type, status and amount.
_BY_AMOUNT = f"""
SELECT found.id, found.currency, wanted.digits
FROM ROWS FROM (pg_catalog.unnest($2::text[]::bigint[]), pg_catalog.unnest($3::text[]::integer[]))
    AS wanted (amount, digits)
CROSS JOIN pg_catalog.unnest($4::text[]) AS of_type (type)
CROSS JOIN pg_catalog.unnest($5::text[]) AS of_status (status)
CROSS JOIN LATERAL (
    SELECT t.provider_object_id AS id, t.currency,
        coalesce(t.provider_created_at, t.created_at) AS at
    FROM payments.transactions AS t
    WHERE t.environment = $1 AND t.type = of_type.type AND t.status = of_status.status
      AND coalesce(t.amount, 0) = wanted.amount AND t.provider = 'stripe'
    ORDER BY coalesce(t.amount, 0) DESC, coalesce(t.provider_created_at, t.created_at) DESC,
        t.id DESC
    LIMIT {2 * MOST}) AS found
ORDER BY found.at DESC LIMIT {4 * MOST}
"""  # noqa: S608


@dataclass(slots=True)
class Found:
    """What a search found, the best matches of each kind."""

    customers: list[Customer] = field(default_factory=list)
    payments: list[Payment] = field(default_factory=list)
    subscriptions: list[Subscription] = field(default_factory=list)
    invoices: list[MirroredRow] = field(default_factory=list)
    products: list[ProductWithPrices] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        return not (
            self.customers or self.payments or self.subscriptions or self.invoices or self.products
        )


async def search(database: Database, environment: Environment, text: str) -> Found:
    """Everything that `text` may mean."""
    found = Found()
    customers, payments, subscriptions, products, by_value, by_amount = await asyncio.gather(
        lists.customers(database, environment, CustomersQuery(search=text, limit=MOST)),
        lists.payments(database, environment, TransactionsQuery(search=text, limit=MOST)),
        lists.subscriptions(database, environment, SubscriptionsQuery(search=text, limit=MOST)),
        lists.products(
            database, environment, ProductsQuery(search=text, limit=MOST), prices_each=2
        ),
        _by_value(database, environment, text),
        _by_amount(database, environment, text),
    )
    found.customers, found.payments = customers.rows, payments.rows
    found.subscriptions, found.products = subscriptions.rows, products.rows
    if len(found.customers) <= _FEW:
        # A search for a person is most likely one for what they paid.
        for customer in found.customers:
            theirs = TransactionsQuery(customer=customer.provider_customer_id, limit=MOST)
            more = await lists.payments(database, environment, theirs)
            found.payments += _others(found.payments, more.rows)
    ids = [name for kind, name in by_value if kind == "transaction"] + by_amount
    known = {each.provider_reference_id for each in found.payments}
    wanted = [each for each in dict.fromkeys(ids) if each not in known]
    found.payments += await _payments(database, environment, wanted[:MOST])
    for kind, name in by_value:
        if kind == "customer" and name not in {c.provider_customer_id for c in found.customers}:
            query = CustomersQuery(customer=name, limit=1)
            found.customers += (await lists.customers(database, environment, query)).rows
        elif kind == "subscription" and name not in {
            s.subscription_id for s in found.subscriptions
        }:
            subscription = await lists.subscription(database, environment, name)
            found.subscriptions += [subscription] if subscription else []
        elif kind == "invoice":
            one = await lists.mirrored_one(database, environment, _INVOICES, name)
            found.invoices.append(one)
    return found


def _others(known: list[Payment], more: list[Payment]) -> list[Payment]:
    """Those of `more` that are not known."""
    ids = {each.provider_reference_id for each in known}
    return [each for each in more if each.provider_reference_id not in ids]


async def _payments(
    database: Database, environment: Environment, ids: Iterable[str]
) -> list[Payment]:
    """Payments by any of their ids, each once, the latest first."""
    found: dict[str | None, Payment] = {}
    for each in ids:
        try:
            payment = await lists.payment(database, environment, each)
        except BillhookError:
            continue
        found[payment.provider_reference_id] = payment
    return sorted(found.values(), key=lambda p: p.provider_created_at or p.created_at, reverse=True)


async def _by_value(
    database: Database, environment: Environment, text: str
) -> list[tuple[str, str]]:
    """Kind and id of what has this value in its metadata, or this number."""
    async with database.connection() as connection:
        rows = await connection.fetch(_BY_METADATA, environment, text)
    return [(row["kind"], row["id"]) for row in rows if row["id"]]


async def _by_amount(database: Database, environment: Environment, text: str) -> list[str]:
    """The ids of payments and refunds of this amount, whatever the currency if none is given."""
    parsed = _AMOUNT.fullmatch(text)
    if parsed is None:
        return []
    currency = (parsed["currency"] or "").lower()
    rest = parsed["rest"] or ""
    exact = Decimal(f"{parsed['whole'].replace(',', '')}.{rest or 0}")
    wanted = [
        (int(exact.scaleb(digits)), digits)
        for digits in (0, 2, 3)
        if exact.scaleb(digits) == exact.scaleb(digits).to_integral_value()
        and (not currency or decimals(currency) == digits)
    ]
    wanted = [each for each in wanted if 0 < each[0] < 2**63]
    async with database.connection() as connection:
        rows = await connection.fetch(
            _BY_AMOUNT,
            environment,
            [str(amount) for amount, _ in wanted],
            [str(digits) for _, digits in wanted],
            list(get_args(TransactionType)),
            list(get_args(TransactionStatus)),
        )
    return [
        row["id"]
        for row in rows
        if row["id"]
        and decimals(row["currency"] or "usd") == row["digits"]
        and currency in ("", row["currency"])
    ]
