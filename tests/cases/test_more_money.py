"""Other lives of money of the same kinds, in every order as well."""

from __future__ import annotations

from typing import Any

import pytest
from playing import Events, play, transactions
from test_money_cases import shown, sums

from billhook.models import Customer, CustomersQuery
from billhook.postgres import Database
from billhook.reports.lists import customers
from books import Books
from stripe_events import (
    charge,
    customer,
    event,
    invoice,
    payment_intent,
    refund,
    session,
    subject,
)

OURS = {"insforge_checkout_mode": "payment"}


def paid_by(name: str, of: str, kind: str, paid: str, amount: int, **more: Any) -> dict[str, Any]:
    """An invoice_payment: `paid` is a PaymentIntent or a payment record, as `kind` says."""
    return {
        "id": name,
        "object": "invoice_payment",
        "invoice": of,
        "amount_paid": amount,
        "currency": "usd",
        "payment": {"type": kind, kind: paid},
        "status": "paid",
        **more,
    }


def of_customer(books: Books, customer_id: str) -> Customer:
    async def work(database: Database) -> Customer:
        query = CustomersQuery(limit=1, customer=customer_id)
        (found,) = (await customers(database, "test", query)).rows
        return found

    return books.run(work)


def subscription_paid() -> Events:
    parent = {"subscription_details": {"subscription": "sub_1", "metadata": subject()}}
    intent = payment_intent(
        "pi_9",
        amount=2900,
        amount_received=2900,
        currency="usd",
        description="Subscription creation",
        latest_charge="ch_9",
        metadata={},
    )
    back = {"payment_intent": "pi_9", "charge": "ch_9", "currency": "usd"}
    return [
        event("payment_intent.succeeded", intent, at=1),
        event("invoice.paid", invoice(parent=parent, metadata=subject(name="other")), at=2),
        event(
            "invoice_payment.paid", paid_by("inpay_1", "in_1", "payment_intent", "pi_9", 2900), at=9
        ),
        event("refund.created", refund(**back), at=100),
    ]


def test_the_payment_intent_of_a_subscription_becomes_part_of_its_invoice(books: Books) -> None:
    play(books, subscription_paid())
    payment, back = transactions(books)
    assert shown(payment, "type", "amount", "amount_refunded", "status") == (
        "subscription_invoice",
        2900,
        500,
        "partially_refunded",
    )
    assert shown(payment, "subject_id", "description", "provider_object_id") == (
        "t1",
        "A-0001",
        "pi_9",
    )
    assert payment["raw"]["object"] == "invoice"
    assert shown(back, "subject_id", "provider_parent_object_id") == ("t1", "pi_9")
    assert sums(books) == {"usd": (2900, 500, 1, 1, 0)}


def test_a_declined_payment_that_is_given_up_is_one_failure(books: Books) -> None:
    declined = payment_intent(amount_received=0, metadata={})
    given_up = declined | {"status": "canceled", "canceled_at": 1_780_000_900}
    play(
        books,
        [
            event("payment_intent.payment_failed", declined, at=3),
            event("payment_intent.canceled", given_up, at=900),
        ],
    )
    (row,) = transactions(books)
    assert shown(row, "type", "status", "amount", "canceled_at") == (
        "failed_payment",
        "failed",
        1500,
        None,
    )
    assert sums(books) == {"eur": (0, 0, 0, 0, 1)}


def test_a_payment_that_nobody_tried_is_no_transaction_when_it_is_canceled(books: Books) -> None:
    intent = payment_intent(amount_received=0, latest_charge=None, metadata={}, status="canceled")
    play(books, [event("payment_intent.canceled", intent, at=900)])
    assert transactions(books) == []


