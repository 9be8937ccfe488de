"""Timelines and banners show what happened last, however much happened before."""

from __future__ import annotations

from billhook.postgres import Database
from billhook.reports import timelines
from books import Books

EVENTS = """
INSERT INTO payments.webhook_events (provider, environment, event_type, livemode, object_type,
    object_id, processing_status, payload, received_at, provider_event_id, last_error,
    attempt_count)
SELECT 'stripe', 'test', '{type}', false, 'subscription', '{object}', '{status}',
    '{{"data": {{"object": {{"customer": "{customer}"}}}}}}',
    now() - n * '1 min'::interval, 'evt_{object}_' || n, 'no shelf', 1
FROM generate_series({first}, {last}) AS n
"""


def told(books: Books, **given: object) -> None:
    usual = {"type": "customer.subscription.updated", "object": "sub_1", "customer": "cus_1"}
    books.execute(EVENTS.format(**usual | given))


def test_the_event_that_fails_today_is_on_the_page_of_a_busy_subscription(books: Books) -> None:
    told(books, status="processed", first=2, last=300)
    told(books, status="failed", first=1, last=1)

    async def work(database: Database) -> timelines.Timeline:
        return await timelines.of_object(database, "test", "subscription", "sub_1")

    found = books.run(work)
    assert [each.event_id for each in found.failing] == ["evt_sub_1_1"]
    assert "could not be applied" in found.steps[-1].text
    assert found.steps == sorted(found.steps, key=lambda step: step.at)


def test_the_latest_failures_are_shown_first_in_an_outage(books: Books) -> None:
    told(books, status="failed", first=10, last=400, object="sub_old", type="invoice.paid")
    told(books, status="failed", first=1, last=3)
    told(books, status="failed", first=5, last=6, object="sub_2", customer="cus_2")

    async def work(database: Database) -> tuple[list[str], list[str]]:
        newest = await timelines.failing(database, "test", most=4)
        of_one = await timelines.failing(database, "test", "cus_2")
        return [each.event_id for each in newest], [each.event_id for each in of_one]

    assert books.run(work) == (
        ["evt_sub_1_1", "evt_sub_1_2", "evt_sub_1_3", "evt_sub_2_5"],
        ["evt_sub_2_5", "evt_sub_2_6"],
    )
