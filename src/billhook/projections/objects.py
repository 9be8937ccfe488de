"""Events of mirrored objects → the new state, or the deletion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from billhook.kinds import KINDS, Kind
from billhook.kinds.disputes import DISPUTE
from billhook.kinds.reading import StripeObject, Subject, id_of
from billhook.kinds.subscriptions import SUBSCRIPTION
from billhook.projections.changes import (
    NOTHING,
    Changes,
    ClaimChange,
    Event,
    MirroredObject,
    PaymentChange,
    Record,
    SubscriptionState,
)
from billhook.projections.disputes import disputed_payment
from billhook.projections.subscriptions import state_of

KIND_OF: Mapping[str, Kind] = MappingProxyType(
    {type: kind for kind in KINDS.values() for type in (*kind.changed_by, *kind.deleted_by)}
)
"""The mirrored kind of each event type."""


def identify(event_type: str, stripe_object: StripeObject) -> str | None:
    """The id of the object of an event: its own, unless the mirrored kind has another rule."""
    kind = KIND_OF.get(event_type)
    return id_of(stripe_object) if kind is None else kind.identify(stripe_object)


def object_changed(event: Event) -> Changes:
    """An event of a mirrored kind."""
    kind = KIND_OF[event.type]
    object_id = kind.identify(event.object)
    if object_id is None:
        return NOTHING
    deleted = event.type in kind.deleted_by or event.object.get("deleted") is True
    if deleted and not kind.keeps_deleted:
        return Changes(deleted=(kind.name, object_id))
    mirror = mirrored(kind, event.object)
    return Changes(
        mirror=mirror,
        claim=claim_of(kind, mirror) if mirror else None,
        payment=payment_of(kind, event.object),
        recurring=recurring_of(kind, event.object, event.created, event.previous),
        # The event's type says so: its object is the whole customer, without a key `deleted`
        # (stripe-facts 23).
        deleted=(kind.name, object_id) if deleted else None,
    )


def mirrored(kind: Kind, stripe_object: StripeObject) -> MirroredObject | None:
    """The state of an object; None if there is nothing to show.

    Raises:
        UnreadableObject: it lacks a required field.
    """
    row = kind.row(stripe_object)
    object_id = kind.identify(stripe_object)
    if row is None or object_id is None:
        return None
    subject = kind.subject(stripe_object) if kind.subject else None
    return MirroredObject(kind=kind, object_id=object_id, row=row, subject=subject)


def claim_of(kind: Kind, mirror: MirroredObject) -> ClaimChange | None:
    """The claim of its customer, if the object names a subject."""
    customer = mirror.row[kind.customer] if kind.customer else None
    if not kind.claims or mirror.subject is None or not isinstance(customer, str):
        return None
    return _metadata_claim(customer, mirror.subject)


def payment_of(kind: Kind, stripe_object: StripeObject) -> PaymentChange | None:
    """What every state of an object says about a payment: that of a dispute does."""
    return disputed_payment(stripe_object) if kind is DISPUTE else None


def recurring_of(
    kind: Kind,
    stripe_object: StripeObject,
    at: int,
    previous: StripeObject | None = None,
    record: Record = "always",
) -> SubscriptionState | None:
    """What a state of a subscription says about recurring revenue."""
    if kind is not SUBSCRIPTION:
        return None
    state = state_of(stripe_object, at, previous)
    return state and replace(state, record=record)


def _metadata_claim(customer: str, subject: Subject) -> ClaimChange:
    return ClaimChange(
        customer_id=customer, subject_type=subject.type, subject_id=subject.id, kind="metadata"
    )
