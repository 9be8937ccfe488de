"""Money: whatever Stripe took or gave back, whoever asked for it, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from playing import case, play, transactions

from books import Books
from stripe_events import event, session, subject
from totals import assert_exact, figures

Row = dict[str, Any]


def shown(row: Row, *columns: str) -> tuple[Any, ...]:
    return tuple(row[each] for each in columns)


def sums(books: Books) -> dict[str, tuple[int, int, int, int, int]]:
    """Payments and refunds in money, then succeeded, refunded and failed ones, per currency, as the
    overview counts them."""
    assert_exact(books)
    found: dict[str, list[int]] = {}
    for _, _, currency, *of_day in figures(books):
        known = found.setdefault(currency, [0] * 5)
        found[currency] = [a + b for a, b in zip(known, of_day, strict=True)]
    return {currency: tuple(summed) for currency, summed in found.items()}  # type: ignore[misc]


def test_a_free_checkout_has_succeeded_with_nothing_to_pay(books: Books) -> None:
    play(books, case("R3"))
    (row,) = transactions(books)
    assert shown(row, "status", "amount", "type", "subject_id") == (
        "succeeded",
        0,
        "one_time_payment",
        "t_R3",
    )
    assert row["paid_at"] is not None
    assert sums(books) == {"eur": (0, 0, 1, 0, 0)}


def test_events_of_a_connected_account_are_recorded_and_change_nothing(books: Books) -> None:
    books.execute("""
        CREATE TABLE fired (event_id text);
        CREATE FUNCTION fire() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN INSERT INTO fired VALUES (NEW.provider_event_id); RETURN NULL; END $$;
        CREATE TRIGGER fire AFTER INSERT OR UPDATE ON payments.webhook_events
        FOR EACH ROW WHEN (NEW.processing_status = 'processed') EXECUTE FUNCTION fire();
    """)
    metadata = subject() | {"insforge_checkout_mode": "payment"}
    ours = event("checkout.session.completed", session(metadata=metadata), at=1)
    theirs = event(
        "checkout.session.completed",
        session("cs_theirs", customer="cus_theirs", payment_intent="pi_theirs", metadata=metadata),
        at=2,
        account="acct_seller",
    )
    gone = event("customer.deleted", {"id": "cus_1", "object": "customer"}, account="acct_seller")
    odd = event("product.updated", {"id": "prod_odd", "object": "product"}, account="acct_seller")
    books.execute("TRUNCATE fired")
    play(books, [*case("R5"), ours, theirs, gone, odd])
    (row,) = transactions(books)
    assert row["provider_object_id"] == "pi_1"
    mapping = books.row("SELECT * FROM payments.customer_mappings")
    assert shown(mapping, "subject_id", "provider_customer_id") == ("t1", "cus_1")
    ledger = books.rows("SELECT * FROM payments.webhook_events")
    assert {shown(each, "processing_status", "provider_account_id") for each in ledger} == {
        ("processed", None),
        ("ignored", "acct_seller"),
        ("ignored", "acct_R5seller"),
    }
    assert books.rows("SELECT DISTINCT event_id FROM fired") == [{"event_id": ours["id"]}]


@pytest.mark.parametrize("refunded", [True, False])
def test_of_a_partly_captured_authorization_only_what_was_given_back_is_refunded(
    books: Books, refunded: bool
) -> None:
    events = case("R7")
    if not refunded:
        del events[1]
        events[1]["data"]["object"]["amount_refunded"] = 375  # released, never taken
    play(books, events)
    payment, *refunds = transactions(books)
    expected = (20300, 1000, "partially_refunded") if refunded else (20300, 0, "succeeded")
    assert shown(payment, "amount", "amount_refunded", "status") == expected
    assert [each["amount"] for each in refunds] == [1000] * refunded


def test_a_released_authorization_was_never_a_payment(books: Books) -> None:
    play(books, case("R8"))
    (row,) = transactions(books)
    assert shown(row, "status", "amount_refunded", "refunded_at", "paid_at") == (
        "failed",
        0,
        None,
        None,
    )
    assert row["canceled_at"] is not None
    assert sums(books) == {}


def test_a_payment_of_another_integration_is_booked_without_a_subject_and_with_its_refund(
    books: Books,
) -> None:
    play(books, case("R9"))
    payment, refund = transactions(books)
    assert shown(payment, "type", "status") == ("one_time_payment", "partially_refunded")
    assert shown(payment, "amount", "amount_refunded") == (5000, 1200)
    assert shown(payment, "subject_type", "subject_id") == (None, None)
    assert shown(refund, "status", "amount") == ("refunded", 1200)
    assert refund["provider_parent_object_id"] == payment["provider_object_id"] == "pi_R9"
    assert refund["payment_id"] == payment["payment_id"]
    assert sums(books) == {"usd": (5000, 1200, 1, 1, 0)}


def test_a_payment_in_the_buyers_currency_is_booked_in_the_one_it_was_sold_in(
    books: Books,
) -> None:
    play(books, case("R10"))
    payment, refund = transactions(books)
    assert shown(payment, "currency", "amount", "amount_refunded", "status") == (
        "eur",
        1500,
        1500,
        "refunded",
    )
    assert shown(refund, "currency", "amount") == ("eur", 1500)
    assert sums(books) == {"eur": (1500, 1500, 1, 1, 0)}


def test_an_invoice_that_was_paid_past_stripe_is_told_apart_and_no_revenue(books: Books) -> None:
    play(books, case("R11"))
    outside, taken = transactions(books)
    assert shown(outside, "status", "amount", "amount_out_of_band") == ("succeeded", 0, 49900)
    assert shown(taken, "status", "amount", "amount_out_of_band") == ("succeeded", 49900, 0)
    assert sums(books) == {"usd": (49900, 0, 1, 0, 0)}


def test_an_invoice_that_was_paid_twice_holds_both_payments_until_one_is_refunded(
    books: Books,
) -> None:
    play(books, case("R12"))
    payment, refund = transactions(books)
    assert shown(payment, "amount", "amount_refunded", "status") == (
        20000,
        10000,
        "partially_refunded",
    )
    assert payment["related_object_ids"]["payment_intents"] == ["pi_R12xa", "pi_R12xb"]
    assert refund["provider_parent_object_id"] == "pi_R12xb"
    refs = books.rows("SELECT object_id FROM billhook.payment_refs ORDER BY 1")
    assert {each["object_id"] for each in refs} >= {"pi_R12xa", "pi_R12xb", "in_R12x"}
    assert sums(books) == {"eur": (20000, 10000, 1, 1, 0)}
