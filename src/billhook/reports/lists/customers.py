"""Customers with their totals."""

from __future__ import annotations

from dataclasses import replace

import asyncpg

from billhook.errors import PaymentNotFound
from billhook.models import Customer, CustomersQuery
from billhook.postgres import Database
from billhook.reports.lists.searching import begins_with, with_email
from billhook.reports.paging import Arguments, Conditions, Key, Listing, Order, Page, Walk, are_few
from billhook.settings import Environment

_EMAIL = 'pg_catalog.left(pg_catalog.lower(t.email), 200) COLLATE "C"'
_NAME = 'pg_catalog.left(pg_catalog.lower(t.name), 200) COLLATE "C"'
_ID: Key = ("t.provider_customer_id", "text")
_CREATED = "coalesce(t.provider_created_at, t.created_at)"
_NEWEST = Order(((_CREATED, "time"), ("t.id", "uuid")), descending=True)
_ORDERS = {
    "name": Order(
        (
            ("t.deleted", "boolean"),
            ("left(coalesce(t.email, t.name, t.provider_customer_id), 200)", "text"),
            _ID,
        )
    ),
    "newest": _NEWEST,
    "oldest": Order(_NEWEST.keys),
}
_BY_WHAT_FITS = Order(((_EMAIL, "text"), _ID))
_FEW = 3_000

# The totals of the page's customers only, each by index: payments of the customer, and payments
# without a customer whose email address only this customer has.
_COLUMNS = """t.environment, t.provider, t.provider_customer_id, t.email, t.name, t.phone,
    t.deleted, t.metadata, t.provider_created_at, t.synced_at,
    coalesce(paid.payments, 0)::integer AS payments_count, paid.last_at AS last_payment_at,
    CASE WHEN paid.currencies = 1 THEN paid.spend END AS total_spend,
    CASE WHEN paid.currencies = 1 THEN paid.currency END AS total_spend_currency,
    t.raw #> '{invoice_settings,default_payment_method}'::text[] AS payment_method,
    t.raw -> 'default_source'::text AS source,
    coalesce(nullif(t.raw #>> '{address,country}'::text[], ''),
        t.raw #>> '{shipping,address,country}'::text[])
        AS country"""
_PAID = """CROSS JOIN LATERAL (
    SELECT count(*) AS payments,
        pg_catalog.max(coalesce(own.paid_at, own.provider_created_at, own.created_at)) AS last_at,
        pg_catalog.sum(greatest(
            coalesce(own.amount, 0)::numeric - own.amount_refunded::numeric, 0::numeric)) AS spend,
        pg_catalog.count(DISTINCT own.currency) AS currencies,
        pg_catalog.min(own.currency) AS currency
    FROM (
        SELECT * FROM payments.transactions named
        WHERE named.provider = 'stripe' AND named.environment = t.environment
          AND named.provider_customer_id = t.provider_customer_id
        UNION ALL
        SELECT * FROM payments.transactions mailed
        WHERE mailed.provider = 'stripe' AND mailed.environment = t.environment
          AND mailed.provider_customer_id IS NULL
          AND pg_catalog.left(pg_catalog.lower(mailed.customer_email_snapshot), 200)
            = pg_catalog.left(pg_catalog.lower(t.email), 200)
          AND pg_catalog.lower(mailed.customer_email_snapshot) = pg_catalog.lower(t.email)
          AND NOT EXISTS (
              SELECT FROM payments.customers other
              WHERE other.provider = 'stripe' AND other.environment = t.environment
                AND pg_catalog.left(pg_catalog.lower(other.email), 200) COLLATE "C"
                    = pg_catalog.left(pg_catalog.lower(t.email), 200)
                AND pg_catalog.lower(other.email) = pg_catalog.lower(t.email) AND other.id <> t.id)
    ) AS own
    WHERE own.type <> 'refund' AND own.status IN ('succeeded', 'refunded', 'partially_refunded')
      AND (own.amount_out_of_band = 0 OR own.amount > 0)
) AS paid"""
_SUBJECTS = """
SELECT subject_type, subject_id FROM payments.customer_mappings
WHERE provider = 'stripe' AND environment = $1 AND provider_customer_id = $2
ORDER BY subject_type, subject_id
"""


async def customers(
    database: Database,
    environment: Environment,
    query: CustomersQuery,
    *,
    count_to: int | None = None,
) -> Page[Customer]:
    """Customers with their totals: those not deleted first, then by email, name or id. In the
    default order, a search lists customers whose email matches first, by email, then those whose
    name matches, by name.
    """
    listing = await _listing(database, environment, query)
    page = await listing.page(database, query, count_to)
    return page.of([_customer(row) for row in page.rows])


async def customer(database: Database, environment: Environment, customer_id: str) -> Customer:
    """One customer with its totals.

    Raises:
        PaymentNotFound: the mirror does not have it.
    """
    page = await customers(database, environment, CustomersQuery(limit=1, customer=customer_id))
    if not page.rows:
        raise PaymentNotFound(
            f"There is no customer {customer_id} in the {environment} environment.",
            next_actions="Does it belong to the other environment? If Stripe has it, sync first.",
        )
    return page.rows[0]


async def subjects_of(
    database: Database, environment: Environment, customer_id: str
) -> list[tuple[str, str]]:
    """Type and id of each subject that a customer pays for."""
    async with database.connection() as connection:
        rows = await connection.fetch(_SUBJECTS, environment, customer_id)
    return [(row["subject_type"], row["subject_id"]) for row in rows]


async def _listing(database: Database, environment: Environment, query: CustomersQuery) -> Listing:
    args = Arguments()
    where = Conditions(args)
    where.add("t.provider = 'stripe' AND t.environment = {}", environment)
    if query.email is not None:
        where.add(f"t.provider_customer_id = ANY (ARRAY({with_email(args.add(query.email))}))")
    where.add("t.provider_customer_id = {}", query.customer)
    where.add(f"{_CREATED} >= {{}}", query.since)
    where.add(f"{_CREATED} < {{}}", query.until)
    order, conditions = _ORDERS[query.order], tuple(where.clauses)
    listing = Listing("payments.customers", order, (Walk(conditions),), _COLUMNS, args, _PAID)
    if query.search is None:
        return listing

    text = args.add(query.search)
    is_it = f"t.provider_customer_id = {text}"
    email, name = begins_with(_EMAIL, text), begins_with(_NAME, text)
    by_email, by_name = (f"({' AND '.join(each)})" for each in (email, name))
    if query.order == "name":
        other = f"NOT {is_it}"
        walks = (
            Walk((*conditions, is_it), expressions=(_ID[0], _ID[0])),
            Walk((*conditions, other), "", (_EMAIL, _ID[0]), *email, rank=1),
            Walk(
                (*conditions, other, f"{by_email} IS NOT TRUE"), "", (_NAME, _ID[0]), *name, rank=2
            ),
        )
        return replace(listing, order=_BY_WHAT_FITS, walks=walks)
    # A few rows are sorted. Of many, the next one is found quickly in the index of the order; the
    # search is only checked, so that PostgreSQL uses no other index.
    found = " UNION ALL ".join(
        f"SELECT t.id FROM payments.customers AS t WHERE {' AND '.join((*conditions, fits))}"
        for fits in (is_it, by_email, by_name)
    )
    fits = f"t.id = ANY (ARRAY({found}))"
    if not await are_few(database, found, args, _FEW):
        fits = f"({is_it} OR {by_email} OR {by_name}) IS TRUE"
    return replace(listing, walks=(Walk((*conditions, fits)),))


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
