"""Invoices that were paid outside Stripe (stripe-facts 44): they are no revenue."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from api import connect
from billhook.mirror import archives
from billhook.mirror.rebuild import rebuild
from billhook.models import RebuildOrder
from odd_stripe import odd
from recovering import Station

DECLINED = "pm_card_chargeCustomerFail"


@pytest.fixture
def station(database_url: str, sandbox: str) -> Station:
    return Station(database_url, sandbox)


def billed(station: Station, card: str = "pm_card_visa") -> str:
    """An open invoice of 29 euros."""
    v1 = station.stripe.v1
    customer = v1.customers.create(
        {
            "email": "buyer@shop.test",
            "payment_method": card,
            "invoice_settings": {"default_payment_method": card},
        }
    )
    made = v1.invoices.create(
        {
            "customer": customer.id,
            "currency": "eur",
            "collection_method": "send_invoice",
            "days_until_due": 30,
        }
    )
    v1.invoice_items.create(
        {"customer": customer.id, "amount": 2900, "currency": "eur", "invoice": made.id}
    )
    v1.invoices.finalize_invoice(made.id)
    return str(made.id)


def paid_elsewhere(station: Station) -> str:
    made = billed(station)
    station.stripe.v1.invoices.pay(made, {"paid_out_of_band": True})
    station.control("settle")
    return made


def without_records(path: str, answer: Any) -> None:
    """A Stripe that lists no payment of an invoice that was paid elsewhere."""

    def is_record(each: Any) -> bool:
        found = each["data"]["object"] if path == "/v1/events" else each
        return bool(found.get("payment", {}).get("type") == "payment_record")

    if path in ("/v1/events", "/v1/invoice_payments"):
        answer["data"] = [each for each in answer["data"] if not is_record(each)]


def without_a_word(path: str, answer: Any) -> None:
    """Also its event does not say that it was paid elsewhere, as in some API versions."""
    without_records(path, answer)
    if path == "/v1/events":
        for each in answer["data"]:
            each["data"]["object"].pop("paid_out_of_band", None)


@contextmanager
def nothing_listed(station: Station, *, told: bool = True) -> Iterator[None]:
    real = station.sandbox
    with odd(real, without_records if told else without_a_word) as station.sandbox:
        yield
    station.sandbox = real


def money(station: Station, invoice: str) -> tuple[str, int, int]:
    row = station.books.row(
        "SELECT status, amount, amount_out_of_band FROM payments.transactions "
        "WHERE type <> 'refund' AND related_object_ids ->> 'invoice' = $1",
        invoice,
    )
    return row["status"], row["amount"], row["amount_out_of_band"]


def test_what_a_payment_record_reports_is_no_revenue(station: Station) -> None:
    made = paid_elsewhere(station)
    station.pull()
    assert money(station, made) == ("succeeded", 0, 2900)


def test_what_nothing_at_stripe_paid_is_no_revenue_once_stripe_was_asked(station: Station) -> None:
    made = paid_elsewhere(station)
    with nothing_listed(station):
        station.pull()
        assert money(station, made) == ("succeeded", 2900, 0)
        station.refresh()
    assert money(station, made) == ("succeeded", 0, 2900)

    async def rebuilt(database: Any) -> Any:
        return await rebuild(database, "test", RebuildOrder())

    assert [each for each in station.books.run(rebuilt).tables if each.different] == []
    # Late news of the record changes nothing.
    station.books.execute("UPDATE billhook.pulls SET cursor_at = since")
    station.pull()
    assert money(station, made) == ("succeeded", 0, 2900)


def test_a_declined_card_before_it_hides_nothing(station: Station) -> None:
    made = billed(station, DECLINED)
    v1 = station.stripe.v1
    with pytest.raises(Exception, match="declined"):
        v1.invoices.pay(made)
    station.pull()
    station.refresh()
    v1.invoices.pay(made, {"paid_out_of_band": True})
    station.control("settle")
    with nothing_listed(station):
        station.pull()
        station.refresh()
    assert money(station, made) == ("succeeded", 0, 2900)


def test_a_payment_that_stripe_took_stays_revenue(station: Station) -> None:
    made = billed(station)
    station.stripe.v1.invoices.pay(made)
    station.control("settle")
    station.pull()
    station.refresh()
    assert money(station, made) == ("succeeded", 2900, 0)


@pytest.mark.parametrize("restored", [False, True])
def test_what_is_queued_to_be_asked_at_stripe_outlasts_a_restoration(
    station: Station, restored: bool
) -> None:
    books = station.books
    connect(books.dsn, station.sandbox, station.key.replace("recovery", "other"))
    made = paid_elsewhere(station)
    connect(books.dsn, station.sandbox, station.key)
    with nothing_listed(station, told=False):
        station.pull()
        assert money(station, made)[1] == 2900  # until Stripe is asked
        if restored:
            kept = min(books.run(archives.archives), key=lambda each: each.archived_at)
            books.run(lambda database: archives.restore(database, kept.id))
        station.refresh()
    assert money(station, made)[1:] == (0, 2900)
