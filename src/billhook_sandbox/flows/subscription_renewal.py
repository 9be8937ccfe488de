"""Renewals: a new billing period and its invoice, paid or not (stripe-facts 14–17)."""

from typing import Literal, NamedTuple

from billhook_sandbox.cards import BY_TOKEN
from billhook_sandbox.errors import InvalidRequest
from billhook_sandbox.event_log import change, emit
from billhook_sandbox.flows import invoice_collection
from billhook_sandbox.flows.invoice_drafts import draft_invoice
from billhook_sandbox.flows.invoice_lifecycle import method_for
from billhook_sandbox.flows.subscription_cancellation import ENDED, cancel_now
from billhook_sandbox.flows.subscription_discounts import end_expired_discounts
from billhook_sandbox.flows.subscription_end import end_subscription, end_with_final_invoice
from billhook_sandbox.objects.catalog import is_metered
from billhook_sandbox.objects.invoice import DRAFT_SECONDS
from billhook_sandbox.objects.subscription import items_of, with_items
from billhook_sandbox.periods import period_end
from billhook_sandbox.schedule import schedule_at
from billhook_sandbox.store import DataSet, Json

Outcome = Literal["succeeded", "failed"]
OUTCOMES = {"succeeded": "pm_card_visa", "failed": "pm_card_chargeCustomerFail"}

UPCOMING_NOTICE_SECONDS = 7 * 86400
"""`invoice.upcoming` is sent this long before a renewal; Stripe's accounts can change it."""

TRIAL_NOTICE_SECONDS = 3 * 86400
"""`trial_will_end` is sent this long before the trial ends."""


def schedule_renewal(data: DataSet, subscription: Json) -> Json:
    """Schedules the renewal at the end of the period, and its notice; shorter periods have none. An
    outdated job finds nothing due."""
    end = next_period_end(data, subscription)
    schedule_at(data, end, "renew_subscription", subscription=subscription["id"])
    notice_at = end - UPCOMING_NOTICE_SECONDS
    if notice_at > data.clock.now():
        schedule_at(data, notice_at, "emit_upcoming", subscription=subscription["id"])
    return subscription


def next_period_end(data: DataSet, subscription: Json) -> int:
    return min(int(item["current_period_end"]) for item in items_of(data, subscription["id"]))


def renew_when_due(data: DataSet, subscription: str) -> None:
    found = data.get("subscription", subscription)
    if found is None or found["status"] in (*ENDED, "incomplete", "paused"):
        return
    if next_period_end(data, found) > data.clock.now():
        return
    if found["cancel_at"] is not None and found["cancel_at"] <= data.clock.now():
        end_subscription(data, subscription)
        return
    if found["status"] == "trialing" and end_trial_without_method(data, found):
        return
    _, draft = open_period(data, found)
    behavior = (found["pause_collection"] or {}).get("behavior")
    if found["status"] == "unpaid" or behavior == "keep_as_draft":
        change(data, draft, auto_advance=False, automatically_finalizes_at=None)
        return
    schedule_at(data, draft["created"] + DRAFT_SECONDS, "finalize_invoice", invoice=draft["id"])


def end_trial_without_method(data: DataSet, subscription: Json) -> bool:
    """Whether the trial ends without a payment method; then cancels or pauses it as configured."""
    behavior = subscription["trial_settings"]["end_behavior"]["missing_payment_method"]
    invoice = data.need("invoice", subscription["latest_invoice"])
    if behavior == "create_invoice" or method_for(data, invoice):
        return False
    if behavior == "cancel":
        cancel_now(data, subscription)
    else:
        paused = change(data, subscription, "customer.subscription.updated", status="paused")
        emit(data, "customer.subscription.paused", paused)
    return True


def emit_trial_will_end(data: DataSet, subscription: str) -> None:
    found = data.get("subscription", subscription)
    if found is None or found["status"] != "trialing":
        return
    if found["trial_end"] - data.clock.now() <= TRIAL_NOTICE_SECONDS:
        emit(data, "customer.subscription.trial_will_end", found)


def renew(data: DataSet, subscription: Json, outcome: Outcome | None) -> Json:
    """Renews the subscription now, whatever the time is; moves it to the next period."""
    if subscription["status"] in ENDED:
        raise InvalidRequest(f"The subscription is {subscription['status']}.")
    if subscription["cancel_at_period_end"]:
        end_with_final_invoice(data, subscription)
        return data.need("subscription", subscription["id"])
    subscription, draft = open_period(data, subscription)
    card = BY_TOKEN[OUTCOMES[outcome]] if outcome else None
    invoice_collection.advance_invoice(data, draft, card)
    return data.need("subscription", subscription["id"])


class Period(NamedTuple):
    """The next period of a subscription."""

    items: list[Json]
    """All items, with the new period where they renew."""
    billed: list[Json]
    """The items that renew: metered ones with the period that ends."""
    arrears: list[str]
    """The metered items whose usage is billed. Usage during a trial is free."""


def next_period(data: DataSet, subscription: Json) -> Period:
    anchor, start = subscription["billing_cycle_anchor"], next_period_end(data, subscription)
    period = Period([], [], [])
    for item in items_of(data, subscription["id"]):
        after = item
        if item["current_period_end"] == start:
            end = period_end(start, item["price"]["recurring"], anchor)
            after = {**item, "current_period_start": start, "current_period_end": end}
            in_arrears = is_metered(item["price"]) and subscription["status"] != "trialing"
            period.billed.append(item if in_arrears else after)
            period.arrears.extend([item["id"]] if in_arrears else [])
        period.items.append(after)
    return period


def open_period(data: DataSet, subscription: Json) -> tuple[Json, Json]:
    """The new period starts when the draft is created, not when it is paid (stripe-facts 15)."""
    subscription = end_expired_discounts(data, subscription)
    period = next_period(data, subscription)
    changes = with_items(data, subscription, period.items)
    if subscription["status"] == "trialing":
        changes["status"] = "active"
    invoice = data.ids.new("invoice")
    subscription = change(
        data, subscription, "customer.subscription.updated", latest_invoice=invoice, **changes
    )
    draft = draft_invoice(
        data,
        invoice,
        subscription,
        period.billed,
        "subscription_cycle",
        arrears=period.arrears,
    )
    schedule_renewal(data, subscription)
    return data.need("subscription", subscription["id"]), draft
