"""Invoice items: added to a draft, or pending for the customer's next invoice."""

from billhook_sandbox.errors import InvalidRequest
from billhook_sandbox.event_log import change, emit
from billhook_sandbox.objects.invoice import invoice_item_line, lines_of, with_lines
from billhook_sandbox.objects.invoice_item import make_invoice_item
from billhook_sandbox.objects.pricing import amount_for
from billhook_sandbox.pagination import page
from billhook_sandbox.params import (
    EXPAND,
    RETRIEVE,
    Form,
    at_least,
    boolean,
    currency,
    integer,
    list_form,
    merge_metadata,
    metadata,
    text,
)
from billhook_sandbox.routing import Call, Operation
from billhook_sandbox.store import DataSet, Json, deleted_object

CREATE = Form(
    {
        **EXPAND,
        "amount": integer,
        "currency": currency,
        "customer": text,
        "description": text,
        "discountable": boolean,
        "invoice": text,
        "metadata": metadata,
        "pricing": Form({"price": text}, required=("price",)),
        "quantity": at_least(0),
        "subscription": text,
    },
    required=("customer",),
)
LIST = list_form(customer=text, invoice=text, pending=boolean)


def create(call: Call) -> Json:
    data, given = call.data, call.params
    customer = data.need("customer", given["customer"], "customer")
    draft = require_draft(data, given["invoice"]) if "invoice" in given else None
    if "subscription" in given:
        data.need("subscription", given["subscription"], "subscription")
    price, quantity = None, given.get("quantity", 1)
    if "pricing" in given:
        price = data.need("price", given["pricing"]["price"], "pricing[price]")
        amount, currency_ = amount_for(data, price, quantity), price["currency"]
    elif "amount" in given:
        amount, currency_ = given["amount"], given.get("currency", "usd")
    else:
        message = "You must specify either `amount` or `pricing`."
        raise InvalidRequest(message, code="parameter_missing", param="amount")
    item = make_invoice_item(
        data,
        customer,
        amount,
        currency_,
        subscription=given.get("subscription"),
        price=price,
        description=given.get("description"),
        discountable=given.get("discountable", True),
        invoice=draft and draft["id"],
        metadata=merge_metadata({}, given.get("metadata")),
        quantity=quantity,
        quantity_decimal=str(quantity),
    )
    emit(data, "invoiceitem.created", item)
    if draft:
        add_to_draft(data, draft, item)
    return item


def require_draft(data: DataSet, invoice_id: str) -> Json:
    draft = data.need("invoice", invoice_id, "invoice")
    if draft["status"] != "draft":
        message = "This invoice is no longer editable: you can only add items to a draft."
        raise InvalidRequest(message, code="invoice_not_editable", param="invoice")
    return draft


def add_to_draft(data: DataSet, draft: Json, item: Json) -> None:
    line = invoice_item_line(data, draft["id"], item)
    lines = [*lines_of(data, draft["id"]), line]
    changes = with_lines(data, draft["id"], lines)
    change(data, draft, "invoice.updated", **changes)


def retrieve(call: Call) -> Json:
    return call.data.need("invoiceitem", call.id)


def list_(call: Call) -> Json:
    pending, invoice = call.params.get("pending"), call.params.get("invoice")

    def keep(item: Json) -> bool:
        is_pending = item["invoice"] is None
        return pending in (None, is_pending) and invoice in (None, item["invoice"])

    return page(call, "invoiceitem", "/v1/invoiceitems", keep, by="customer")


def delete(call: Call) -> Json:
    item = call.data.need("invoiceitem", call.id)
    if item["invoice"] is not None:
        message = "This invoice item is already on an invoice and can't be deleted."
        raise InvalidRequest(message, code="invoice_not_editable")
    call.data.remove("invoiceitem", item["id"])
    emit(call.data, "invoiceitem.deleted", item)
    return deleted_object("invoiceitem", item["id"])


OPERATIONS = (
    Operation("POST", "/v1/invoiceitems", CREATE, create),
    Operation("GET", "/v1/invoiceitems", LIST, list_),
    Operation("GET", "/v1/invoiceitems/{id}", RETRIEVE, retrieve),
    Operation("DELETE", "/v1/invoiceitems/{id}", RETRIEVE, delete),
)
