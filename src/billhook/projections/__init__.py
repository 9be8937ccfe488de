"""Stripe event in, changes out: pure functions, one per event type (contract §5, Events).

To add an event type: write its function in the module of its object family, add it here, and
test it. The events of mirrored kinds follow from their declarations.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import structlog

from billhook.errors import FAULTS, fault_of
from billhook.kinds.reading import UnreadableObject
from billhook.projections import (
    charges,
    checkout_sessions,
    invoices,
    objects,
    payment_intents,
    refunds,
)
from billhook.projections.changes import NOTHING, Changes, Event
from billhook.projections.objects import identify

log = structlog.get_logger(__name__)

Projection = Callable[[Event], Changes]

_PROJECTIONS: dict[str, Projection] = {
    "checkout.session.completed": checkout_sessions.session_completed,
    "checkout.session.async_payment_succeeded": checkout_sessions.session_async_payment_succeeded,
    "checkout.session.async_payment_failed": checkout_sessions.session_async_payment_failed,
    "checkout.session.expired": checkout_sessions.session_expired,
    "invoice.paid": invoices.invoice_paid,
    "invoice.payment_succeeded": invoices.invoice_paid,
    "invoice.payment_failed": invoices.invoice_payment_failed,
    "invoice_payment.paid": invoices.invoice_payment_paid,
    "payment_intent.succeeded": payment_intents.payment_intent_succeeded,
    "payment_intent.payment_failed": payment_intents.payment_intent_failed,
    "payment_intent.processing": payment_intents.payment_intent_processing,
    "payment_intent.canceled": payment_intents.payment_intent_canceled,
    "charge.succeeded": charges.charge_succeeded,
    "charge.captured": charges.charge_succeeded,
    "charge.refunded": charges.charge_refunded,
    "charge.refund.updated": refunds.refund_changed,
    "refund.created": refunds.refund_changed,
    "refund.updated": refunds.refund_changed,
    "refund.failed": refunds.refund_changed,
}

TYPES: frozenset[str] = frozenset(_PROJECTIONS.keys() | objects.KIND_OF.keys())
"""The types of events that change something."""


def project(event: Event) -> Changes:
    """What `event` changes; `NOTHING` for an unused type, and for events of connected accounts
    (Connect), whose customers and payments are not this account's.

    A mirrored object may also report a payment.

    Raises:
        UnreadableObject: its object lacks a required field, or Billhook itself has a bug.
    """
    if event.account:
        return NOTHING
    try:
        return _changes(event)
    except FAULTS as error:
        log.error("an event cannot be read: a bug in Billhook", event_id=event.id, exc_info=error)
        raise UnreadableObject(fault_of(error)) from error


def _changes(event: Event) -> Changes:
    shown = objects.object_changed(event) if event.type in objects.KIND_OF else NOTHING
    if (projection := _PROJECTIONS.get(event.type)) is None:
        return shown
    told = projection(event)
    if shown is NOTHING:
        return told
    return replace(
        told, mirror=shown.mirror, deleted=shown.deleted, claim=told.claim or shown.claim
    )


__all__ = ["NOTHING", "TYPES", "Changes", "Event", "UnreadableObject", "identify", "project"]
