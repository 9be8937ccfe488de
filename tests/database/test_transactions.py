"""payments.transactions, column by column (contract §5)."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from books import Books
from stripe_events import (
    T0,
    charge,
    event,
    invoice,
    invoice_payment,
    payment_intent,
    refund,
    session,
    subject,
)

ALL = "SELECT * FROM payments.transactions ORDER BY type, provider_object_id"


def at(seconds: int) -> datetime:
    return datetime.fromtimestamp(T0 + seconds, UTC)


def test_a_paid_checkout_is_one_row_with_the_facts_of_all_its_objects(books: Books) -> None:
    buyer = subject("user", "u1") | {"insforge_checkout_mode": "payment"}
    books.apply(
        event("payment_intent.succeeded", payment_intent(metadata=buyer), at=5),
        event("checkout.session.completed", session(metadata=buyer), at=6),
    )
    row = books.row(ALL)
    assert (row["type"], row["status"], row["provider"]) == (
        "one_time_payment",
        "succeeded",
        "stripe",
    )
    assert (row["subject_type"], row["subject_id"]) == ("user", "u1")
    assert (row["provider_object_type"], row["provider_object_id"]) == ("payment_intent", "pi_1")
    assert (row["amount"], row["amount_refunded"], row["currency"]) == (1500, 0, "eur")
    assert row["provider_customer_id"] == "cus_1"
    assert row["customer_email_snapshot"] == "buyer@example.com"
    assert row["description"] is None
    assert (row["paid_at"], row["failed_at"], row["refunded_at"]) == (at(1), None, None)
    assert row["provider_created_at"] == at(1)
    assert row["related_object_ids"] == {
        "payment_intent": "pi_1",
        "charge": "ch_1",
        "checkout_session": "cs_1",
    }
    assert row["raw"]["object"] == "payment_intent"


def test_a_guest_checkout_without_payment_intent_is_known_by_its_session(books: Books) -> None:
    books.apply(
        event(
            "checkout.session.completed",
            session(payment_intent=None, customer=None, payment_status="unpaid"),
            at=6,
        )
    )
    row = books.row(ALL)
    assert (row["provider_object_type"], row["provider_object_id"]) == ("checkout_session", "cs_1")
    assert (row["status"], row["paid_at"], row["provider_created_at"]) == ("pending", None, at(0))


def test_a_later_success_replaces_a_failure_and_a_late_failure_changes_nothing(
    books: Books,
) -> None:
    failed = event(
        "payment_intent.payment_failed",
        payment_intent(amount_received=0, latest_charge="ch_0"),
        at=3,
    )
    books.apply(failed)
    row = books.row(ALL)
    assert (row["type"], row["status"]) == ("failed_payment", "failed")
    assert (row["failed_at"], row["paid_at"], row["amount"]) == (at(1), None, 1500)
    books.apply(event("payment_intent.succeeded", payment_intent(), at=9))
    books.apply(failed | {"id": "evt_late"})
    row = books.row(ALL)
    assert (row["type"], row["status"]) == ("one_time_payment", "succeeded")
    assert (row["failed_at"], row["paid_at"]) == (at(1), at(1))
    assert row["related_object_ids"]["charge"] == "ch_1"


@pytest.mark.parametrize("reverse", [False, True])
def test_a_bank_debit_after_a_declined_card_is_under_way_not_failed(
    books: Books, reverse: bool
) -> None:
    mine = {"insforge_checkout_mode": "payment"}
    told = [
        event("payment_intent.payment_failed", payment_intent(metadata=mine), at=5),
        event("checkout.session.completed", session(payment_status="unpaid", metadata=mine), at=60),
    ]
    books.apply(*(reversed(told) if reverse else told))
    assert books.row(ALL)["status"] == "pending"
    books.apply(event("checkout.session.async_payment_failed", session(metadata=mine), at=90))
    assert books.row(ALL)["status"] == "failed"


def test_a_subscription_invoice_takes_its_payment_intent_when_that_becomes_known(
    books: Books,
) -> None:
    parent = {"subscription_details": {"subscription": "sub_1", "metadata": subject()}}
    books.apply(event("invoice.paid", invoice(parent=parent), at=4))
    row = books.row(ALL)
    assert (row["provider_object_type"], row["provider_object_id"]) == ("invoice", "in_1")
    books.apply(event("invoice_payment.paid", invoice_payment(), at=20))
    row = books.row(ALL)
    assert (row["type"], row["status"], row["amount"]) == (
        "subscription_invoice",
        "succeeded",
        2900,
    )
    assert (row["provider_object_type"], row["provider_object_id"]) == ("payment_intent", "pi_9")
    assert (row["subject_type"], row["subject_id"]) == ("team", "t1")
    assert (row["description"], row["paid_at"]) == ("A-0001", at(3))
    assert row["related_object_ids"] == {
        "invoice": "in_1",
        "payment_intent": "pi_9",
        "subscription": "sub_1",
        "product": "prod_1",
        "price": "price_1",
    }


def test_a_failed_invoice_counts_what_was_due(books: Books) -> None:
    books.apply(event("invoice.payment_failed", invoice(amount_paid=0), at=4))
    row = books.row(ALL)
    assert (row["status"], row["amount"], row["failed_at"]) == ("failed", 2900, at(2))


def test_refunds_stand_under_their_payment_and_only_successful_ones_count(books: Books) -> None:
    books.apply(
        event("payment_intent.succeeded", payment_intent(description="Mug"), at=5),
        event("refund.created", refund(), at=100),
        event("refund.created", refund("re_2", amount=700, status="pending"), at=101),
        event("charge.refunded", charge(amount_refunded=1200), at=101),
    )
    payment, first, second = books.rows(ALL)
    assert (payment["status"], payment["amount_refunded"]) == ("partially_refunded", 500)
    assert payment["refunded_at"] == at(100)
    assert (first["status"], first["amount"], first["amount_refunded"]) == ("refunded", 500, 500)
    assert (first["provider_parent_object_type"], first["provider_parent_object_id"]) == (
        "payment_intent",
        "pi_1",
    )
    assert (first["description"], first["provider_customer_id"]) == (
        "requested_by_customer",
        "cus_1",
    )
    assert first["related_object_ids"] == {
        "refund": "re_1",
        "payment_intent": "pi_1",
        "charge": "ch_1",
    }
    assert (second["status"], second["refunded_at"], second["failed_at"]) == ("pending", None, None)


def test_a_refund_that_fails_later_gives_the_money_back_to_the_payment(books: Books) -> None:
    books.apply(
        event("payment_intent.succeeded", payment_intent(), at=5),
        event("charge.refunded", charge(amount_refunded=1500, refunded=True), at=100),
        event("refund.created", refund(amount=1500), at=100),
    )
    payment, _ = books.rows(ALL)
    assert (payment["status"], payment["amount_refunded"]) == ("refunded", 1500)
    books.apply(event("refund.failed", refund(amount=1500, status="failed"), at=500))
    payment, back = books.rows(ALL)
    assert (payment["status"], payment["amount_refunded"], payment["refunded_at"]) == (
        "succeeded",
        0,
        None,
    )
    assert (back["status"], back["failed_at"], back["refunded_at"]) == ("failed", at(100), None)


def test_a_refund_fails_by_the_event_of_older_api_versions_too(books: Books) -> None:
    books.apply(
        event("payment_intent.succeeded", payment_intent(), at=5),
        event("refund.created", refund(), at=100),
        event("charge.refund.updated", refund(status="failed"), at=900),
    )
    payment, back = books.rows(ALL)
    assert (payment["status"], payment["amount_refunded"]) == ("succeeded", 0)
    assert back["status"] == "failed"


def test_a_refund_without_a_status_gave_the_money_back(books: Books) -> None:
    books.apply(
        event("payment_intent.succeeded", payment_intent(), at=5),
        event("refund.created", refund(status=None), at=100),
        event("charge.refunded", charge(amount_captured=1500, amount_refunded=500), at=100),
    )
    payment, back = books.rows(ALL)
    assert (payment["status"], payment["amount_refunded"]) == ("partially_refunded", 500)
    assert back["status"] == "refunded"


def test_a_refund_before_its_payment_waits_and_is_linked(books: Books) -> None:
    books.apply(event("refund.created", refund(), at=100))
    lone = books.row(ALL)
    assert (lone["type"], lone["subject_id"], lone["provider_parent_object_id"]) == (
        "refund",
        None,
        "pi_1",
    )
    books.apply(
        event(
            "payment_intent.succeeded",
            payment_intent(metadata=subject() | {"insforge_checkout_mode": "payment"}),
            at=5,
        )
    )
    payment, linked = books.rows(ALL)
    assert (payment["status"], payment["amount_refunded"]) == ("partially_refunded", 500)
    assert (linked["subject_id"], linked["provider_customer_id"]) == ("t1", "cus_1")


def test_a_charge_alone_tells_of_refunds_that_never_told_themselves(books: Books) -> None:
    books.apply(
        event("payment_intent.succeeded", payment_intent(), at=5),
        event("charge.refunded", charge(amount_refunded=1500, refunded=True), at=100),
    )
    row = books.row(ALL)
    assert (row["status"], row["amount_refunded"], row["refunded_at"]) == (
        "refunded",
        1500,
        at(100),
    )


@pytest.mark.parametrize("swap", [False, True])
def test_two_halves_of_one_payment_become_one_row(books: Books, swap: bool) -> None:
    linked = refund(payment_intent="pi_9", charge="ch_9", currency="usd")
    halves = [
        event("invoice.paid", invoice(), at=4),
        event("refund.created", linked, at=90),
    ]
    books.apply(*(reversed(halves) if swap else halves))
    assert len(books.rows(ALL)) == 2
    books.apply(event("invoice_payment.paid", invoice_payment(), at=20))
    back, payment = books.rows(ALL)
    assert (payment["amount_refunded"], payment["status"]) == (500, "partially_refunded")
    assert back["related_object_ids"]["invoice"] == "in_1"
    assert payment["raw"]["object"] == "invoice"


def test_a_row_that_a_merge_leaves_as_it_is_follows_its_payment(books: Books) -> None:
    told = [
        event("refund.created", refund(payment_intent=None, charge="ch_3"), at=100),
        event(
            "payment_intent.payment_failed",
            payment_intent("pi_3", amount_received=0, latest_charge="ch_2"),
            at=1,
        ),
        event(
            "charge.refunded",
            charge("ch_3", payment_intent="pi_3", amount_refunded=500, amount_captured=1500),
            at=100,
        ),
        event("payment_intent.succeeded", payment_intent("pi_3", latest_charge="ch_3"), at=9),
    ]
    answers = books.apply(*told)
    assert not [each for each in answers if isinstance(each, Exception)]
    payment, given_back = books.rows("SELECT * FROM payments.transactions ORDER BY type")
    assert (payment["status"], payment["amount_refunded"]) == ("partially_refunded", 500)
    assert given_back["payment_id"] == payment["payment_id"]
