"""A full sync of 10,000 and 100,000 objects: objects a second and peak memory.

The sandbox is another process on the same two cores. Without latency there is no rate limit, to
measure the work itself; with 50 ms the default of 25 requests a second to one list holds, and the
figure to compare with is what that cap allows for the longest list.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import httpx
import uvloop
from pydantic import SecretStr

from bench.database import migrated
from billhook.access.secrets import SecretStore, stripe_key_name
from billhook.account.connections import Connections
from billhook.mirror.sync import Sync
from billhook.postgres import Database
from billhook.settings import Settings
from billhook.stripe.gateway import Gateway
from billhook.stripe.governor import Governor

KEY = "sk_test_benchbenchbenchbenchbench"  # a peer requires the length of a real key
SIZES = (10_000, 100_000)
LIST_RATE = 25
PAGE = 100
CUSTOMERS = 0.8
"""The share of the objects in the longest list."""


@contextmanager
def sandbox(objects: int, latency: float) -> Iterator[str]:
    """A sandbox with that many objects."""
    process = subprocess.Popen(
        [sys.executable, "-m", "billhook_sandbox", "--port", "0"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    url = process.stdout.readline().removeprefix("billhook sandbox: ").strip()
    seed = {
        "key": KEY,
        "products": objects // 20,
        "prices": objects // 20,
        "customers": int(objects * CUSTOMERS),
        "subscriptions": objects // 10,
    }
    try:
        httpx.post(f"{url}/_sandbox/seed", json=seed, timeout=300).raise_for_status()
        read_once(url)
        httpx.post(f"{url}/_sandbox/latency", json={"seconds": latency}).raise_for_status()
        yield url
    finally:
        process.terminate()
        process.wait()


def read_once(url: str) -> None:
    """The sandbox validates each object when it is listed for the first time, which must not
    count."""
    with httpx.Client(base_url=url, auth=(KEY, ""), timeout=60) as http:
        for name in ("products", "prices", "customers", "subscriptions"):
            page = {"has_more": True}
            after: dict[str, str] = {}
            while page["has_more"]:
                page = http.get(f"/v1/{name}", params={"limit": PAGE, **after}).json()
                after = {"starting_after": page["data"][-1]["id"]}


@asynccontextmanager
async def syncing(dsn: str, url: str, list_rate: float) -> AsyncIterator[Sync]:
    """A sync of the benchmark's account, ready to run."""
    jwt_secret = SecretStr("a secret of the bench, long enough")
    settings = Settings(database_url=SecretStr(dsn), jwt_secret=jwt_secret, _env_file=None)
    database = Database(dsn)
    await database.open()
    secrets = SecretStore(database, settings)
    await secrets.set(stripe_key_name("test"), KEY)
    gateway = Gateway(secrets.stripe_key, url, Governor(list_rate, {}))
    yield Sync(database, gateway, Connections(database, secrets))
    await gateway.close()
    await database.close()


async def measure(dsn: str, url: str, list_rate: float) -> None:
    """Sync twice: everything, then nothing that changed."""
    async with syncing(dsn, url, list_rate) as sync:
        for what in ("first", "again"):
            began = time.perf_counter()
            result = await sync.run("test")
            took = time.perf_counter() - began
            assert result.connection.last_sync_error is None, result.connection.last_sync_error
            objects = sum(result.connection.last_sync_counts.values())
            allowed = ""
            if list_rate:
                share = result.connection.last_sync_counts["customers"] / PAGE / list_rate / took
                allowed = f", {share:.0%} of what the cap allows"
            print(
                f"  {what}: {objects:,} objects in {took:.1f} s, {objects / took:,.0f}/s, "
                f"peak {peak_memory()} MB{allowed}"
            )


def peak_memory() -> int:
    """The peak memory of this process in MB. It only grows, so small sizes come first."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) // 1024
    return 0


def main() -> None:
    """Run everything and print."""
    for objects in SIZES:
        for latency, list_rate in ((0.0, 0), (0.05, LIST_RATE)):
            cap = f"{list_rate} requests/s a list" if list_rate else "no cap"
            print(f"sync of {objects:,} objects, Stripe at {latency * 1000:.0f} ms, {cap}")
            with sandbox(objects, latency) as url, migrated() as dsn:
                uvloop.run(measure(dsn, url, list_rate))  # as the server runs
