"""What a sync reads: lists, in ranges of `created`, whose state is kept so that it can go on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import asyncpg

from billhook import mirror
from billhook.db import Connection, Database
from billhook.db.leases import Lease
from billhook.projections.fetched import Kind
from billhook.projections.shapes import timestamp
from billhook.settings import Environment
from billhook.stripe.gateway import StripeObject

_PAGE = 100
OLDEST = 1_293_840_000
"""2011: Stripe has nothing older, so ranges are split above it."""


@dataclass(frozen=True, slots=True)
class Listing:
    name: str
    kind: Kind
    table: str
    id_column: str
    variants: tuple[dict[str, Any], ...] = ({},)
    """The requests that give the whole list together."""


# Without `active`, Stripe lists the active ones only (stripe-facts 24).
_ACTIVE_OR_NOT: tuple[dict[str, Any], ...] = ({"active": True}, {"active": False})
LISTINGS = (
    Listing("products", "product", "payments.stripe_products", "product_id", _ACTIVE_OR_NOT),
    Listing("prices", "price", "payments.stripe_prices", "price_id", _ACTIVE_OR_NOT),
    Listing(
        "customers",
        "customer",
        "payments.customers",
        "provider_customer_id",
        ({"expand": [f"data.{each}" for each in mirror.EXPAND["customer"]]},),
    ),
    Listing(
        "subscriptions",
        "subscription",
        "payments.stripe_subscriptions",
        "subscription_id",
        ({"status": "all"},),
    ),
)

_BEGIN = """
INSERT INTO billhook.syncs AS s (environment) VALUES ($1)
ON CONFLICT (environment) DO UPDATE SET started_at = now(), finished_at = NULL, result = NULL
"""
_FORGET_RANGES = "DELETE FROM billhook.sync_ranges WHERE environment = $1"
# A sync that was stopped an hour ago or earlier would resume into a list that has moved on.
_STOPPED = """
SELECT EXISTS (
    SELECT FROM billhook.syncs
    WHERE environment = $1 AND finished_at IS NULL AND started_at > now() - interval '1 hour')
"""
_RANGES = """
SELECT id, list, variant, since, upto, after, objects, done FROM billhook.sync_ranges
WHERE environment = $1 ORDER BY id
"""
_ADD_RANGE = """
INSERT INTO billhook.sync_ranges (environment, list, variant, since, upto)
VALUES ($1, $2, $3, $4, $5)
RETURNING id
"""
_WRITE_PAGE = """
SELECT held, added FROM billhook.write_page($1, $2, $3, $4, $5::text::jsonb, $6, $7)
"""


@dataclass(slots=True)
class Range:
    """Objects of one list created in [since, upto), of which those up to `after` are read."""

    id: int
    variant: int
    since: int
    upto: int | None
    after: str | None = None
    objects: int = 0


async def begin(
    database: Database, environment: Environment, lease: Lease
) -> tuple[dict[str, list[Range]], bool]:
    """The ranges to read, and whether they are whole lists (not those of a stopped sync)."""
    ranges: dict[str, list[Range]] = {each.name: [] for each in LISTINGS}
    async with database.as_service() as connection:
        await lease.check(connection)
        stopped = await connection.fetchval(_STOPPED, environment)
        left = await connection.fetch(_RANGES, environment) if stopped else []
        if left:
            for row in left:
                if not row["done"]:
                    ranges[row["list"]].append(_range(row))
            return ranges, False
        await connection.execute(_FORGET_RANGES, environment)
        await connection.execute(_BEGIN, environment)
        for each in LISTINGS:
            for variant in range(len(each.variants)):
                row_id = await connection.fetchval(
                    _ADD_RANGE, environment, each.name, variant, OLDEST, None
                )
                ranges[each.name].append(Range(row_id, variant, OLDEST, None))
    return ranges, True


async def write_page(
    connection: Connection,
    asking: mirror.Asking,
    listing: Listing,
    rows: str,
    part: Range,
    older: Range | None,
    *,
    done: bool,
) -> None:
    """Write a page of a range, how far the range is now read, and what was split off from it: one
    statement, so one round trip and one transaction.

    Raises:
        LeaseLost: somebody else syncs now, or the key was changed.
    """
    lease = asking.lease
    keep = {"id": part.id, "since": part.since, "after": part.after, "objects": part.objects}
    split_off = {"list": listing.name, "variant": part.variant}
    written = await connection.fetchrow(
        _WRITE_PAGE,
        lease.name if lease else None,
        lease.holder if lease else None,
        asking.environment,
        listing.kind,
        rows,
        keep | {"done": done},
        split_off | {"since": older.since, "upto": older.upto} if older else None,
    )
    if lease and not (written and written["held"]):
        raise lease.lost()
    if older and written:
        older.id = written["added"]


def _range(row: asyncpg.Record) -> Range:
    return Range(row["id"], row["variant"], row["since"], row["upto"], row["after"], row["objects"])


def params_of(listing: Listing, part: Range) -> dict[str, Any]:
    """The request for the next page of a range."""
    created = {"gte": part.since} if part.since > OLDEST else {}
    if part.upto is not None:
        created["lt"] = part.upto
    params: dict[str, Any] = {"limit": _PAGE, **listing.variants[part.variant]}
    if created:
        params["created"] = created
    if part.after is not None:
        params["starting_after"] = part.after
    return params


def split(part: Range, objects: list[StripeObject]) -> Range | None:
    """The older half of what is left of a range, or None where there is nothing to halve."""
    oldest = timestamp(objects[-1].get("created"))
    if oldest is None or oldest - part.since < 2:
        return None
    middle = (part.since + oldest) // 2
    return Range(0, part.variant, part.since, middle)
