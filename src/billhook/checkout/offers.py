"""Offers: terms that an administrator defined, and that a checkout names (docs/how-to/offers.md).

An offer is redeemed in one short transaction that locks it, before Stripe is asked: so there are
never more redemptions than it allows. A checkout that has ended without a payment keeps its
redemption until another checkout needs it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from billhook.checkout.line_items import Item
from billhook.errors import InvalidInput, NotFound
from billhook.models import CheckoutOptions, Offer, SetOffer, parse
from billhook.models import CreateCheckoutSession as Order
from billhook.models.checkout_options import misplaced
from billhook.postgres import Connection, Database
from billhook.settings import Environment

# Expired, failed, or interrupted: what is still being created after an hour.
_ENDED = """
status IN ('initialized', 'failed', 'expired')
  AND (status <> 'initialized' OR updated_at < pg_catalog.now() - interval '1 hour')
"""
_COLUMNS = f"""
o.environment, o.name, o.active, o.options, o.price_ids, o.lookup_keys, o.redeem_by,
o.max_redemptions, o.created_at, o.updated_at, o.redemptions - (
    SELECT pg_catalog.count(*) FROM payments.stripe_checkout_sessions
    WHERE redeemed_offer = o.id AND {_ENDED}) AS redemptions
"""  # noqa: S608
_ALL = f"""
SELECT {_COLUMNS} FROM payments.offers o WHERE o.environment = $1 ORDER BY o.name
"""  # noqa: S608
_ONE = f"""
SELECT {_COLUMNS} FROM payments.offers o WHERE o.environment = $1 AND o.name = $2
"""  # noqa: S608
_SET = """
INSERT INTO payments.offers AS o (environment, name, active, options, price_ids, lookup_keys,
    redeem_by, max_redemptions)
VALUES ($1, $2, $3, $4, $5::text[], $6::text[], $7, $8)
ON CONFLICT (environment, name) DO UPDATE SET active = excluded.active,
    options = excluded.options, price_ids = excluded.price_ids,
    lookup_keys = excluded.lookup_keys, redeem_by = excluded.redeem_by,
    max_redemptions = excluded.max_redemptions, updated_at = pg_catalog.now()
"""
_DELETE = "DELETE FROM payments.offers WHERE environment = $1 AND name = $2"
_DELETED = "DELETE 1"

_LOCK = """
SELECT id, active, options, price_ids, lookup_keys, redeem_by, max_redemptions, redemptions
FROM payments.offers WHERE environment = $1 AND name = $2 FOR NO KEY UPDATE
"""
_KEYS_OF_PRICES = """
SELECT price_id, lookup_key FROM payments.stripe_prices
WHERE environment = $1 AND price_id = ANY ($2::text[])
"""
# A checkout that is tried again counts from now on.
_REDEEM = """
WITH before AS (
    SELECT id, redeemed_offer FROM payments.stripe_checkout_sessions WHERE id = $1 FOR UPDATE
)
UPDATE payments.stripe_checkout_sessions AS ours
SET offer_options = $2, redeemed_offer = $3,
    status = CASE WHEN status IN ('failed', 'expired') THEN 'initialized' ELSE status END,
    url = CASE WHEN status IN ('failed', 'expired') THEN NULL ELSE url END
FROM before WHERE ours.id = before.id
RETURNING before.redeemed_offer IS NOT DISTINCT FROM $3 AS had_one
"""
# Rows that another transaction has locked are left out: waiting for several could be a deadlock.
_TAKE_BACK = f"""
UPDATE payments.stripe_checkout_sessions SET redeemed_offer = NULL
WHERE id = ANY (ARRAY(
    SELECT id FROM payments.stripe_checkout_sessions
    WHERE redeemed_offer = $1 AND id <> $2 AND {_ENDED}
    LIMIT $3 FOR UPDATE SKIP LOCKED))
