"""The rows that `billhook.load_batch` found → the state that the reducers work on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from billhook.kinds import KINDS
from billhook.projections.changes import PaymentSource, RefundFacts
from billhook.reducers.claims import Claim, Claims, Known
from billhook.reducers.mirror import Mirrored, Shown
from billhook.reducers.missing import Missing
from billhook.reducers.payments import Payment, Payments, Refund, Row, Source, Transaction
from billhook.reducers.state import Session, State, Unnamed
from billhook.reducers.versions import Version
from billhook.rows.wanted import Wanted

Found = Sequence[Any]


def state_of(found: dict[str, Any], wanted: Wanted) -> State:
    """The state of a batch, of what was wanted and found."""
    state = State(unnamed_of=set(wanted.unnamed))
    for kind, rows in found["objects"].items():
        for row in rows or ():
            state.objects[kind, row[0]] = _mirrored(kind, row)
    for kind, object_id, at in found["tombstones"]["deletions"] or ():
        state.mirrored((kind, object_id)).deleted_at = at
    for kind, object_id, event_id in found["tombstones"]["ties"] or ():
        state.mirrored((kind, object_id)).tied = event_id
    for session_id, row_id, at, rank in found["sessions"] or ():
        version = None if at is None or rank is None else (at, rank)
        state.sessions[session_id] = Session(row_id, version)
    if found["claims"] is not None:
        state.claims = _claims(found["claims"], wanted)
    if found["payments"] is not None:
        state.payments = payments_of(found["payments"])
    for kind, object_id, customer, at, subject_type, subject_id, raw in found["unnamed"] or ():
        named = KINDS[kind].subject
        if named is not None and named(raw) is None:
            subject = None if subject_id is None else (subject_type, subject_id)
            state.unnamed[kind, object_id] = Unnamed(customer, at, subject)
    return state


def _mirrored(kind: str, row: Found) -> Mirrored:
    object_id, at, rank, event_id, deleted, children, tie = row
    raw, previous = tie or (None, None)
    version = None if at is None else Version(at, rank or 0, event_id, previous)
    return Mirrored(
        KINDS[kind],
        (kind, object_id),
        Shown(version, raw),
        deleted=deleted,
        children=frozenset(children or ()),
    )


def _claims(found: dict[str, Any], wanted: Wanted) -> Claims:
    claims = Claims()
    of, on = _by(found["of"], "customer"), _by(found["on"], "subject")
    for customer, most in wanted.claims_of.items():
        whole = Missing(customers=[customer])
        claims.by_customer[customer] = Known.of(of[customer], most, whole)
    for subject, most in wanted.claims_on.items():
        whole = Missing(subjects=[subject])
        claims.by_subject[subject] = Known.of(on[subject], most, whole)
    for row in found["same"] or ():
        claim = _claim(row)
        claims.by_customer[claim.customer].of_kind(claim.kind).add(claim)
        claims.by_subject[claim.subject].of_kind(claim.kind).add(claim)
    claims.deleted_customers = set(found["deleted"] or ())
    for customer, subject_type, subject_id in [*(found["mapped"] or ()), *(found["held"] or ())]:
        claims.mappings[customer] = (subject_type, subject_id)
        claims.holders[subject_type, subject_id] = customer
    return claims


def _claim(row: Found) -> Claim:
    customer, subject_type, subject_id, kind, ref, at = row
    return Claim(at, ref, customer, (subject_type, subject_id), kind)


def _by(rows: Sequence[Found] | None, name: str) -> dict[Any, list[Claim]]:
    """Claims by their customer or subject."""
    claims = defaultdict(list)
    for claim in map(_claim, rows or ()):
        claims[getattr(claim, name)].append(claim)
    return claims


def payments_of(found: dict[str, Any]) -> Payments:
    """The payments that `billhook.load_payments` found."""
    payments = Payments()
    payments.spare_ids = list(reversed(found["new_ids"] or ()))

    def of(payment_id: int) -> Payment:
        return payments.by_id.setdefault(payment_id, Payment(payment_id))

    for object_type, object_id, payment_id in found["refs"] or ():
        payment = of(payment_id)
        payment.refs.add((object_type, object_id))
        payments.by_ref[object_type, object_id] = payment
    for payment_id, at, event_id, *facts in found["sources"] or ():
        source = PaymentSource(**dict(zip(_SOURCE, facts, strict=True)))
        key = (source.object_type, source.object_id, source.outcome)
        of(payment_id).sources[key] = Source(at, event_id, source)
    for payment_id, at, event_id, *facts in found["refunds"] or ():
        refund = RefundFacts(**dict(zip(_REFUND, facts, strict=True)))
        of(payment_id).refunds[refund.object_type, refund.object_id] = Refund(at, event_id, refund)
    for row_id, payment_id, *columns in found["transactions"] or ():
        row = Row(row_id, Transaction(*columns), payment_id)
        assert row.stands is not None
        if row.stands.type == "refund":
            of(payment_id).refund_rows[row.stands.provider_object_id] = row
        else:
            of(payment_id).row = row
    return payments


_SOURCE = (
    "object_type", "object_id", "outcome", "place", "type", "subject_type", "subject_id",
    "customer_id", "email", "amount", "full_amount", "currency", "presentment_amount",
    "presentment_currency", "out_of_band", "description", "happened_at", "created", "related",
)  # fmt: skip
_REFUND = (
    "object_type", "object_id", "status", "amount", "currency", "presentment_amount",
    "presentment_currency", "description", "payment_intent_id", "charge_id", "created", "rank",
)  # fmt: skip
