"""Creates the subscription of a paid Checkout Session, and its first invoice."""

from typing import NamedTuple

from billhook_sandbox.event_log import change, emit
from billhook_sandbox.flows import subscription_renewal
from billhook_sandbox.flows.invoice_drafts import item_lines
from billhook_sandbox.flows.invoice_lifecycle import finalize, settle_invoice
from billhook_sandbox.objects.invoice import make_draft, one_time_line, paid_invoice
from billhook_sandbox.objects.subscription import make_item, make_subscription
from billhook_sandbox.periods import period_end
from billhook_sandbox.store import DataSet, Json


class NewSubscription(NamedTuple):
    subscription: Json
    draft: Json
    open: Json
    paid: Json


def create(
    data: DataSet, record: Json, customer: Json, method: Json, intent: Json | None
) -> NewSubscription:
    """Uses the session's internal record. Emits no events: the caller decides their order.

    `intent` is None if nothing is due.
    """
    subscription_id, now = data.ids.new("subscription"), data.clock.now()
    items, one_time_items = [], []
    for line in record["line_items"]:
        price, quantity = line["price"], line["quantity"]
        if price["recurring"] is None:
            one_time_items.append(line)
            continue
        end = period_end(now, price["recurring"], anchor=now)
        items.append(data.put(make_item(data, subscription_id, price, quantity, now, end)))
    given = record["subscription_data"]
    subscription = make_subscription(
        data,
        customer,
        method,
        items,
        description=given.get("description"),
        metadata=given.get("metadata") or {},
    )
    invoice_id = data.ids.new("invoice")
    lines = item_lines(data, invoice_id, items) + [
        one_time_line(
            data,
            invoice_id,
            subscription_id,
            item["price"],
            item["quantity"],
            item["description"],
        )
        for item in one_time_items
    ]
    draft = make_draft(
        data, invoice_id, customer, lines, "subscription_create", subscription=subscription
    )
    opened = finalize(data, draft)
    paid = settle_invoice(data, opened, intent) if intent else data.put(paid_invoice(data, opened))
    subscription = change(data, subscription, latest_invoice=invoice_id)
    subscription_renewal.schedule_renewal(data, subscription)
    return NewSubscription(subscription, draft, opened, paid)


def emit_invoice_events(data: DataSet, created: NewSubscription) -> None:
    emit(data, "invoice.created", created.draft)
    emit(data, "invoice.finalized", created.open)
    emit(data, "invoice.paid", created.paid)
    emit(data, "invoice.payment_succeeded", created.paid)
