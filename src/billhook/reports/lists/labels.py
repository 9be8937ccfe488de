"""What people read on a row instead of ids: names, products, prices, cards and reasons. One query
for a whole page; each lookup in it reads one entry of an index."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

import asyncpg

from billhook.kinds.reading import entries, hash_of, integer, text, timestamp
from billhook.kinds.recurring import MONTHS, rounded
from billhook.models import Payment, Subscription
from billhook.postgres import Database
from billhook.settings import Environment

MOST_ITEMS = 5
"""Items of a subscription whose names are read."""

_ADDED = re.compile(r"^1 × | \(at [^()]* / [^()]*\)$")


@dataclass(frozen=True, slots=True)
class Name:
    """A customer's name and email address; either may be unknown."""

    name: str | None = None
    email: str | None = None

    def __str__(self) -> str:
        return self.name or self.email or ""


@dataclass(frozen=True, slots=True)
class PaymentLabel:
    """What a payment was for, and how it was paid.

    Attributes:
        bought: the product or the lines; None if unknown.
        invoice: the number of its invoice.
        method: the type of payment method, such as `card` or `sepa_debit`.
        decline: why the last attempt failed, in Stripe's words.
    """

    customer: Name = Name()
    bought: str | None = None
    invoice: str | None = None
    method: str | None = None
    brand: str | None = None
    last4: str | None = None
    decline: str | None = None
    decline_code: str | None = None


@dataclass(frozen=True, slots=True)
class ItemLabel:
    """An item of a subscription: its product and its price."""

    product: str | None
    quantity: int | None
    unit_amount: int | None
    unit_amount_decimal: str | None
    currency: str | None
    interval: str | None
    interval_count: int | None
    billing_scheme: str | None
    metered: bool

    @property
    def monthly(self) -> Fraction | None:
        """Its price for a month; None if it depends on usage or tiers."""
        months = MONTHS.get(self.interval or "")
        each = self.unit_amount if self.unit_amount is not None else self.unit_amount_decimal
        if months is None or each is None or self.metered or self.billing_scheme == "tiered":
            return None
        units = 1 if self.quantity is None else self.quantity
        return Fraction(each) * units / (months * (self.interval_count or 1))


@dataclass(frozen=True, slots=True)
class SubscriptionLabel:
    customer: Name = Name()
    items: tuple[ItemLabel, ...] = field(default=())
    more: int = 0
    """Items whose names were not read."""
    started_at: datetime | None = None

    @property
    def product(self) -> str:
        """The names of its products."""
        names = dict.fromkeys(each.product for each in self.items if each.product)
        return ", ".join(names) or "a subscription"

    @property
    def currency(self) -> str | None:
        return next((each.currency for each in self.items), None)

    @property
    def monthly(self) -> int | None:
        """The prices of all items for a month, before discounts and tax, in the minor unit."""
        amounts = [each.monthly for each in self.items]
        if self.more or not amounts or None in amounts:
            return None
        return rounded(sum(filter(None, amounts), Fraction()))


