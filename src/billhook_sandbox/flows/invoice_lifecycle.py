"""Invoices: finalize, attempt payment, pay, void, mark as uncollectible."""

from billhook_sandbox.cards import Card
from billhook_sandbox.errors import CardError, InvalidRequest
from billhook_sandbox.event_log import change, emit
from billhook_sandbox.flows import charge_attempts, usage_billing
from billhook_sandbox.objects.invoice import (
    finalized_invoice,
    make_invoice_payment,
    make_payment_by_record,
    paid_invoice,
)
from billhook_sandbox.objects.payment_intent import make_intent
from billhook_sandbox.schedule import schedule_in
from billhook_sandbox.store import DataSet, Json

PAYMENT_EVENT_SECONDS = 1
"""`invoice_payment.paid` comes last, 1 to 21 seconds later (stripe-facts 11)."""


def subscription_of(data: DataSet, invoice: Json) -> Json | None:
    details = (invoice["parent"] or {}).get("subscription_details") or {}
    return data.get("subscription", details.get("subscription"))


def finalize(data: DataSet, draft: Json) -> Json:
    """Emits no events: the caller decides their order."""
    customer = data.need("customer", draft["customer"])
    draft = usage_billing.with_credits(data, usage_billing.with_late_usage(data, draft))
    opened = data.put(finalized_invoice(data, draft, customer))
    sequence = customer["next_invoice_sequence"] + 1
    customer = change(data, customer, next_invoice_sequence=sequence)
    if customer["balance"] != opened["ending_balance"]:
        change(data, customer, "customer.updated", balance=opened["ending_balance"])
    return opened


def finalize_and_emit(data: DataSet, draft: Json) -> Json:
    opened = finalize(data, draft)
    emit(data, "invoice.finalized", opened)
    return opened


def settle_invoice(data: DataSet, invoice: Json, intent: Json) -> Json:
    """Marks the invoice as paid by the intent. Its `invoice_payment.paid` event follows later."""
    payments = data.all("invoice_payment").where("invoice", invoice["id"])
    payment = payments[0] if payments else make_invoice_payment(data, invoice, intent["id"])
    settle_payment(data, invoice, payment)
    return data.put(paid_invoice(data, invoice))


def settle_payment(data: DataSet, invoice: Json, payment: Json) -> None:
    transitions = {"canceled_at": None, "paid_at": data.clock.now()}
    change(
        data,
        payment,
        amount_paid=invoice["amount_due"],
        status="paid",
        status_transitions=transitions,
    )
    schedule_in(data, PAYMENT_EVENT_SECONDS, "emit_invoice_payment_paid", payment=payment["id"])


def emit_invoice_payment_paid(data: DataSet, payment: str) -> None:
    emit(data, "invoice_payment.paid", data.need("invoice_payment", payment))


def method_for(data: DataSet, invoice: Json) -> Json | None:
    """The payment method: the invoice's, else the subscription's, else the customer's default."""
    subscription = subscription_of(data, invoice)
    customer = data.need("customer", invoice["customer"])
    method_ids = (
        invoice["default_payment_method"],
        subscription["default_payment_method"] if subscription else None,
        customer["invoice_settings"]["default_payment_method"],
    )
    for method_id in method_ids:
        method = data.get("payment_method", method_id)
        if method and method["customer"] == customer["id"]:
            return method
    return None


def intent_of(data: DataSet, invoice: Json, method: Json) -> tuple[Json, bool]:
    """The intent for all attempts of an invoice, and whether it is new."""
    payments = data.all("invoice_payment").where("invoice", invoice["id"])
    if payments:
        return data.need("payment_intent", payments[0]["payment"]["payment_intent"]), False
    renewal = invoice["billing_reason"] != "subscription_create"
    intent = make_intent(
        data,
        invoice["amount_due"],
        invoice["currency"],
        invoice["customer"],
        method,
        description="Subscription update" if renewal else "Subscription creation",
        setup_future_usage="off_session" if subscription_of(data, invoice) else None,
    )
    make_invoice_payment(data, invoice, intent["id"])
    return intent, True


