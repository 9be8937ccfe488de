"""`billhook verify` of 100,000 objects: list pages per 100 objects, and seconds.

The sandbox counts the requests, as Stripe would see them.
"""

from __future__ import annotations

import os
import time
from collections import Counter

import uvloop

from bench.database import migrated
from bench.sync import PAGE, sandbox, syncing
from billhook.ledger import Ledger
from billhook.mirror.verify import verify
from billhook.models import Verify

OBJECTS = int(os.environ.get("BENCH_OBJECTS", "100000"))
LISTS = 6
"""Products and prices are two lists each: active or not. A list ends with a page that is not
full."""


async def measure(dsn: str, url: str) -> None:
    """Sync, then verify, counting requests."""
    async with syncing(dsn, url, 0) as sync:
        await sync.run("test")
        asked: Counter[str] = Counter()
        gateway = sync._gateway
        background = gateway.background

        async def counted(environment, name, *rest, **more):  # type: ignore[no-untyped-def]
            asked[name] += 1
            return await background(environment, name, *rest, **more)

        gateway.background = counted  # type: ignore[method-assign]
        began = time.perf_counter()
        found = await verify(Ledger(sync._database), gateway, "test", Verify())
        took = time.perf_counter() - began
        objects = sum(each.objects for each in found.tables)
        drift = sum(len(each.drift) for each in found.tables)
        pages = sum(times for name, times in asked.items() if name != "account")
        assert objects >= OBJECTS * 0.99, objects
        assert all(each.complete for each in found.tables), found
        print(
            f"  {objects:,} objects in {took:.1f} s, {objects / took:,.0f}/s, {pages} pages: "
            f"{pages / objects * PAGE:.3f} for {PAGE} objects, {drift} drifted"
        )
        assert pages <= objects / PAGE + LISTS + 2, asked


def main() -> None:
    """Run it and print the results."""
    print(f"verification of {OBJECTS:,} objects, Stripe at 0 ms, no cap")
    with sandbox(OBJECTS, 0) as url, migrated() as dsn:
        uvloop.run(measure(dsn, url))
