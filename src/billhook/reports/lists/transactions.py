"""Transactions for the API, and payments with their refunds, for the dashboard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, get_args

import asyncpg

from billhook.errors import PaymentNotFound
from billhook.models import Payment, Transaction, TransactionsQuery
from billhook.models.queries import TransactionStatus, TransactionType
from billhook.postgres import Database
from billhook.reports.counted import FIGURES
from billhook.reports.lists.searching import StripeKind, is_email, kind_of, subject_of, with_email
from billhook.reports.paging import (
    Arguments,
    Conditions,
    Key,
    Listing,
    Order,
    Page,
    Walk,
    are_few,
)
from billhook.settings import Environment

_AT = "coalesce(t.provider_created_at, t.created_at)"
_NEWEST = Order(((_AT, "time"), ("t.id", "uuid")), descending=True)
_ORDERS = {
    "newest": _NEWEST,
    "oldest": Order(_NEWEST.keys),
    "largest": Order((("coalesce(t.amount, 0)", "integer"), *_NEWEST.keys), descending=True),
}
_TYPES: tuple[TransactionType, ...] = get_args(TransactionType)
_STATUSES: tuple[TransactionStatus, ...] = get_args(TransactionStatus)
_FEW = 10_000

TRANSACTION_COLUMNS = """t.environment, t.provider, t.type, t.status, t.subject_type, t.subject_id,
    t.provider_customer_id, t.customer_email_snapshot,
    t.provider_object_id AS provider_reference_id,
    t.provider_object_type AS provider_reference_type, t.amount, t.amount_refunded,
    t.amount_out_of_band, t.amount_disputed, t.amount_lost, t.currency, t.description,
    t.paid_at, t.failed_at, t.refunded_at, t.canceled_at,
    t.dispute_status, t.dispute_reason, t.dispute_due_by, t.disputed_at,
    t.provider_created_at, t.created_at, t.updated_at"""
_PAYMENT_COLUMNS = f"{TRANSACTION_COLUMNS}, t.related_object_ids, t.payment_id"
_REFUNDS = f"""
SELECT {_PAYMENT_COLUMNS} FROM payments.transactions AS t
WHERE t.payment_id = ANY ($2::text[]::bigint[]) AND t.type = 'refund' AND t.provider = 'stripe'
  AND t.environment = $1
ORDER BY {_AT}, t.id
"""
# If a refund's row is found, its payment is the row with the same payment_id that is not a refund.
_PAYMENT = f"""
WITH named AS MATERIALIZED (
    SELECT x.id, x.payment_id FROM payments.transactions AS x
    WHERE x.id = ANY (ARRAY({{ids}})) AND x.provider = 'stripe' AND x.environment = $1
)
SELECT {_PAYMENT_COLUMNS} FROM payments.transactions AS t
WHERE t.id = ANY (ARRAY(
    SELECT id FROM named UNION
    SELECT x.id FROM payments.transactions AS x
    WHERE x.payment_id = ANY (ARRAY(SELECT payment_id FROM named)) AND x.type <> 'refund'))
