"""Rows of payments and refunds: the same whatever the order and however often each event came.

Without a database, so thousands of odd lives can be tried: objects that name each other or nothing,
in two currencies, with amounts that don't agree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random
from typing import Any, Generic, TypeVar

import orjson
from hypothesis import example, given
from hypothesis import strategies as st

from billhook.ledger import decode
from billhook.projections import Event, project
from billhook.reducers.claims import Known
from billhook.reducers.missing import Missing, Subject
from billhook.reducers.payments import Transaction
from billhook.reducers.reduce import State, reduce_event
from billhook.reducers.transactions import refund_transactions, transaction_of
from stripe_events import (
    T0,
    charge,
    customer,
    event,
    invoice,
    invoice_payment,
    payment_intent,
    refund,
    session,
    subject,
)

K = TypeVar("K")
Rows = dict[tuple[str, str], Transaction]


class Loaded(dict[K, Known], Generic[K]):
    """Claims of which all are known."""

    def get(self, key: K, default: Any = None) -> Known:
        return self.setdefault(key, Known(Missing()))


def rows_after(events: Iterable[Event]) -> tuple[Rows, dict[str, Subject | None]]:
    """The rows by their object, and whom each customer pays for."""
    state = State()
    state.payments.spare_ids = list(range(10_000, 0, -1))
    state.claims.by_customer = Loaded()
    state.claims.by_subject = Loaded()
    for each in events:
        reduce_event(state, each, project(each), 1)
    rows: Rows = {}
    for payment in state.payments.by_id.values():
        shown = transaction_of(payment, state.claims)
        if shown is not None:
            rows["payment", shown.provider_object_id] = shown
        for refund_id, row in refund_transactions(payment, shown):
            rows["refund", refund_id] = row
    return rows, {each: state.claims.held(each) for each in ("cus_1", "cus_2")}


class Life:
    """Events of an account, drawn at random."""

    def __init__(self, random: Random) -> None:
        self.maybe: Callable[[], bool] = lambda: random.random() < 0.4
        self.one_of = random.choice
        self.times = random.randint
        self.events: list[dict[str, Any]] = []
        self.intents = ["pi_1", "pi_2"][: self.times(1, 2)]
        self.invoices = ["in_1", "in_2"][: self.times(0, 2)]
        self.currencies = ["eur", "usd"] if self.maybe() else ["eur"]
        for intent in self.intents:
            self._payment(intent)
        for each in self.invoices:
            self._invoice(each)
        for each in ["cs_1", "cs_2"][: self.times(0, 2)]:
            self._checkout(each)
        if self.maybe():
            self._happens("customer.deleted", customer("cus_1"))

    def _happens(self, kind: str, stripe_object: dict[str, Any]) -> None:
        self.events.append(event(kind, stripe_object, at=self.times(0, 12)))

    def _metadata(self) -> dict[str, str]:
        mode = {"insforge_checkout_mode": "payment"}
        return self.one_of([{}, mode, mode | subject("team", self.one_of(["A", "B"]))])

    def _customer(self) -> str | None:
        return self.one_of(["cus_1", "cus_1", "cus_2", None])

    def _payment(self, intent: str) -> None:
        amount, currency = self.one_of([1500, 999]), self.one_of(self.currencies)
        charges = [f"ch_{intent}", f"ch_{intent}_again"]
        who = {"customer": self._customer(), "metadata": self._metadata()}
        for _ in range(self.times(1, 3)):
            outcome = self.one_of(["succeeded", "succeeded", "payment_failed", "canceled"])
            taken = self.one_of([amount, amount // 2]) if outcome == "succeeded" else 0
            of = {"amount": amount, "amount_received": taken, "currency": currency} | who
            if self.maybe():
                shown = {"presentment_amount": amount * 2, "presentment_currency": "usd"}
                of["presentment_details"] = shown
            of["latest_charge"] = self.one_of([*charges, None])
            self._happens(f"payment_intent.{outcome}", payment_intent(intent, **of))
        for each in charges:
            of = {"amount": amount, "currency": currency, "customer": who["customer"]}
            of["payment_intent"] = self.one_of([intent, None])
            if self.maybe():
                of["amount_captured"] = self.one_of([0, amount // 2, amount])
            if self.maybe():
                self._happens("charge.succeeded", charge(each, **of))
            if self.maybe():
                back = self.one_of([0, 200, amount])
                back = {"amount_refunded": back, "refunded": back == amount}
                self._happens("charge.refunded", charge(each, **of | back))
        for name in [f"re_{intent}", f"re_{intent}_again"][: self.times(0, 2)]:
            for change in ["created", "updated", "failed"][: self.times(1, 3)]:
                of = {
                    "amount": self.one_of([200, 300]),
                    "currency": self.one_of([currency, *self.currencies]),
                    "charge": self.one_of([*charges, None]),
                    "payment_intent": self.one_of([intent, None]),
                    "status": self.one_of(["succeeded", "pending", "failed"]),
                    "created": T0 + self.times(0, 12),
                }
                self._happens(f"refund.{change}", refund(name, **of))

    def _invoice(self, name: str) -> None:
        for kind in ["paid", "payment_failed"][: self.times(1, 2)]:
            of: dict[str, Any] = {
                "amount_paid": self.one_of([0, 1500, 3000]),
                "currency": self.one_of(self.currencies),
                "customer": self._customer(),
                "metadata": self._metadata(),
            }
            if self.maybe():
                of |= self.one_of(
                    [
                        {"amount_overpaid": 100},
                        {"paid_out_of_band": True},
                        {"payment_intent": self.one_of(self.intents)},
                        {"parent": {"subscription_details": {"metadata": self._metadata()}}},
                    ]
                )
            self._happens(f"invoice.{kind}", invoice(name, **of))
        if self.maybe():
            intent = self.one_of(self.intents)
            paid = invoice_payment(name, intent) | {"id": f"inpay_{name}_{intent}"}
            self._happens("invoice_payment.paid", paid)

    def _checkout(self, name: str) -> None:
        for kind in ["completed", "async_payment_succeeded", "expired"][: self.times(1, 3)]:
            of = {
                "mode": self.one_of(["payment", "subscription"]),
                "payment_status": self.one_of(["paid", "unpaid", "no_payment_required"]),
                "payment_intent": self.one_of([*self.intents, None]),
                "invoice": self.one_of([*self.invoices, None]),
                "customer": self._customer(),
                "metadata": self._metadata(),
                "currency": self.one_of(self.currencies),
                "amount_total": self.one_of([0, 1500]),
            }
            self._happens(f"checkout.session.{kind}", session(name, **of))


@given(st.randoms(use_true_random=False))
@example(Random(1))
def test_rows_do_not_depend_on_the_order_or_on_repetitions(random: Random) -> None:
    events = [decode(orjson.dumps(each)).event for each in Life(random).events]
    expected = rows_after(events)
    again = [*events, *random.sample(events, min(3, len(events)))]
    random.shuffle(again)
    assert rows_after(again) == expected


def test_a_refund_of_a_charge_that_one_source_knows_without_its_payment_intent_is_shown() -> None:
    told = [
        event("charge.succeeded", charge(payment_intent=None)),
        event("payment_intent.succeeded", payment_intent(latest_charge="ch_1")),
        event("invoice_payment.paid", invoice_payment("in_1", "pi_1")),
        event("invoice_payment.paid", invoice_payment("in_1", "pi_2") | {"id": "inpay_2"}),
        event("charge.refunded", charge(amount_captured=0, amount_refunded=1500, refunded=True)),
        event("refund.created", refund(payment_intent=None)),
    ]
    rows, _ = rows_after(decode(orjson.dumps(each)).event for each in told)
    assert rows["refund", "re_1"].provider_parent_object_id == "pi_1"
