"""The rows of a payment and its refunds in `payments.transactions`, computed from its sources.

Each column comes from the first source with a value (contract section 5); a known value is never
replaced by null. Only what Stripe collected counts, and one payment has one currency.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, TypeVar

from billhook.kinds.disputes import CLOSED
from billhook.projections.changes import Outcome, PaymentSource, RefundFacts
from billhook.reducers.claims import Claims
from billhook.reducers.conversion import Conversion
from billhook.reducers.payments import Payment, Source, Transaction, ranked, was_tried

T = TypeVar("T")

# The currency of the sale takes precedence over the currency of the charge.
_CURRENCY_OF = ("checkout_session", "invoice", "payment_intent")
_BIGINT_MAX = 2**63 - 1
_NAMED_BY = ("payment_intent", "checkout_session", "invoice", "charge")
_STATUS: dict[Outcome, str] = {
    "succeeded": "succeeded",
    "canceled": "failed",
    "failed": "failed",
    "pending": "pending",
}


def transaction_of(payment: Payment, claims: Claims) -> Transaction | None:
    """The payment's row; None if there is nothing to show: a refund that came before its payment, a
    payment that was never attempted."""
    sources = ranked(payment.sources.values())
    if not any(was_tried(source.facts) for source in sources):
        return None
    facts = [source.facts for source in sources]
    conversion = Conversion(payment, _currency(facts))
    status = _STATUS[facts[0].outcome]
    failed_at = _first(each.happened_at for each in facts if each.outcome == "failed")
    canceled_at = _first(each.happened_at for each in facts if each.outcome == "canceled")
    amount, out_of_band = _first(conversion.of_source(each) for each in facts), 0
    refunded, refunded_at = 0, None
    if status == "succeeded":
        amount, out_of_band = _taken(facts, conversion, amount)
        refunded, refunded_at = _refunded(payment, conversion)
    if refunded > 0:
        whole = amount is not None and refunded >= amount
        status = "refunded" if whole else "partially_refunded"
    has_failed = any(each.outcome == "failed" for each in facts)
    nothing_taken = facts[0].outcome == "canceled"
    disputes = disputed(payment, conversion)
    related = _related(payment, facts)
    named_by = next(kind for kind in _NAMED_BY if kind in related or kind == "charge")
    customer = _first(each.customer_id for each in facts)
    subject_type, subject_id = _subject(sources, customer, claims)
    return Transaction(
        type=_type(facts),
        status=status,
        subject_type=subject_type,
        subject_id=subject_id,
        provider_customer_id=customer,
        customer_email_snapshot=_first(each.email for each in facts),
        provider_object_type=named_by,
        provider_object_id=related.get(named_by, ""),
        provider_parent_object_type=None,
        provider_parent_object_id=None,
        related_object_ids=related,
        amount=None if amount is None else _clamped(amount),
        amount_refunded=_clamped(refunded),
        amount_out_of_band=_clamped(out_of_band),
        amount_disputed=_clamped(disputes.amount),
        amount_lost=_clamped(disputes.lost),
        currency=conversion.currency,
        description=_first(each.description for each in facts),
        paid_at=_first(each.happened_at for each in facts if each.outcome == "succeeded"),
        failed_at=failed_at or (canceled_at if nothing_taken else None),
        refunded_at=refunded_at if refunded > 0 else None,
        canceled_at=canceled_at if nothing_taken and not has_failed else None,
        provider_created_at=_first(each.created for each in facts),
        dispute_status=disputes.status,
        dispute_reason=disputes.reason,
        dispute_due_by=disputes.due_by,
        disputed_at=disputes.at,
    )


def _clamped(amount: int) -> int:
    """An amount within the range of a bigint."""
    return max(-_BIGINT_MAX, min(amount, _BIGINT_MAX))


def _first(values: Iterable[T | None]) -> T | None:
    return next((value for value in values if value is not None), None)


def _type(facts: list[PaymentSource]) -> str:
    is_invoice = any(each.type == "subscription_invoice" for each in facts)
    return "subscription_invoice" if is_invoice else facts[0].type


def _currency(facts: list[PaymentSource]) -> str | None:
    """The one currency of a payment: that of the sale, else that of the charge."""

    def place(each: PaymentSource) -> int:
        known = each.object_type in _CURRENCY_OF
        return _CURRENCY_OF.index(each.object_type) if known else len(_CURRENCY_OF)

    return _first(each.currency for each in sorted(facts, key=place))


def _related(payment: Payment, facts: list[PaymentSource]) -> dict[str, Any]:
    related: dict[str, Any] = dict(payment.objects)
    for each in reversed(facts):
        related |= each.related
    intents = sorted(object_id for kind, object_id in payment.refs if kind == "payment_intent")
    if len(intents) > 1:
        related["payment_intents"] = intents
    return related


def _subject(
    sources: list[Source], customer: str | None, claims: Claims
) -> tuple[str | None, str | None]:
    """The subject in a source, else the one that the customer paid for at that time."""
    for source in sources:
        if source.facts.subject_type is not None:
            return source.facts.subject_type, source.facts.subject_id
    if customer is None:
        return None, None
    at = next(source.at for source in sources if source.facts.customer_id is not None)
    return claims.subject_at(customer, at) or (None, None)


def _taken(
    facts: list[PaymentSource], conversion: Conversion, amount: int | None
) -> tuple[int | None, int]:
    """The amount of a successful payment, and the amount paid outside Stripe.

    PaymentIntents and charges report what was collected. An invoice reports the total paid, which
    counts until they are known. A Checkout Session counts only if there is nothing else.
    """
    charged = [f for f in facts if f.outcome == "succeeded"]
    taken = _sum(conversion.of_source(f) for f in _that_took(charged))
    invoiced = _sum(conversion.of_source(f) for f in charged if f.object_type == "invoice")
    outside = [f for f in charged if f.out_of_band]
    recorded = [f for f in outside if f.object_type == "invoice_payment" and not _is_rest(f)]
    out_of_band = _sum(conversion.of_source(f) for f in recorded) or 0
    if any(f.object_type == "invoice" or _is_rest(f) for f in outside):
        out_of_band = max(out_of_band, (invoiced or 0) - (taken or 0))
    if invoiced is not None:
        return max(taken or 0, invoiced - out_of_band), out_of_band
    if taken is not None:
        return taken, out_of_band
    if recorded:
        return 0, out_of_band
    sold = _first(conversion.of_source(f) for f in charged if f.object_type == "checkout_session")
    return (amount if sold is None else sold), out_of_band


def _is_rest(facts: PaymentSource) -> bool:
    """Whether it stands for the part of an invoice that no payment at Stripe covers
    (`projections.invoices`)."""
    return facts.object_id == facts.related.get("invoice") and facts.object_type != "invoice"


def _that_took(charged: list[PaymentSource]) -> Iterator[PaymentSource]:
    """PaymentIntents and charges, and payments of an invoice whose PaymentIntent is unknown."""
    counted = {f.object_id for f in charged if f.object_type in ("payment_intent", "charge")}
    for each in charged:
        if each.object_type in ("payment_intent", "charge"):
            yield each
        elif each.object_type == "invoice_payment" and not each.out_of_band:
            paid_by = each.related.get("payment_intent") or each.related.get("charge")
            if paid_by is not None and paid_by not in counted:
                yield each


def _sum(amounts: Iterable[int | None]) -> int | None:
    """None where none is known."""
    known = [amount for amount in amounts if amount is not None]
    return sum(known) if known else None


def _refunded(payment: Payment, conversion: Conversion) -> tuple[int, int | None]:
    """The refunded amount, and the time of the last refund.

    Only refunds that succeeded count. What a charge reports beyond the known refunds was refunded
    as well; a refund that failed is not counted again.
    """
    known = [refund.facts for refund in payment.refunds.values()]
    refunds = refunds_of(payment)
    returned = [(f, f.amount) for f in refunds if f.status == "refunded"]
    beyond = [(f, beyond_known(f, refunds)) for f in totals_of(known)]
    beyond = [(f, amount) for f, amount in beyond if amount > 0]
    times = [f.created for f, _ in returned or beyond if f.created is not None]
    return conversion.of_refunds([*returned, *beyond]), max(times, default=None)


class Disputed(NamedTuple):
    """What the disputes of a payment come to: the amount at stake or lost, the amount lost, and the
    newest dispute."""

    amount: int = 0
    lost: int = 0
    status: str | None = None
    reason: str | None = None
    due_by: int | None = None
    at: int | None = None


_COST_NOTHING = frozenset({"won", "warning_closed", "prevented"})


def disputed(payment: Payment, conversion: Conversion) -> Disputed:
    """The disputes of a payment. One that was won, prevented or closed as an inquiry costs nothing.

    `at` is when the newest one was created, since Stripe withdraws the money then; a lost one
    takes precedence.
    """
    known = [
        dispute
        for _, dispute in sorted(
            payment.disputes.items(),
            key=lambda item: (item[1].status == "lost", item[1].created or 0, item[0]),
        )
    ]
    if not known:
        return Disputed()
    newest = known[-1]
    counted = [each for each in known if each.status not in _COST_NOTHING]
    amounts = [(each, conversion.of(each.amount or 0, each.currency) or 0) for each in counted]
    return Disputed(
        sum(amount for _, amount in amounts),
        sum(amount for each, amount in amounts if each.status == "lost"),
        newest.status,
        newest.reason,
        None if newest.status in CLOSED else newest.due_by,
        newest.created,
    )


def lacks_refunds(payment: Payment, charge_id: str) -> bool:
    """Whether a charge reports more refunds than its known ones."""
    charge = payment.refunds.get(("charge", charge_id))
    return charge is not None and beyond_known(charge.facts, refunds_of(payment)) > 0


def refunds_of(payment: Payment) -> list[RefundFacts]:
    return [each.facts for each in payment.refunds.values() if each.facts.object_type == "refund"]


def totals_of(known: list[RefundFacts]) -> list[RefundFacts]:
    """The total refunds that charges report; until one does, what the adopted row said."""
    charges = [f for f in known if f.object_type == "charge"]
    return charges or [f for f in known if f.object_type == "transaction"]


def beyond_known(total: RefundFacts, refunds: list[RefundFacts]) -> int:
    """What was refunded in total, without the known refunds. Zero if those are in another currency:
    then they cannot be told apart."""
    parts = [refund for refund in refunds if _is_part(refund, total)]
    if any(each.currency != total.currency for each in parts if each.currency and total.currency):
        return 0
    return total.amount - sum(each.amount for each in parts)


def _is_part(refund: RefundFacts, total: RefundFacts) -> bool:
    """Whether a refund is counted in a total."""
    if total.object_type == "charge":
        return refund.charge_id in (None, total.object_id)
    # An adopted row knew the refunds of its time.
    if refund.created is None or total.created is None:
        return True
    return refund.created <= total.created


def refund_transactions(
    payment: Payment, transaction: Transaction | None
) -> Iterator[tuple[str, Transaction]]:
    """The rows of a payment's refunds: their own values, and the rest from their payment."""
    first = next(iter(ranked(payment.sources.values())), None)
    nothing_taken = first is not None and first.facts.outcome == "canceled"
    for (object_type, refund_id), refund in payment.refunds.items():
        if object_type == "refund":
            yield refund_id, _refund_row(payment, transaction, refund.facts, nothing_taken)