ORDER BY t.type = 'refund', {_AT} DESC, t.id DESC LIMIT 1
"""


async def transactions(
    database: Database, environment: Environment, query: TransactionsQuery
) -> Page[Transaction]:
    """Payments and refunds, newest first unless `query.order` says otherwise."""
    listing = await _listing(database, environment, query, TRANSACTION_COLUMNS, _TYPES)
    page = await listing.page(database, query)
    return page.of([Transaction(**row) for row in page.rows])


async def payments(
    database: Database,
    environment: Environment,
    query: TransactionsQuery,
    *,
    count_to: int | None = None,
) -> Page[Payment]:
    """The same for the dashboard: refunds are part of their payment, and are only listed separately
    for `type=refund` or by their id."""
    types = _TYPES
    if query.type is None and (query.search is None or kind_of(query.search) != "refund"):
        types = tuple(kind for kind in _TYPES if kind != "refund")
    listing = await _listing(database, environment, query, _PAYMENT_COLUMNS, types)
    page = await listing.page(database, query, count_to)
    return page.of(await _with_refunds(database, environment, page.rows))


async def payment(database: Database, environment: Environment, reference: str) -> Payment:
    """One payment with its refunds, by the id of any of its objects at Stripe: PaymentIntent,
    charge, invoice, checkout session or refund. If the payment of a refund is unknown, the refund
    is returned.

    Raises:
        PaymentNotFound: there is no such payment.
    """
    kind = kind_of(reference)
    if kind not in ("payment_intent", "charge", "invoice", "checkout_session", "refund"):
        raise PaymentNotFound(
            f"{reference} is not the id of a payment.",
            next_actions="Give the id of its PaymentIntent (pi_…), charge (ch_…), invoice (in_…), "
            "checkout session (cs_…) or refund (re_…), or search for it.",
        )
    args = Arguments()
    args.add(environment)
    ids = " UNION ALL ".join(_of_object(args, kind, reference))
    async with database.connection() as connection:
        rows = await connection.fetch(_PAYMENT.format(ids=ids), *args.values)
    if not rows:
        raise PaymentNotFound(
            f"There is no payment with {reference} in the {environment} environment.",
            next_actions="Does it belong to the other environment? If Stripe has it, check "
            "whether its events arrived: search them for the same id.",
        )
    return (await _with_refunds(database, environment, rows))[0]


async def _listing(
    database: Database,
    environment: Environment,
    query: TransactionsQuery,
    columns: str,
    types: Sequence[TransactionType],
) -> Listing:
    args = Arguments()
    where = Conditions(args)
    where.add("t.provider = 'stripe' AND t.environment = {}", environment)
    where.add("t.subject_type = {}", query.subject_type)
    where.add("t.subject_id = {}", query.subject_id)
    where.add("t.provider_customer_id = {}", query.customer)
    where.add("t.currency = {}", query.currency)
    if query.figure is not None:
        return _of_figure(query, where, columns, args)
    wanted = [query.type] if query.type else list(types)
    statuses = [query.status] if query.status else list(_STATUSES)
    floor = f"{_AT} >= {args.add(query.since)}" if query.since else None
    ceiling = f"{_AT} < {args.add(query.until)}" if query.until else None
    if query.search is not None or query.customer is not None or query.subject_id is not None:
        # Few rows, which are sorted.
        if query.search is not None:
            where.add(f"t.id = ANY (ARRAY({_found(args, query.search)}))")
        if len(wanted) < len(_TYPES):
            where.add("t.type = ANY ({}::text[])", wanted)
        where.add("t.status = {}", query.status)
        walk = Walk(tuple(where.clauses), floor=floor, ceiling=ceiling)
    else:
        pairs = (
            f"pg_catalog.unnest({args.add(wanted)}::text[]) AS of_type(type) "
            f"CROSS JOIN pg_catalog.unnest({args.add(statuses)}::text[]) AS of_status(status)"
        )
        where.add("t.type = of_type.type AND t.status = of_status.status")
        walk = Walk(tuple(where.clauses), pairs, floor=floor, ceiling=ceiling)
    if query.order == "largest" and (floor or ceiling):
        walk = await _largest_of_a_time(database, args, walk)
    return Listing("payments.transactions", _ORDERS[query.order], (walk,), columns, args)


def _of_figure(
    query: TransactionsQuery, where: Conditions, columns: str, args: Arguments
) -> Listing:
    """The rows that a figure counts, in the order of the days on which they count: as the index has
    them, except within a day."""
    counted = FIGURES[query.figure or "payments"]
    where.add(counted.where)
    where.add("t.type = {}", query.type)
    where.add("t.status = {}", query.status)
    if query.search is not None:
        where.add(f"t.id = ANY (ARRAY({_found(args, query.search)}))")
    floor = ceiling = None
    if query.since is not None:
        where.add(f"{counted.at} >= {{}}", query.since)
        floor = f"{counted.day} >= {args.add(query.since.date())}"
    if query.until is not None:
        where.add(f"{counted.at} < {{}}", query.until)
        ceiling = f"{counted.day} <= {args.add(query.until.date())}"
    keys: tuple[Key, ...] = ((counted.day, "day"), (counted.at, "time"), ("t.id", "uuid"))
    order = Order(keys, descending=query.order == "newest")
    walk = Walk(tuple(where.clauses), floor=floor, ceiling=ceiling)
    return Listing("payments.transactions", order, (walk,), columns, args)


async def _largest_of_a_time(database: Database, args: Arguments, walk: Walk) -> Walk:
    """The bounds of the time do not apply to the first key of the order. A few rows are sorted; of
    many, the next one is found quickly in the index of the order. The time is only checked, so that
    PostgreSQL uses no other index."""
    bounds = [bound for bound in (walk.floor, walk.ceiling) if bound]
    if not walk.each:
        return Walk((*walk.conditions, *bounds))
    fits = " AND ".join((*walk.conditions, *bounds))
    found = f"""SELECT of_pair.* FROM {walk.each} CROSS JOIN LATERAL (
        SELECT t.* FROM payments.transactions AS t
        WHERE {fits} ORDER BY {_AT} LIMIT {_FEW + 1}) AS of_pair"""
    if await are_few(database, found, args, _FEW):
        return Walk(("true",), table=f"({found})")
    checked = (f"({bound}) IS TRUE" for bound in bounds)
    return replace(walk, conditions=(*walk.conditions, *checked), floor=None, ceiling=None)


def _found(args: Arguments, text: str) -> str:
    """SELECT of the ids of the transactions that match a search text."""
    ids = [
        f"""SELECT x.id FROM payments.transactions AS x
            WHERE x.provider = 'stripe' AND x.environment = $1
              AND x.provider_customer_id = {args.add(text)}"""
    ]
    kind = kind_of(text)
    if kind is not None and kind != "customer":
        ids += _of_object(args, kind, text)
    if subject := subject_of(text):
        ids.append(
            f"""SELECT x.id FROM payments.transactions AS x
                WHERE x.provider = 'stripe' AND x.environment = $1
                  AND x.subject_type = {args.add(subject[0])}
                  AND x.subject_id = {args.add(subject[1])}"""
        )
    if is_email(text):
        email = args.add(text)
        ids += [
            f"""SELECT x.id FROM payments.transactions AS x
                WHERE x.provider = 'stripe' AND x.environment = $1
                  AND x.provider_customer_id = ANY (ARRAY({with_email(email)}))""",
            f"""SELECT x.id FROM payments.transactions AS x
                WHERE x.environment = $1 AND x.provider_customer_id IS NULL
                  AND x.customer_email_snapshot IS NOT NULL
                  AND pg_catalog.left(pg_catalog.lower(x.customer_email_snapshot), 200)
                    = pg_catalog.left(pg_catalog.lower({email}), 200)
                  AND pg_catalog.lower(x.customer_email_snapshot) = pg_catalog.lower({email})""",
        ]
    return " UNION ALL ".join(ids)


def _of_object(args: Arguments, kind: StripeKind, object_id: str) -> list[str]:
    """SELECTs of the ids of the transactions that a Stripe object belongs to, from payment_refs and
    from rows that InsForge wrote."""
    its_kind, its_id = args.add(kind), args.add(object_id)
    return [
        f"""SELECT x.id FROM billhook.payment_refs AS ref JOIN payments.transactions AS x
              ON x.payment_id = ref.payment_id
            WHERE ref.environment = $1 AND ref.object_type = {its_kind}
              AND ref.object_type <> 'refund'  -- which has a row of its own
              AND ref.object_id = {its_id}""",
        f"""SELECT x.id FROM payments.transactions AS x
            WHERE x.related_object_ids @> {args.add({kind: object_id})}""",
        f"""SELECT x.id FROM payments.transactions AS x
            WHERE x.provider = 'stripe' AND x.environment = $1
              AND x.provider_object_type = {its_kind}
              AND x.provider_object_id = {its_id}""",
    ]


async def _with_refunds(
    database: Database, environment: Environment, rows: Sequence[asyncpg.Record]
) -> list[Payment]:
    refunds: dict[int, list[Payment]] = {
        row["payment_id"]: []
        for row in rows
        if row["type"] != "refund" and row["payment_id"] is not None
    }
    if refunds:
        async with database.connection() as connection:
            payments = [str(each) for each in refunds]  # text[]: decisions/0010
            for row in await connection.fetch(_REFUNDS, environment, payments):
                refunds[row["payment_id"]].append(_payment(row, []))
    return [
        _payment(row, [] if row["type"] == "refund" else refunds.get(row["payment_id"], []))
        for row in rows
    ]


def _payment(row: asyncpg.Record, refunds: list[Payment]) -> Payment:
    values: dict[str, Any] = dict(row)
    values["related_object_ids"] = {
        kind: name for kind, name in row["related_object_ids"].items() if isinstance(name, str)
    }
    return Payment(**values, refunds=refunds)
