"""`billhook worker` killed with SIGKILL again and again: all usage is billed, once."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from billhook.postgres import Database
from depth import by_depth
from metering import METER, Metering
from process import working
from waiting import until

SUBJECTS = [f"t{number}" for number in range(20)]
ROWS = 1_500


@pytest.mark.parametrize("seed", range(by_depth(1, 2, 10)))
def test_workers_that_are_killed_lose_and_repeat_nothing(
    faulty: Metering, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    for subject in SUBJECTS:
        faulty.customer(subject)

    async def insert(database: Database) -> None:
        async with database.connection() as connection:
            await connection.execute(
                f"""INSERT INTO payments.usage
                        (environment, meter, subject_type, subject_id, value, occurred_at)
                    SELECT 'test', '{METER}', 'team', 't' || n % 20, n % 7,
                        now() - make_interval(secs => n % 1000)
                    FROM generate_series(1, {ROWS}) AS n"""
            )

    faulty.books.run(insert)
    unlimited = {"BILLHOOK_STRIPE_TEST_RATE": "0"}
    for _ in range(3):
        subject = chance.choice(SUBJECTS)
        before = faulty.sum_at_stripe(subject)
        with working(faulty.books.dsn, faulty.sandbox, tmp_path, **unlimited) as worker:
            until(lambda s=subject, b=before: faulty.sum_at_stripe(s) > b or done(faulty))  # type: ignore[misc]
            worker.kill()
        faulty.books.execute("DELETE FROM billhook.leases")  # they expire
    with working(faulty.books.dsn, faulty.sandbox, tmp_path, **unlimited):
        until(lambda: done(faulty), seconds=120)
    recorded = faulty.books.rows(
        "SELECT subject_id, sum(value)::bigint AS n FROM payments.usage GROUP BY 1"
    )
    assert {row["subject_id"]: row["n"] for row in recorded} == {
        subject: faulty.sum_at_stripe(subject) for subject in SUBJECTS
    }


def done(metering: Metering) -> bool:
    return set(metering.statuses()) == {"sent"}