RETURNING id
"""  # noqa: S608
_COUNT = "UPDATE payments.offers SET redemptions = $2 WHERE id = $1"


@dataclass(frozen=True, slots=True)
class Redeemed:
    """What a checkout gets from its offer.

    Attributes:
        options: those of the order and the offer. Where both decide, the offer does.
        offer_id: the row must still have a redemption of this offer when it is opened.
    """

    options: CheckoutOptions
    offer_id: UUID


async def offers(database: Database, environment: Environment) -> list[Offer]:
    """All offers, by name."""
    async with database.connection() as connection:
        return [Offer(**row) for row in await connection.fetch(_ALL, environment)]


async def offer(database: Database, environment: Environment, name: str) -> Offer:
    """One offer.

    Raises:
        NotFound: there is none of this name.
    """
    async with database.connection() as connection:
        row = await connection.fetchrow(_ONE, environment, name)
    if row is None:
        raise _unknown(environment, name)
    return Offer(**row)


async def set_offer(
    database: Database, environment: Environment, name: str, given: SetOffer
) -> Offer:
    """Create or replace an offer. Checkouts that already use it keep their terms."""
    await database.execute(
        _SET,
        environment,
        name,
        given.active,
        given.options.as_sent(),
        given.price_ids,
        given.lookup_keys,
        given.redeem_by,
        given.max_redemptions,
    )
    return await offer(database, environment, name)


async def delete_offer(database: Database, environment: Environment, name: str) -> None:
    """Delete an offer. Checkouts that already use it keep their terms.

    Raises:
        NotFound: there is none of this name.
    """
    async with database.connection() as connection:
        if await connection.execute(_DELETE, environment, name) != _DELETED:
            raise _unknown(environment, name)


async def redeem(
    database: Database,
    environment: Environment,
    order: Order,
    items: Sequence[Item],
    row_id: UUID,
    now: datetime,
) -> Redeemed:
    """Use the order's offer for its row, again if it has been used for it before.

    Raises:
        InvalidInput: there is no such offer, it is over, or it does not fit the order.
    """
    name = str(order.offer)
    async with database.as_service() as connection:
        found = await connection.fetchrow(_LOCK, environment, name)
        if found is None:
            raise InvalidInput(f"offer: there is no offer {name} in the {environment} environment")
        if not found["active"] or (found["redeem_by"] is not None and found["redeem_by"] <= now):
            raise InvalidInput(f"offer: the offer {name} has ended")
        await _require_prices(connection, environment, name, items, found)
        options = merged(order, found["options"])
        await _count(connection, name, found, row_id)
    return Redeemed(options, found["id"])


async def _count(connection: Connection, name: str, found: asyncpg.Record, row_id: UUID) -> None:
    """Give the row a redemption of the offer, if there is one left.

    Raises:
        InvalidInput: there is none.
    """
    had_one = await connection.fetchval(_REDEEM, row_id, found["options"], found["id"])
    if had_one is None:
        return  # the row was deleted
    others, most = found["redemptions"] - had_one, found["max_redemptions"]
    if most is not None and others >= most:
        others -= len(await connection.fetch(_TAKE_BACK, found["id"], row_id, others - most + 1))
        if others >= most:
            raise InvalidInput(f"offer: the offer {name} has been used up")
    await connection.execute(_COUNT, found["id"], others + 1)


def merged(order: Order, decided: dict[str, Any]) -> CheckoutOptions:
    """The options of an order and of its offer.

    Raises:
        InvalidInput: they exclude each other, or do not fit the order's mode.
    """
    asked = order.options.as_sent() if order.options else {}
    options = parse(CheckoutOptions, {**asked, **decided})
    if problem := misplaced(options, order.mode):
        raise InvalidInput(f"options.{problem} (the offer {order.offer} decides about it)")
    return options


async def _require_prices(
    connection: Connection,
    environment: Environment,
    name: str,
    items: Sequence[Item],
    found: asyncpg.Record,
) -> None:
    """Make sure that the offer applies to all items."""
    price_ids, lookup_keys = set(found["price_ids"]), set(found["lookup_keys"])
    if not price_ids and not lookup_keys:
        return
    sold = [item.price_id for item in items]
    keys: dict[str, str | None] = {}
    if lookup_keys:
        rows = await connection.fetch(_KEYS_OF_PRICES, environment, [each for each in sold if each])
        keys = {row["price_id"]: row["lookup_key"] for row in rows}
    if not sold or not all(
        each in price_ids or keys.get(each or "") in lookup_keys for each in sold
    ):
        raise InvalidInput(f"offer: the offer {name} does not apply to these prices")


def _unknown(environment: Environment, name: str) -> NotFound:
    return NotFound(
        f"There is no offer {name} in the {environment} environment.",
        next_actions="`billhook offers list` shows all offers.",
    )
