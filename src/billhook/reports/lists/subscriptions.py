"""Subscriptions with their items."""

from __future__ import annotations

from datetime import UTC, datetime

import asyncpg

from billhook.kinds.reading import hash_of, text, timestamp
from billhook.models import PauseCollection, Subscription, SubscriptionItem, SubscriptionsQuery
from billhook.postgres import Database
from billhook.reports.lists.searching import distinct, is_email, subject_of, with_email
from billhook.reports.paging import Arguments, Conditions, Listing, Order, Page, Walk
from billhook.settings import Environment

_ENDED = ("canceled", "incomplete_expired")
_RENEWAL = "coalesce(t.current_period_end, timestamptz '9999-12-31 00:00:00+00')"
IS_PAYING = "t.renewal_amount > 0"
"""It counts in MRR, and its next period costs something."""
_ORDERS = {
    "changed": Order((("t.updated_at", "time"), ("t.id", "uuid")), descending=True),
    "renewal": Order(((_RENEWAL, "time"), ("t.id", "uuid"))),
}
# Stripe may have added statuses that we don't know.
_STATUSES = distinct("status", "payments.stripe_subscriptions", "environment = $1")

# `raw` is large and stored outside its row, so it is only read where needed.
_COLUMNS = f"""t.environment, t.subscription_id, t.customer_id, t.subject_type, t.subject_id,
    t.status, t.current_period_start, t.current_period_end, t.cancel_at_period_end, t.cancel_at,
    t.canceled_at, t.trial_start, t.trial_end, t.pause_collection, t.latest_invoice_id, t.metadata,
    t.currency, t.mrr, t.renewal_amount, t.synced_at, t.created_at, t.updated_at,
    CASE WHEN t.status IN {_ENDED} THEN t.raw -> 'ended_at'::text END AS ended_at"""
_ONE = f"""
SELECT {_COLUMNS} FROM payments.stripe_subscriptions AS t
WHERE t.environment = $1 AND t.subscription_id = $2
"""
_ITEMS = """
SELECT environment, subscription_item_id, subscription_id, product_id, price_id, quantity,
    metadata, created_at, updated_at
FROM payments.stripe_subscription_items
WHERE environment = $1 AND subscription_id = ANY ($2::text[])
ORDER BY subscription_id, subscription_item_id
"""


async def subscriptions(
    database: Database,
    environment: Environment,
    query: SubscriptionsQuery,
    *,
    count_to: int | None = None,
) -> Page[Subscription]:
    """Subscriptions with their items, most recently changed first, or by `query.order` those that
    renew soonest."""
    page = await _listing(environment, query).page(database, query, count_to)
    items: dict[str, list[SubscriptionItem]] = {row["subscription_id"]: [] for row in page.rows}
    if page.rows:
        async with database.connection() as connection:
            for item in await connection.fetch(_ITEMS, environment, list(items)):
                items[item["subscription_id"]].append(SubscriptionItem(**item))
    return page.of([_subscription(row, items[row["subscription_id"]]) for row in page.rows])


async def subscription(
    database: Database, environment: Environment, subscription_id: str
) -> Subscription | None:
    """One subscription with its items; None if the mirror does not have it."""
    async with database.connection() as connection:
        row = await connection.fetchrow(_ONE, environment, subscription_id)
    if row is None:
        return None
    async with database.connection() as connection:
        items = await connection.fetch(_ITEMS, environment, [subscription_id])
    return _subscription(row, [SubscriptionItem(**item) for item in items])


def _subscription(row: asyncpg.Record, items: list[SubscriptionItem]) -> Subscription:
    shown = {**row, "ends_at": _ends_at(row), "pause_collection": _paused(row["pause_collection"])}
    del shown["ended_at"]
    return Subscription(**shown, items=items)


def _ends_at(row: asyncpg.Record) -> datetime | None:
    """When a subscription ends, or has ended. A cancellation at period end that is scheduled in
    Stripe's portal only sets `cancel_at`."""
    if row["status"] in _ENDED:
        return _moment(row["ended_at"]) or row["canceled_at"] or row["cancel_at"]
    return row["cancel_at"] or (row["current_period_end"] if row["cancel_at_period_end"] else None)


def _paused(pause_collection: object) -> PauseCollection | None:
    found = hash_of(pause_collection)
    if not found:
        return None
    return PauseCollection(
        behavior=text(found.get("behavior")), resumes_at=_moment(found.get("resumes_at"))
    )


def _moment(value: object) -> datetime | None:
    at = timestamp(value)
    return datetime.fromtimestamp(at, UTC) if at is not None else None


def _listing(environment: Environment, query: SubscriptionsQuery) -> Listing:
    args = Arguments()
    where = Conditions(args)
    where.add("t.environment = {}", environment)
    where.add("t.subject_type = {}", query.subject_type)
    where.add("t.subject_id = {}", query.subject_id)
    where.add("t.customer_id = {}", query.customer)
    where.add("t.currency = {}", query.currency)
    if query.paying is not None:
        where.add(IS_PAYING if query.paying else f"({IS_PAYING}) IS NOT TRUE")
    if query.renews_from is not None or query.renews_until is not None:
        where.add(IS_PAYING)
        where.add(f"{_RENEWAL} >= {{}}", query.renews_from)
        where.add(f"{_RENEWAL} < {{}}", query.renews_until)
    each = ""
    if query.search is not None:
        where.add(f"t.id = ANY (ARRAY({_found(args, query.search)}))")
    if query.status is not None:
        where.add("t.status = {}", query.status)
    elif query.search is None and query.customer is None and query.subject_id is None:
        each = f"({_STATUSES}) AS of_status"
        where.add("t.status = of_status.status")
    walk = Walk(tuple(where.clauses), each)
    return Listing("payments.stripe_subscriptions", _ORDERS[query.order], (walk,), _COLUMNS, args)


def _found(args: Arguments, text: str) -> str:
    """SELECT of the ids of the subscriptions that match a search text."""
    its_id = args.add(text)
    ids = [
        f"""SELECT x.id FROM payments.stripe_subscriptions AS x
            WHERE x.environment = $1 AND x.subscription_id = {its_id}""",
        f"""SELECT x.id FROM payments.stripe_subscriptions AS x
            WHERE x.environment = $1 AND x.customer_id = {its_id}""",
    ]
    if subject := subject_of(text):
        ids.append(
            f"""SELECT x.id FROM payments.stripe_subscriptions AS x
                WHERE x.environment = $1 AND x.subject_type = {args.add(subject[0])}
                  AND x.subject_id = {args.add(subject[1])}"""
        )
    if is_email(text):
        ids.append(
            f"""SELECT x.id FROM payments.stripe_subscriptions AS x
                WHERE x.environment = $1 AND x.customer_id = ANY (ARRAY({with_email(its_id)}))"""
        )
    return " UNION ALL ".join(ids)
