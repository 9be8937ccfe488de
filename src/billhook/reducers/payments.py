"""Payments: one row for each, a pure function of what its objects report
(docs/explanation/ordering.md).

Stripe reports a payment through several objects, in any order. *References* record which payment an
object belongs to; payments that turn out to be one are merged. *Sources* and *refunds* are the
newest known facts of each object. The rows of `payments.transactions` are computed from them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import uuid4

from billhook.projections.changes import (
    Event,
    PaymentChange,
    PaymentSource,
    RefundFacts,
)
from billhook.reducers.missing import ObjectKey

INVOICE_PAYMENTS = "invoice_payments"
"""The type of a refresh by an invoice's id that asks for its payments, not for the invoice."""

SourceKey = tuple[str, str, str]
"""An object's type and id, and the outcome that it reports."""


@dataclass(frozen=True, slots=True)
class Source:
    at: int
    event_id: str
    facts: PaymentSource


@dataclass(frozen=True, slots=True)
class Refund:
    at: int
    event_id: str
    facts: RefundFacts

    @property
    def version(self) -> tuple[int, int, int, str]:
        return self.at, self.facts.rank, self.facts.amount, self.event_id


class Dispute(NamedTuple):
    """What the mirrored row of a dispute says about its payment. The amount is in the currency of
    the dispute, which is that of its charge."""

    status: str
    reason: str | None
    amount: int | None
    currency: str | None
    due_by: int | None
    created: int | None

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Dispute:
        """What a row of the mirrored table says."""
        return cls(
            row["status"],
            row["reason"],
            row["amount"],
            row["currency"],
            row["evidence_due_by"],
            row["provider_created_at"],
        )


class Transaction(NamedTuple):
    """A row of `payments.transactions`, but for its id, payment and `raw`. Times are epoch seconds,
    amounts are in the currency's minor unit."""

    type: str
    status: str
    subject_type: str | None
    subject_id: str | None
    provider_customer_id: str | None
    customer_email_snapshot: str | None
    provider_object_type: str
    provider_object_id: str
    provider_parent_object_type: str | None
    provider_parent_object_id: str | None
    related_object_ids: dict[str, Any]
    amount: int | None
    amount_refunded: int
    amount_out_of_band: int
    amount_disputed: int
    amount_lost: int
    currency: str | None
    description: str | None
    paid_at: int | None
    failed_at: int | None
    refunded_at: int | None
    canceled_at: int | None
    provider_created_at: int | None
    dispute_status: str | None
    dispute_reason: str | None
    dispute_due_by: int | None
    disputed_at: int | None


@dataclass(slots=True)
class Row:
    """The row of a payment or refund.

    Attributes:
        saved: the row in the table; None for a new row.
        payment_id: the payment that the table has it for.
        document: the number of the event whose object it now shows; None: unchanged.
    """

    id: str
    saved: Transaction | None = None
    payment_id: int | None = None
    document: int | None = None

    @classmethod
    def new(cls) -> Row:
        """A row that is not, or no longer, in the table."""
        return cls(str(uuid4()))


@dataclass(slots=True)
class Payment:
    """The known facts of one payment.

    Attributes:
        row: None until there is a source.
        refund_rows: by refund.
        changed: something must be saved.
    """

    id: int
    refs: set[ObjectKey] = field(default_factory=set)
    sources: dict[SourceKey, Source] = field(default_factory=dict)
    refunds: dict[ObjectKey, Refund] = field(default_factory=dict)
    disputes: dict[str, Dispute] = field(default_factory=dict)
    row: Row | None = None
    refund_rows: dict[str, Row] = field(default_factory=dict)
    changed: bool = False

    def has(self, object_type: str) -> bool:
        return any(kind == object_type for kind, _ in self.refs)

    @property
    def objects(self) -> dict[str, str]:
        """The ids of its objects by type, without its refunds and disputes; the smallest of each
        type."""
        paid = (ref for ref in self.refs if ref[0] not in ("refund", "dispute"))
        return dict(sorted(paid, key=lambda ref: ref[1], reverse=True))


