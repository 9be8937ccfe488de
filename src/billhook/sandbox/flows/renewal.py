"""The boundary of a billing period: a new invoice, paid or not (stripe-facts 14–17)."""

from typing import Literal

from billhook.sandbox.cards import BY_TOKEN
from billhook.sandbox.errors import InvalidRequest
from billhook.sandbox.events import change, emit
from billhook.sandbox.flows import charging
from billhook.sandbox.flows.cancelling import ENDED, cancel_now
from billhook.sandbox.flows.subscribing import finalize, item_lines, settle_invoice
from billhook.sandbox.objects import invoices
from billhook.sandbox.objects.payment_intents import make_intent
from billhook.sandbox.objects.subscriptions import items_of, with_items
from billhook.sandbox.periods import period_end
from billhook.sandbox.store import DataSet, Json

Outcome = Literal["succeeded", "failed"]

RETRY_SECONDS = 3 * 86400
"""When a failed renewal would be tried again."""


def renew(data: DataSet, subscription: Json, outcome: Outcome) -> Json:
    """One renewal now, wherever the clock stands; the periods move on by one."""
    if subscription["status"] in ENDED:
        raise InvalidRequest(f"The subscription is {subscription['status']}.")
    if subscription["cancel_at_period_end"]:
        return cancel_now(data, subscription)
    subscription, draft = open_period(data, subscription)
    emit(data, "invoice.created", draft)
    opened = finalize(data, draft)
    emit(data, "invoice.finalized", opened)
    if outcome == "succeeded":
        return collect(data, subscription, opened)
    return fail(data, subscription, opened)


def open_period(data: DataSet, subscription: Json) -> tuple[Json, Json]:
    """The subscription moves on when the draft is made, not when it is paid (stripe-facts 15)."""
    items = []
    for item in items_of(data, subscription["id"]):
        start = item["current_period_end"]
        anchor = subscription["billing_cycle_anchor"]
        end = period_end(start, item["price"]["recurring"], anchor)
        items.append({**item, "current_period_start": start, "current_period_end": end})
    invoice = data.ids.new("invoice")
    customer = data.need("customer", subscription["customer"])
    lines = item_lines(data, invoice, items)
    draft = invoices.make_draft(data, subscription, customer, lines, "subscription_cycle")
    changes = with_items(data, subscription, items)
    subscription = change(
        data, subscription, "customer.subscription.updated", latest_invoice=invoice, **changes
    )
    return subscription, draft


def intent_for(data: DataSet, subscription: Json, invoice: Json) -> tuple[Json, Json]:
    method = data.need("payment_method", subscription["default_payment_method"])
    intent = make_intent(
        data,
        invoice["amount_due"],
        invoice["currency"],
        invoice["customer"],
        method,
        description="Subscription update",
        setup_future_usage="off_session",
    )
    invoices.make_payment(data, invoice, intent["id"])
    return intent, method


def collect(data: DataSet, subscription: Json, opened: Json) -> Json:
    unpaid, method = intent_for(data, subscription, opened)
    intent, charge = charging.succeed(data, unpaid, method)
    paid = settle_invoice(data, opened, intent)
    emit(data, "charge.succeeded", charge)
    emit(data, "payment_intent.succeeded", intent)
    emit(data, "payment_intent.created", unpaid)
    emit(data, "invoice.paid", paid)
    emit(data, "invoice.payment_succeeded", paid)
    return recover(data, subscription)


def recover(data: DataSet, subscription: Json) -> Json:
    """Paying returns a subscription to `active` (stripe-facts 18)."""
    if subscription["status"] not in ("past_due", "unpaid"):
        return subscription
    return change(data, subscription, "customer.subscription.updated", status="active")


def fail(data: DataSet, subscription: Json, opened: Json) -> Json:
    unpaid, method = intent_for(data, subscription, opened)
    emit(data, "payment_intent.created", unpaid)
    charging.decline(data, unpaid, method, BY_TOKEN["pm_card_chargeCustomerFail"])
    retry = data.clock.now() + RETRY_SECONDS
    failed = change(data, opened, attempted=True, attempt_count=1, next_payment_attempt=retry)
    emit(data, "invoice.payment_failed", failed)
    return change(data, subscription, "customer.subscription.updated", status="past_due")
