"""invoice.paid, invoice.payment_failed and invoice_payment.paid → the payment of an invoice.

Fields are read in both places where API versions put them (stripe-facts 26).
"""

from __future__ import annotations

from typing import Literal

from billhook.kinds.invoices import subject_of_invoice, subscription_of_invoice
from billhook.kinds.reading import (
    StripeObject,
    compact,
    entries,
    hash_of,
    id_of,
    integer,
    listed,
    presentment_of,
    text,
    timestamp,
)
from billhook.projections.changes import (
    NOTHING,
    Changes,
    ClaimChange,
    Event,
    PaymentChange,
    PaymentSource,
    Place,
)


def invoice_paid(event: Event) -> Changes:
    """invoice.paid, and invoice.payment_succeeded, which reports the same."""
    return _payment(event, "succeeded")


def invoice_payment_failed(event: Event) -> Changes:
    return _payment(event, "failed")


def invoice_payment_paid(event: Event) -> Changes:
    """Which PaymentIntent paid how much of which invoice; it comes last, up to 21 s later
    (stripe-facts 11). A fetched one may still be open: then it is only a link, without money."""
    paid = event.object
    payment = hash_of(paid.get("payment"))
    invoice_id = id_of(paid.get("invoice"))
    refs = compact(
        invoice=invoice_id,
        payment_intent=id_of(payment.get("payment_intent")),
        charge=id_of(payment.get("charge")),
    )
    status = paid.get("status", "paid")
    # A payment record, for example: Stripe did not take it.
    kind = text(payment.get("type"))
    out_of_band = len(refs) == 1 and kind not in (None, "payment_intent", "charge")
    if invoice_id is None or status not in ("paid", "open") or (len(refs) == 1 and not out_of_band):
        return NOTHING
    source = None
    object_id = id_of(paid)
    if status == "paid" and object_id is not None:
        created = timestamp(paid.get("created"))
        amount = integer(paid.get("amount_paid"))
        source = PaymentSource(
            object_type="invoice_payment",
            object_id=object_id,
            outcome="succeeded",
            place=Place.INVOICE_PAYMENT,
            type="one_time_payment",
            amount=integer(paid.get("amount_requested")) if amount is None else amount,
            currency=text(paid.get("currency")),
            out_of_band=out_of_band,
            happened_at=timestamp(hash_of(paid.get("status_transitions")).get("paid_at"))
            or created,
            created=created,
            related=refs,
        )
    return Changes(payment=PaymentChange(refs=listed(refs), source=source))


def payment_elsewhere(invoice_id: str, paid: StripeObject) -> StripeObject:
    """What stands for the payment of an invoice if Stripe lists none. It has the invoice's id.

    Args:
        paid: with `amount_paid` and `currency`.
    """
    return {
        "id": invoice_id,
        "object": "invoice_payment",
        "invoice": invoice_id,
        "payment": {"type": "elsewhere"},
        "status": "paid",
        **paid,
    }


def _payment(event: Event, outcome: Literal["succeeded", "failed"]) -> Changes:
    invoice = event.object
    invoice_id = id_of(invoice)
    if invoice_id is None:
        return NOTHING
    subject = subject_of_invoice(invoice)
    customer_id = id_of(invoice.get("customer"))
    subscription_id = subscription_of_invoice(invoice)
    intents = _payment_intent_ids(invoice)
    ids = compact(
        invoice=invoice_id,
        payment_intent=intents[0] if intents else None,
        charge=id_of(invoice.get("charge")),
    )
    refs = listed(ids) | ({"payment_intent": intents} if intents else {})
    succeeded = outcome == "succeeded"
    amount = integer(invoice.get("amount_paid" if succeeded else "amount_due"))
    overpaid = integer(invoice.get("amount_overpaid")) or 0
    presentment_amount, presentment_currency = presentment_of(invoice)
    paid_at = timestamp(hash_of(invoice.get("status_transitions")).get("paid_at"))
    created = timestamp(invoice.get("created"))
    source = PaymentSource(
        object_type="invoice",
        object_id=invoice_id,
        outcome=outcome,
        place=Place.INVOICE,
        type="subscription_invoice" if subscription_id else "one_time_payment",
        subject_type=subject.type if subject else None,
        subject_id=subject.id if subject else None,
        customer_id=customer_id,
        email=text(invoice.get("customer_email")),
        amount=amount,
        full_amount=amount + overpaid if succeeded and amount is not None and overpaid else None,
        currency=text(invoice.get("currency")),
        presentment_amount=presentment_amount,
        presentment_currency=presentment_currency,
        out_of_band=succeeded and invoice.get("paid_out_of_band") is True,
        description=text(invoice.get("description")) or text(invoice.get("number")),
        happened_at=paid_at or created if succeeded else created,
        created=created,
        related=ids | compact(subscription=subscription_id) | _first_line(invoice),
    )
    claim = None
    if subject and customer_id:
        claim = ClaimChange(
            customer_id=customer_id,
            subject_type=subject.type,
            subject_id=subject.id,
            kind="metadata",
        )
    return Changes(claim=claim, payment=PaymentChange(refs=refs, source=source))


def _payment_intent_ids(invoice: StripeObject) -> list[str]:
    """Several may pay one invoice. One whose payment was canceled no longer counts."""
    places = [
        hash_of(paid.get("payment")).get("payment_intent")
        for paid in entries(invoice.get("payments"))
        if paid.get("status", "paid") in ("paid", "open")
    ]
    found = [intent_id for place in places if (intent_id := id_of(place))]
    if before_basil := id_of(invoice.get("payment_intent")):
        found.append(before_basil)
    return sorted(set(found))


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
