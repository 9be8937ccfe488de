"""Which amounts can be refunded of a payment."""

from __future__ import annotations

import pytest

from billhook.checkout.refund_balance import Balance, decide
from billhook.errors import InvalidInput
from billhook.models import PreviewRefund, parse
from billhook.reducers.refundable import Refundable


def balance(currency: str) -> Balance:
    part = Refundable("payment_intent", "pi_1", frozenset({"ch_1"}), 10_000, currency, 0, 0)
    return Balance(part, 0, 0, None, {}, ())


@pytest.mark.parametrize(
    ("currency", "possible", "impossible"),
    [("isk", 200, 150), ("ugx", 100, 50), ("kwd", 1_250, 1_255), ("eur", 151, None)],
)
def test_an_amount_that_stripe_cannot_refund_is_refused_before_stripe_is_asked(
    currency: str, possible: int, impossible: int | None
) -> None:
    def refund(amount: int) -> PreviewRefund:
        return parse(PreviewRefund, {"payment": "pi_1", "amount": amount})

    assert decide(balance(currency), refund(possible), []).amount == possible
    if impossible is not None:
        with pytest.raises(InvalidInput, match=f"refunds {currency.upper()} in multiples of"):
            decide(balance(currency), refund(impossible), [])
