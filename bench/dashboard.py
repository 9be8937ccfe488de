"""The dashboard's pages with 1,000,000 transactions, 100,000 customers and 1,000,000 events:
milliseconds to the first byte over HTTP, and what a page ships with all that belongs to it.

A server of its own process answers, as in production. Each page is timed beside `/health`, the
least that any answer costs; every page is asked for several times, and the slowest answer counts.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import subprocess
import sys
import tempfile
import time

import asyncpg
import httpx

from bench.database import migrated
from bench.lists import _FILL, CUSTOMERS, EVENTS, TRANSACTIONS

TIMES = 10
_KEY = "ik_" + secrets.token_hex(24)
_PORT = 7399
_URL = f"http://127.0.0.1:{_PORT}"

PAGES = {
    "overview": "",
    "overview, a year": "?period=12m",
    "overview, this month": "?period=this_month",
    "search, an email": "/search?q=user77@example.com",
    "search, an amount": "/search?q=19.90",
    "search, nothing": "/search?q=nothing-like-this",
    "catalog": "/catalog",
    "catalog, searched": "/catalog?search=tea+no.+49",
    "product": "/catalog/prod_77",
    "customers": "/customers",
    "customers, newest first": "/customers?order=newest",
    "customers, searched": "/customers?search=user99",
    "customers, no matches": "/customers?search=zzz",
    "customer": "/customers/cus_77",
    "subscriptions": "/subscriptions",
    "subscriptions, of a status": "/subscriptions?status=past_due",
    "subscriptions, ending soonest": "/subscriptions?order=renewal",
    "transactions": "/transactions",
    "transactions, oldest first": "/transactions?order=oldest",
    "transactions, largest first": "/transactions?order=largest",
    "transactions, rare status": "/transactions?status=pending",
    "transactions, rare combination": "/transactions?status=refunded&type=failed_payment",
    "transactions, rare combination, largest": "/transactions?status=failed&order=largest",
    "transactions, by email": "/transactions?search=user77@example.com",
    "transactions, no matches": "/transactions?search=nobody@example.com",
    "transaction": "/transactions/pi_77",
    "events": "/events",
    "events, that failed": "/events?status=failed",
    "events, of a type and status": "/events?type=payment_intent.succeeded&status=ignored",
    "events, of an object": "/events?search=pi_77",
    "event": "/events/evt_77",
    "subscription": "/subscriptions/sub_77",
    "invoices": "/invoices",
    "disputes": "/disputes",
    "MRR movements": "/mrr-movements",
    "audit log": "/audit-log",
    "settings": "/settings",
    "settings, mirror": "/settings/mirror",
    "settings, policies": "/settings/policies",
    "keys": "/keys",
}


async def fill(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    for statement in (_FILL, "VACUUM ANALYZE", "CHECKPOINT"):
        await connection.execute(statement, timeout=900)
    await connection.close()


def ready(process: subprocess.Popen[bytes]) -> None:
    while True:
        assert process.poll() is None, "the server has ended"
        try:
            httpx.get(f"{_URL}/health").raise_for_status()
            return
        except httpx.HTTPError:
            time.sleep(0.1)


def first_byte(client: httpx.Client, path: str) -> tuple[float, bytes]:
    """Milliseconds until the response began, and its complete body."""
    began = time.perf_counter()
    with client.stream("GET", path) as answer:
        pieces = answer.iter_raw()
        first = next(pieces)
        took = (time.perf_counter() - began) * 1000
        assert answer.status_code == 200, (path, answer.status_code)
        return took, first + b"".join(pieces)


def shipped(client: httpx.Client, page: bytes) -> int:
    """Bytes of a page with its style, script and picture."""
    parts = set(re.findall(rb'(?:href|src)="(/dashboard/static/[^"]+)"', page))
    return len(page) + sum(len(client.get(part.decode()).content) for part in parts)


def measure(client: httpx.Client) -> None:
    least = min(first_byte(client, "/health")[0] for _ in range(TIMES))
    print(f"  /health: {least:.1f} ms")
    slowest, heaviest = 0.0, 0
    for name, path in PAGES.items():
        answers = [first_byte(client, f"/dashboard/test{path}") for _ in range(TIMES)]
        worst, best = max(took for took, _ in answers), min(took for took, _ in answers)
        size = shipped(client, answers[0][1])
        slowest, heaviest = max(slowest, worst), max(heaviest, size)
        print(f"  {name}: {best:.1f} to {worst:.1f} ms, {best / least:.1f} times; {size:,} bytes")
    cursor = "/dashboard/test/transactions"
    for _ in range(5):  # later pages cost the same
        page = first_byte(client, cursor)[1].decode()
        found = re.search(r'rel="next" href="([^"]+)"', page)
        assert found is not None
        cursor = found[1].replace("&amp;", "&")
    print(f"  transactions, fifth page: {first_byte(client, cursor)[0]:.1f} ms")
    began, lines = time.perf_counter(), 0
    with client.stream("GET", "/dashboard/test/transactions.csv") as answer:
        for chunk in answer.iter_raw():
            lines += chunk.count(b"\n")
    took = time.perf_counter() - began
    print(f"  export of all: {lines - 1:,} lines in {took:.0f} s, {lines / took:,.0f}/s")
    print(f"  the slowest first byte: {slowest:.1f} ms (wanted: under 150)")
    print(f"  the heaviest page: {heaviest:,} bytes (wanted: under 250,000)")


def main() -> None:
    """Run it all and print."""
    print(
        f"dashboard with {TRANSACTIONS:,} transactions, {CUSTOMERS:,} customers, {EVENTS:,} events"
    )
    with migrated() as dsn:
        asyncio.run(fill(dsn))
        settings = {
            "DATABASE_URL": dsn,
            "JWT_SECRET": "a secret of the bench, long enough",
            "ACCESS_API_KEY": _KEY,
            "BILLHOOK_LOG_LEVEL": "error",
        }
        command = [sys.executable, "-m", "billhook.cli", "serve", "--port", str(_PORT)]
        server = subprocess.Popen(command, env=os.environ | settings, cwd=tempfile.gettempdir())
        try:
            ready(server)
            with httpx.Client(base_url=_URL, timeout=120) as client:
                client.post("/dashboard/sign-in", data={"credential": _KEY})
                measure(client)
        finally:
            server.terminate()
            server.wait()
