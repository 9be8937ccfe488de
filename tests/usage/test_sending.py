"""The app's rows become usage at Stripe, once, whatever happens on the way."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import httpx
import pytest

from billhook.errors import PaymentConfigInvalid
from billhook.recovery import Recovery
from billhook.stripe.gateway import Gateway
from billhook.usage import batches
from metering import Metering, ago


def test_usage_is_sent_and_each_row_shows_it(metering: Metering) -> None:
    metering.customer()
    for value in (3, 4):
        metering.record(value)
    metering.record(5, occurred_at=ago(hours=3))
    metering.send()
    assert metering.sum_at_stripe() == 12
    rows = metering.usage("status", "sent_at IS NOT NULL AS sent", "sent_as", "last_error")
    assert {(row["status"], row["sent"], row["last_error"]) for row in rows} == {
        ("sent", True, None)
    }
    assert metering.books.rows("SELECT * FROM billhook.usage_batches") == []


def test_usage_is_sent_once(metering: Metering) -> None:
    metering.customer()
    metering.record(3)
    for _ in range(3):
        metering.send()
    assert metering.sum_at_stripe() == 3


def test_a_customer_may_be_named_instead_of_a_subject(metering: Metering) -> None:
    customer = metering.customer()
    metering.record(3, subject_type=None, subject_id=None, customer_id=customer)
    metering.send()
    assert metering.sum_at_stripe() == 3


def test_rows_of_one_second_are_one_event_where_the_meter_adds_up(metering: Metering) -> None:
    metering.customer()
    at = ago(seconds=30)
    for value in (1, 2, 3):
        metering.record(value, occurred_at=at)
    metering.record(10, occurred_at=ago(seconds=40))
    metering.send()
    assert metering.sum_at_stripe() == 16
    rows = metering.usage("identifier", "sent_as")
    assert {row["sent_as"] for row in rows[:3]} == {rows[0]["identifier"]}
    assert rows[3]["sent_as"] == rows[3]["identifier"]


@pytest.mark.parametrize(("formula", "expected"), [("count", 3), ("last", 1)])
def test_other_meters_get_an_event_for_each_row(
    metering: Metering, formula: str, expected: int
) -> None:
    meter = metering.make_meter("others", formula)
    metering.customer()
    for value, seconds in ((5, 30), (7, 30), (1, 10)):
        metering.record(value, meter="others", occurred_at=ago(seconds=seconds))
    metering.send()
    assert metering.sum_at_stripe(meter=meter) == expected
    assert all(
        row["identifier"] == row["sent_as"] for row in metering.usage("identifier", "sent_as")
    )


def test_a_meter_has_its_own_keys(metering: Metering) -> None:
    made = metering.stripe.v1.billing.meters.create(
        {
            "display_name": "Bytes",
            "event_name": "bytes",
            "default_aggregation": {"formula": "sum"},
            "customer_mapping": {"event_payload_key": "who", "type": "by_id"},
            "value_settings": {"event_payload_key": "bytes"},
        }
    )
    metering.sync()
    metering.customer()
    metering.record(5, meter="bytes", payload='{"region": "eu", "bytes": "7"}')
    metering.send()
    assert metering.sum_at_stripe(meter=made.id) == 5


def test_negative_usage_corrects(metering: Metering) -> None:
    metering.customer()
    metering.record(10)
    metering.send()
    metering.record(-4)
    metering.send()
    assert metering.sum_at_stripe() == 6


def test_usage_waits_for_its_customer_and_holds_up_nobody(metering: Metering) -> None:
    for number in range(5):
        metering.record(7, subject=f"new{number}")
    metering.customer("t1")
    metering.record(1, subject="t1")
    metering.send()
    assert metering.statuses() == {"waiting": 5, "sent": 1}
    (row,) = metering.books.rows("SELECT last_error FROM payments.usage WHERE subject_id = 'new3'")
    assert row["last_error"] == "Waits until a Stripe customer is mapped to team:new3."
    metering.wake()
    metering.send()
    assert metering.statuses() == {"waiting": 5, "sent": 1}
    metering.customer("new3")
    metering.wake()
    metering.send()
    assert metering.statuses() == {"waiting": 4, "sent": 2}
    assert metering.sum_at_stripe("new3") == 7


def test_usage_is_sent_however_many_subjects_without_a_customer_wait_before_it(
    metering: Metering, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "_LOOKS", 2)
    for number in range(6):
        metering.record(7, subject=f"new{number}")
    metering.send()
    metering.customer("new5")

    async def look(worker: Recovery) -> None:
        for _ in range(3):
            await worker.wake_usage("test")

    metering.work(look)
    assert metering.statuses() == {"waiting": 5, "pending": 1}
    metering.customer("new0")  # the worker begins again
    metering.work(look)
    assert metering.statuses() == {"waiting": 4, "pending": 2}


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"meter": "unknown"}, 'No active meter found for event name "unknown".'),
        ({"occurred_at": ago(days=36)}, "The timestamp must be within the past 35 calendar days."),
        ({"customer_id": "cus_gone"}, "No such customer: 'cus_gone'"),
    ],
)
def test_what_stripe_rejects_fails_with_its_reason_and_holds_up_nobody(
    metering: Metering, columns: dict[str, str], reason: str
) -> None:
    metering.customer()
    metering.record(7, **columns)
    metering.record(1)
    metering.send()
    failed, sent = metering.usage("status", "last_error", "sent_at")
    assert (failed["status"], failed["last_error"], failed["sent_at"]) == ("failed", reason, None)
    assert sent["status"] == "sent"
    metering.send()
    assert metering.sum_at_stripe() == 1


def test_usage_of_a_deleted_customer_fails(metering: Metering) -> None:
    metering.stripe.v1.customers.delete(metering.customer())
    metering.record(1)
    metering.send()
    (row,) = metering.usage("status", "last_error")
    assert row["status"] == "failed"
    assert "No such customer" in row["last_error"]


def test_a_lost_answer_counts_once(faulty: Metering) -> None:
    """Stripe has the event, and then recognizes its identifier."""
    faulty.customer()
    faulty.record(3)
    faulty.fault(cut=True, after_effect=True)
    faulty.send()
    assert faulty.statuses() == {"sending": 1}
    assert faulty.sum_at_stripe() == 3
    faulty.make_due()
    faulty.send()
    assert faulty.statuses() == {"sent": 1}
    assert faulty.sum_at_stripe() == 3


def test_a_stored_error_of_stripe_is_not_replayed_for_ever(faulty: Metering) -> None:
    faulty.customer()
    faulty.record(3)
    faulty.fault(status=500, after_effect=True, stored=True)
    faulty.send()
    faulty.make_due()
    faulty.send()
    assert faulty.statuses() == {"sent": 1}
    assert faulty.sum_at_stripe() == 3


def test_a_rate_limit_or_a_conflict_is_waited_out(faulty: Metering) -> None:
    faulty.customer()
    for number in range(4):
        faulty.record(1, occurred_at=ago(seconds=number * 5))
    faulty.fault(status=429, reason="endpoint-rate")
    faulty.fault(status=429)
    faulty.fault(status=409)
    faulty.send()
    assert faulty.statuses() == {"sent": 4}
    assert faulty.sum_at_stripe() == 4


def test_an_outage_stops_new_batches_until_a_few_rows_get_through(faulty: Metering) -> None:
    for number in range(40):
        faulty.customer(f"t{number}")
        faulty.record(1, subject=f"t{number}")
    faulty.be_down()
    faulty.send()
    assert faulty.statuses() == {"sending": 40}
    for number in range(40):
        faulty.record(1, subject=f"t{number}")
    faulty.send()
    assert faulty.statuses() == {"sending": 40, "pending": 40}
    faulty.make_due()
    faulty.send()
    probes = faulty.statuses()["sending"] - 40
    assert 0 < probes <= 20
    faulty.be_up()
    faulty.make_due()
    faulty.send()
    assert faulty.statuses() == {"sent": 80}
    assert all(faulty.sum_at_stripe(f"t{number}") == 2 for number in (0, 39))


def test_one_event_that_always_fails_holds_up_nobody_for_long(faulty: Metering) -> None:
    faulty.customer("t1")
    faulty.customer("t2")
    faulty.record(1, subject="t1")
    faulty.fault(status=500, times=1)
    faulty.send()
    faulty.record(1, subject="t2")
    faulty.send()
    assert faulty.statuses() == {"sending": 1, "pending": 1}
    faulty.make_due()
    faulty.fault(status=500, times=1)
    faulty.send()
    assert faulty.statuses() == {"sending": 1, "sent": 1}
    faulty.record(1, subject="t2")
    faulty.send()
    assert faulty.statuses() == {"sending": 1, "sent": 2}


def test_a_rejected_key_loses_nothing(faulty: Metering) -> None:
    faulty.customer()
    faulty.record(3)
    httpx.post(f"{faulty.sandbox}/_sandbox/revoke_key", json={"key": faulty.key})
    assert isinstance(faulty.try_to_send(), PaymentConfigInvalid)
    assert faulty.statuses() == {"sending": 1}
    unsure = "SELECT events -> 0 -> 'unsure_since' AS since FROM billhook.usage_batches"
    assert faulty.books.row(unsure) == {"since": None}


def test_a_rejected_key_leaves_no_batch_in_doubt(
    faulty: Metering, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other batches are under way: what Stripe answers about them is stored."""
    monkeypatch.setattr(batches, "MOST_ROWS", 1)
    for subject in ("slow", "refused"):
        faulty.customer(subject)
        faulty.record(1, subject=subject)
    send, settle = Gateway.meter_event, batches.settle
    slow, refused = asyncio.Event(), asyncio.Event()

    async def one_is_refused(self: Gateway, environment: Any, params: Any, *, key: str) -> None:
        if params["payload"]["stripe_customer_id"] == faulty.customers["refused"]:
            await slow.wait()
            raise PaymentConfigInvalid("Expired API Key provided", status=401)
        slow.set()
        await refused.wait()
        await send(self, environment, params, key=key)

    async def settle_and_tell(*args: Any) -> Any:
        try:
            return await settle(*args)
        finally:
            refused.set()

    monkeypatch.setattr(batches, "settle", settle_and_tell)
    monkeypatch.setattr(Gateway, "meter_event", one_is_refused)
    assert isinstance(faulty.try_to_send(), PaymentConfigInvalid)
    assert faulty.statuses() == {"sent": 1, "sending": 1}
    (batch,) = faulty.books.rows("SELECT unsettled_since, events FROM billhook.usage_batches")
    assert batch["unsettled_since"] is None
    assert batch["events"][0]["unsure_since"] is None