def test_a_canceled_authorization_that_stripe_refunds_took_and_gave_nothing(books: Books) -> None:
    held = charge(amount_captured=0, captured=False, amount_refunded=1500, refunded=True)
    play(
        books,
        [
            event("payment_intent.canceled", payment_intent(amount_received=0), at=99),
            event("charge.refunded", held, at=99),
            event("refund.created", refund(amount=1500), at=99),
        ],
    )
    payment, back = transactions(books)
    assert shown(payment, "status", "amount_refunded") == ("failed", 0)
    assert back["status"] == "failed"
    assert sums(books) == {}


def test_a_checkout_that_is_captured_later_counts_what_was_captured(books: Books) -> None:
    held = session(payment_status="unpaid", amount_total=20675, metadata=OURS)
    taken = payment_intent(amount=20675, amount_received=20300, metadata=OURS)
    play(
        books,
        [
            event("checkout.session.completed", held, at=1),
            event("payment_intent.succeeded", taken, at=9000),
        ],
    )
    (row,) = transactions(books)
    assert shown(row, "status", "amount", "customer_email_snapshot") == (
        "succeeded",
        20300,
        "buyer@example.com",
    )


def test_a_bank_debit_that_succeeded_stays_so_after_a_late_failure(books: Books) -> None:
    waiting = session(payment_status="unpaid", metadata=OURS)
    play(
        books,
        [
            event("checkout.session.completed", waiting, at=1),
            event("checkout.session.async_payment_succeeded", session(metadata=OURS), at=50),
            event("checkout.session.async_payment_failed", waiting, at=60),
        ],
    )
    (row,) = transactions(books)
    assert shown(row, "status", "amount") == ("succeeded", 1500)


def test_a_legacy_charge_that_is_captured_later_is_a_payment(books: Books) -> None:
    held = charge(payment_intent=None, status="succeeded", captured=False, amount_captured=0)
    taken = held | {"captured": True, "amount_captured": 1200}
    play(
        books,
        [event("charge.succeeded", held, at=1), event("charge.captured", taken, at=50)],
    )
    (row,) = transactions(books)
    assert shown(row, "status", "amount", "provider_object_id") == ("succeeded", 1200, "ch_1")


def test_a_paid_checkout_without_a_payment_intent_is_a_payment(books: Books) -> None:
    play(books, [event("checkout.session.completed", session(payment_intent=None), at=1)])
    (row,) = transactions(books)
    assert shown(row, "status", "amount", "provider_object_id") == ("succeeded", 1500, "cs_1")


def test_a_checkout_that_only_saves_a_card_is_no_payment(books: Books) -> None:
    saved = session(mode="setup", payment_status="no_payment_required", payment_intent=None)
    play(books, [event("checkout.session.completed", saved, at=1)])
    assert transactions(books) == []


def test_an_invoice_paid_in_part_past_stripe_counts_the_other_part(books: Books) -> None:
    taken = payment_intent(
        "pi_9", amount=1000, amount_received=1000, currency="usd", metadata={}, customer="cus_1"
    )
    play(
        books,
        [
            event("customer.created", customer(), at=0),
            event("payment_intent.succeeded", taken, at=1),
            event(
                "invoice_payment.paid", paid_by("inpay_1", "in_1", "payment_intent", "pi_9", 1000)
            ),
            event(
                "invoice_payment.paid", paid_by("inpay_2", "in_1", "payment_record", "pr_1", 1900)
            ),
            event("invoice.paid", invoice(), at=9),
        ],
    )
    (row,) = transactions(books)
    assert shown(row, "amount", "amount_out_of_band", "status") == (1000, 1900, "succeeded")
    assert of_customer(books, "cus_1").total_spend == 1000


@pytest.mark.parametrize("flag", [True, False])
def test_a_customer_who_paid_past_stripe_spent_nothing_at_it(books: Books, flag: bool) -> None:
    outside = invoice(paid_out_of_band=True) if flag else invoice()
    record = paid_by("inpay_1", "in_1", "out_of_band_payment", "oob_1", 2900)
    events = [event("customer.created", customer(), at=0), event("invoice.paid", outside, at=9)]
    play(books, events if flag else [*events, event("invoice_payment.paid", record, at=9)])
    (row,) = transactions(books)
    assert shown(row, "amount", "amount_out_of_band", "status") == (0, 2900, "succeeded")
    found = of_customer(books, "cus_1")
    assert (found.payments_count, found.total_spend, found.last_payment_at) == (0, None, None)
    assert sums(books) == {}