def _refund_row(
    payment: Payment, transaction: Transaction | None, facts: RefundFacts, nothing_taken: bool
) -> Transaction:
    """A refund of a payment that was never collected returned nothing: it is `failed`."""
    related: dict[str, Any] = dict(payment.objects)
    related |= transaction.related_object_ids if transaction else {}
    related.pop("payment_intent", None)
    intent = _parent_intent(payment, facts)
    if intent is not None:
        related["payment_intent"] = intent
    if facts.charge_id is not None:
        related["charge"] = facts.charge_id
    related["refund"] = facts.object_id
    parent = "payment_intent" if intent else "charge" if "charge" in related else None
    status = "failed" if facts.status == "refunded" and nothing_taken else facts.status
    return Transaction(
        type="refund",
        status=status,
        subject_type=transaction.subject_type if transaction else None,
        subject_id=transaction.subject_id if transaction else None,
        provider_customer_id=transaction.provider_customer_id if transaction else None,
        customer_email_snapshot=transaction.customer_email_snapshot if transaction else None,
        provider_object_type="refund",
        provider_object_id=facts.object_id,
        provider_parent_object_type=parent,
        provider_parent_object_id=related[parent] if parent else None,
        related_object_ids=related,
        amount=facts.amount,
        amount_refunded=facts.amount,
        amount_out_of_band=0,
        amount_disputed=0,
        amount_lost=0,
        currency=facts.currency,
        description=facts.description or (transaction.description if transaction else None),
        paid_at=None,
        failed_at=facts.created if status == "failed" else None,
        refunded_at=facts.created if status == "refunded" else None,
        canceled_at=None,
        provider_created_at=facts.created,
        dispute_status=None,
        dispute_reason=None,
        dispute_due_by=None,
        disputed_at=None,
    )


def _parent_intent(payment: Payment, facts: RefundFacts) -> str | None:
    """The PaymentIntent that a refund names, else the one whose charge it names, else that of its
    payment."""
    if facts.payment_intent_id is not None:
        return facts.payment_intent_id
    intents = sorted(object_id for kind, object_id in payment.refs if kind == "payment_intent")
    if len(intents) <= 1:
        return intents[0] if intents else None
    of_charge = sorted(
        (source.facts.place, source.facts.object_id, intent)
        for source in payment.sources.values()
        if (intent := source.facts.related.get("payment_intent")) is not None
        and source.facts.related.get("charge") == facts.charge_id
    )
    return of_charge[0][2] if of_charge else None