_NAMES = """
SELECT provider_customer_id AS id, nullif(name, '') AS name, nullif(email, '') AS email
FROM payments.customers
WHERE provider = 'stripe' AND environment = $1 AND provider_customer_id = ANY ($2::text[])
"""
# `$2…` are arrays of the same length: one entry for each payment. OFFSET 0 keeps each lookup an
# index scan of its own, whatever the planner knows.
_PAYMENTS = """
SELECT x.n, c.name, c.email, product.name AS product, invoice.number, invoice.lines,
    session.bought, charge.method, failure.error, saved.type AS saved_type,
    saved.brand AS saved_brand, saved.last4 AS saved_last4
FROM ROWS FROM (
    pg_catalog.unnest($2::text[]), pg_catalog.unnest($3::text[]), pg_catalog.unnest($4::text[]),
    pg_catalog.unnest($5::text[]), pg_catalog.unnest($6::text[]), pg_catalog.unnest($7::text[])
) WITH ORDINALITY AS x (customer, intent, charge, invoice, session, product, n)
LEFT JOIN LATERAL (
    SELECT nullif(t.name, '') AS name, nullif(t.email, '') AS email FROM payments.customers AS t
    WHERE t.provider = 'stripe' AND t.environment = $1 AND t.provider_customer_id = x.customer
    LIMIT 1) AS c ON true
LEFT JOIN LATERAL (
    SELECT t.name FROM payments.stripe_products AS t
    WHERE t.environment = $1 AND t.product_id = x.product LIMIT 1) AS product ON true
LEFT JOIN LATERAL (
    SELECT t.number, pg_catalog.jsonb_path_query_array(
        t.raw, '$.lines.data[0 to 2].description') AS lines
    FROM payments.stripe_invoices AS t
    WHERE t.environment = $1 AND t.invoice_id = x.invoice LIMIT 1) AS invoice ON true
LEFT JOIN LATERAL (
    SELECT (
        SELECT pg_catalog.string_agg(
            CASE WHEN line.value ->> 'quantity'::text <> '1'
                 THEN (line.value ->> 'quantity'::text) || ' × ' ELSE '' END || sold.name, ', ')
        FROM pg_catalog.jsonb_array_elements(t.line_items) AS line
        CROSS JOIN LATERAL (
            SELECT p.product_id FROM payments.stripe_prices AS p
            WHERE p.environment = $1
              AND p.price_id = line.value ->> 'priceId'::text LIMIT 1) AS of_price
        CROSS JOIN LATERAL (
            SELECT p.name FROM payments.stripe_products AS p
            WHERE p.environment = $1 AND p.product_id = of_price.product_id LIMIT 1) AS sold
    ) AS bought
    FROM payments.stripe_checkout_sessions AS t
    WHERE t.environment = $1 AND t.checkout_session_id = x.session LIMIT 1) AS session ON true
LEFT JOIN LATERAL (
    SELECT e.payload #> '{data,object,payment_method_details}'::text[] AS method
    FROM (SELECT t.payload FROM payments.webhook_events AS t
          WHERE t.environment = $1 AND t.object_type = 'charge' AND t.object_id = x.charge
          OFFSET 0) AS e
    LIMIT 1) AS charge ON true
LEFT JOIN LATERAL (
    SELECT e.payload #> '{data,object,last_payment_error}'::text[] AS error
    FROM (SELECT t.payload, t.event_type, t.received_at FROM payments.webhook_events AS t
          WHERE t.environment = $1 AND t.object_type = 'payment_intent' AND t.object_id = x.intent
          OFFSET 0) AS e
    WHERE e.event_type = 'payment_intent.payment_failed'
    ORDER BY e.received_at DESC LIMIT 1) AS failure ON true
LEFT JOIN LATERAL (
    SELECT m.type, m.brand, m.last4
    FROM (SELECT e.payload #>> '{data,object,payment_method}'::text[] AS id
          FROM (SELECT t.payload FROM payments.webhook_events AS t
                WHERE t.environment = $1 AND t.object_type = 'payment_intent'
                  AND t.object_id = x.intent AND charge.method IS NULL OFFSET 0) AS e
          LIMIT 1) AS paid_with
    CROSS JOIN LATERAL (
        SELECT t.type, t.brand, t.last4 FROM payments.stripe_payment_methods AS t
        WHERE t.environment = $1 AND t.payment_method_id = paid_with.id LIMIT 1) AS m
    ) AS saved ON true
"""
_ITEMS = """
SELECT item.subscription_id, item.product_id, item.quantity, product.name, price.*
FROM (SELECT subscription_id, subscription_item_id, product_id, price_id, quantity,
        pg_catalog.row_number() OVER (
            PARTITION BY subscription_id ORDER BY subscription_item_id) AS n
      FROM payments.stripe_subscription_items
      WHERE environment = $1 AND subscription_id = ANY ($2::text[])) AS item
LEFT JOIN LATERAL (
    SELECT p.unit_amount, p.unit_amount_decimal, p.currency, p.recurring_interval,
        p.recurring_interval_count, p.billing_scheme,
        p.raw #>> '{recurring,usage_type}'::text[] AS usage_type
    FROM payments.stripe_prices AS p
    WHERE p.environment = $1 AND p.price_id = item.price_id LIMIT 1) AS price ON true
LEFT JOIN LATERAL (
    SELECT p.name FROM payments.stripe_products AS p
    WHERE p.environment = $1 AND p.product_id = item.product_id LIMIT 1) AS product ON true
WHERE item.n <= $3
ORDER BY item.subscription_id, item.n
"""

