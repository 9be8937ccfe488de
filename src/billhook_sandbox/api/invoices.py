"""Invoices, their lines and their payments (stripe-facts 26)."""

from billhook_sandbox.errors import InvalidRequest
from billhook_sandbox.event_log import change, emit
from billhook_sandbox.flows import invoice_collection, invoice_lifecycle
from billhook_sandbox.flows.invoice_drafts import pending_lines
from billhook_sandbox.objects.invoices import DRAFT_SECONDS, make_draft
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
from billhook_sandbox.store import Json

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


def lines(call: Call) -> Json:
    call.data.need("invoice", call.id)
    every_line = call.data.need("_invoice_lines", call.id)["lines"]
    return page_of_items(every_line, call, f"/v1/invoices/{call.id}/lines")


def payment(call: Call) -> Json:
    return call.data.need("invoice_payment", call.id)


def payments(call: Call) -> Json:
    status = call.params.get("status")
    intent = call.params.get("payment", {}).get("payment_intent")

    def keep(obj: Json) -> bool:
        return (status is None or obj["status"] == status) and (
            intent is None or obj["payment"]["payment_intent"] == intent
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
    """A draft made by hand; what is pending comes along only when asked for."""
    data, given = call.data, call.params
    customer = data.need("customer", given["customer"], "customer")
    by_mail = given.get("collection_method") == "send_invoice"
    if by_mail and "days_until_due" not in given:
        message = "If `collection_method` is `send_invoice`, say `days_until_due`."
        raise InvalidRequest(message, code="parameter_missing", param="days_until_due")
    if "default_payment_method" in given:
        data.need("payment_method", given["default_payment_method"], "default_payment_method")
    name = data.ids.new("invoice")
    money, now = given.get("currency") or customer["currency"] or "usd", data.clock.now()
    lines = []
    if given.get("pending_invoice_items_behavior") == "include":
        lines = pending_lines(data, name, customer["id"], money, None)
    auto = given.get("auto_advance", False)
    draft = make_draft(
        data,
        name,
        customer,
        lines,
        "manual",
        auto_advance=auto,
        automatically_finalizes_at=now + DRAFT_SECONDS if auto else None,
        collection_method=given.get("collection_method", "charge_automatically"),
        currency=money,
        default_payment_method=given.get("default_payment_method"),
        description=given.get("description"),
        due_date=now + given["days_until_due"] * 86400 if by_mail else None,
        metadata=merge_metadata({}, given.get("metadata")),
    )
    emit(data, "invoice.created", draft)
    if auto:
        schedule_at(data, now + DRAFT_SECONDS, "finalize_invoice", invoice=name)
    return draft


def require_status(call: Call, *statuses: str) -> Json:
    invoice = call.data.need("invoice", call.id)
    if invoice["status"] not in statuses:
        message = f"This needs an invoice that is {' or '.join(statuses)}; this one is "
        raise InvalidRequest(message + f"{invoice['status']}.", code="invoice_not_editable")
    return invoice


def finalize(call: Call) -> Json:
    draft = require_status(call, "draft")
    opened = invoice_lifecycle.finalize_and_emit(call.data, draft)
    if not opened["amount_due"]:
        return invoice_collection.paid(call.data, invoice_lifecycle.pay_nothing(call.data, opened))
    if call.params.get("auto_advance", opened["auto_advance"]):
        return invoice_collection.collect(call.data, opened)
    return opened


def pay(call: Call) -> Json:
    """A draft is made final first; out of band, no money moves here."""
    data, invoice = call.data, require_status(call, "draft", "open", "uncollectible")
    method = None
    if "payment_method" in call.params:
        method = data.need("payment_method", call.params["payment_method"], "payment_method")
    else:
        method = invoice_lifecycle.method_for(data, invoice)
    outside = call.params.get("paid_out_of_band", False)
    if method is None and invoice["amount_due"] and not outside:
        message = "There is no payment method on this invoice, its subscription or its customer."
        raise InvalidRequest(message, code="resource_missing")
    if invoice["status"] == "draft":
        invoice = invoice_lifecycle.finalize_and_emit(data, invoice)
    if outside:
        return invoice_collection.paid(data, invoice_lifecycle.pay_outside(data, invoice))
    off_session = call.params.get("off_session", True)
    return invoice_collection.pay_by_hand(data, invoice, method or {}, off_session)


def send(call: Call) -> Json:
    invoice = require_status(call, "draft", "open")
    if invoice["status"] == "draft":
        invoice = invoice_lifecycle.finalize_and_emit(call.data, invoice)
    emit(call.data, "invoice.sent", invoice)
    return invoice


def void(call: Call) -> Json:
    return invoice_lifecycle.void(call.data, require_status(call, "open", "uncollectible"))


def mark_uncollectible(call: Call) -> Json:
    return invoice_lifecycle.mark_uncollectible(call.data, require_status(call, "open"))


def delete(call: Call) -> Json:
    """A draft only; what it held waits again."""
    data, draft = call.data, require_status(call, "draft")
    for item in data.all("invoiceitem").where("invoice", draft["id"]):
        change(data, item, invoice=None)
    data.remove("invoice", draft["id"])
    emit(data, "invoice.deleted", draft)
    return {"id": draft["id"], "object": "invoice", "deleted": True}


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
    Operation("GET", "/v1/invoices/{id}/lines", LINES, lines),
    Operation("GET", "/v1/invoice_payments", PAYMENTS, payments),
    Operation("GET", "/v1/invoice_payments/{id}", RETRIEVE, payment),
)
