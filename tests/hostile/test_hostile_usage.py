"""Usage sent, woken, compacted, retried and totaled, with hostile objects in the database."""

from __future__ import annotations

from billhook.models import RecordUsage, RetryUsage, UsageQuery, UsageTotalsQuery
from billhook.postgres import Database
from billhook.reports import lists
from billhook.usage import recording, retention, retrying, state
from metering import Metering, ago


def test_usage_runs_nothing_of_others(database_url: str, sandbox: str) -> None:
    metering = Metering(database_url, sandbox)
    metering.customer()
    metering.record(3)
    metering.record(4, occurred_at=ago(days=50), created_at=ago(days=50), status="sent")
    metering.record(5, meter="unknown")
    metering.record(6, subject="later")
    metering.send()
    metering.customer("later")
    metering.wake()
    metering.send()

    async def rest(database: Database) -> None:
        await retention.compact(database, "test", 40)
        await retrying.retry(database, "test", RetryUsage(status="failed"))
        for counted in (False, True):
            order = RetryUsage(status="uncertain", counted=counted)
            await retrying.retry(database, "test", order)
        await state.usage_state(database, "test")
        query = UsageTotalsQuery(subjectType="team", subjectId="t1")
        (total, _) = (await state.totals(database, "test", query)).totals
        assert total.sum == 3
        page = await lists.usage(database, "test", UsageQuery(subjectType="team", subjectId="t1"))
        assert len(page.rows) == 2
        order = RecordUsage.model_validate(
            {
                "usage": [
                    {"meter": "m", "subject": {"type": "team", "id": "t1"}, **more}
                    for more in ({}, {"identifier": "one"}, {"identifier": "one"})
                ]
            }
        )
        assert (await recording.record(database, "test", order)).duplicates == 1

    metering.books.run(rest)
    assert metering.books.row("SELECT count(*) AS n FROM payments.usage_days") == {"n": 1}
    assert metering.sum_at_stripe("later") == 6
