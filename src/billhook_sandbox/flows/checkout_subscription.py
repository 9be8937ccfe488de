"""The birth of a subscription after its first payment, and the invoice of each period."""

from typing import NamedTuple

from billhook_sandbox.event_log import change, emit
from billhook_sandbox.flows import subscription_renewal
from billhook_sandbox.flows.invoice_drafts import item_lines
from billhook_sandbox.flows.invoice_lifecycle import finalize, settle_invoice
from billhook_sandbox.objects import invoices
from billhook_sandbox.objects.subscriptions import make_item, make_subscription
from billhook_sandbox.periods import period_end
from billhook_sandbox.store import DataSet, Json


class NewSubscription(NamedTuple):
    subscription: Json
    draft: Json
    open: Json
    paid: Json


def start(
    data: DataSet, notes: Json, customer: Json, method: Json, intent: Json | None
) -> NewSubscription:
    """From the notes of a paid Checkout session. Tells nothing: the caller knows the order.

    `intent` is None when nothing is due yet.
    """
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
    draft = invoices.make_draft(
        data, invoice, customer, lines, "subscription_create", subscription=subscription
    )
    opened = finalize(data, draft)
    paid = settle_invoice(data, opened, intent) if intent else data.put(invoices.paid(data, opened))
    subscription = change(data, subscription, latest_invoice=invoice)
    subscription_renewal.schedule_renewal(data, subscription)
    return NewSubscription(subscription, draft, opened, paid)


def emit_invoice_events(data: DataSet, created: NewSubscription) -> None:
    emit(data, "invoice.created", created.draft)
    emit(data, "invoice.finalized", created.open)
    emit(data, "invoice.paid", created.paid)
    emit(data, "invoice.payment_succeeded", created.paid)
