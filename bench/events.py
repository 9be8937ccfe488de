"""Events per second of the webhook route, beside pgbench with three statements of the same kind.

Whole purchases of eight events each, on a new database that has not been analyzed. The server is
one process. The load generator (signing included) runs in this one, so on two cores all three share
what pgbench has for itself.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import itertools
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

import asyncpg
import httpx
import orjson

from bench import database
from bench.purchases import bodies
from billhook.postgres.embedded import EmbeddedPostgres
from billhook.postgres.migrate import migrate

SOURCE = Path(__file__).resolve().parents[1] / "src"
SECRET = "whsec_bench"
PATH = "/api/webhooks/stripe/test"
SECONDS = float(os.environ.get("BENCH_SECONDS", "6"))
CONCURRENCY = (1, 8, 32)

HISTORY = """
    INSERT INTO payments.transactions (provider, environment, type, status, provider_object_type,
        provider_object_id, provider_customer_id, amount, currency, provider_created_at,
        related_object_ids, payment_id)
    SELECT 'stripe', 'test', 'one_time_payment', 'succeeded', 'payment_intent', 'pi_old_' || n,
        'cus_old_' || n % 100000, 1500, 'eur', to_timestamp(1700000000 + n),
        jsonb_build_object('payment_intent', 'pi_old_' || n, 'charge', 'ch_old_' || n),
        nextval('billhook.payment_ids')
    FROM generate_series($1::int, $2::int) n
"""
HISTORY_REFS = """
    INSERT INTO billhook.payment_refs
    SELECT 'test', 'payment_intent', provider_object_id, payment_id FROM payments.transactions
    WHERE provider_object_id LIKE 'pi_old_%'
    ON CONFLICT DO NOTHING
"""


THREE_STATEMENTS = """\\set n random(1, 9000000000000)
BEGIN;
INSERT INTO payments.webhook_events (provider, environment, provider_event_id, event_type, livemode,
    object_type, object_id, processing_status, attempt_count, payload)
VALUES ('stripe', 'test', 'evt_p' || :n, 'customer.created', false, 'customer', 'cus_p' || :n,
    'pending', 1, replace('{payload}', 'OBJ', 'p' || :n)::jsonb);
INSERT INTO payments.customers (provider, environment, provider_customer_id, raw)
VALUES ('stripe', 'test', 'cus_p' || :n, replace('{object}', 'OBJ', 'p' || :n)::jsonb)
ON CONFLICT (provider, environment, provider_customer_id) DO UPDATE SET raw = EXCLUDED.raw;
UPDATE payments.webhook_events SET processing_status = 'processed', processed_at = now()
WHERE environment = 'test' AND provider = 'stripe' AND provider_event_id = 'evt_p' || :n;
COMMIT;
"""
"""The minimum that an event needs: its record, one row and its status."""


def pgbench(postgres: EmbeddedPostgres, dsn: str, clients: int) -> float:
    """Transactions per second of three statements."""
    body = bodies("OBJ")[0]
    values = {"payload": body, "object": orjson.dumps(orjson.loads(body)["data"]["object"])}
    script = THREE_STATEMENTS
    for name, value in values.items():
        # pgbench would treat `:word` as one of its variables
        script = script.replace(f"{{{name}}}", value.decode().replace(":", ": "))
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as file:
        file.write(script)
        file.flush()
        done = subprocess.run(
            [
                *(str(postgres.bin / "pgbench"), "-n", "-f", file.name, "-c", str(clients)),
                *("-j", "2", "-T", str(int(SECONDS)), dsn),
            ],
            capture_output=True,
            text=True,
            check=True,
        )
    found = re.search(r"tps = ([\d.]+)", done.stdout)
    assert found, done.stdout
    return float(found[1])


@contextmanager
def server(dsn: str, source: Path = SOURCE) -> Iterator[str]:
    """One `billhook` process, of the source given."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "billhook.cli", "serve"],
        env=os.environ
        | {
            "PYTHONPATH": str(source),
            "PORT": str(port),
            "DATABASE_URL": dsn,
            "JWT_SECRET": "a secret of the bench, long enough",
            "STRIPE_TEST_WEBHOOK_SECRET": SECRET,
            "BILLHOOK_POOL_SIZE": "16",
            "BILLHOOK_LOG_LEVEL": "error",
        },
    )
    address = f"127.0.0.1:{port}"
    try:
        with httpx.Client(transport=httpx.HTTPTransport(retries=12)) as http:
            http.get(f"http://{address}/health").raise_for_status()
        yield address
    finally:
        process.terminate()
        process.wait()


class Delivered(NamedTuple):
    """An accepted delivery: seconds from the start to its answer, and how many it took."""

    at: float
    took: float