class Payments:
    """The payments that a batch touches.

    Attributes:
        by_id, by_ref: as loaded and changed. References that are missing here belong to none.
        spare_ids: numbers for new payments.
        new_refs, new_sources, new_refunds: what to save, and for which payment.
        deleted_rows: rows of payments that were merged into others.
    """

    def __init__(self) -> None:
        self.by_id: dict[int, Payment] = {}
        self.by_ref: dict[ObjectKey, Payment] = {}
        self.spare_ids: list[int] = []
        self.new_refs: dict[ObjectKey, Payment] = {}
        self.new_sources: dict[SourceKey, Payment] = {}
        self.new_refunds: dict[ObjectKey, Payment] = {}
        self.deleted_rows: list[str] = []

    def record(
        self, event: Event, change: PaymentChange, number: int
    ) -> Iterator[tuple[ObjectKey, str]]:
        """Add what an event reports about a payment.

        Returns:
            Objects that must be fetched from Stripe, and why.
        """
        payment = self._join(change.refs)
        payment.changed = True
        if change.source is not None:
            self._add_source(payment, Source(event.created, event.id, change.source), number)
        if change.refund is not None:
            self._add_refund(payment, Refund(event.created, event.id, change.refund), number)
        return _unknown(payment, change)

    def _add_source(self, payment: Payment, source: Source, number: int) -> None:
        facts = source.facts
        key = (facts.object_type, facts.object_id, facts.outcome)
        known = payment.sources.get(key)
        # An event that is applied again writes its object again: a row that was removed comes back.
        if known is not None and (known.at, known.event_id) > (source.at, source.event_id):
            return
        payment.sources[key] = source
        self.new_sources[key] = payment
        if shown(payment.sources.values()) is source:
            if payment.row is None:
                payment.row = Row.new()
            payment.row.document = number

    def _add_refund(self, payment: Payment, refund: Refund, number: int) -> None:
        key = (refund.facts.object_type, refund.facts.object_id)
        known = payment.refunds.get(key)
        if known is not None and known.version > refund.version:
            return
        payment.refunds[key] = refund
        self.new_refunds[key] = payment
        if refund.facts.object_type == "refund":
            row = payment.refund_rows.setdefault(refund.facts.object_id, Row.new())
            row.document = number

    def _join(self, refs: dict[str, list[str]]) -> Payment:
        """The payment that these objects belong to: a new one, or the oldest of those that turn out
        to be one."""
        keys = [(kind, object_id) for kind, ids in refs.items() for object_id in ids]
        known = {p.id: p for key in keys if (p := self.by_ref.get(key)) is not None}
        if not known:
            payment = Payment(self.spare_ids.pop())
            known[payment.id] = self.by_id[payment.id] = payment
        payment, *others = (known[number] for number in sorted(known))
        for other in others:
            self._merge(payment, other)
        for key in keys:
            if key not in payment.refs:
                payment.refs.add(key)
                self.by_ref[key] = self.new_refs[key] = payment
        return payment

    def _merge(self, payment: Payment, other: Payment) -> None:
        """Merge `other` into `payment`. Of two rows, the one whose object is shown stays."""
        if payment.row is None:
            payment.row = other.row
        elif other.row is not None:
            first = shown([*payment.sources.values(), *other.sources.values()])
            if first in other.sources.values():
                payment.row, other.row = other.row, payment.row
            if other.row.saved is not None:
                self.deleted_rows.append(other.row.id)
        payment.refs |= other.refs
        payment.sources |= other.sources
        payment.refunds |= other.refunds
        payment.disputes |= other.disputes
        payment.refund_rows |= other.refund_rows
        for ref in other.refs:
            self.by_ref[ref] = self.new_refs[ref] = payment
        for key in other.sources:
            self.new_sources[key] = payment
        for refund in other.refunds:
            self.new_refunds[refund] = payment
        del self.by_id[other.id]


def _unknown(payment: Payment, change: PaymentChange) -> Iterator[tuple[ObjectKey, str]]:
    source, refund = change.source, change.refund
    if refund is not None and not any(
        known.facts.outcome in ("succeeded", "canceled") for known in payment.sources.values()
    ):
        yield (
            (refund.object_type, refund.object_id),
            "the amount of its payment is not known",
        )
    elif (
        source is not None
        and source.object_type == "invoice"
        and (source.amount or 0) > 0
        and not source.out_of_band
        and (source.full_amount is not None or not _may_have_paid(payment, source))
    ):
        yield (INVOICE_PAYMENTS, source.object_id), "it is not known which PaymentIntents paid it"


def _may_have_paid(payment: Payment, invoice: PaymentSource) -> bool:
    """Whether a PaymentIntent is known that may be what paid an invoice: not one that failed."""
    known = [each.facts for each in payment.sources.values()]
    ends = {each.outcome for each in known if each.object_type == "payment_intent"}
    failed = ends and "succeeded" not in ends and invoice.outcome == "succeeded"
    return payment.has("payment_intent") and not failed


def ranked(sources: Iterable[Source]) -> list[Source]:
    """In order of precedence: success first; then cancellation, which is final; then failure or
    pending, whichever Stripe reported last (a declined card, then a bank debit). Sources with the
    same outcome are ordered by type."""
    sources = list(sources)
    failed = _failed_attempts(sources)
    last: dict[str, int] = {}
    for source in sources:
        outcome = source.facts.outcome
        last[outcome] = max(_time(source, failed), last.get(outcome, 0))
    return sorted(sources, key=lambda source: _order(source, last[source.facts.outcome]))


def shown(sources: Iterable[Source]) -> Source | None:
    """The source whose object the payment's row shows: the one that decides its status. If several
    do, the newest, so that the event that changes the status also supplies the object."""
    sources = list(sources)
    failed = _failed_attempts(sources)
    return min(
        (source for source in sources if was_tried(source.facts)),
        key=lambda source: _order(
            source, _time(source, failed) if source.facts.outcome in ("failed", "pending") else 0
        ),
        default=None,
    )


def _failed_attempts(sources: Iterable[Source]) -> set[ObjectKey]:
    return {
        attempt
        for source in sources
        if source.facts.outcome == "failed" and (attempt := _attempt(source.facts)) is not None
    }


def _attempt(facts: PaymentSource) -> ObjectKey | None:
    """What identifies an attempt to pay: a Checkout Session has one that takes days, a
    PaymentIntent has a charge for each."""
    if facts.object_type == "checkout_session":
        return facts.object_type, facts.object_id
    charge = facts.related.get("charge")
    return None if charge is None else ("charge", charge)


def _time(source: Source, failed: set[ObjectKey]) -> int:
    """When it was reported. An attempt that failed is no longer pending, whenever that was: a
    failure that was fetched has the time of its charge."""
    is_over = source.facts.outcome == "pending" and _attempt(source.facts) in failed
    return 0 if is_over else source.at


def _order(source: Source, at: int) -> tuple[bool, bool, int, str, int, str]:
    facts = source.facts
    return (
        facts.outcome != "succeeded",
        facts.outcome != "canceled",
        -at,
        facts.outcome,
        facts.place,
        facts.object_id,
    )


def was_tried(facts: PaymentSource) -> bool:
    """A canceled PaymentIntent that nobody tried to pay is not a transaction."""
    return facts.outcome != "canceled" or "charge" in facts.related