_STARTED = """
SELECT subscription_id, coalesce(raw -> 'start_date'::text, raw -> 'created'::text)
FROM payments.stripe_subscriptions
WHERE environment = $1 AND subscription_id = ANY ($2::text[])
"""
_CONTENT = """
SELECT raw #> '{lines,data}'::text[] AS lines, raw #> '{lines,has_more}'::text[] AS more,
    raw -> 'subtotal'::text AS subtotal, raw -> 'total_taxes'::text AS taxes,
    raw -> 'tax'::text AS tax, raw -> 'total_discount_amounts'::text AS discounts
FROM payments.stripe_invoices WHERE environment = $1 AND invoice_id = $2
"""
_PAYERS = """
SELECT x.reference, t.provider_customer_id AS customer, t.customer_email_snapshot AS email,
    t.description, c.name, c.email AS customer_email
FROM pg_catalog.unnest($2::text[]) AS x (reference)
CROSS JOIN LATERAL (
    SELECT r.payment_id FROM billhook.payment_refs AS r
    WHERE r.environment = $1 AND r.object_type IN ('payment_intent', 'charge')
      AND r.object_id = x.reference LIMIT 1) AS ref
CROSS JOIN LATERAL (
    SELECT p.* FROM payments.transactions AS p
    WHERE p.payment_id = ref.payment_id AND p.type <> 'refund' LIMIT 1) AS t
LEFT JOIN LATERAL (
    SELECT o.name, o.email FROM payments.customers AS o
    WHERE o.provider = 'stripe' AND o.environment = $1
      AND o.provider_customer_id = t.provider_customer_id LIMIT 1) AS c ON true
"""


@dataclass(frozen=True, slots=True)
class InvoiceLine:
    description: str | None
    quantity: int | None
    amount: int | None
    currency: str | None


@dataclass(frozen=True, slots=True)
class InvoiceContent:
    """What an invoice bills for. Amounts are in the currency's minor unit.

    Attributes:
        has_more: Stripe sent only the first lines.
    """

    lines: tuple[InvoiceLine, ...]
    has_more: bool
    subtotal: int | None
    discount: int
    tax: int


@dataclass(frozen=True, slots=True)
class Payer:
    """Who made a payment."""

    customer_id: str | None
    name: Name


def _moment(value: object) -> datetime | None:
    at = timestamp(value)
    return datetime.fromtimestamp(at, UTC) if at is not None else None


async def customer_names(
    database: Database, environment: Environment, customer_ids: Iterable[str | None]
) -> dict[str, Name]:
    """The name and email address of each of these customers that the mirror has."""
    wanted = sorted({each for each in customer_ids if each})
    if not wanted:
        return {}
    async with database.connection() as connection:
        rows = await connection.fetch(_NAMES, environment, wanted)
    return {row["id"]: Name(row["name"], row["email"]) for row in rows}


async def payment_labels(
    database: Database, environment: Environment, payments: Sequence[Payment]
) -> list[PaymentLabel]:
    """A label for each payment, in order."""
    if not payments:
        return []
    ids = [{each.provider_reference_type: each.provider_reference_id, **each.related_object_ids}
           for each in payments]  # fmt: skip
    kinds = ("payment_intent", "charge", "invoice", "checkout_session", "product")
    columns = [[each.get(kind) for each in ids] for kind in kinds]
    customers = [each.provider_customer_id for each in payments]
    async with database.connection() as connection:
        rows = await connection.fetch(_PAYMENTS, environment, customers, *columns)
    labels = [PaymentLabel()] * len(payments)
    for row in rows:
        labels[row["n"] - 1] = _payment(row, payments[row["n"] - 1])
    return labels


