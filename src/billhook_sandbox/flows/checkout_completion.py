"""Completes Checkout Sessions: when they are paid, or when a debit has succeeded later."""

from typing import NamedTuple

from billhook_sandbox.event_log import change, emit
from billhook_sandbox.flows import charge_attempts, checkout_invoice
from billhook_sandbox.flows.checkout_buyer import Buyer, consent_of, filled_fields
from billhook_sandbox.flows.checkout_subscription import PaidInvoice
from billhook_sandbox.objects.checkout_session import customer_details
from billhook_sandbox.objects.coupon import redeem
from billhook_sandbox.objects.payment_method import NO_ADDRESS
from billhook_sandbox.objects.tax_id import tax_ids_of
from billhook_sandbox.store import DataSet, Json


class Purchase(NamedTuple):
    """One attempt to pay a session."""

    session: Json
    buyer: Buyer
    method: Json | None
    """None for a free order."""
    customer: Json | None = None
    """None for a guest."""
    intent: Json | None = None
    """None if nothing is due."""
    intent_is_new: bool = False


def complete(data: DataSet, purchase: Purchase, payment_status: str, **values: str) -> Json:
    customer = purchase.customer
    session = change(
        data,
        purchase.session,
        **collected(purchase),
        customer=customer and customer["id"],
        customer_details=final_details(data, purchase),
        payment_status=payment_status,
        status="complete",
        url=None,
        **values,
    )
    for discount in session["discounts"]:
        redeem(data, discount)
    emit(data, "checkout.session.completed", session)
    return session


def complete_with_invoice(
    data: DataSet, purchase: Purchase, payment_status: str, intent: Json
) -> Json:
    """Completes the session; if the session says so, the payment also gets an invoice."""
    session, customer = purchase.session, purchase.customer
    if not session["invoice_creation"]["enabled"] or customer is None:
        return complete(data, purchase, payment_status, payment_intent=intent["id"])
    created = checkout_invoice.create(data, session, customer, intent)
    ids = {"invoice": created.paid["id"], "payment_intent": intent["id"]}
    session = complete(data, purchase, payment_status, **ids)
    checkout_invoice.emit_invoice_events(data, created)
    return session


def collected(purchase: Purchase) -> Json:
    """The fields with what the buyer entered beside the payment."""
    session, buyer = purchase.session, purchase.buyer
    shipping = None
    if session["shipping_address_collection"] and buyer.shipping:
        address = {**NO_ADDRESS, **buyer.shipping["address"]}
        shipping = {"address": address, "name": buyer.shipping["name"]}
    return {
        "collected_information": {
            "business_name": None,
            "individual_name": None,
            "shipping_details": shipping,
        },
        "consent": consent_of(session, buyer),
        "custom_fields": filled_fields(session, buyer),
    }


def final_details(data: DataSet, purchase: Purchase) -> Json:
    session, buyer, customer = purchase.session, purchase.buyer, purchase.customer
    known = tax_ids_of(data, customer["id"]) if customer else []
    tax_ids = [{"type": each["type"], "value": each["value"]} for each in known]
    if buyer.tax_id and session.get("tax_id_collection", {}).get("enabled") and not customer:
        tax_ids = [buyer.tax_id]
    phone = buyer.phone if session["phone_number_collection"]["enabled"] else None
    name = buyer.business_name or buyer.name
    details = customer_details(buyer.email, name, buyer.address, phone)
    exempt = customer["tax_exempt"] if customer else "none"
    return {**details, "tax_exempt": exempt, "tax_ids": tax_ids}


def settle_debit(data: DataSet, session: str) -> None:
    """The bank's response to a debit; the session's event follows those of the intent."""
    found = data.need("checkout.session", session)
    intent = data.need("payment_intent", found["payment_intent"])
    if charge_attempts.settle_debit(data, intent):
        created = invoice_of_debit(data, found)
        ids = {"invoice": created.paid["id"]} if created else {}
        found = change(data, found, payment_status="paid", **ids)
        emit(data, "checkout.session.async_payment_succeeded", found)
        if created:
            checkout_invoice.emit_invoice_events(data, created)
    else:
        emit(data, "checkout.session.async_payment_failed", found)


def invoice_of_debit(data: DataSet, session: Json) -> PaidInvoice | None:
    """With `invoice_creation`, a debit gets its invoice when it has succeeded."""
    customer = data.get("customer", session["customer"])
    if customer is None or not session["invoice_creation"]["enabled"]:
        return None
    intent = data.need("payment_intent", session["payment_intent"])
    return checkout_invoice.create(data, session, customer, intent)
