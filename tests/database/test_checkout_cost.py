"""What the decisions of a checkout cost grows neither with other checkouts nor with missing
statistics: pages that PostgreSQL reads, with nothing analysed, and with tables that were analysed
while they were empty."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import orjson
import pytest

import aside
from billhook.checkout.line_items import Item
from billhook.checkout.offers import offer, redeem
from billhook.checkout.one_subscription import claim_subscription
from billhook.checkout.rows import opened
from billhook.checkout.trials import claim_trial
from billhook.models import BillingSubject, CreateCheckoutSession, parse
from billhook.postgres import prepare_connection
from depth import by_depth

HISTORY = by_depth(20_000, 100_000, 1_000_000)
"""Checkouts of others that use the offer, each with a subscription."""
MOST = 60
"""Pages of one decision: a few for each look-up, and for each entry of an index that it writes."""

_NO_AUTOVACUUM = """
    ALTER TABLE payments.stripe_checkout_sessions SET (autovacuum_enabled = off);
    ALTER TABLE payments.stripe_subscriptions SET (autovacuum_enabled = off);
    ALTER TABLE payments.offers SET (autovacuum_enabled = off);
    ALTER TABLE billhook.sole_checkouts SET (autovacuum_enabled = off);
"""
_OFFER = f"""
    INSERT INTO payments.offers (environment, name, max_redemptions)
    VALUES ('test', 'launch', {HISTORY + 1000})
"""
_GROW = f"""
    INSERT INTO payments.stripe_checkout_sessions (environment, mode, status, subject_type,
        subject_id, success_url, cancel_url, checkout_session_id, subscription_id, offer,
        offer_options, redeemed_offer, trial_granted)
    SELECT 'test', 'subscription', (ARRAY['completed', 'open'])[1 + n % 2], 'user', 'old' || n, '',
        '', 'cs_old' || n, 'sub_old' || n, 'launch', '{{}}', o.id, true
    FROM payments.offers o, generate_series(1, {HISTORY}) AS n;
    UPDATE payments.offers SET redemptions = redemptions + {HISTORY};
    INSERT INTO payments.stripe_subscriptions (environment, subscription_id, customer_id, status,
        subject_type, subject_id, trial_start)
    SELECT 'test', 'sub_old' || n, 'cus_old' || n, 'active', 'user', 'old' || n, now()
    FROM generate_series(1, {HISTORY}) AS n;
    INSERT INTO billhook.sole_checkouts
    SELECT 'test', 'user', 'old' || n, purpose, gen_random_uuid()
    FROM generate_series(1, {HISTORY}) AS n, unnest(ARRAY['subscription', 'trial']) AS purpose;
"""
_MINE = """
    INSERT INTO payments.stripe_checkout_sessions (id, environment, mode, status, subject_type,
        subject_id, success_url, cancel_url, offer)
    VALUES ($1, 'test', 'subscription', 'initialized', 'user', $2, '', '', 'launch')
