"""The birth of a subscription after its first payment, and the invoice of each period."""

from typing import NamedTuple

from billhook.sandbox.events import change, emit
from billhook.sandbox.objects import invoices
from billhook.sandbox.objects.subscriptions import make_item, make_subscription
from billhook.sandbox.periods import period_end
from billhook.sandbox.schedule import later
from billhook.sandbox.store import DataSet, Json

PAYMENT_TOLD_SECONDS = 1
"""`invoice_payment.paid` comes last, 1 to 21 seconds later (stripe-facts 11)."""


class Born(NamedTuple):
    subscription: Json
    draft: Json
    open: Json
    paid: Json


def start(data: DataSet, notes: Json, customer: Json, method: Json, intent: Json) -> Born:
    """From the notes of a paid Checkout session. Tells nothing: the caller knows the order."""
    name, now = data.ids.new("subscription"), data.clock.now()
    items, extras = [], []
    for line in notes["line_items"]:
        price, quantity = line["price"], line["quantity"]
        if price["recurring"] is None:
            extras.append(line)
            continue
        end = period_end(now, price["recurring"], anchor=now)
        items.append(data.put(make_item(data, name, price, quantity, now, end)))
    given = notes["subscription_data"]
    subscription = make_subscription(
        data,
        customer,
        method,
        items,
        description=given.get("description"),
        metadata=given.get("metadata") or {},
    )
    invoice = data.ids.new("invoice")
    lines = item_lines(data, invoice, items) + [
        invoices.extra_line(
            data, invoice, name, extra["price"], extra["quantity"], extra["description"]
        )
        for extra in extras
    ]
    draft = invoices.make_draft(data, subscription, customer, lines, "subscription_create")
    opened = finalize(data, draft)
    paid = settle_invoice(data, opened, intent)
    subscription = change(data, subscription, latest_invoice=invoice)
    return Born(subscription, draft, opened, paid)


def item_lines(data: DataSet, invoice: str, items: list[Json]) -> list[Json]:
    return [
        invoices.item_line(data, invoice, item, product_name(data, item["price"])) for item in items
    ]


def product_name(data: DataSet, price: Json) -> str:
    product = data.get("product", price["product"])
    return str(product["name"]) if product else "Deleted product"


def finalize(data: DataSet, draft: Json) -> Json:
    customer = data.need("customer", draft["customer"])
    opened = data.put(invoices.finalized(data, draft, customer))
    change(data, customer, next_invoice_sequence=customer["next_invoice_sequence"] + 1)
    return opened


def settle_invoice(data: DataSet, invoice: Json, intent: Json) -> Json:
    """Paid by the intent; its `invoice_payment` follows by itself."""
    known = data.all("invoice_payment").where("invoice", invoice["id"])
    payment = known[0] if known else invoices.make_payment(data, invoice, intent["id"])
    transitions = {"canceled_at": None, "paid_at": data.clock.now()}
    change(
        data,
        payment,
        amount_paid=invoice["amount_due"],
        status="paid",
        status_transitions=transitions,
    )
    later(data, PAYMENT_TOLD_SECONDS, "tell_invoice_payment", payment=payment["id"])
    return data.put(invoices.paid(data, invoice))


def tell_paid_invoice(data: DataSet, born: Born) -> None:
    emit(data, "invoice.created", born.draft)
    emit(data, "invoice.finalized", born.open)
    emit(data, "invoice.paid", born.paid)
    emit(data, "invoice.payment_succeeded", born.paid)


def tell_invoice_payment(data: DataSet, payment: str) -> None:
    emit(data, "invoice_payment.paid", data.need("invoice_payment", payment))
