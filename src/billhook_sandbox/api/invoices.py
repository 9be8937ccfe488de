"""Invoices, their lines and their payments (stripe-facts 26)."""

from billhook_sandbox.errors import InvalidRequest
from billhook_sandbox.event_log import change, emit
from billhook_sandbox.flows import invoice_collection, invoice_lifecycle, subscription_changes
from billhook_sandbox.flows.invoice_drafts import pending_lines
from billhook_sandbox.flows.pending_updates import apply_when_paid, forget_when_voided
from billhook_sandbox.objects.invoice import DRAFT_SECONDS, make_draft
from billhook_sandbox.objects.invoice_totals import lines_of
from billhook_sandbox.pagination import page, page_of_items
from billhook_sandbox.params import (
    EXPAND,
    RETRIEVE,
    Form,
    at_least,
    boolean,
    currency,
    list_form,
    merge_metadata,
    metadata,
    one_of,
    text,
)
from billhook_sandbox.routing import Call, Operation
from billhook_sandbox.schedule import schedule_at
from billhook_sandbox.store import Json, deleted_object

LIST = list_form(
    collection_method=text,
    customer=text,
    status=one_of("draft", "open", "paid", "uncollectible", "void"),
    subscription=text,
)
LINES = list_form()
PAYMENTS = list_form(
    invoice=text,
    payment=Form(
        {"type": one_of("payment_intent", "payment_record"), "payment_intent": text},
        required=("type",),
    ),
    status=one_of("canceled", "open", "paid"),
)


def retrieve(call: Call) -> Json:
    return call.data.need("invoice", call.id)


def list_(call: Call) -> Json:
    wanted = call.params

    def keep(invoice: Json) -> bool:
        details = (invoice["parent"] or {}).get("subscription_details") or {}
        subscription = details.get("subscription")
        return all(
            wanted.get(key, found) == found
            for key, found in (("status", invoice["status"]), ("subscription", subscription))
        )

    return page(call, "invoice", "/v1/invoices", keep, by="customer")


def list_lines(call: Call) -> Json:
    if not call.id.startswith("upcoming_"):  # a preview is no invoice
        call.data.need("invoice", call.id)
    found = lines_of(call.data, call.id)
    return page_of_items(found, call, f"/v1/invoices/{call.id}/lines")


def retrieve_payment(call: Call) -> Json:
    return call.data.need("invoice_payment", call.id)


def list_payments(call: Call) -> Json:
    status = call.params.get("status")
    intent = call.params.get("payment", {}).get("payment_intent")

    def keep(obj: Json) -> bool:
        return (status is None or obj["status"] == status) and (
            intent is None or obj["payment"].get("payment_intent") == intent
        )

    return page(call, "invoice_payment", "/v1/invoice_payments", keep, by="invoice")


CREATE = Form(
    {
        **EXPAND,
        "auto_advance": boolean,
        "collection_method": one_of("charge_automatically", "send_invoice"),
        "currency": currency,
        "customer": text,
        "days_until_due": at_least(0),
        "default_payment_method": text,
        "description": text,
        "metadata": metadata,
        "pending_invoice_items_behavior": one_of("exclude", "include"),
    },
    required=("customer",),
)
FINALIZE = Form({**EXPAND, "auto_advance": boolean})
PAY = Form(
    {
        **EXPAND,
        "off_session": boolean,
        "paid_out_of_band": boolean,
        "payment_method": text,
    }
)


def create(call: Call) -> Json:
    """Creates a draft. Pending invoice items are only included on request."""
    data, given = call.data, call.params
    customer = data.need("customer", given["customer"], "customer")
    sends_invoice = given.get("collection_method") == "send_invoice"
    if sends_invoice and "days_until_due" not in given:
        message = "If `collection_method` is `send_invoice`, you must specify `days_until_due`."
        raise InvalidRequest(message, code="parameter_missing", param="days_until_due")
    if "default_payment_method" in given:
        data.need("payment_method", given["default_payment_method"], "default_payment_method")
    invoice_id = data.ids.new("invoice")
    currency_, now = given.get("currency") or customer["currency"] or "usd", data.clock.now()
    lines = []
    if given.get("pending_invoice_items_behavior") == "include":
        lines = pending_lines(data, invoice_id, customer["id"], currency_, None)
    auto_advance = given.get("auto_advance", False)
    draft = make_draft(
        data,
        invoice_id,
        customer,
        lines,
        "manual",
        auto_advance=auto_advance,
        automatically_finalizes_at=now + DRAFT_SECONDS if auto_advance else None,
        collection_method=given.get("collection_method", "charge_automatically"),
        currency=currency_,
        default_payment_method=given.get("default_payment_method"),
        description=given.get("description"),
        due_date=now + given["days_until_due"] * 86400 if sends_invoice else None,
        metadata=merge_metadata({}, given.get("metadata")),
    )
    emit(data, "invoice.created", draft)
    if auto_advance:
        schedule_at(data, now + DRAFT_SECONDS, "finalize_invoice", invoice=invoice_id)
    return draft


