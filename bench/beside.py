"""Another commit and this one apply the same events in one run, alternately.

    git worktree add /tmp/before COMMIT
    BENCH_BESIDE=/tmp/before python -m bench beside

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

from bench import database, events
from billhook.postgres.embedded import EmbeddedPostgres

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))
TRIGGER_MS = float(os.environ.get("BENCH_TRIGGER_MS", "0"))
_TRIGGER = f"""
CREATE FUNCTION public.fulfil() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_sleep({TRIGGER_MS / 1000});
    RETURN NULL;
END $$;
CREATE TRIGGER fulfil AFTER UPDATE OF processing_status ON payments.webhook_events
FOR EACH ROW WHEN (NEW.processing_status = 'processed' AND NEW.event_type = 'invoice.paid')
EXECUTE FUNCTION public.fulfil();
"""


def main() -> None:
    """Print medians of both, and their ratios."""
    before = Path(os.environ["BENCH_BESIDE"]).resolve() / "src"
    here = Path(__file__).resolve().parents[1] / "src"
    with database.server(autovacuum="off") as postgres, ExitStack() as stack:
        addresses = [
            _serving(stack, postgres, name, source)
            for name, source in (("before", before), ("now", here))
        ]
        print(f"{ROUNDS} turns of {events.SECONDS:g} s each, by turns; new databases, fsync on")
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
