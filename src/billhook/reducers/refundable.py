"""What is left of a payment to refund, by the known facts of its objects. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from billhook.projections.changes import PaymentSource, RefundFacts
from billhook.reducers.payments import Payment
from billhook.reducers.transactions import beyond_known, refunds_of, totals_of


@dataclass(frozen=True, slots=True)
class Refundable:
    """What Stripe took with one PaymentIntent, or with one charge that has none. Amounts are in
    the minor unit of its own currency.

    Attributes:
        object_id: what to name in a refund.
        charges: the known ids of its charges.
        amount: what was taken.
        refunded: what was refunded, by refunds that succeeded.
        pending: what will be, if Stripe confirms it.
    """

    object_type: Literal["payment_intent", "charge"]
    object_id: str
    charges: frozenset[str]
    amount: int
    currency: str | None
    refunded: int
    pending: int

    @property
    def left(self) -> int:
        return max(self.amount - self.refunded - self.pending, 0)


def refundables(payment: Payment) -> list[Refundable]:
    """The parts of a payment that can be refunded: usually one; several if several PaymentIntents
    paid an invoice."""
    taken = list(_taken(payment))
    return [_refundable(payment, facts, alone=len(taken) == 1) for facts in taken]


def _taken(payment: Payment) -> Iterator[PaymentSource]:
    for _, source in sorted(payment.sources.items()):
        facts = source.facts
        if facts.object_type in ("payment_intent", "charge") and facts.outcome == "succeeded":
            yield facts


def _refundable(payment: Payment, facts: PaymentSource, *, alone: bool) -> Refundable:
    """
    Args:
        alone: every refund of the payment is one of this part.
    """
    charges = frozenset(_charges_of(payment, facts, alone=alone))

    def is_of_it(refund: RefundFacts) -> bool:
        return alone or refund.payment_intent_id == facts.object_id or refund.charge_id in charges

    refunds = [each for each in refunds_of(payment) if is_of_it(each)]
    totals = totals_of([each.facts for each in payment.refunds.values() if is_of_it(each.facts)])
    by_totals = sum(max(beyond_known(each, refunds), 0) for each in totals)
    return Refundable(
        object_type="payment_intent" if facts.object_type == "payment_intent" else "charge",
        object_id=facts.object_id,
        charges=charges,
        amount=facts.amount or 0,
        currency=facts.currency,
        refunded=by_totals + sum(each.amount for each in refunds if each.status == "refunded"),
        pending=sum(each.amount for each in refunds if each.status == "pending"),
    )


def _charges_of(payment: Payment, facts: PaymentSource, *, alone: bool) -> Iterator[str]:
    if facts.object_type == "charge":
        yield facts.object_id
    for source in payment.sources.values():
        related = source.facts.related
        if related.get("payment_intent") == facts.object_id and "charge" in related:
            yield related["charge"]
    for refund in payment.refunds.values():
        if refund.facts.payment_intent_id == facts.object_id and refund.facts.charge_id:
            yield refund.facts.charge_id
    if alone:
        yield from (object_id for kind, object_id in payment.refs if kind == "charge")