def requires_authentication(card: Card, off_session: bool) -> bool:
    """Whether the payment requires authentication; one card only does on its first payment."""
    only_first = card.token == "pm_card_authenticationRequiredOnSetup"  # noqa: S105 - a card's name
    return card.payment == "requires_authentication" and not (off_session and only_first)


def attempt_payment(
    data: DataSet, invoice: Json, method: Json, off_session: bool, card: Card | None = None
) -> Json | CardError:
    """Returns the paid invoice or the error. `card` overrides how the method behaves."""
    card = card or charge_attempts.card_for(data, method, invoice["customer"])
    unpaid, is_new = intent_of(data, invoice, method)
    if card.payment == "declined" or requires_authentication(card, off_session):
        if is_new:
            emit(data, "payment_intent.created", unpaid)
        if card.payment == "declined":
            return charge_attempts.decline(data, unpaid, method, card)
        return require_action(data, invoice, unpaid, method)
    intent, charge = charge_attempts.succeed(data, unpaid, method)
    paid = settle_invoice(data, invoice, intent)
    emit(data, "charge.succeeded", charge)
    emit(data, "payment_intent.succeeded", intent)
    if is_new:
        # Stripe sends `created` after `succeeded` (stripe-facts 3).
        emit(data, "payment_intent.created", unpaid)
    return emit_paid(data, paid)


def require_action(data: DataSet, invoice: Json, intent: Json, method: Json) -> CardError:
    intent = change(
        data,
        intent,
        next_action={
            "type": "use_stripe_sdk",
            "use_stripe_sdk": {"type": "three_d_secure_redirect"},
        },
        payment_method=method["id"],
        status="requires_action",
    )
    emit(data, "payment_intent.requires_action", intent)
    emit(data, "invoice.payment_action_required", invoice)
    return CardError(
        "This payment requires additional user action before it can be completed successfully.",
        code="invoice_payment_intent_requires_action",
        payment_intent=intent,
    )


def pay_nothing(data: DataSet, invoice: Json) -> Json:
    """Marks an invoice with nothing due as paid."""
    return emit_paid(data, data.put(paid_invoice(data, invoice)))


def pay_out_of_band(data: DataSet, invoice: Json) -> Json:
    """Paid outside of Stripe: no `invoice.payment_succeeded` event (stripe-facts 16). A payment
    record reports the payment (stripe-facts 44)."""
    canceled = {"canceled_at": data.clock.now(), "paid_at": None}
    for payment in data.all("invoice_payment").where("invoice", invoice["id"]):
        if payment["status"] == "open":
            change(data, payment, status="canceled", status_transitions=canceled)
    if invoice["amount_due"]:
        record = make_payment_by_record(data, invoice, data.ids.new("payment_record"))
        settle_payment(data, invoice, record)
    paid = data.put({**paid_invoice(data, invoice), "attempt_count": invoice["attempt_count"]})
    emit(data, "invoice.paid", paid)
    return paid


def emit_paid(data: DataSet, paid: Json) -> Json:
    emit(data, "invoice.paid", paid)
    emit(data, "invoice.payment_succeeded", paid)
    return paid


def void(data: DataSet, invoice: Json) -> Json:
    voided = close(data, invoice, "void", "voided_at", "invoice.voided")
    usage_billing.reinstate_credits(data, voided)
    return voided


def mark_uncollectible(data: DataSet, invoice: Json) -> Json:
    transition = "marked_uncollectible_at"
    return close(data, invoice, "uncollectible", transition, "invoice.marked_uncollectible")


def close(data: DataSet, invoice: Json, status: str, transition: str, event: str) -> Json:
    if invoice["status"] not in ("open", "uncollectible") or invoice["status"] == status:
        raise InvalidRequest(
            f"You can't change an invoice with status {invoice['status']} to {status}.",
            code="invoice_not_editable",
        )
    transitions = {**invoice["status_transitions"], transition: data.clock.now()}
    invoice = change(
        data,
        invoice,
        auto_advance=False,
        next_payment_attempt=None,
        status=status,
        status_transitions=transitions,
    )
    emit(data, event, invoice)
    return invoice