"""


class CountingDatabase:
    """One connection, in whose transactions the pages of each statement are counted. What changes
    something runs twice: once for the count, and undone. The statements that are counted are
    prepared, as the driver prepares them: PostgreSQL keeps a plan after the fifth time."""

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        self.uncounted = connection
        self._prepared: dict[str, tuple[str, list[str]]] = {}
        self.pages = 0

    @asynccontextmanager
    async def as_service(self) -> AsyncIterator[CountingDatabase]:
        async with self.uncounted.transaction():
            yield self

    connection = as_service

    def __getattr__(self, name: str) -> Any:
        run = getattr(self.uncounted, name)

        async def counted(query: str, *args: Any) -> Any:
            execution = await self._execution(query, args)
            undone = self.uncounted.transaction()
            await undone.start()
            plan = await self.uncounted.fetchval(
                f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {execution}"
            )
            await undone.rollback()
            top = orjson.loads(plan)[0]["Plan"]
            self.pages += top["Shared Hit Blocks"] + top["Shared Read Blocks"]
            return await run(query, *args)

        return counted

    async def _execution(self, query: str, args: Sequence[Any]) -> str:
        """The statement that executes a prepared one."""
        if query not in self._prepared:
            name = f"counted_{len(self._prepared)}"
            await self.uncounted.execute(f"PREPARE {name} AS {query}")
            parameters = (await self.uncounted.prepare(query)).get_parameters()
            self._prepared[query] = name, [f"{each.schema}.{each.name}" for each in parameters]
        name, types = self._prepared[query]
        values = [
            await self.uncounted.fetchval(f"SELECT quote_nullable(($1::{type_})::text)", value)
            for type_, value in zip(types, args, strict=True)
        ]
        return f"EXECUTE {name} ({', '.join(values)})" if values else f"EXECUTE {name}"

    def taken(self) -> int:
        """The pages since the last time."""
        pages, self.pages = self.pages, 0
        return pages


async def pages_by_decision(counting: CountingDatabase) -> dict[str, int]:
    connection = counting.uncounted
    database: Any = counting
    nobody: Any = None  # Stripe is not asked
    row_id, subject = uuid4(), BillingSubject(type="user", id=str(uuid4()))
    await connection.execute(_MINE, row_id, subject.id)
    pages = {}
    order = _order(subject)
    redeemed = await redeem(database, "test", order, [Item("price_1", 1)], row_id, _now())
    pages["redeem"] = counting.taken()
    await offer(database, "test", "launch")
    pages["offer"] = counting.taken()
    assert await claim_subscription(database, nobody, "test", subject, row_id) is None
    pages["one subscription"] = counting.taken()
    assert await claim_trial(database, nobody, "test", subject, row_id)
    pages["one trial"] = counting.taken()
    session = {"id": f"cs_{row_id}", "status": "open", "url": "https://stripe.example/pay"}
    held = ("subscription", "trial")
    assert await opened(database, "test", order, row_id, session, None, held, redeemed.offer_id)
    pages["opened"] = counting.taken()
    pages["the last redemption"] = await _last_redemption(counting, subject, row_id)
    return pages


async def _last_redemption(counting: CountingDatabase, subject: BillingSubject, ended: UUID) -> int:
    """A redemption that another checkout has had, which has expired."""
    connection = counting.uncounted
    database: Any = counting
    row_id = uuid4()
    await connection.execute(_MINE, row_id, subject.id)
    await connection.execute(
        "UPDATE payments.stripe_checkout_sessions SET status = 'expired' WHERE id = $1", ended
    )
    most = await connection.fetchval("SELECT max_redemptions FROM payments.offers")
    await connection.execute("UPDATE payments.offers SET max_redemptions = redemptions")
    await redeem(database, "test", _order(subject), [Item("price_1", 1)], row_id, _now())
    await connection.execute("UPDATE payments.offers SET max_redemptions = $1", most)
    found = "SELECT redeemed_offer FROM payments.stripe_checkout_sessions WHERE id = $1"
    assert await connection.fetchval(found, ended) is None
    return counting.taken()


def _now() -> datetime:
    return datetime.now(UTC)


def _order(subject: BillingSubject) -> CreateCheckoutSession:
    return parse(
        CreateCheckoutSession,
        {
            "mode": "subscription",
            "lineItems": [{"priceId": "price_1"}],
            "successUrl": "https://shop.example/done",
            "cancelUrl": "https://shop.example/cart",
            "offer": "launch",
            "subject": subject.model_dump(),
        },
    )


@pytest.mark.parametrize(
    "before", ["SELECT", "ANALYZE"], ids=["never analysed", "analysed when empty"]
)
def test_a_checkout_reads_as_few_pages_after_a_long_history(database_url: str, before: str) -> None:
    async def work() -> dict[str, int]:
        connection = await asyncpg.connect(database_url)
        await connection.execute(_NO_AUTOVACUUM)
        await connection.execute(before)
        await connection.execute(_OFFER)
        await connection.execute(_GROW, timeout=600)
        await prepare_connection(connection)
        counting = CountingDatabase(connection)
        for _ in range(7):  # plans are made, and kept after the fifth time
            pages = await pages_by_decision(counting)
        await connection.close()
        return pages

    pages = aside.run(work())
    assert len(pages) == 6
    assert {kind: each for kind, each in pages.items() if each > MOST} == {}
