"""A subscription made directly by API: its first invoice is tried at once (stripe-facts 19)."""

from billhook_sandbox.cards import DECLINES, Card
from billhook_sandbox.errors import CardError, InvalidRequest
from billhook_sandbox.event_log import change, emit
from billhook_sandbox.flows import (
    charge_attempts,
    invoice_collection,
    invoice_lifecycle,
    subscription_renewal,
)
from billhook_sandbox.flows.invoice_drafts import draft_invoice
from billhook_sandbox.objects import invoices
from billhook_sandbox.objects.catalog import billed_units
from billhook_sandbox.objects.payment_intents import make_intent
from billhook_sandbox.objects.subscriptions import items_of, make_item, make_subscription
from billhook_sandbox.periods import period_end
from billhook_sandbox.schedule import schedule_at
from billhook_sandbox.store import DataSet, Json

INCOMPLETE_SECONDS = 23 * 3600


def start(data: DataSet, customer: Json, wanted: list[Json], given: Json) -> Json:
    """`wanted` are prices with quantities and metadata; `given` are the request's parameters."""
    method = paying_method(data, customer, given)
    trial_end = trial_end_of(data, given)
    behavior = given.get("payment_behavior", "allow_incomplete")
    by_card = given.get("collection_method", "charge_automatically") == "charge_automatically"
    due = sum((one["price"]["unit_amount"] or 0) * billed_units(one) for one in wanted)
    charged = bool(by_card and due and trial_end is None)
    card = None
    if charged and behavior != "default_incomplete":
        card = first_card(data, method, customer, behavior)
    subscription = make(data, customer, wanted, given, trial_end)
    if charged:
        subscription = data.put({**subscription, "status": "incomplete"})
    name = data.ids.new("invoice")
    subscription = change(data, subscription, latest_invoice=name)
    items, trial = items_of(data, subscription["id"]), trial_end is not None
    # The subscription is told in the state that the first try leaves it in.
    draft = draft_invoice(data, name, subscription, items, "subscription_create", trial)
    plan(data, subscription)
    if card is not None and card.payment == "succeeds":
        subscription = change(data, subscription, status="active")
    emit(data, "customer.subscription.created", subscription)
    if not charged:
        invoice_collection.advance_invoice(data, draft)
        return subscription
    opened = invoice_lifecycle.finalize_and_emit(data, draft)
    if card is None or method is None:
        wait_for_method(data, opened, method)
        return subscription
    found = invoice_lifecycle.attempt_payment(data, opened, method, off_session=False, card=card)
    if isinstance(found, CardError):
        failed = change(data, opened, attempted=True, attempt_count=1)
        emit(data, "invoice.payment_failed", failed)
    return data.need("subscription", subscription["id"])


def paying_method(data: DataSet, customer: Json, given: Json) -> Json | None:
    name = given.get("default_payment_method")
    if name:
        method = data.need("payment_method", name, "default_payment_method")
        if method["customer"] != customer["id"]:
            raise InvalidRequest(
                f"The customer does not have a payment method with the ID {name}.",
                code="resource_missing",
                param="default_payment_method",
            )
        return method
    return data.get("payment_method", customer["invoice_settings"]["default_payment_method"])


def first_card(data: DataSet, method: Json | None, customer: Json, behavior: str) -> Card:
    """How the first try will go; what mustn't stay incomplete is refused before it is written."""
    if method is None:
        raise InvalidRequest(
            "This customer has no attached payment source or default payment method. Please "
            "consider adding a default payment method. For more information, visit "
            "https://stripe.com/docs/billing/subscriptions/payment-methods-setting#payment-method-"
            "priority.",
            code="resource_missing",
        )
    card = charge_attempts.card_for(data, method, customer["id"])
    if behavior == "error_if_incomplete" and card.payment == "declined":
        code, reason = card.error_code, card.decline_code
        raise CardError(DECLINES[reason], code=code, decline_code=reason)
    if behavior == "error_if_incomplete" and card.payment == "requires_authentication":
        message = "Payment for this subscription requires additional user action."
        raise CardError(message, code="subscription_payment_intent_requires_action")
    return card


def trial_end_of(data: DataSet, given: Json) -> int | None:
    if given.get("trial_period_days"):
        return data.clock.now() + int(given["trial_period_days"]) * 86400
    end = given.get("trial_end")
    if end is None or end == "now":
        return None
    if end <= data.clock.now():
        raise InvalidRequest("trial_end must be a timestamp in the future.", param="trial_end")
    return int(end)


def make(
    data: DataSet, customer: Json, wanted: list[Json], given: Json, trial_end: int | None
) -> Json:
    name, now = data.ids.new("subscription"), data.clock.now()
    items = []
    for one in wanted:
        end = trial_end or period_end(now, one["price"]["recurring"], anchor=now)
        item = make_item(data, name, one["price"], one["quantity"], now, end)
        items.append(data.put({**item, "metadata": one["metadata"]}))
    method = data.get("payment_method", given.get("default_payment_method"))
    values: Json = {k: given[k] for k in COPIED if k in given}
    if given.get("trial_settings"):
        wanted_end = given["trial_settings"]["end_behavior"]
        values["trial_settings"] = {"end_behavior": {"billing_cycle_anchor": None, **wanted_end}}
    if trial_end:
        values |= {
            "billing_cycle_anchor": trial_end,
            "status": "trialing",
            "trial_end": trial_end,
            "trial_start": now,
        }
    if given.get("cancel_at_period_end"):
        values |= {"cancel_at": items[0]["current_period_end"], "canceled_at": now}
    subscription = make_subscription(data, customer, method, items, **values)
    if customer["currency"] is None:
        change(data, customer, "customer.updated", currency=subscription["currency"])
    return subscription


COPIED = (
    "cancel_at",
    "cancel_at_period_end",
    "collection_method",
    "days_until_due",
    "description",
    "metadata",
)


def plan(data: DataSet, subscription: Json) -> None:
    """All that happens to it by itself."""
    name = subscription["id"]
    subscription_renewal.schedule_renewal(data, subscription)
    if subscription["cancel_at"]:
        schedule_at(data, subscription["cancel_at"], "end_subscription", subscription=name)
    if subscription["trial_end"]:
        notice = max(
            data.clock.now(), subscription["trial_end"] - subscription_renewal.TRIAL_NOTICE_SECONDS
        )
        schedule_at(data, notice, "emit_trial_will_end", subscription=name)
    if subscription["status"] == "incomplete":
        moment = data.clock.now() + INCOMPLETE_SECONDS
        schedule_at(data, moment, "expire_subscription", subscription=name)


def wait_for_method(data: DataSet, invoice: Json, method: Json | None) -> None:
    """`default_incomplete`: the buyer's page confirms the intent of the open invoice."""
    intent = make_intent(
        data,
        invoice["amount_due"],
        invoice["currency"],
        invoice["customer"],
        method or {"type": "card"},
        description="Subscription creation",
        setup_future_usage="off_session",
    )
    invoices.make_payment(data, invoice, intent["id"])
    emit(data, "payment_intent.created", intent)


def expire_subscription(data: DataSet, subscription: str) -> None:
    """23 hours after its first payment failed."""
    found = data.get("subscription", subscription)
    if found is None or found["status"] != "incomplete":
        return
    ended = {"status": "incomplete_expired", "ended_at": data.clock.now()}
    change(data, found, "customer.subscription.updated", **ended)
    invoice = data.need("invoice", found["latest_invoice"])
    if invoice["status"] == "open":
        invoice_lifecycle.void(data, invoice)
