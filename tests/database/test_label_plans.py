"""Names on a page and timelines read a bounded number of rows, whatever PostgreSQL knows about the
tables; the search does with statistics, as the lists do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import pytest
from test_list_plans import _FILL, LIMIT, ROWS, Recording, rows_touched

from billhook.models import SubscriptionsQuery, TransactionsQuery
from billhook.reports import lists, timelines
from billhook.reports.search import search

EACH = 30
"""Rows that are read for one row of a page."""
MOST = 800
"""Rows that a search reads: some for each of many look-ups."""
_MORE = f"""
    UPDATE payments.transactions SET provider_object_type = 'payment_intent',
        related_object_ids = related_object_ids || jsonb_build_object(
            'charge', 'ch_' || provider_object_id, 'invoice', 'in_' || payment_id,
            'product', 'prod_9', 'checkout_session', 'cs_' || provider_object_id),
        raw = jsonb_build_object('metadata', jsonb_build_object(
            'order_id', 'order-' || provider_object_id, 'insforge_subject_id', 'all',
            'shop', 'one of many'));
    INSERT INTO payments.webhook_events (
        provider, environment, event_type, livemode, object_type, object_id, processing_status,
        payload, received_at, provider_event_id)
    SELECT 'stripe', 'test', kind, false, split_part(kind, '.', 1), prefix || 'pi_' || n,
        'processed', '{{"data": {{"object": {{"customer": "cus_9"}}}}}}',
        now() - n * '1 s'::interval, 'evt_' || kind || n
    FROM generate_series(1, {ROWS}) n, (VALUES ('charge.succeeded', 'ch_'),
        ('payment_intent.payment_failed', '')) AS k (kind, prefix);
    UPDATE payments.customers SET metadata = jsonb_build_object('crm', provider_customer_id);
    UPDATE payments.stripe_subscriptions SET metadata = jsonb_build_object('deal', subscription_id);
    UPDATE payments.stripe_invoices SET number = 'INV-' || invoice_id;
    UPDATE payments.stripe_subscription_items SET price_id = 'price_9', product_id = 'prod_9';
"""

Read = Callable[["Reader"], Awaitable[object]]


class Reader(Recording):
    async def fetchrow(self, statement: str, *args: Any) -> Any:
        return next(iter(await self.fetch(statement, *args)), None)


async def _payments(reader: Reader) -> object:
    page = await lists.payments(reader, "test", TransactionsQuery(limit=LIMIT))
    reader.asked.clear()
    return await lists.payment_labels(reader, "test", page.rows)


async def _subscriptions(reader: Reader) -> object:
    page = await lists.subscriptions(reader, "test", SubscriptionsQuery(limit=LIMIT))
    reader.asked.clear()
    return await lists.subscription_labels(reader, "test", page.rows)


async def _payers(reader: Reader) -> object:
    return await lists.payers(reader, "test", [f"pi_{n}" for n in range(1, LIMIT)])


async def _timeline(reader: Reader) -> object:
    page = await lists.payments(reader, "test", TransactionsQuery(limit=1))
    reader.asked.clear()
    return await timelines.of_payment(reader, "test", page.rows[0])


async def _failing(reader: Reader) -> object:
    return await timelines.failing(reader, "test", "cus_9")


PAGES: list[tuple[Read, int]] = [
    (_payments, EACH * LIMIT),
    (_subscriptions, EACH * LIMIT),
    (_payers, EACH * LIMIT),
    (_timeline, 50),
    (_failing, 200),
]


@pytest.mark.parametrize("analysed", [True, False])
def test_what_a_page_shows_is_looked_up(direct_database_url: str, analysed: bool) -> None:
    async def work() -> dict[str, int]:
        judge = await asyncpg.connect(
            direct_database_url,
            statement_cache_size=0,
            server_settings={"plan_cache_mode": "force_generic_plan"},
        )
        await judge.execute(_FILL + _MORE, timeout=240)
        await judge.execute("VACUUM ANALYZE" if analysed else "SELECT 1", timeout=120)
        reader = Reader(direct_database_url)
        await reader.open()
        found: dict[str, int] = {}
        for read, most in PAGES:
            reader.asked.clear()
            await read(reader)
            rows = await rows_touched(judge, reader.asked)
            if rows > most:
                found[read.__name__] = rows
        texts = ("order-pi_9", "9.00", "7", "cus_9", "sub_9", "inv-in_9", "all", "nix")
        for text in texts if analysed else ():
            reader.asked.clear()
            await search(reader, "test", text)
            rows = await rows_touched(judge, reader.asked)
            if rows > MOST:
                found[text] = rows
        await reader.close()
        await judge.close()
        return found

    assert asyncio.run(work()) == {}
