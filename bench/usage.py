"""Usage: meter events a second to a sandbox without a cap, and what a writer notices of it.

The sandbox, PostgreSQL and the sender share the machine's cores.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

import asyncpg
import httpx
import uvloop
from pydantic import SecretStr

from bench.database import migrated
from billhook.access.secrets import SecretStore, stripe_key_name
from billhook.metrics import Metrics
from billhook.postgres import Database
from billhook.settings import Settings
from billhook.stripe.gateway import Gateway
from billhook.stripe.governor import Governor
from billhook.usage import UsageSender

KEY = "sk_test_benchbenchbenchbenchbench"
CUSTOMERS = 500
EVENTS = int(os.environ.get("BENCH_OBJECTS", "30000"))
WRITTEN = 100_000
RATE = 10_000
BATCH = 100
"""Rows of one transaction of the writer."""

_INSERT = """
INSERT INTO payments.usage (environment, meter, subject_type, subject_id, occurred_at)
SELECT 'test', 'calls', 'team', 't' || (n % $3)::text, now() - make_interval(secs => n / $3)
FROM generate_series($1::int, $2::int) AS n
"""


@contextmanager
def sandbox() -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "billhook_sandbox", "--port", "0"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    try:
        yield process.stdout.readline().removeprefix("billhook sandbox: ").strip()
    finally:
        process.terminate()
        process.wait()


async def prepare(dsn: str, url: str) -> None:
    """A meter, and mapped customers."""
    async with httpx.AsyncClient(base_url=url, auth=(KEY, ""), timeout=30) as http:
        made = await http.post(
            "/v1/billing/meters",
            data={
                "display_name": "Calls",
                "event_name": "calls",
                "default_aggregation[formula]": "sum",
            },
        )
        made.raise_for_status()
        customers = [(await http.post("/v1/customers")).json()["id"] for _ in range(CUSTOMERS)]
    connection = await asyncpg.connect(dsn)
    await connection.executemany(
        """INSERT INTO payments.customer_mappings
            (provider, environment, subject_type, subject_id, provider_customer_id)
           VALUES ('stripe', 'test', 'team', $1, $2)""",
        [(f"t{number}", customer) for number, customer in enumerate(customers)],
    )
    await connection.execute(
        """INSERT INTO payments.stripe_meters
            (environment, meter_id, event_name, formula, status, customer_key, value_key)
           VALUES ('test', $1, 'calls', 'sum', 'active', 'stripe_customer_id', 'value')""",
        made.json()["id"],
    )
    await connection.close()


@asynccontextmanager
async def sending(dsn: str, url: str) -> AsyncIterator[UsageSender]:
    settings = Settings(
        database_url=SecretStr(dsn), jwt_secret=SecretStr(secrets.token_hex(32)), _env_file=None
    )
    database = Database(dsn)
    await database.open()
    store = SecretStore(database, settings)
    await store.set(stripe_key_name("test"), KEY)
    gateway = Gateway(store.stripe_key, url, Governor(0, {}))
    try:
        yield UsageSender(database, gateway, Metrics())
    finally:
        await gateway.close()
        await database.close()


async def write(dsn: str) -> list[float]:
    """Insert rows at a fixed rate. Returns the seconds that each transaction took."""
    connection = await asyncpg.connect(dsn)
    took = []
    began = time.perf_counter()
    for first in range(0, WRITTEN, BATCH):
        await asyncio.sleep(max(0.0, began + first / RATE - time.perf_counter()))
        at = time.perf_counter()
        await connection.execute(_INSERT, first, first + BATCH - 1, CUSTOMERS)
        took.append(time.perf_counter() - at)
    await connection.close()
    return sorted(took)


def report(what: str, took: list[float]) -> None:
    middle, slow = took[len(took) // 2], took[len(took) * 99 // 100]
    print(
        f"  {what}: {BATCH} rows in {middle * 1000:.1f} ms (p50), {slow * 1000:.1f} ms (p99), "
        f"{BATCH / middle:,.0f} rows/s possible"
    )


async def measure(dsn: str, url: str) -> None:
    await prepare(dsn, url)
    connection = await asyncpg.connect(dsn)
    async with sending(dsn, url) as sender:
        report("a writer alone", await write(dsn))
        await connection.execute("TRUNCATE payments.usage")
        await connection.execute(_INSERT, 0, EVENTS - 1, CUSTOMERS)
        began, used = time.perf_counter(), time.process_time()
        await sender.send_due("test")
        seconds, used = time.perf_counter() - began, time.process_time() - used
        sent = await connection.fetchval(
            "SELECT count(DISTINCT sent_as) FROM payments.usage WHERE status = 'sent'"
        )
        assert sent == EVENTS, sent
        print(
            f"  {EVENTS:,} events of {CUSTOMERS} customers in {seconds:.1f} s: "
            f"{EVENTS / seconds:,.0f}/s, {used / EVENTS * 1000:.2f} ms CPU of the sender for each"
        )
        meanwhile = asyncio.create_task(sender.send_due("test"))
        report(f"a writer of {RATE:,} rows/s beside the sender", await write(dsn))
        meanwhile.cancel()
        with suppress(asyncio.CancelledError):
            await meanwhile
    await connection.close()


def main() -> None:
    """Run it and print the results."""
    print("usage, Stripe at 0 ms, no cap")
    with sandbox() as url, migrated() as dsn:
        uvloop.run(measure(dsn, url))