def test_after_a_day_without_an_answer_a_person_decides(faulty: Metering) -> None:
    faulty.customer()
    faulty.record(3)
    faulty.fault(cut=True, after_effect=True)
    faulty.send()
    faulty.age_attempts(hours=23.5)
    faulty.make_due()
    faulty.send()
    (row,) = faulty.usage("status", "last_error", "sent_as", "identifier")
    assert row["status"] == "uncertain"
    assert "Stripe may have counted it" in row["last_error"]
    assert row["sent_as"] == row["identifier"]
    faulty.send()
    assert faulty.sum_at_stripe() == 3


def test_however_often_the_sender_dies_a_day_after_the_first_request_a_person_decides(
    faulty: Metering, monkeypatch: pytest.MonkeyPatch
) -> None:
    faulty.customer()
    faulty.record(3)

    class Killed(BaseException):
        pass

    async def die(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(batches, "settle", die)
        for _ in range(3):
            with suppress(Killed):
                faulty.send()
            faulty.age_attempts(hours=8)
    assert faulty.sum_at_stripe() == 3
    faulty.make_due()
    faulty.send()
    assert faulty.statuses() == {"uncertain": 1}


def test_a_refusal_after_a_lost_answer_is_uncertain(faulty: Metering) -> None:
    customer = faulty.customer()
    faulty.record(3)
    faulty.fault(cut=True)
    faulty.send()
    assert faulty.statuses() == {"sending": 1}
    faulty.stripe.v1.customers.delete(customer)
    faulty.make_due()
    faulty.send()
    (row,) = faulty.usage("status", "last_error")
    assert row["status"] == "uncertain"
    assert "No such customer" in row["last_error"]


def test_an_unreachable_stripe_certainly_has_nothing(metering: Metering) -> None:
    metering.customer()
    metering.record(3)
    there, metering.sandbox = metering.sandbox, "http://127.0.0.1:9"
    metering.send()
    metering.sandbox = there
    metering.age_attempts(hours=48)
    metering.make_due()
    metering.send()
    assert metering.statuses() == {"sent": 1}
    assert metering.sum_at_stripe() == 3


def test_without_a_key_usage_stays(metering: Metering) -> None:
    metering.customer()
    metering.record(3)
    metering.books.execute("DELETE FROM system.secrets")
    assert metering.try_to_send() is None
    assert metering.statuses() == {"pending": 1}
