"""Invoices, their lines and their payments: reading (stripe-facts 26)."""

from billhook.sandbox.lists import page, slice_of
from billhook.sandbox.params import RETRIEVE, Form, list_form, one_of, text
from billhook.sandbox.routing import Call, Operation
from billhook.sandbox.store import Json

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
        subscription = invoice["parent"]["subscription_details"]["subscription"]
        return all(
            wanted.get(key, found) == found
            for key, found in (("status", invoice["status"]), ("subscription", subscription))
        )

    return page(call, "invoice", "/v1/invoices", keep, by="customer")


def lines(call: Call) -> Json:
    call.data.need("invoice", call.id)
    every_line = call.data.need("_invoice_lines", call.id)["lines"]
    return slice_of(every_line, call, f"/v1/invoices/{call.id}/lines")


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


OPERATIONS = (
    Operation("GET", "/v1/invoices", LIST, list_),
    Operation("GET", "/v1/invoices/{id}", RETRIEVE, retrieve),
    Operation("GET", "/v1/invoices/{id}/lines", LINES, lines),
    Operation("GET", "/v1/invoice_payments", PAYMENTS, payments),
    Operation("GET", "/v1/invoice_payments/{id}", RETRIEVE, payment),
)
