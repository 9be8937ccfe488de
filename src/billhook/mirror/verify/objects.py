"""The mirrored tables against Stripe's lists."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from billhook.errors import BillhookError
from billhook.kinds import SUMMARY, Kind, Row
from billhook.kinds.reading import UnreadableObject
from billhook.mirror import entitled, fetching
from billhook.mirror.sync.ranges import OLDEST
from billhook.mirror.sync.reading import absent
from billhook.mirror.verify.reading import CONFIRMED, YOUNG, one_repair, pages
from billhook.models import Drift, VerifiedTable
from billhook.postgres import repeat_collisions
from billhook.postgres.leases import LeaseLost
from billhook.postgres.providers import of_stripe
from billhook.rows import apply_facts
from billhook.stripe.gateway import StripeObject
from billhook.task_groups import for_each

_AT_ONCE = 4

# They are written again, whatever they show.
_UNKNOWN_CHILDREN = """
UPDATE payments.{} SET raw = '{{}}' WHERE environment = $1 AND {} = $2
"""
_MAPPED_SINCE = """
SELECT updated_at FROM payments.customer_mappings
WHERE provider = 'stripe' AND environment = $1 AND provider_customer_id = $2
"""

Shown = Mapping[str, Any]


async def compare_list(
    reader: fetching.StripeReader, kind: Kind, at: int, until: float | None, *, repair: bool
) -> VerifiedTable:
    """Compare one list with its table. If Stripe rejects a request, only this list ends.

    Args:
        at: Stripe's time before the list is read.
        until: see `pages`.
    """
    found = VerifiedTable(table=_table(kind))
    seen: set[str] = set()
    suspects: set[str] = set()
    try:
        for variant in kind.variants:
            since = OLDEST if kind.by_created else None
            async for page in pages(reader, kind.plural, kind.path, dict(variant), since, until):
                seen.update(each["id"] for each in page.objects)
                suspects |= await _suspects(reader, kind, page.objects, page.at, found)
        found.complete = until is None or time.monotonic() < until
        if found.complete:
            gone, total = await absent(reader, kind, seen, at, CONFIRMED)
            found.unconfirmed += total - len(gone)
            suspects.update(gone)
        await _confirm(reader, kind, sorted(suspects), found, repair=repair)
    except LeaseLost:
        raise
    except BillhookError as error:
        found.complete, found.error = False, error.message
    return found


async def compare_entitlements(
    reader: fetching.StripeReader, until: float | None, *, repair: bool
) -> VerifiedTable:
    """Compare what customers are entitled to, with one request for each: a sample if there are
    many.

    Args:
        until: monotonic time after which no other customer is asked for.
    """
    found = VerifiedTable(table=_table(SUMMARY))
    customers, found.complete = await entitled.some_customers(reader, CONFIRMED)

    async def one(customer: str) -> None:
        if until is not None and time.monotonic() >= until:
            found.complete = False
            return
        found.objects += 1
        await _confirm(reader, SUMMARY, [customer], found, repair=repair)

    try:
        await for_each(customers, one, _AT_ONCE)
    except LeaseLost:
        raise
    except BillhookError as error:
        found.complete, found.error = False, error.message
    return found


async def _suspects(
    reader: fetching.StripeReader,
    kind: Kind,
    listed: list[StripeObject],
    at: int,
    found: VerifiedTable,
) -> set[str]:
    """The ids of the objects whose rows differ. Counts those in flight."""
    for each in listed:
        await fetching.complete_children(reader, kind, each)
    shown, items = await _shown(reader, kind, [each["id"] for each in listed])
    suspects = set()
    for each in listed:
        found.objects += 1
        row = shown.get(each["id"])
        if not _differences(kind, each, row, items.get(each["id"], ())):
            continue
        if _in_flight(each, row, at):
            found.in_flight += 1
        else:
            suspects.add(each["id"])
    return suspects


async def _confirm(
    reader: fetching.StripeReader,
    kind: Kind,
    suspects: Sequence[str],
    found: VerifiedTable,
    *,
    repair: bool,
) -> None:
    """Fetch each suspect individually: if it still differs, it has drifted."""
    found.unconfirmed += max(0, len(suspects) - CONFIRMED)

    async def one(object_id: str) -> None:
        drift = await _drift(reader, kind, object_id)
        if drift is not None and repair:
            with one_repair(_table(kind), object_id):
                await _repair(reader, kind, object_id)
            drift.repaired = await _drift(reader, kind, object_id) is None
        if drift is not None:
            found.drift.append(drift)

    await for_each(suspects[:CONFIRMED], one, _AT_ONCE)


async def _drift(reader: fetching.StripeReader, kind: Kind, object_id: str) -> Drift | None:
    """How a row differs from the current state of its object at Stripe, or None."""
    asked = await _fetch(reader, kind, object_id)
    shown, items = await _shown(reader, kind, [object_id])
    row = shown.get(object_id)
    since = row["provider_event_at"] or row["created_at"] if row else None
    if asked is None:
        # If a customer is deleted, its row stays, marked as deleted, and its mapping is removed.
        if row is None or row.get("deleted"):
            return await _dead_mapping(reader, kind, object_id)
        return Drift(table=_table(kind), object_id=object_id, problem="extra", since=since)
    differing = _differences(kind, asked[0], row, items.get(object_id, ()))
    if not differing or _in_flight(asked[0], row, asked[1]):
        return None
    if row is None:
        created = asked[0].get("created")
        since = datetime.fromtimestamp(created, UTC) if isinstance(created, int) else None
        return Drift(table=_table(kind), object_id=object_id, problem="missing", since=since)
    return Drift(
        table=_table(kind),
        object_id=object_id,
        problem="different",
        fields=differing,
        since=since,
    )


async def _dead_mapping(reader: fetching.StripeReader, kind: Kind, object_id: str) -> Drift | None:
    """A subject whose customer was deleted at Stripe, or never existed."""
    if kind.name != "customer":
        return None
    async with reader.database.connection() as connection:
        since = await connection.fetchval(_MAPPED_SINCE, reader.environment, object_id)
    if since is None:
        return None
    return Drift(
        table="payments.customer_mappings", object_id=object_id, problem="extra", since=since
    )


async def _fetch(
    reader: fetching.StripeReader, kind: Kind, object_id: str
) -> tuple[StripeObject, int] | None:
    """An object and the time of its state; None if it does not exist at Stripe."""
    found = await fetching.fetch(reader, kind, object_id)
    if found is None or not kind.exists(found.data):
        return None
    return found.data, found.at


async def _repair(reader: fetching.StripeReader, kind: Kind, object_id: str) -> None:
    """Write Stripe's state. A manually changed row still has a version that prevents that, so the
    version is removed, unless the row has become newer than this response."""
    asked = await _fetch(reader, kind, object_id)
    if asked is None:
        await fetching.refresh(reader, kind, object_id)
        return
    facts = fetching.facts_of(kind, [asked[0]], asked[1])

    async def work() -> None:
        async with reader.database.as_service() as connection:
            await reader.check(connection)
            await connection.execute(
                f"UPDATE {_table(kind)} SET provider_event_at = NULL "  # noqa: S608
                f"WHERE {of_stripe(kind.table)} AND {kind.key} = $2 "
                "AND provider_event_at <= pg_catalog.to_timestamp($3)",
                reader.environment,
                object_id,
                asked[1],
            )
            if kind.children is not None:
                await connection.execute(
                    _UNKNOWN_CHILDREN.format(kind.children.table, kind.children.parent),
                    reader.environment,
                    object_id,
                )
            await apply_facts(connection, reader.environment, facts, outside_ledger=True)

    await repeat_collisions(work)


def _table(kind: Kind) -> str:
    return f"payments.{kind.table}"


async def _shown(
    reader: fetching.StripeReader, kind: Kind, ids: list[str]
) -> tuple[dict[str, Shown], dict[str, list[Shown]]]:
    """The rows of these objects, and of the children of each, by id."""
    children: dict[str, list[Shown]] = {}
    async with reader.database.connection() as connection:
        rows = await connection.fetch(
            f"SELECT * FROM {_table(kind)} "  # noqa: S608 — names from KINDS
            f"WHERE {of_stripe(kind.table)} AND {kind.key} = ANY ($2)",
            reader.environment,
            ids,
        )
        if kind.children is not None:
            found = await connection.fetch(
                f"SELECT * FROM payments.{kind.children.table} "  # noqa: S608
                f"WHERE environment = $1 AND {kind.children.parent} = ANY ($2)",
                reader.environment,
                ids,
            )
            for each in found:
                children.setdefault(each[kind.children.parent], []).append(dict(each))
    return {row[kind.key]: dict(row) for row in rows}, children


def _differences(
    kind: Kind, stripe_object: StripeObject, shown: Shown | None, children: Iterable[Shown]
) -> list[str]:
    """The columns in which a row differs from its object; all columns if there is no row."""
    try:
        row = kind.row(stripe_object)
    except UnreadableObject:
        return []
    if row is None:
        return []
    if shown is None:
        # Who is entitled to nothing may have no row.
        is_nothing = kind.is_its_children and not (
            kind.children and kind.children.entries(stripe_object)
        )
        return [] if is_nothing else ["*"]
    subject = kind.subject(stripe_object) if kind.subject else None
    if subject is not None:
        row |= {"subject_type": subject.type, "subject_id": subject.id}
    found = _different(row, shown)
    if kind.children is not None:
        expected = kind.children.rows(stripe_object)
        by_id = {each[kind.children.key]: each for each in children}
        if by_id.keys() != expected.keys() or any(
            _different({k: v for k, v in each.items() if k != "raw"}, by_id[child])
            for child, each in expected.items()
        ):
            found.append(kind.children.field)
    return found


def _different(row: Row, shown: Shown) -> list[str]:
    found = []
    for column, expected in row.items():
        actual = shown[column]
        if isinstance(actual, datetime):
            actual = int(actual.timestamp())
        if actual != expected:
            found.append(column)
    return found


def _in_flight(stripe_object: StripeObject, row: Shown | None, at: int) -> bool:
    """Whether the difference is only temporary: the row is newer than Stripe's response, or there
    is no row yet because the object is new."""
    if row is None:
        created = stripe_object.get("created")
        return isinstance(created, int) and created > at - YOUNG
    version = row["provider_event_at"]
    return version is not None and version.timestamp() > at
