"""An import of 100,000 payments: objects a second and peak memory.

Each payment is a PaymentIntent and a charge, which are entries of two lists. The sandbox is another
process on the same two cores. Without latency there is no rate limit, to measure the work itself;
with 50 ms the default of 25 requests a second to one list holds, and the figure to compare with is
what that cap allows for the list of charges.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import uvloop
from pydantic import SecretStr

from bench.database import migrated
from bench.sync import KEY, LIST_RATE, PAGE, peak_memory
from billhook.access.secrets import SecretStore, stripe_key_name
from billhook.account.connections import Connections
from billhook.mirror.history import History
from billhook.mirror.history.lists import LISTINGS
from billhook.postgres import Database
from billhook.settings import Settings
from billhook.stripe.gateway import Gateway
from billhook.stripe.governor import Governor

PAYMENTS = int(os.environ.get("BENCH_PAYMENTS", "100000"))


@contextmanager
def sandbox(payments: int) -> Iterator[str]:
    """A sandbox with that many payments of a tenth as many customers."""
    process = subprocess.Popen(
        [sys.executable, "-m", "billhook_sandbox", "--port", "0"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    url = process.stdout.readline().removeprefix("billhook sandbox: ").strip()
    try:
        seed = {"key": KEY, "customers": payments // 10, "payments": payments}
        httpx.post(f"{url}/_sandbox/seed", json=seed, timeout=600).raise_for_status()
        read_once(url)
        yield url
    finally:
        process.terminate()
        process.wait()


def read_once(url: str) -> None:
    """The sandbox validates each object when it is listed for the first time, which must not
    count."""
    with httpx.Client(base_url=url, auth=(KEY, ""), timeout=60) as http:
        for listing in LISTINGS.values():
            asked = {
                f"{name}[]" if name == "expand" else name: value
                for name, value in listing.params.items()
            }
            page = {"has_more": True}
            after: dict[str, str] = {}
            while page["has_more"]:
                page = http.get(listing.path, params={"limit": PAGE, **asked, **after}).json()
                after = {"starting_after": page["data"][-1]["id"]} if page["data"] else {}


async def measure(dsn: str, url: str, list_rate: float) -> None:
    """Import twice: everything, then nothing that changed."""
    jwt_secret = SecretStr("a secret of the bench, long enough")
    settings = Settings(database_url=SecretStr(dsn), jwt_secret=jwt_secret, _env_file=None)
    database = Database(dsn)
    await database.open()
    secrets = SecretStore(database, settings)
    await secrets.set(stripe_key_name("test"), KEY)
    gateway = Gateway(secrets.stripe_key, url, Governor(list_rate, {}))
    account = await gateway.account("test", key=KEY)
    await Connections(database, secrets).connected("test", account)
    history = History(database, gateway)
    for what in ("first", "again"):
        began, busy = time.perf_counter(), time.process_time()
        found = await history.run("test")
        took, busy = time.perf_counter() - began, time.process_time() - busy
        assert found.status == "finished", found
        read = {each.name: each.read for each in found.lists}
        assert read["charges"] >= PAYMENTS
        objects = sum(read.values())
        share = read["charges"] / PAGE / took / (list_rate or 1)
        allowed = f", {share:.0%} of what the cap allows" if list_rate else ""
        print(
            f"  {what}: {PAYMENTS:,} payments, {objects:,} objects in {took:.1f} s, "
            f"{objects / took:,.0f}/s, {busy:.1f} s of CPU time here, "
            f"peak {peak_memory()} MB{allowed}"
        )
    async with database.connection() as connection:
        rows = await connection.fetchval("SELECT count(*) FROM payments.transactions")
        size = await connection.fetchval(
            "SELECT pg_total_relation_size('billhook.fetched_payments')"
        )
    assert rows == PAYMENTS, rows
    print(f"  {rows:,} rows; kept for a rebuild: {size / rows:,.0f} bytes a payment")
    await gateway.close()
    await database.close()


def main() -> None:
    """Run everything and print."""
    with sandbox(PAYMENTS) as url:
        for latency, list_rate in ((0.0, 0), (0.05, LIST_RATE)):
            cap = f"{list_rate} requests/s a list" if list_rate else "no cap"
            print(f"import of {PAYMENTS:,} payments, Stripe at {latency * 1000:.0f} ms, {cap}")
            httpx.post(f"{url}/_sandbox/latency", json={"seconds": latency}).raise_for_status()
            with migrated() as dsn:
                uvloop.run(measure(dsn, url, list_rate))  # as the server runs