def require_status(call: Call, *statuses: str) -> Json:
    invoice = call.data.need("invoice", call.id)
    if invoice["status"] not in statuses:
        message = f"This invoice must be {' or '.join(statuses)}, but its status is "
        raise InvalidRequest(message + f"{invoice['status']}.", code="invoice_not_editable")
    return invoice


def finalize(call: Call) -> Json:
    draft = require_status(call, "draft")
    opened = invoice_lifecycle.finalize_and_emit(call.data, draft)
    if not opened["amount_due"]:
        return invoice_collection.reactivate_subscription(
            call.data, invoice_lifecycle.pay_nothing(call.data, opened)
        )
    if call.params.get("auto_advance", opened["auto_advance"]):
        return invoice_collection.collect(call.data, opened)
    return opened


def pay(call: Call) -> Json:
    """A change of the subscription that waits for this payment is applied."""
    paid = settle(call)
    apply_when_paid(call.data, paid, subscription_changes.apply)
    return paid


def settle(call: Call) -> Json:
    """Finalizes a draft first. `paid_out_of_band` marks the invoice as paid outside of Stripe."""
    data, invoice = call.data, require_status(call, "draft", "open", "uncollectible")
    method = None
    if "payment_method" in call.params:
        method = data.need("payment_method", call.params["payment_method"], "payment_method")
    else:
        method = invoice_lifecycle.method_for(data, invoice)
    out_of_band = call.params.get("paid_out_of_band", False)
    if method is None and invoice["amount_due"] and not out_of_band:
        message = "This invoice, its subscription and its customer have no payment method."
        raise InvalidRequest(message, code="resource_missing")
    if invoice["status"] == "draft":
        invoice = invoice_lifecycle.finalize_and_emit(data, invoice)
    if out_of_band:
        return invoice_collection.reactivate_subscription(
            data, invoice_lifecycle.pay_out_of_band(data, invoice)
        )
    off_session = call.params.get("off_session", True)
    return invoice_collection.pay_manually(data, invoice, method or {}, off_session)


def send(call: Call) -> Json:
    invoice = require_status(call, "draft", "open")
    if invoice["status"] == "draft":
        invoice = invoice_lifecycle.finalize_and_emit(call.data, invoice)
    emit(call.data, "invoice.sent", invoice)
    return invoice


def void(call: Call) -> Json:
    voided = invoice_lifecycle.void(call.data, require_status(call, "open", "uncollectible"))
    forget_when_voided(call.data, voided)
    return voided


def mark_uncollectible(call: Call) -> Json:
    return invoice_lifecycle.mark_uncollectible(call.data, require_status(call, "open"))


def delete(call: Call) -> Json:
    """Deletes a draft; its invoice items become pending again."""
    data, draft = call.data, require_status(call, "draft")
    for item in data.all("invoiceitem").where("invoice", draft["id"]):
        change(data, item, invoice=None)
    data.remove("invoice", draft["id"])
    emit(data, "invoice.deleted", draft)
    return deleted_object("invoice", draft["id"])


OPERATIONS = (
    Operation("POST", "/v1/invoices", CREATE, create),
    Operation("POST", "/v1/invoices/{id}/finalize", FINALIZE, finalize),
    Operation("POST", "/v1/invoices/{id}/pay", PAY, pay),
    Operation("POST", "/v1/invoices/{id}/send", RETRIEVE, send),
    Operation("POST", "/v1/invoices/{id}/void", RETRIEVE, void),
    Operation("POST", "/v1/invoices/{id}/mark_uncollectible", RETRIEVE, mark_uncollectible),
    Operation("DELETE", "/v1/invoices/{id}", RETRIEVE, delete),
    Operation("GET", "/v1/invoices", LIST, list_),
    Operation("GET", "/v1/invoices/{id}", RETRIEVE, retrieve),
    Operation("GET", "/v1/invoices/{id}/lines", LINES, list_lines),
    Operation("GET", "/v1/invoice_payments", PAYMENTS, list_payments),
    Operation("GET", "/v1/invoice_payments/{id}", RETRIEVE, retrieve_payment),
)
