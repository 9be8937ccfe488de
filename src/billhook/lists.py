"""The lists of an operator: transactions, subscriptions, customers (contract section 3.2).

Every list walks an index in its own order from a cursor on; none reads a whole table.
"""

from __future__ import annotations

import asyncpg

from billhook import paging
from billhook.db import Database
from billhook.models import (
    Customer,
    CustomersQuery,
    Subscription,
    SubscriptionItem,
    SubscriptionsQuery,
    Transaction,
    TransactionsQuery,
)
from billhook.paging import Conditions, Page, page_of
from billhook.settings import Environment

_TRANSACTIONS = """
SELECT environment, provider, type, status, subject_type, subject_id, provider_customer_id,
    customer_email_snapshot, provider_object_id AS provider_reference_id,
    provider_object_type AS provider_reference_type, amount, amount_refunded, currency,
    description, paid_at, failed_at, refunded_at, provider_created_at, created_at, updated_at,
    coalesce(provider_created_at, created_at) AS cursor_at, id AS cursor_id
FROM payments.transactions
WHERE {conditions}
ORDER BY coalesce(provider_created_at, created_at) DESC, id DESC
LIMIT {limit}
"""
_SUBSCRIPTIONS = """
SELECT environment, subscription_id, customer_id, subject_type, subject_id, status,
    current_period_start, current_period_end, cancel_at_period_end, cancel_at, canceled_at,
    trial_start, trial_end, latest_invoice_id, metadata, synced_at, created_at, updated_at,
    updated_at AS cursor_at, id AS cursor_id
FROM payments.stripe_subscriptions
WHERE {conditions}
ORDER BY updated_at DESC, id DESC
LIMIT {limit}
"""
_ITEMS = """
SELECT environment, subscription_item_id, subscription_id, product_id, price_id, quantity,
    metadata, created_at, updated_at
FROM payments.stripe_subscription_items
WHERE environment = $1 AND subscription_id = ANY ($2::text[])
ORDER BY subscription_id, subscription_item_id
"""
# The totals of the page's customers only, each by index: payments that name the customer, and
# those without one that name an e-mail which this customer alone has.
_CUSTOMERS = """
WITH page AS (
    SELECT * FROM payments.customers AS c
    WHERE {conditions}
    ORDER BY deleted, coalesce(email, name, provider_customer_id), provider_customer_id
    LIMIT {limit}
)
SELECT page.environment, page.provider, page.provider_customer_id, page.email, page.name,
    page.phone, page.deleted, page.metadata, page.provider_created_at, page.synced_at,
    coalesce(paid.payments, 0)::integer AS payments_count, paid.last_at AS last_payment_at,
    CASE WHEN paid.currencies = 1 THEN paid.spend END AS total_spend,
    CASE WHEN paid.currencies = 1 THEN paid.currency END AS total_spend_currency,
    page.raw #> '{{invoice_settings,default_payment_method}}' AS payment_method,
    page.raw -> 'default_source' AS source,
    coalesce(nullif(page.raw #>> '{{address,country}}', ''),
        page.raw #>> '{{shipping,address,country}}')
        AS country,
    coalesce(page.email, page.name, page.provider_customer_id) AS cursor_name
FROM page
CROSS JOIN LATERAL (
    SELECT count(*) AS payments,
        max(coalesce(t.paid_at, t.provider_created_at, t.created_at)) AS last_at,
        sum(greatest(coalesce(t.amount, 0) - t.amount_refunded, 0))::bigint AS spend,
        count(DISTINCT t.currency) AS currencies, min(t.currency) AS currency
    FROM (
        SELECT * FROM payments.transactions named
        WHERE named.provider = 'stripe' AND named.environment = page.environment
          AND named.provider_customer_id = page.provider_customer_id
        UNION ALL
        SELECT * FROM payments.transactions mailed
        WHERE mailed.provider = 'stripe' AND mailed.environment = page.environment
          AND mailed.provider_customer_id IS NULL
          AND lower(mailed.customer_email_snapshot) = lower(page.email)
          AND NOT EXISTS (
              SELECT FROM payments.customers other
              WHERE other.provider = 'stripe' AND other.environment = page.environment
                AND lower(other.email) = lower(page.email) AND other.id <> page.id)
    ) AS t
    WHERE t.type <> 'refund' AND t.status IN ('succeeded', 'refunded', 'partially_refunded')
) AS paid
ORDER BY page.deleted, coalesce(page.email, page.name, page.provider_customer_id),
    page.provider_customer_id
"""