def test_an_invoice_paid_from_credit_took_nothing_and_is_not_asked_about(books: Books) -> None:
    covered = invoice(amount_paid=0, amount_due=0, starting_balance=-2900, total=2900)
    play(books, [event("invoice.paid", covered, at=9)])
    (row,) = transactions(books)
    assert shown(row, "amount", "amount_out_of_band", "status") == (0, 0, "succeeded")
    assert books.rows("SELECT FROM billhook.refreshes") == []


def test_an_invoice_whose_first_payment_intent_failed_holds_what_the_second_took(
    books: Books,
) -> None:
    declined = payment_intent(
        "pi_8", amount=2900, amount_received=0, currency="usd", metadata={}, latest_charge="ch_8"
    )
    taken = payment_intent(
        "pi_9", amount=2900, amount_received=2900, currency="usd", metadata={}, latest_charge="ch_9"
    )
    play(
        books,
        [
            event("payment_intent.payment_failed", declined, at=1),
            event("invoice.payment_failed", invoice(amount_paid=0, payment_intent="pi_8"), at=1),
            event("payment_intent.succeeded", taken, at=90),
            event(
                "invoice_payment.paid", paid_by("inpay_1", "in_1", "payment_intent", "pi_9", 2900)
            ),
            event("invoice.paid", invoice(), at=91),
        ],
    )
    (row,) = transactions(books)
    assert shown(row, "amount", "status", "provider_object_id", "type") == (
        2900,
        "succeeded",
        "pi_9",
        "subscription_invoice",
    )
    assert row["related_object_ids"]["charge"] == "ch_9"
    assert sums(books) == {"usd": (2900, 0, 1, 0, 0)}


def test_one_payment_intent_that_pays_two_invoices_is_one_payment(books: Books) -> None:
    taken = payment_intent("pi_9", amount=5000, amount_received=5000, currency="usd", metadata={})
    play(
        books,
        [
            event("payment_intent.succeeded", taken, at=1),
            *(
                event(
                    "invoice_payment.paid",
                    paid_by(f"inpay_{name}", name, "payment_intent", "pi_9", amount),
                )
                for name, amount in (("in_1", 2000), ("in_2", 3000))
            ),
            event("invoice.paid", invoice("in_1", amount_paid=2000), at=2),
            event("invoice.paid", invoice("in_2", amount_paid=3000), at=3),
        ],
    )
    (row,) = transactions(books)
    assert shown(row, "amount", "status") == (5000, "succeeded")
    assert sums(books) == {"usd": (5000, 0, 1, 0, 0)}


SEEN = {"presentment_details": {"presentment_amount": 1645, "presentment_currency": "usd"}}


@pytest.mark.parametrize(
    ("given", "back"),
    [
        ({"amount": 750, "currency": "eur"}, 750),
        ({"amount": 1645, "currency": "usd"}, 1500),
        ({"amount": 329, "currency": "usd"}, 300),
    ],
)
def test_a_refund_in_either_currency_counts_in_that_of_the_payment(
    books: Books, given: dict[str, Any], back: int
) -> None:
    taken = payment_intent(amount=1645, amount_received=1645, currency="usd", metadata=OURS)
    returned = (
        round(given["amount"] * 1645 / 1500) if given["currency"] == "eur" else given["amount"]
    )
    play(
        books,
        [
            event("checkout.session.completed", session(metadata=OURS, **SEEN), at=1),
            event("payment_intent.succeeded", taken, at=1),
            event("refund.created", refund(**given), at=60),
            event(
                "charge.refunded",
                charge(amount=1645, amount_captured=1645, amount_refunded=returned, currency="usd"),
                at=60,
            ),
        ],
    )
    payment, refunded = transactions(books)
    assert shown(payment, "currency", "amount", "amount_refunded") == ("eur", 1500, back)
    assert shown(refunded, "amount", "currency") == (given["amount"], given["currency"])


