"""Rebuilding from a ledger of 100,000 events: a customer's year in the sandbox, repeated many
times."""

from __future__ import annotations

import os
import re
import time
from typing import Any

import asyncpg
import httpx
import orjson
import uvloop

from bench.database import migrated
from billhook.mirror.rebuild import rebuild
from billhook.models import RebuildOrder
from billhook.postgres import Database
from billhook_sandbox.app import create_sandbox

EVENTS = int(os.environ.get("BENCH_EVENTS", "100000"))
# Ids that differ by customer; products and prices are shared.
_OWN = re.compile(r'"((?!prod_|price_)[a-z]+(?:_test)?_[A-Za-z0-9]{8,})"')

_RECORD = """
INSERT INTO payments.webhook_events (provider, environment, provider_event_id, event_type, livemode,
    object_type, object_id, processing_status, attempt_count, payload, processed_at)
SELECT 'stripe', 'test', e ->> 'id', e ->> 'type', false, e #>> '{data,object,object}',
    e #>> '{data,object,id}', 'processed', 1, e, now()
FROM unnest($1::text[]) AS t, CAST(t AS jsonb) AS e
ON CONFLICT DO NOTHING
"""
_WRITE = """
SELECT pg_size_pretty(sum(pg_total_relation_size(oid))) FROM pg_class
WHERE relkind = 'r' AND relnamespace IN ('payments'::regnamespace, 'billhook'::regnamespace)
"""


async def year() -> list[str]:
    """The events of one customer: a purchase, refunded in part, and a subscription."""
    key = ("sk_test_bench", "")
    transport = httpx.ASGITransport(create_sandbox())
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as web:

        async def made(path: str, **given: str) -> dict[str, Any]:
            answer = await web.post(f"/v1/{path}", data=given, auth=key)
            found: dict[str, Any] = answer.raise_for_status().json()
            return found

        async def control(command: str, **given: Any) -> None:
            (await web.post(f"/_sandbox/{command}", json=given)).raise_for_status()

        product = await made("products", name="Gold")
        price = {"product": product["id"], "currency": "eur", "unit_amount": "900"}
        once = await made("prices", **price)
        monthly = await made("prices", **price, **{"recurring[interval]": "month"})
        customer = await made("customers", name="Ada")
        events: dict[str, Any] = {}
        for mode, bought in (("payment", once), ("subscription", monthly)):
            session = await made(
                "checkout/sessions",
                mode=mode,
                customer=customer["id"],
                success_url="https://shop.example/thanks",
                **{
                    "line_items[0][price]": bought["id"],
                    "line_items[0][quantity]": "1",
                    "metadata[insforge_subject_type]": "user",
                    "metadata[insforge_subject_id]": customer["id"],
                },
            )
            await control("pay", session=session["id"], payment_method="pm_card_visa")
        intents = (await web.get("/v1/payment_intents", auth=key)).json()["data"]
        await made("refunds", payment_intent=intents[-1]["id"], amount="100")
        for _ in range(12):
            listed = await web.get("/v1/events", params={"limit": "100"}, auth=key)
            events |= {each["id"]: each for each in listed.json()["data"]}
            await control("advance", seconds=31 * 86400)
        return [orjson.dumps(each).decode() for each in events.values()]


async def fill(dsn: str, told: list[str]) -> int:
    connection = await asyncpg.connect(dsn, timeout=60)
    customers = EVENTS // len(told)
    for number in range(customers):
        renamed = [_OWN.sub(rf'"\1x{number}"', each) for each in told]
        await connection.execute(_RECORD, renamed, timeout=900)
    await connection.execute("VACUUM ANALYZE payments.webhook_events", timeout=900)
    stored: int = await connection.fetchval("SELECT count(*) FROM payments.webhook_events")
    await connection.close()
    return stored


async def measure(dsn: str) -> None:
    stored = await fill(dsn, await year())
    database = Database(dsn)
    await database.open()
    for name, swap in (("into empty tables", True), ("compared", False), ("swapped", True)):
        if name == "swapped":
            async with database.connection() as connection:
                await connection.execute(
                    "UPDATE payments.transactions SET amount = amount + 1", timeout=900
                )
        began = time.perf_counter()
        found = await rebuild(database, "test", RebuildOrder(swap=swap))
        took = time.perf_counter() - began
        assert found.events == stored
        different = sum(each.different for each in found.tables)
        rows = sum(each.rebuilt_rows for each in found.tables)
        print(
            f"{stored} events, {rows} rows, {name}: {took:.1f} s, {stored / took:.0f} events/s, "
            f"{different} rows differed"
        )
    async with database.connection() as connection:
        print(f"the tables take {await connection.fetchval(_WRITE)}")
    await database.close()


def main() -> None:
    """Run it and print seconds."""
    with migrated() as dsn:
        uvloop.run(measure(dsn))  # as the server runs
