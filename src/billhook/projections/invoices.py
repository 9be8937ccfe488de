"""invoice.paid, invoice.payment_failed and invoice_payment.paid → the payment of an invoice.

Fields are read in both places where API versions put them (stripe-facts 26).
"""

from __future__ import annotations

from typing import Literal

from billhook.projections.changes import (
    NOTHING,
    Changes,
    Claim,
    Event,
    PaymentChange,
    PaymentSource,
)
from billhook.projections.shapes import (
    StripeObject,
    Subject,
    compact,
    entries,
    hash_of,
    id_of,
    integer,
    subject_of,
    text,
    timestamp,
)


def invoice_paid(event: Event) -> Changes:
    """invoice.paid, and invoice.payment_succeeded, which tells the same."""
    return _payment(event, "succeeded")


def invoice_payment_failed(event: Event) -> Changes:
    return _payment(event, "failed")


def invoice_payment_paid(event: Event) -> Changes:
    """Which PaymentIntent paid which invoice; it comes last, up to 21 s later (stripe-facts 11)."""
    payment = hash_of(event.object.get("payment"))
    refs = compact(
        invoice=id_of(event.object.get("invoice")),
        payment_intent=id_of(payment.get("payment_intent")),
        charge=id_of(payment.get("charge")),
    )
    return Changes(payment=PaymentChange(refs=refs)) if len(refs) > 1 else NOTHING


def _payment(event: Event, outcome: Literal["succeeded", "failed"]) -> Changes:
    invoice = event.object
    invoice_id = id_of(invoice)
    if invoice_id is None:
        return NOTHING
    subject = _subject(invoice)
    customer_id = id_of(invoice.get("customer"))
    subscription_id = _subscription_id(invoice)
    refs = compact(
        invoice=invoice_id,
        payment_intent=_payment_intent_id(invoice),
        charge=id_of(invoice.get("charge")),
    )
    succeeded = outcome == "succeeded"
    paid_at = timestamp(hash_of(invoice.get("status_transitions")).get("paid_at"))
    created = timestamp(invoice.get("created"))
    source = PaymentSource(
        object_type="invoice",
        object_id=invoice_id,
        outcome=outcome,
        type="subscription_invoice" if subscription_id else "one_time_payment",
        subject_type=subject.type if subject else None,
        subject_id=subject.id if subject else None,
        customer_id=customer_id,
        email=text(invoice.get("customer_email")),
        amount=integer(invoice.get("amount_paid" if succeeded else "amount_due")),
        currency=text(invoice.get("currency")),
        description=text(invoice.get("description")) or text(invoice.get("number")),
        happened_at=paid_at or created if succeeded else created,
        created=created,
        related=refs | compact(subscription=subscription_id) | _first_line(invoice),
    )
    claim = None
    if subject and customer_id:
        claim = Claim(
            customer_id=customer_id,
            subject_type=subject.type,
            subject_id=subject.id,
            kind="metadata",
        )
    return Changes(claim=claim, payment=PaymentChange(refs=refs, source=source))


def _details(invoice: StripeObject) -> StripeObject:
    """The subscription's snapshot: `parent.subscription_details` since basil, before that
    `subscription_details`."""
    parent = hash_of(invoice.get("parent"))
    return hash_of(parent.get("subscription_details") or invoice.get("subscription_details"))


def _subject(invoice: StripeObject) -> Subject | None:
    own = subject_of(invoice.get("metadata"))
    return own or subject_of(_details(invoice).get("metadata"))


def _subscription_id(invoice: StripeObject) -> str | None:
    found = id_of(_details(invoice).get("subscription")) or id_of(invoice.get("subscription"))
    if found:
        return found
    for line in entries(invoice.get("lines")):
        parent = hash_of(line.get("parent"))
        for place in (
            line.get("subscription"),
            hash_of(parent.get("subscription_item_details")).get("subscription"),
            hash_of(parent.get("invoice_item_details")).get("subscription"),
        ):
            if subscription_id := id_of(place):
                return subscription_id
    return None


def _payment_intent_id(invoice: StripeObject) -> str | None:
    for paid in entries(invoice.get("payments")):
        if intent_id := id_of(hash_of(paid.get("payment")).get("payment_intent")):
            return intent_id
    return id_of(invoice.get("payment_intent"))


def _first_line(invoice: StripeObject) -> dict[str, str]:
    """Product and price of the first line."""
    lines = entries(invoice.get("lines"))
    if not lines:
        return {}
    details = hash_of(hash_of(lines[0].get("pricing")).get("price_details"))
    old = hash_of(lines[0].get("price"))
    return compact(
        product=id_of(details.get("product")) or id_of(old.get("product")),
        price=id_of(details.get("price")) or id_of(old),
    )