async def transactions(
    database: Database, environment: Environment, query: TransactionsQuery
) -> Page[Transaction]:
    """Payments and refunds, newest first."""
    where = Conditions()
    where.add("provider = 'stripe' AND environment = {}", environment)
    where.add("subject_type = {}", query.subject_type)
    where.add("subject_id = {}", query.subject_id)
    where.add("provider_customer_id = {}", query.customer)
    where.add("type = {}", query.type)
    where.add("status = {}", query.status)
    where.add("coalesce(provider_created_at, created_at) >= {}", query.since)
    where.add("coalesce(provider_created_at, created_at) < {}", query.until)
    if query.starting_after:
        where.add(
            "(coalesce(provider_created_at, created_at), id) < ({}, {})",
            *paging.decode(query.starting_after, ("time", "uuid")),
        )
    rows, cursor = await page_of(
        database, where, _TRANSACTIONS, query.limit, "cursor_at", "cursor_id"
    )
    return Page([Transaction(**row) for row in rows], cursor)


async def subscriptions(
    database: Database, environment: Environment, query: SubscriptionsQuery
) -> Page[Subscription]:
    """Subscriptions with their items, the last changed first."""
    where = Conditions()
    where.add("environment = {}", environment)
    where.add("subject_type = {}", query.subject_type)
    where.add("subject_id = {}", query.subject_id)
    where.add("customer_id = {}", query.customer)
    where.add("status = {}", query.status)
    if query.starting_after:
        where.add(
            "(updated_at, id) < ({}, {})", *paging.decode(query.starting_after, ("time", "uuid"))
        )
    rows, cursor = await page_of(
        database, where, _SUBSCRIPTIONS, query.limit, "cursor_at", "cursor_id"
    )
    items: dict[str, list[SubscriptionItem]] = {row["subscription_id"]: [] for row in rows}
    if rows:
        async with database.connection() as connection:
            for item in await connection.fetch(_ITEMS, environment, list(items)):
                items[item["subscription_id"]].append(SubscriptionItem(**item))
    return Page([Subscription(**row, items=items[row["subscription_id"]]) for row in rows], cursor)


async def customers(
    database: Database, environment: Environment, query: CustomersQuery
) -> Page[Customer]:
    """Customers with what they paid: those not deleted first, then by e-mail, name or id."""
    where = Conditions()
    where.add("c.provider = 'stripe' AND c.environment = {}", environment)
    where.add("lower(c.email) = lower({})", query.email)
    where.add("c.provider_customer_id = {}", query.customer)
    if query.starting_after:
        where.add(
            "(c.deleted, coalesce(c.email, c.name, c.provider_customer_id), "
            "c.provider_customer_id) > ({}, {}, {})",
            *paging.decode(query.starting_after, ("boolean", "text", "text")),
        )
    rows, cursor = await page_of(
        database, where, _CUSTOMERS, query.limit, "deleted", "cursor_name", "provider_customer_id"
    )
    return Page([_customer(row) for row in rows], cursor)


def _customer(row: asyncpg.Record) -> Customer:
    method, source = row["payment_method"], row["source"]
    card = method.get("card") if isinstance(method, dict) else None
    card = card if isinstance(card, dict) else source if isinstance(source, dict) else {}
    brand, last4 = _text(card.get("brand")), _text(card.get("last4"))
    country = _text(row["country"])
    return Customer(
        **{name: row[name] for name in _STORED},
        payment_method_brand=brand.lower() if brand else None,
        payment_method_last4=last4,
        country_code=country.upper() if country and len(country) == 2 else None,
    )


_STORED = tuple(
    Customer.model_fields.keys() - {"payment_method_brand", "payment_method_last4", "country_code"}
)


def _text(value: object) -> str | None:
    return value.strip() if isinstance(value, str) and value else None
