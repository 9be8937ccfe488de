"""Creates the subscription of a paid Checkout Session, and its first invoice."""

from typing import NamedTuple

from billhook_sandbox.event_log import change, emit
from billhook_sandbox.flows import subscription_creation
from billhook_sandbox.flows.invoice_drafts import item_lines
from billhook_sandbox.flows.invoice_lifecycle import finalize, settle_invoice
from billhook_sandbox.flows.subscription_discounts import add_discounts, end_used_discounts
from billhook_sandbox.objects.invoice import make_draft, one_time_line, paid_invoice
from billhook_sandbox.objects.subscription import (
    automatic_tax_values,
    make_item,
    make_subscription,
)
from billhook_sandbox.periods import period_end
from billhook_sandbox.store import DataSet, Json


class PaidInvoice(NamedTuple):
    draft: Json
    open: Json
    paid: Json


class NewSubscription(NamedTuple):
    subscription: Json
    discounts: list[Json]
    invoice: PaidInvoice

    @property
    def paid(self) -> Json:
        return self.invoice.paid


def create(
    data: DataSet, record: Json, customer: Json, method: Json | None, intent: Json | None
) -> NewSubscription:
    """Uses the session's internal record. Emits no events: the caller decides their order.

    `intent` is None if nothing is due.
    """
    subscription_id, given = data.ids.new("subscription"), record["subscription_data"]
    trial_end = subscription_creation.trial_end_of(data, given)
    items = make_items(data, record, subscription_id, trial_end)
    coupons = [(each["source"]["coupon"], each["promotion_code"]) for each in record["discounts"]]
    discounts = add_discounts(data, coupons, customer["id"], subscription_id)
    subscription = make_subscription(
        data,
        customer,
        method,
        items,
        description=given.get("description"),
        discounts=[each["id"] for each in discounts],
        metadata=given.get("metadata") or {},
        **automatic_tax_values(record["taxed"]),
        **subscription_creation.trial_values(data, given, trial_end),
    )
    invoice = first_invoice(data, customer, subscription, record["line_items"], items, intent)
    subscription = change(data, subscription, latest_invoice=invoice.paid["id"])
    subscription_creation.schedule_jobs(data, subscription)
    return NewSubscription(subscription, discounts, invoice)


def make_items(data: DataSet, record: Json, subscription: str, trial_end: int | None) -> list[Json]:
    """The items for the recurring prices."""
    now, items = data.clock.now(), []
    for line in record["line_items"]:
        price, quantity = line["price"], line["quantity"]
        if price["recurring"] is None:
            continue
        end = trial_end or period_end(now, price["recurring"], anchor=now)
        item = make_item(data, subscription, price, quantity, now, end)
        items.append(data.put({**item, "metadata": line["metadata"]}))
    return items


def first_invoice(
    data: DataSet,
    customer: Json,
    subscription: Json,
    line_items: list[Json],
    items: list[Json],
    intent: Json | None,
) -> PaidInvoice:
    """Its lines have the order of the session's, so that both round discounts and taxes alike."""
    invoice_id, trial = data.ids.new("invoice"), subscription["trial_end"] is not None
    recurring = iter(item_lines(data, invoice_id, items, trial))
    lines = [
        next(recurring)
        if line["price"]["recurring"]
        else one_time_line(
            data,
            invoice_id,
            subscription["id"],
            line["price"],
            line["quantity"],
            line["description"],
        )
        for line in line_items
    ]
    draft = make_draft(
        data,
        invoice_id,
        customer,
        lines,
        "subscription_create",
        subscription=subscription,
        discounts=subscription["discounts"],
    )
    opened = finalize(data, draft)
    paid = settle_invoice(data, opened, intent) if intent else data.put(paid_invoice(data, opened))
    return PaidInvoice(draft, opened, paid)


def emit_created(data: DataSet, created: NewSubscription) -> None:
    for discount in created.discounts:
        emit(data, "customer.discount.created", discount)
    emit(data, "customer.subscription.created", created.subscription)


def emit_invoice_events(data: DataSet, invoice: PaidInvoice) -> None:
    emit(data, "invoice.created", invoice.draft)
    emit(data, "invoice.finalized", invoice.open)
    emit(data, "invoice.paid", invoice.paid)
    emit(data, "invoice.payment_succeeded", invoice.paid)
    end_used_discounts(data, invoice.paid)