async def load(address: str, senders: int, label: str) -> tuple[float, list[float]]:
    """Events per second, and each delivery's seconds."""
    until = time.perf_counter() + SECONDS
    delivered = await deliver(
        [address], senders, takewhile(lambda _: time.perf_counter() < until, purchases(label))
    )
    return rate(delivered), [each.took for each in delivered]


def purchases(label: str) -> Iterator[bytes]:
    """Without end. As Stripe sends them: events of the same purchase at the same time."""
    return (body for number in itertools.count() for body in bodies(f"{label}_{number}"))


def rate(delivered: Sequence[Delivered]) -> float:
    """Events per second."""
    return len(delivered) / delivered[-1].at


async def deliver(
    addresses: Sequence[str], senders: int, events: Iterator[bytes], path: str = PATH
) -> list[Delivered]:
    """Deliver events over keep-alive connections, spread over the addresses."""
    delivered: list[Delivered] = []
    places = [addresses[number % len(addresses)] for number in range(senders)]
    connections = [await asyncio.open_connection(*each.split(":")) for each in places]
    first = time.perf_counter()

    async def send(
        address: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        for body in events:
            began = time.perf_counter()
            writer.write(_request(address, path, body))
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head.lower())
            assert head.startswith(b"HTTP/1.1 200"), head
            assert length
            await reader.readexactly(int(length[1]))
            ended = time.perf_counter()
            delivered.append(Delivered(ended - first, ended - began))
        writer.close()

    await asyncio.gather(
        *(send(place, *each) for place, each in zip(places, connections, strict=True))
    )
    return delivered


def _request(address: str, path: str, body: bytes) -> bytes:
    stamp = str(int(time.time()))
    digest = hmac.new(SECRET.encode(), stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    return (
        f"POST {path} HTTP/1.1\r\nHost: {address}\r\n"
        f"Stripe-Signature: t={stamp},v1={digest}\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body


def percentile(took: list[float], share: float) -> float:
    """Milliseconds."""
    return statistics.quantiles(took, n=1000)[int(share * 1000) - 1] * 1000


async def grow_history(dsn: str, first: int, last: int) -> None:
    connection = await asyncpg.connect(dsn, timeout=60)
    await connection.execute(HISTORY, first, last, timeout=900)
    await connection.execute(HISTORY_REFS, timeout=900)
    await connection.execute("VACUUM ANALYZE payments.transactions", timeout=900)
    await connection.execute("VACUUM ANALYZE billhook.payment_refs", timeout=900)
    # Writing the bulk to disk must not count for the events after it.
    await connection.execute("CHECKPOINT", timeout=900)
    await connection.close()


def main() -> None:
    """Run everything and print ratios."""
    with database.server(autovacuum="off") as postgres:
        rates(postgres)
        history(postgres)


def rates(postgres: EmbeddedPostgres) -> None:
    """Events per second, beside pgbench."""
    dsn = migrated(postgres, "rates")
    with server(dsn) as address:
        print(f"purchases of eight events, one server process, fsync on, {SECONDS:g} s each")
        print("concurrency   events/s   p50 ms   p99 ms   pgbench tx/s   ratio")
        for senders in CONCURRENCY:
            found, took = asyncio.run(load(address, senders, f"a{senders}"))
            reference = pgbench(postgres, dsn, senders)
            print(
                f"{senders:>11}   {found:>8.0f}   {percentile(took, 0.5):>6.1f}   "
                f"{percentile(took, 0.99):>6.1f}   {reference:>12.0f}   {found / reference:>5.2f}"
            )


def history(postgres: EmbeddedPostgres) -> None:
    """The cost per event with 1,000 and with 1,000,000 transactions before it."""
    dsn = migrated(postgres, "history")
    with server(dsn) as address:
        asyncio.run(grow_history(dsn, 1, 1000))
        small, _ = asyncio.run(load(address, 8, "small"))
        asyncio.run(grow_history(dsn, 1001, 1_000_000))
        large, _ = asyncio.run(load(address, 8, "large"))
    print(
        f"cost per event at 1,000,000 transactions / at 1,000: {small / large:.2f} "
        f"({large:.0f} and {small:.0f} events/s at 8)"
    )


def migrated(postgres: EmbeddedPostgres, name: str) -> str:
    """The address of a new database with a connected account."""
    dsn = postgres.create_database(name)
    asyncio.run(migrate(dsn))
    asyncio.run(connect(dsn))
    return dsn


async def connect(dsn: str) -> None:
    """Connect an account, so that events are applied."""
    await execute(
        dsn,
        "INSERT INTO payments.provider_connections (provider, environment, status, "
        "provider_account_id) VALUES ('stripe', 'test', 'connected', 'acct_bench')",
    )


async def execute(dsn: str, statements: str) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute(statements)
    await connection.close()
