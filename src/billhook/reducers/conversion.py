"""Amounts of a payment in its own currency. Amounts of two currencies are never added."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from billhook.projections.changes import PaymentSource, RefundFacts
from billhook.reducers.payments import Payment

_OF_REFUND = 9  # after the place of every source


class _Amount(NamedTuple):
    """An object's amount in one currency."""

    place: int
    object_id: str
    currency: str | None
    amount: int | None


class Conversion:
    """Converts amounts into the currency of a payment, using equivalents that Stripe reports: one
    object's amount in its own currency and in the buyer's (adaptive pricing), else two objects'
    amounts of the whole payment.

    Args:
        currency: the payment's.
    """

    def __init__(self, payment: Payment, currency: str | None) -> None:
        self._payment = payment
        self.currency = currency

    def of(self, amount: int, currency: str | None) -> int | None:
        """An amount; None if Stripe reports no equivalent."""
        if None in (currency, self.currency) or currency == self.currency:
            return amount
        return self._converted(amount, currency)

    def of_source(self, facts: PaymentSource) -> int | None:
        """A source's amount; None if Stripe reports no equivalent."""
        return None if facts.amount is None else self.of(facts.amount, facts.currency)

    def of_refunds(self, refunds: Iterable[tuple[RefundFacts, int]]) -> int:
        """The sum of refunded amounts, without those for which Stripe reports no equivalent. It
        converts the sum, not each amount: that would add up rounding errors."""
        total = 0
        to_convert: dict[str | None, int] = {}
        for facts, amount in refunds:
            differs = (
                None not in (facts.currency, self.currency) and facts.currency != self.currency
            )
            if differs and facts.presentment_currency == self.currency:
                total += facts.presentment_amount or 0
            else:
                to_convert[facts.currency] = to_convert.get(facts.currency, 0) + amount
        return total + sum(self.of(amount, of) or 0 for of, amount in to_convert.items())

    def _converted(self, amount: int, currency: str | None) -> int | None:
        amounts = [each for each in self._amounts() if each.amount is not None and each.amount > 0]
        rates = sorted(
            (ours.object_id != theirs.object_id, theirs.place, ours.place, theirs.object_id,
             ours.object_id, theirs.amount, ours.amount)
            for ours in amounts if ours.currency == currency
            for theirs in amounts if theirs.currency == self.currency
            if ours.object_id == theirs.object_id
            or (ours.place < _OF_REFUND and theirs.place < _OF_REFUND)
        )  # fmt: skip
        if not rates:
            return None
        *_, theirs_amount, ours_amount = rates[0]
        assert theirs_amount is not None
        assert ours_amount is not None
        # Half a unit is rounded up, as PostgreSQL's numeric does.
        return (2 * amount * theirs_amount + ours_amount) // (2 * ours_amount)

    def _amounts(self) -> list[_Amount]:
        found = []
        for source in self._payment.sources.values():
            facts = source.facts
            full = facts.amount if facts.full_amount is None else facts.full_amount
            found.append(_Amount(facts.place, facts.object_id, facts.currency, full))
            found.append(
                _Amount(
                    facts.place,
                    facts.object_id,
                    facts.presentment_currency,
                    facts.presentment_amount,
                )
            )
        for refund in self._payment.refunds.values():
            of = refund.facts
            if of.presentment_currency is not None:
                found.append(_Amount(_OF_REFUND, of.object_id, of.currency, of.amount))
                found.append(
                    _Amount(
                        _OF_REFUND, of.object_id, of.presentment_currency, of.presentment_amount
                    )
                )
        return found
