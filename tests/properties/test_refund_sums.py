"""Whatever is refunded, by amount or by line, in whatever order the events arrive: what the mirror
shows adds up to the balance at Stripe, and no payment returns more than it took."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buying import Buying, selling
from depth import by_depth

CARDS = ("pm_card_visa", "pm_card_pendingRefund", "pm_card_refundFail")
LINES = ((333, 3), (1000, 1), (99, 7))
TAKEN = sum(amount * quantity for amount, quantity in LINES)

steps = st.one_of(
    st.tuples(st.just("amount"), st.integers(1, TAKEN + 1)),
    st.tuples(st.just("lines"), st.lists(st.integers(0, 2), min_size=1, max_size=3, unique=True)),
    st.tuples(st.just("units"), st.tuples(st.integers(0, 2), st.integers(1, 3))),
    st.tuples(st.just("everything"), st.none()),
    st.tuples(st.just("at once"), st.integers(1, TAKEN)),
    st.tuples(st.just("in the Dashboard"), st.integers(1, 700)),
    st.tuples(st.just("settle"), st.none()),
    st.tuples(st.just("deliver"), st.integers(0, 2**32)),
)


@pytest.fixture(scope="module")
def shop(shared_database_url: str, sandbox: str) -> Iterator[Buying]:
    with selling(shared_database_url, sandbox) as found:
        yield found


@pytest.fixture(scope="module")
def prices(shop: Buying) -> list[str]:
    return [shop.price(amount) for amount, _ in LINES]


class Payment:
    """A paid checkout, and what is done with it."""

    def __init__(self, shop: Buying, prices: list[str], card: str) -> None:
        self.shop = shop
        self.prices = prices
        lines = [(price, quantity) for price, (_, quantity) in zip(prices, LINES, strict=True)]
        self.session = shop.paid(*lines, card=card)
        self.intent = str(self.session.payment_intent)
        self.late: list[dict[str, Any]] = []
        self.keys = 0

    def refund(self, **body: Any) -> int:
        self.keys += 1
        key = f"{self.intent}-{self.keys}"
        given = {"payment": self.session.id, "idempotencyKey": key, **body}
        answer = self.shop.api.admin("POST", "/test/refunds", given)
        assert answer.status_code in (201, 409), answer.text
        if answer.status_code == 201:
            refund, payment = answer.json()["refund"], answer.json()["payment"]
            assert 0 < refund["amount"] <= TAKEN
            assert payment["amountRefunded"] <= payment["amount"] == TAKEN
        return answer.status_code

    def do(self, kind: str, value: Any) -> None:
        if kind == "amount":
            self.refund(amount=value)
        elif kind == "lines":
            self.refund(lineItems=[{"priceId": self.prices[n]} for n in value])
        elif kind == "units":
            number, quantity = value
            self.refund(lineItems=[{"priceId": self.prices[number], "quantity": quantity}])
        elif kind == "everything":
            self.refund()
        elif kind == "at once":
            with ThreadPoolExecutor(3) as many:
                list(many.map(lambda _: self.refund(amount=value), range(3)))
        elif kind == "in the Dashboard":
            self.in_the_dashboard(value)
        elif kind == "settle":
            self.shop.settle()
        else:
            self.deliver_some(random.Random(value))

    def in_the_dashboard(self, amount: int) -> None:
        charge = self.charge()
        if charge.amount - charge.amount_refunded >= amount:
            self.shop.v1.refunds.create({"payment_intent": self.intent, "amount": amount})

    def deliver_some(self, chance: random.Random) -> None:
        """In any order, some later, some twice."""
        self.late += self.shop.new_events()
        chance.shuffle(self.late)
        now = self.late[: chance.randint(0, len(self.late))]
        self.late = self.late[len(now) :] + chance.sample(now, len(now) // 3)
        self.deliver(now)

    def deliver(self, events: list[dict[str, Any]]) -> None:
        for event in events:
            answer = self.shop.api.deliver(event)
            assert answer.status_code == 200, answer.text

    def charge(self) -> Any:
        intent = self.shop.v1.payment_intents.retrieve(self.intent)
        return self.shop.v1.charges.retrieve(str(intent.latest_charge))

    def live_at_stripe(self) -> int:
        """What Stripe has refunded, or is refunding."""
        listed = self.shop.v1.refunds.list({"payment_intent": self.intent, "limit": 100}).data
        return sum(each.amount for each in listed if each.status != "failed")


MIRRORED = """
    SELECT coalesce(sum(amount) FILTER (WHERE type <> 'refund'), 0)::bigint AS taken,
        coalesce(sum(amount_refunded) FILTER (WHERE type <> 'refund'), 0)::bigint AS refunded,
        coalesce(sum(amount) FILTER (WHERE type = 'refund' AND status = 'refunded'), 0)::bigint
            AS refunds
    FROM payments.transactions
"""


def test_refunds_add_up_to_the_balance_and_never_exceed_the_payment(
    shop: Buying, prices: list[str]
) -> None:
    @settings(max_examples=by_depth(10, 40, 1000))
    @given(st.sampled_from(CARDS), st.lists(steps, min_size=1, max_size=8), st.integers(0, 2**32))
    def holds(card: str, doings: list[tuple[str, Any]], order: int) -> None:
        payment = Payment(shop, prices, card)
        for kind, value in doings:
            payment.do(kind, value)
            assert payment.live_at_stripe() <= TAKEN
        shop.settle()
        rest = payment.late + shop.new_events()
        random.Random(order).shuffle(rest)
        payment.deliver(rest)
        shown = shop.api.books.row(MIRRORED)
        assert shown["refunded"] == shown["refunds"]
        assert shown["taken"] - shown["refunded"] == balance(shop)
        row = shop.api.books.row(
            "SELECT amount, amount_refunded FROM payments.transactions "
            "WHERE type <> 'refund' AND provider_object_id = $1",
            payment.intent,
        )
        assert row == {"amount": TAKEN, "amount_refunded": payment.live_at_stripe()}

    holds()


def balance(shop: Buying) -> int:
    """What Stripe holds, before its fees."""
    listed = shop.v1.balance_transactions.list({"limit": 100}).auto_paging_iter()
    return sum(each.amount for each in listed)
