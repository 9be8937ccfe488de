"""The mirrored tables against Stripe's lists: products, prices, customers, subscriptions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

import asyncpg

from billhook import mirror
from billhook.db import repeat_collisions
from billhook.db.leases import LeaseLost
from billhook.db.providers import of_stripe
from billhook.errors import BillhookError
from billhook.models import Drift, VerifiedTable
from billhook.projections import UnreadableObject
from billhook.projections.changes import MirrorRow, SubscriptionItemRow, SubscriptionRow
from billhook.projections.fetched import row_of
from billhook.stripe.gateway import StripeObject
from billhook.sync.ranges import OLDEST, Listing
from billhook.sync.reading import absent
from billhook.task_groups import all_or_first_error
from billhook.verify.reading import CONFIRMED, YOUNG, one_repair, pages

_AT_ONCE = 4

_ITEMS = """
SELECT subscription_id, subscription_item_id, product_id, price_id, quantity, metadata
FROM payments.stripe_subscription_items
WHERE environment = $1 AND subscription_id = ANY ($2)
"""
# Whatever they show: they are written anew.
_UNKNOWN_ITEMS = """
UPDATE payments.stripe_subscription_items SET raw = '{}'
WHERE environment = $1 AND subscription_id = $2
"""
_MAPPED_SINCE = """
SELECT updated_at FROM payments.customer_mappings
WHERE provider = 'stripe' AND environment = $1 AND provider_customer_id = $2
"""
# Columns that are not called as the row's field is.
_COLUMNS = {"created": "provider_created_at"}
_NOT_COLUMNS = frozenset({"items", "items_complete"})
# Known from elsewhere where Stripe's object does not name it (contract section 5).
_MAY_BE_KNOWN = frozenset({"subject_type", "subject_id"})

Shown = Mapping[str, Any]


async def compare_list(
    asking: mirror.Asking, listing: Listing, until: float | None, *, repair: bool
) -> VerifiedTable:
    """Compare one list with its table. What Stripe refuses ends this list only."""
    found = VerifiedTable(table=listing.table)
    seen: set[str] = set()
    suspects: set[str] = set()
    try:
        at = (await asking.get("account", "/v1/account", {})).at
        for variant in listing.variants:
            async for page in pages(
                asking, listing.name, mirror.PATHS[listing.kind], variant, OLDEST, until
            ):
                objects = page.data.get("data") or []
                seen.update(each["id"] for each in objects)
                suspects |= await _suspects(asking, listing, objects, page.at, found)
        found.complete = until is None or time.monotonic() < until
        if found.complete:
            suspects.update(await absent(asking, listing, seen, at, CONFIRMED))
        await _confirm(asking, listing, sorted(suspects), found, repair=repair)
    except LeaseLost:
        raise
    except BillhookError as error:
        found.complete, found.error = False, error.message
    return found


async def _suspects(
    asking: mirror.Asking,
    listing: Listing,
    objects: list[StripeObject],
    at: int,
    found: VerifiedTable,
) -> set[str]:
    """The ids of those objects that are not shown as they are. Counts what is in flight."""
    if listing.kind == "subscription":
        for each in objects:
            await mirror.complete_items(asking, each)
    shown, items = await _shown(asking, listing, [each["id"] for each in objects])
    suspects = set()
    for each in objects:
        found.objects += 1
        row = shown.get(each["id"])
        if not _differences(listing, each, row, items.get(each["id"], ())):
            continue
        if _in_flight(each, row, at):
            found.in_flight += 1
        else:
            suspects.add(each["id"])
    return suspects


async def _confirm(
    asking: mirror.Asking,
    listing: Listing,
    suspects: Sequence[str],
    found: VerifiedTable,
    *,
    repair: bool,
) -> None:
    """Ask for each suspect on its own: what differs now as well has drifted."""
    found.unconfirmed = max(0, len(suspects) - CONFIRMED)
    slots = asyncio.Semaphore(_AT_ONCE)

    async def one(object_id: str) -> None:
        async with slots:
            drift = await _drift(asking, listing, object_id)
            if drift is not None and repair:
                with one_repair(listing.table, object_id):
                    await _mend(asking, listing, object_id)
                drift.repaired = await _drift(asking, listing, object_id) is None
            if drift is not None:
                found.drift.append(drift)

    async with all_or_first_error() as group:
        for each in suspects[:CONFIRMED]:
            group.create_task(one(each))


async def _drift(asking: mirror.Asking, listing: Listing, object_id: str) -> Drift | None:
    """How a row differs from what Stripe says of its object just now, or None."""
    asked = await _fetch(asking, listing, object_id)
    shown, items = await _shown(asking, listing, [object_id])
    row = shown.get(object_id)
    since = row["provider_event_at"] or row["created_at"] if row else None
    if asked is None:
        # A customer's row stays, marked, when the customer is deleted. Its mapping goes.
        if row is None or row.get("deleted"):
            return await _dead_mapping(asking, listing, object_id)
        return Drift(table=listing.table, object_id=object_id, problem="extra", since=since)
    differing = _differences(listing, asked[0], row, items.get(object_id, ()))
    if not differing or _in_flight(asked[0], row, asked[1]):
        return None
    if row is None:
        created = asked[0].get("created")
        since = datetime.fromtimestamp(created, UTC) if isinstance(created, int) else None
        return Drift(table=listing.table, object_id=object_id, problem="missing", since=since)
    return Drift(
        table=listing.table,
        object_id=object_id,
        problem="different",
        fields=differing,
        since=since,
    )


async def _dead_mapping(asking: mirror.Asking, listing: Listing, object_id: str) -> Drift | None:
    """A subject whose customer is deleted at Stripe, or was never there."""
    if listing.kind != "customer":
        return None
    async with asking.database.connection() as connection:
        since = await connection.fetchval(_MAPPED_SINCE, asking.environment, object_id)
    if since is None:
        return None
    return Drift(
        table="payments.customer_mappings", object_id=object_id, problem="extra", since=since
    )


async def _fetch(
    asking: mirror.Asking, listing: Listing, object_id: str
) -> tuple[StripeObject, int] | None:
    """An object and since when it is so; None when Stripe does not have it."""
    try:
        found = await asking.get(listing.kind, mirror.path_of(listing.kind, object_id), {})
    except BillhookError as error:
        if error.status != 404:
            raise
        return None
    if found.data.get("deleted") is True:
        return None
    if listing.kind == "subscription":
        await mirror.complete_items(asking, found.data)
    return found.data, found.at


async def _mend(asking: mirror.Asking, listing: Listing, object_id: str) -> None:
    """Show what Stripe says. A row that was changed by other hands has a version that forbids that:
    it is taken away, unless the row has become newer than this answer."""
    asked = await _fetch(asking, listing, object_id)
    if asked is None:
        await mirror.refresh(asking, listing.kind, object_id)
        return
    rows = mirror.rows_of(listing.kind, [asked[0]], asked[1])

    async def work() -> None:
        async with asking.database.as_service() as connection:
            await asking.check(connection)
            await connection.execute(
                f"UPDATE {listing.table} SET provider_event_at = NULL "  # noqa: S608
                f"WHERE {of_stripe(listing.table)} AND {listing.id_column} = $2 "
                "AND provider_event_at <= pg_catalog.to_timestamp($3)",
                asking.environment,
                object_id,
                asked[1],
            )
            if listing.kind == "subscription":
                await connection.execute(_UNKNOWN_ITEMS, asking.environment, object_id)
            await mirror.project(connection, asking.environment, listing.kind, rows)

    await repeat_collisions(work)


async def _shown(
    asking: mirror.Asking, listing: Listing, ids: list[str]
) -> tuple[dict[str, Shown], dict[str, list[Shown]]]:
    """The rows of these objects, and the items of those that are subscriptions, by id."""
    query = (
        f"SELECT * FROM {listing.table} "  # noqa: S608 — names from LISTINGS
        f"WHERE {of_stripe(listing.table)} AND {listing.id_column} = ANY ($2)"
    )
    rows: list[asyncpg.Record] = []
    items: dict[str, list[Shown]] = {}
    async with asking.database.connection() as connection:
        rows = await connection.fetch(query, asking.environment, ids)
        if listing.kind == "subscription":
            for each in await connection.fetch(_ITEMS, asking.environment, ids):
                items.setdefault(each["subscription_id"], []).append(dict(each))
    return {row[listing.id_column]: dict(row) for row in rows}, items


def _differences(
    listing: Listing, stripe_object: StripeObject, shown: Shown | None, items: Iterable[Shown]
) -> list[str]:
    """The columns in which a row differs from its object; all of the row, when there is none."""
    try:
        row = row_of(listing.kind, stripe_object)
    except UnreadableObject:
        return []
    if row is None:
        return []
    if shown is None:
        return ["*"]
    found = _different(
        row, shown, {"customer_id": listing.id_column} if listing.kind == "customer" else {}
    )
    if isinstance(row, SubscriptionRow) and _different_items(row.items, items):
        found.append("items")
    return found


def _different(
    row: MirrorRow | SubscriptionItemRow, shown: Shown, names: Mapping[str, str]
) -> list[str]:
    found = []
    for each in fields(row):
        column = names.get(each.name) or _COLUMNS.get(each.name, each.name)
        expected = getattr(row, each.name)
        if each.name in _NOT_COLUMNS or column not in shown:
            continue
        if expected is None and each.name in _MAY_BE_KNOWN:
            continue
        actual = shown[column]
        if isinstance(actual, datetime):
            actual = int(actual.timestamp())
        if actual != expected:
            found.append(column)
    return found


def _different_items(expected: list[SubscriptionItemRow], shown: Iterable[Shown]) -> bool:
    by_id = {each["subscription_item_id"]: each for each in shown}
    return by_id.keys() != {each.subscription_item_id for each in expected} or any(
        _different(each, by_id[each.subscription_item_id], {}) for each in expected
    )


def _in_flight(stripe_object: StripeObject, row: Shown | None, at: int) -> bool:
    """Whether the difference is nothing but time: the row is newer than Stripe's answer, or there
    is none yet because the object is young."""
    if row is None:
        created = stripe_object.get("created")
        return isinstance(created, int) and created > at - YOUNG
    version = row["provider_event_at"]
    return version is not None and version.timestamp() > at