def _payment(row: asyncpg.Record, payment: Payment) -> PaymentLabel:
    error = hash_of(row["error"]) if payment.status == "failed" else {}
    used = hash_of(error.get("payment_method")) or hash_of(row["method"])
    method = text(used.get("type")) or row["saved_type"]
    details = hash_of(used.get(method or ""))
    bought = row["bought"] or _lines(row["lines"]) or row["product"]
    if bought is None and payment.description != row["number"]:
        bought = payment.description
    return PaymentLabel(
        customer=Name(row["name"], row["email"] or payment.customer_email_snapshot),
        bought=bought,
        invoice=row["number"],
        method=method,
        brand=text(details.get("brand")) or row["saved_brand"],
        last4=text(details.get("last4")) or row["saved_last4"],
        decline=text(error.get("message")),
        decline_code=text(error.get("decline_code")) or text(error.get("code")),
    )


def _lines(found: Any) -> str | None:
    """The lines of an invoice, without what Stripe adds to a product's name: `1 × Team (at $29.00 /
    month)`."""
    lines = [_ADDED.sub("", each) for each in found or () if isinstance(each, str) and each]
    return ", ".join(dict.fromkeys(lines)) or None


async def subscription_labels(
    database: Database, environment: Environment, subscriptions: Sequence[Subscription]
) -> dict[str, SubscriptionLabel]:
    """The label of each of these subscriptions."""
    if not subscriptions:
        return {}
    names = await customer_names(database, environment, (s.customer_id for s in subscriptions))
    ids = [each.subscription_id for each in subscriptions]
    async with database.connection() as connection:
        rows = await connection.fetch(_ITEMS, environment, ids, MOST_ITEMS)
        since = await connection.fetch(_STARTED, environment, ids)
    started = {row[0]: row[1] for row in since}
    items: dict[str, list[ItemLabel]] = {each: [] for each in ids}
    for row in rows:
        items[row["subscription_id"]].append(
            ItemLabel(
                product=row["name"] or row["product_id"],
                quantity=row["quantity"],
                unit_amount=row["unit_amount"],
                unit_amount_decimal=row["unit_amount_decimal"],
                currency=row["currency"],
                interval=row["recurring_interval"],
                interval_count=row["recurring_interval_count"],
                billing_scheme=row["billing_scheme"],
                metered=row["usage_type"] == "metered",
            )
        )
    return {
        each.subscription_id: SubscriptionLabel(
            customer=names.get(each.customer_id, Name()),
            items=tuple(items[each.subscription_id]),
            more=max(len(each.items) - MOST_ITEMS, 0),
            started_at=_moment(started.get(each.subscription_id)),
        )
        for each in subscriptions
    }


async def invoice_content(
    database: Database, environment: Environment, invoice_id: str
) -> InvoiceContent:
    """The lines and sums of an invoice, as Stripe sent them."""
    async with database.connection() as connection:
        row = await connection.fetchrow(_CONTENT, environment, invoice_id)
    if row is None:
        return InvoiceContent((), has_more=False, subtotal=None, discount=0, tax=0)
    lines = tuple(
        InvoiceLine(
            text(each.get("description")),
            integer(each.get("quantity")),
            integer(each.get("amount")),
            text(each.get("currency")),
        )
        for each in entries({"data": row["lines"]})
    )
    return InvoiceContent(
        lines,
        has_more=row["more"] is True,
        subtotal=integer(row["subtotal"]),
        discount=_sum(row["discounts"]),
        tax=_sum(row["taxes"]) or integer(row["tax"]) or 0,
    )


def _sum(found: Any) -> int:
    """The sum of Stripe's `[{amount: …}, …]`."""
    amounts = (integer(hash_of(each).get("amount")) for each in found or ())
    return sum(filter(None, amounts))


async def payers(
    database: Database, environment: Environment, references: Iterable[str | None]
) -> dict[str, Payer]:
    """Who made each of these payments, by the id of its PaymentIntent or charge."""
    wanted = sorted({each for each in references if each})
    if not wanted:
        return {}
    async with database.connection() as connection:
        rows = await connection.fetch(_PAYERS, environment, wanted)
    return {
        row["reference"]: Payer(
            row["customer"], Name(row["name"], row["customer_email"] or row["email"])
        )
        for row in rows
    }
