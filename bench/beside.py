"""Another commit and this one apply the same events, or sync the same objects, in one run,
alternately.

    git worktree add /tmp/before COMMIT
    BENCH_BESIDE=/tmp/before python -m bench beside
    BENCH_BESIDE=/tmp/before python -m bench beside_sync

With BENCH_TRIGGER_MS=50, an app's trigger takes that long on one of the eight events of a purchase.

Both have a server process and a new database on one PostgreSQL, and alternate every few seconds,
so that a slow minute of the machine slows both.
"""

from __future__ import annotations

import asyncio
import os
import statistics
from contextlib import ExitStack
from pathlib import Path

from bench import database, events, peers
from bench.sync import sandbox
from billhook.postgres.embedded import EmbeddedPostgres

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))
TRIGGER_MS = float(os.environ.get("BENCH_TRIGGER_MS", "0"))
_TRIGGER = f"""
CREATE FUNCTION public.fulfill() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_sleep({TRIGGER_MS / 1000});
    RETURN NULL;
END $$;
CREATE TRIGGER fulfill AFTER UPDATE OF processing_status ON payments.webhook_events
FOR EACH ROW WHEN (NEW.processing_status = 'processed' AND NEW.event_type = 'invoice.paid')
EXECUTE FUNCTION public.fulfill();
"""


OBJECTS = int(os.environ.get("BENCH_OBJECTS", "100000"))


def sync() -> None:
    """Print medians of both, and their ratio. The sandbox is that of this commit."""
    print(f"{ROUNDS} syncs of {OBJECTS:,} objects each, alternately, Stripe at 0 ms, no cap")
    found: dict[str, list[peers.Outcome]] = {name: [] for name in _both()}
    with sandbox(OBJECTS, 0) as url, database.server() as postgres:
        for number in range(ROUNDS):
            for name, folder in list(_both().items())[:: 1 if number % 2 else -1]:
                dsn = postgres.create_database(f"{name}{number}")
                outcome = peers.run(peers.billhook(0, folder), dsn, url)
                assert not outcome.stopped, f"{name} took more than {peers.PATIENCE} s"
                found[name].append(outcome)
    rates = {
        name: statistics.median(each.objects / each.seconds for each in outcomes)
        for name, outcomes in found.items()
    }
    for name, outcomes in found.items():
        peak = max(each.peak_mb for each in outcomes)
        print(f"  {name}: {rates[name]:,.0f} objects/s, peak {peak} MB")
    print(f"  now / before: {rates['now'] / rates['before']:.2f}")


def _both() -> dict[str, Path]:
    """The two checkouts."""
    return {
        "before": Path(os.environ["BENCH_BESIDE"]).resolve(),
        "now": Path(__file__).resolve().parents[1],
    }


def main() -> None:
    """Print medians of both, and their ratios."""
    with database.server(autovacuum="off") as postgres, ExitStack() as stack:
        addresses = [
            _serving(stack, postgres, name, folder / "src") for name, folder in _both().items()
        ]
        print(f"{ROUNDS} turns of {events.SECONDS:g} s each; new databases, fsync on")
        if TRIGGER_MS:
            print(f"a trigger takes {TRIGGER_MS:g} ms on one of eight events")
        print("concurrency   events/s before, now   ratio   p50 ms before, now   ratio")
        for senders in events.CONCURRENCY:
            rates: list[list[float]] = [[], []]
            middles: list[list[float]] = [[], []]
            for number in range(ROUNDS):
                for which in (0, 1) if number % 2 else (1, 0):
                    label = f"a{senders}_{number}"
                    rate, took = asyncio.run(events.load(addresses[which], senders, label))
                    rates[which].append(rate)
                    middles[which].append(events.percentile(took, 0.5))
            (old, new), (slow, fast) = map(_medians, (rates, middles))
            print(
                f"{senders:>11}   {old:>13.0f}, {new:>6.0f}   {new / old:>5.2f}   "
                f"{slow:>11.2f}, {fast:>5.2f}   {fast / slow:>5.2f}"
            )


def _medians(both: list[list[float]]) -> tuple[float, float]:
    return statistics.median(both[0]), statistics.median(both[1])


def _serving(stack: ExitStack, postgres: EmbeddedPostgres, name: str, source: Path) -> str:
    """The address of a server on a new database, with a connected account."""
    dsn = postgres.create_database(name)
    address = stack.enter_context(events.server(dsn, source))
    asyncio.run(events.connect(dsn))
    if TRIGGER_MS:
        asyncio.run(events.execute(dsn, _TRIGGER))
    return address
