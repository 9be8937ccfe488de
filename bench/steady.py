"""Whether the rate of events holds on a new database that nobody analyses: the last 1,000 of 20,000
events beside the first, and two server processes beside one.
"""

from __future__ import annotations

import asyncio
import os
import statistics
from itertools import islice, pairwise

from bench import database, events
from billhook.postgres.embedded import EmbeddedPostgres

EVENTS = int(os.environ.get("BENCH_EVENTS", "20000"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
WINDOW = 1000
SENDERS = 32


def main() -> None:
    """Print medians of several rounds, and their ratios."""
    with database.server(autovacuum="off") as postgres:
        growing(postgres)
        two_processes(postgres)


def growing(postgres: EmbeddedPostgres) -> None:
    """Each round on a new database."""
    print(f"{EVENTS:,} events at {SENDERS}, never analysed; events/s of each {WINDOW:,}")
    rounds = []
    for number in range(ROUNDS):
        dsn = events.migrated(postgres, f"growing{number}")
        with events.server(dsn) as address:
            asyncio.run(_send([address], "warm", 10 * SENDERS))
            delivered = asyncio.run(_send([address], "growing", EVENTS))
        ends = [0.0, *(each.at for each in delivered[WINDOW - 1 :: WINDOW])]
        rounds.append([WINDOW / (end - begin) for begin, end in pairwise(ends)])
        print("  " + " ".join(f"{each:.0f}" for each in rounds[-1]), flush=True)
    last_to_first = statistics.median(each[-1] / each[0] for each in rounds)
    fifth = len(rounds[0]) // 5
    ends_to_begin = statistics.median(
        statistics.median(each[-fifth:]) / statistics.median(each[:fifth]) for each in rounds
    )
    print(f"  the last {WINDOW:,} / the first: {last_to_first:.2f}")
    print(f"  the last fifth / the first: {ends_to_begin:.2f} (medians of their windows)")


def two_processes(postgres: EmbeddedPostgres) -> None:
    """Alternately on one database, with the same load."""
    dsn = events.migrated(postgres, "processes")
    rates: dict[int, list[float]] = {1: [], 2: []}
    with events.server(dsn) as one, events.server(dsn) as other:
        asyncio.run(_send([one, other], "warm", 10 * SENDERS))
        for number in range(2 * ROUNDS):
            for count in (1, 2) if number % 2 else (2, 1):
                label = f"processes{count}_{number}"
                delivered = asyncio.run(_send([one, other][:count], label, 5 * WINDOW))
                rates[count].append(events.rate(delivered))
    single, double = (statistics.median(rates[count]) for count in (1, 2))
    print(
        f"two server processes / one: {double / single:.2f} "
        f"({double:.0f} and {single:.0f} events/s at {SENDERS}, {2 * ROUNDS} turns)"
    )


async def _send(addresses: list[str], label: str, count: int) -> list[events.Delivered]:
    return await events.deliver(addresses, SENDERS, islice(events.purchases(label), count))