def test_a_refund_in_a_currency_that_nothing_converts_is_not_added(books: Books) -> None:
    play(
        books,
        [
            event("payment_intent.succeeded", payment_intent(metadata={}), at=1),
            event("refund.created", refund(amount=70000, currency="jpy"), at=60),
        ],
    )
    payment, back = transactions(books)
    assert shown(payment, "amount", "amount_refunded", "status") == (1500, 0, "succeeded")
    assert shown(back, "amount", "currency", "status") == (70000, "jpy", "refunded")


def test_a_charge_without_a_payment_intent_is_booked_with_its_refund(books: Books) -> None:
    bare = charge(
        payment_intent=None, amount_refunded=500, status="succeeded", created=1_780_000_000
    )
    play(
        books,
        [
            event("refund.created", refund(payment_intent=None), at=60),
            event("charge.refunded", bare, at=60),
        ],
    )
    payment, back = transactions(books)
    assert shown(payment, "amount", "amount_refunded", "provider_object_id") == (1500, 500, "ch_1")
    assert shown(back, "provider_parent_object_type", "provider_parent_object_id") == (
        "charge",
        "ch_1",
    )
    assert sums(books) == {"eur": (1500, 500, 1, 1, 0)}


def test_refunds_of_two_charges_of_one_invoice_are_told_apart(books: Books) -> None:
    """All that tells of the first charge's refund is the charge itself."""
    halves = [
        event(
            "invoice_payment.paid",
            paid_by(f"inpay_{n}", "in_1", "payment_intent", f"pi_{n}", 1450),
        )
        for n in (1, 2)
    ]
    whole = charge("ch_1", payment_intent="pi_1", amount=1450, amount_refunded=1450, currency="usd")
    other = refund(amount=1450, payment_intent="pi_2", charge="ch_2", currency="usd")
    play(
        books,
        [
            *halves,
            event("invoice.paid", invoice(), at=2),
            event("charge.refunded", whole, at=50),
            event("refund.created", other, at=60),
        ],
    )
    payment, back = transactions(books)
    assert shown(payment, "amount", "amount_refunded", "status") == (2900, 2900, "refunded")
    assert back["provider_parent_object_id"] == "pi_2"


def test_of_more_than_was_authorized_only_what_was_given_back_is_refunded(books: Books) -> None:
    """Overcapture, such as a tip: nothing was released."""
    taken = payment_intent(amount=1500, amount_received=1700, metadata={})
    whole = {"amount_captured": 1700, "amount_refunded": 1700, "refunded": True}
    play(
        books,
        [
            event("payment_intent.succeeded", taken, at=1),
            event("charge.refunded", charge(amount_refunded=500, amount_captured=1700), at=60),
            event("charge.refunded", charge(**whole), at=90),
        ],
    )
    (row,) = transactions(books)
    assert shown(row, "amount", "amount_refunded", "status") == (1700, 1700, "refunded")


@pytest.mark.parametrize("listed", [True, False])
def test_a_payment_intent_of_an_api_version_before_2022_11_15_names_its_charge(
    books: Books, listed: bool
) -> None:
    tries = [charge("ch_2", captured=False), charge("ch_1", status="failed")]
    given_up = payment_intent(amount_received=0, metadata={}, status="canceled")
    del given_up["latest_charge"]
    given_up["charges"] = {"object": "list", "data": tries if listed else []}
    play(books, [event("payment_intent.canceled", given_up, at=900)])
    rows = transactions(books)
    assert [(row["status"], row["related_object_ids"]["charge"]) for row in rows] == [
        ("failed", "ch_2")
    ] * listed
