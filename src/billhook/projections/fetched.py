"""A fetched object → the events that would have reported its state.

No event of the ledger contains what a sync, a refresh or an import of the history fetches, so it
is applied in the form of events without an id. The time of such an event is the earliest at which
the real one can have happened: the real event, whenever it arrives, is not older and takes
precedence, so the rows are the same with or without the fetch. Only refunds have the time of
Stripe's response, because their states follow each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from billhook.kinds.reading import StripeObject, hash_of, id_of, integer, text, timestamp
from billhook.projections import project
from billhook.projections.changes import Changes, Event
from billhook.projections.charges import captured, given_back

_OUTCOMES = {
    "succeeded": "payment_intent.succeeded",
    "requires_payment_method": "payment_intent.payment_failed",
    "canceled": "payment_intent.canceled",
}


def changes_of_fetched(event: Event) -> Changes:
    """What an event in the form of which a fetched payment is applied changes: the payment and the
    claim of its customer.

    The claim of a checkout has its own key: of two claims with one key the older counts, and this
    one may be some seconds older than that of the event.

    Raises:
        UnreadableObject: see `project`.
    """
    told = replace(project(event), mirror=None, deleted=None)
    if told.claim is None or told.claim.kind != "checkout":
        return told
    return replace(told, claim=replace(told.claim, ref=f"import:{told.claim.ref}"))


def reported_by(event: Event) -> str:
    """The id under which a fetched fact is kept: of its object, and of each charge that failed to
    pay a PaymentIntent."""
    charge = id_of(event.object.get("latest_charge"))
    failed = event.type == "payment_intent.payment_failed"
    return charge if failed and charge is not None else str(event.object["id"])


def of_intent(intent: StripeObject, created: int) -> Iterator[Event]:
    """The outcome of a PaymentIntent, if it is final.

    Args:
        created: when its latest charge was created.
    """
    if (name := _OUTCOMES.get(str(intent.get("status")))) is not None:
        told = {**intent, "latest_charge": id_of(intent.get("latest_charge"))}
        yield Event("", name, created, told)


def of_uncharged_intent(intent: StripeObject, _at: int) -> Iterator[Event]:
    """A PaymentIntent whose payment failed before there was a charge: the customer did not
    authenticate it. The others are reported by their charges, or nobody tried to pay them."""
    created = timestamp(intent.get("created"))
    if created is None or intent.get("latest_charge") or not intent.get("last_payment_error"):
        return
    yield Event("", "payment_intent.payment_failed", created, intent)
    if intent.get("status") == "canceled":
        yield from of_intent(intent, created)


def of_charge(charge: StripeObject, _at: int) -> Iterator[Event]:
    """What a charge reports of its PaymentIntent, which it contains in full: its outcome, or the
    failure of an earlier attempt; a charge of the legacy Charges API; the amount refunded."""
    created, charge_id = timestamp(charge.get("created")), id_of(charge)
    if created is None:
        return
    intent = charge.get("payment_intent")
    told = {**charge, "payment_intent": id_of(intent)}
    if isinstance(intent, dict):
        failed = {**intent, "latest_charge": charge_id}
        is_latest = id_of(intent.get("latest_charge")) == charge_id
        if charge.get("status") == "failed":
            yield Event("", "payment_intent.payment_failed", created, failed)
        if is_latest and intent.get("status") != "requires_payment_method":
            yield from of_intent(intent, created)
    elif intent is None:
        yield Event("", "charge.succeeded", created, told)
    released = captured(charge) == 0 and charge.get("refunded") is True
    if given_back(charge) or released:
        yield Event("", "charge.refunded", created, told)


def of_refund(refund: StripeObject, at: int) -> Iterator[Event]:
    """The state of a refund.

    Args:
        at: the time of Stripe's response.
    """
    yield Event("", "refund.updated", at, refund)


def of_session(session: StripeObject, _at: int) -> Iterator[Event]:
    """A completed Checkout Session, which contains its PaymentIntent or subscription in full: they
    are created when it is completed."""
    intent, subscription = session.get("payment_intent"), session.get("subscription")
    parts = (session, hash_of(intent), hash_of(subscription))
    times = [at for part in parts if (at := timestamp(part.get("created"))) is not None]
    if session.get("status") != "complete" or not times:
        return
    told = {**session, "payment_intent": id_of(intent), "subscription": id_of(subscription)}
    ended = hash_of(intent).get("status") in ("requires_payment_method", "canceled")
    failed = session.get("payment_status") == "unpaid" and ended
    name = "async_payment_failed" if failed else "completed"
    yield Event("", f"checkout.session.{name}", max(times), told)


def of_invoice(invoice: StripeObject, _at: int) -> Iterator[Event]:
    """A paid invoice, and one that could not be paid, perhaps at first."""
    times = hash_of(invoice.get("status_transitions"))
    created = timestamp(invoice.get("created"))
    finalized = timestamp(times.get("finalized_at")) or created
    if created is None or finalized is None:
        return
    paid = invoice.get("status") == "paid"
    tries = integer(invoice.get("attempt_count")) or 0
    if (tries > 1) if paid else (invoice.get("attempted") is True and tries > 0):
        yield Event("", "invoice.payment_failed", finalized, invoice)
    if paid:
        at = timestamp(times.get("paid_at")) or finalized
        yield Event("", "invoice.paid", at, invoice)


def of_invoice_payment(paid: StripeObject, at: int) -> Iterator[Event]:
    """Which PaymentIntent paid an invoice."""
    times = hash_of(paid.get("status_transitions"))
    known = timestamp(times.get("paid_at")) or timestamp(paid.get("created"))
    yield Event("", "invoice_payment.paid", at if known is None else known, paid)


Shape = dict[str, Any]
_ALL: Shape = {}


def _keys(names: str, **inner: Shape) -> Shape:
    """These keys in full, and of others a part."""
    return dict.fromkeys(names.split(), _ALL) | inner


_DETAILS = _keys("subscription metadata")
_LINE = _keys(
    "subscription",
    parent=_keys("", subscription_item_details=_DETAILS, invoice_item_details=_DETAILS),
    price=_keys("id product"),
    pricing=_keys("price_details"),
)
_COMMON = _keys(
    "id object created currency amount customer description metadata status presentment_details "
    "invoice payment_intent charge receipt_email"
)
_SHAPES: Mapping[str, Shape] = {
    "payment_intent": _COMMON | _keys("amount_received latest_charge canceled_at"),
    "charge": _COMMON | _keys("amount_captured captured amount_refunded refunded"),
    "refund": _COMMON | _keys("reason"),
    "checkout.session": _COMMON
    | _keys("amount_total mode payment_status subscription url", customer_details=_keys("email")),
    "invoice": _COMMON
    | _keys(
        "amount_due amount_paid amount_overpaid customer_email number paid_out_of_band "
        "subscription",
        parent=_keys("", subscription_details=_DETAILS),
        subscription_details=_DETAILS,
        status_transitions=_keys("paid_at"),
        payments=_keys("", data=_keys("status payment")),
        lines=_keys("", data=_LINE),
    ),
    "invoice_payment": _COMMON | _keys("amount_paid amount_requested payment status_transitions"),
}
"""The keys of each object that projections read."""


def kept(stripe_object: StripeObject) -> StripeObject:
    """The part of an object that projections read, to be kept for a rebuild: an object of Stripe's
    takes some kilobytes, this a few hundred bytes."""
    shape = _SHAPES.get(text(stripe_object.get("object")) or "", _ALL)
    part: StripeObject = _part(stripe_object, shape)
    return part


def _part(value: Any, shape: Shape) -> Any:
    if isinstance(value, list):
        return [_part(each, shape) for each in value]
    if not isinstance(value, dict) or not shape:
        return value
    found = {}
    for name, inner in shape.items():
        if (given := value.get(name)) is not None:
            found[name] = _part(given, inner) if name != "metadata" else _ours(given)
    return found


def _ours(metadata: Any) -> Any:
    """The keys that projections read."""
    if not isinstance(metadata, dict):
        return metadata
    return {name: value for name, value in metadata.items() if name.startswith("insforge_")}
