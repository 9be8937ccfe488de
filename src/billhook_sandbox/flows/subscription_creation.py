"""Subscriptions created by API: the first invoice is charged immediately (stripe-facts 19)."""

from billhook_sandbox.cards import DECLINES, Card
from billhook_sandbox.errors import CardError, CardRefused, InvalidRequest
from billhook_sandbox.event_log import change, emit
from billhook_sandbox.flows import (
    charge_attempts,
    invoice_collection,
    invoice_lifecycle,
    subscription_renewal,
)
from billhook_sandbox.flows.invoice_drafts import draft_invoice
from billhook_sandbox.flows.subscription_discounts import (
    Coupon,
    add_discounts,
    end_used_discounts,
    redeem_discount,
)
from billhook_sandbox.objects.catalog import advance_amount
from billhook_sandbox.objects.discount import discount_amounts, new_discount
from billhook_sandbox.objects.invoice import make_invoice_payment
from billhook_sandbox.objects.payment_intent import make_intent
from billhook_sandbox.objects.subscription import (
    automatic_tax_values,
    items_of,
    make_item,
    make_subscription,
)
from billhook_sandbox.periods import period_end
from billhook_sandbox.schedule import schedule_at
from billhook_sandbox.store import DataSet, Json

INCOMPLETE_SECONDS = 23 * 3600


def create(
    data: DataSet, customer: Json, wanted: list[Json], given: Json, coupons: list[Coupon]
) -> Json:
    """`wanted` has the prices, quantities and metadata of the items, `given` all parameters."""
    method = payment_method_for(data, customer, given)
    trial_end = trial_end_of(data, given)
    behavior = given.get("payment_behavior", "allow_incomplete")
    charges_automatically = (
        given.get("collection_method", "charge_automatically") == "charge_automatically"
    )
    due = first_amount(data, wanted, coupons)
    charged = bool(charges_automatically and due and trial_end is None)
    card = None
    if charged and behavior != "default_incomplete":
        card = card_for_first_payment(data, method, customer, behavior)
    subscription = create_subscription(data, customer, wanted, given, trial_end)
    discounts = add_discounts(data, coupons, customer["id"], subscription["id"])
    values: Json = {"discounts": [each["id"] for each in discounts]}
    if charged:
        values["status"] = "incomplete"
    subscription = data.put({**subscription, **values})
    invoice_id = data.ids.new("invoice")
    subscription = change(data, subscription, latest_invoice=invoice_id)
    items, trial = items_of(data, subscription["id"]), trial_end is not None
    # `customer.subscription.created` has the status after the first payment attempt.
    draft = draft_invoice(data, invoice_id, subscription, items, "subscription_create", trial)
    schedule_jobs(data, subscription)
    if card is not None and card.payment == "succeeds":
        subscription = change(data, subscription, status="active")
    for discount in discounts:
        redeem_discount(data, discount)
        emit(data, "customer.discount.created", discount)
    emit(data, "customer.subscription.created", subscription)
    end_used_discounts(data, draft)
    if not charged:
        invoice_collection.advance_invoice(data, draft)
        return data.need("subscription", subscription["id"])
    opened = invoice_lifecycle.finalize_and_emit(data, draft)
    if card is None or method is None:
        create_open_payment(data, opened, method)
        return data.need("subscription", subscription["id"])
    found = invoice_lifecycle.attempt_payment(data, opened, method, off_session=False, card=card)
    if isinstance(found, CardError):
        failed = change(data, opened, attempted=True, attempt_count=1)
        emit(data, "invoice.payment_failed", failed)
    return data.need("subscription", subscription["id"])


def first_amount(data: DataSet, wanted: list[Json], coupons: list[Coupon]) -> int:
    """What the first invoice charges, before taxes."""
    amounts = [advance_amount(data, each) for each in wanted]
    discounts = [new_discount(data, data.need("coupon", coupon)) for coupon, _ in coupons]
    taken = discount_amounts(data, discounts, amounts)
    return sum(amounts) - sum(part for parts in taken for _, part in parts)


def payment_method_for(data: DataSet, customer: Json, given: Json) -> Json | None:
    method_id = given.get("default_payment_method")
    if method_id:
        method = data.need("payment_method", method_id, "default_payment_method")
        if method["customer"] != customer["id"]:
            raise InvalidRequest(
                f"The customer does not have a payment method with the ID {method_id}.",
                code="resource_missing",
                param="default_payment_method",
            )
        return method
    return data.get("payment_method", customer["invoice_settings"]["default_payment_method"])


def card_for_first_payment(
    data: DataSet, method: Json | None, customer: Json, behavior: str
) -> Card:
    """The test card that decides the first payment. Raises CardRefused if the payment fails and
    `behavior` is `error_if_incomplete`."""
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
        raise CardRefused(DECLINES[reason], code=code, decline_code=reason)
    if behavior == "error_if_incomplete" and card.payment == "requires_authentication":
        message = "Payment for this subscription requires additional user action."
        raise CardRefused(message, code="subscription_payment_intent_requires_action")
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


def create_subscription(
    data: DataSet, customer: Json, wanted: list[Json], given: Json, trial_end: int | None
) -> Json:
    subscription_id, now = data.ids.new("subscription"), data.clock.now()
    items = []
    for each in wanted:
        end = trial_end or period_end(now, each["price"]["recurring"], anchor=now)
        item = make_item(data, subscription_id, each["price"], each["quantity"], now, end)
        items.append(data.put({**item, "metadata": each["metadata"]}))
    method = data.get("payment_method", given.get("default_payment_method"))
    values: Json = {k: given[k] for k in COPIED if k in given}
    values |= trial_values(data, given, trial_end)
    if given.get("cancel_at_period_end"):
        values |= {"cancel_at": items[0]["current_period_end"], "canceled_at": now}
    values |= automatic_tax_values(given.get("automatic_tax", {}).get("enabled", False))
    subscription = make_subscription(data, customer, method, items, **values)
    if customer["currency"] is None:
        change(data, customer, "customer.updated", currency=subscription["currency"])
    return subscription


def trial_values(data: DataSet, given: Json, trial_end: int | None) -> Json:
    """The fields of a subscription that begins with a trial."""
    values: Json = {}
    if given.get("trial_settings"):
        end_behavior = given["trial_settings"]["end_behavior"]
        values["trial_settings"] = {"end_behavior": {"billing_cycle_anchor": None, **end_behavior}}
    if trial_end:
        values |= {
            "billing_cycle_anchor": trial_end,
            "status": "trialing",
            "trial_end": trial_end,
            "trial_start": data.clock.now(),
        }
    return values


COPIED = (
    "cancel_at",
    "cancel_at_period_end",
    "collection_method",
    "days_until_due",
    "description",
    "metadata",
)


def schedule_jobs(data: DataSet, subscription: Json) -> None:
    """Schedules everything that happens to the subscription automatically."""
    subscription_id = subscription["id"]
    subscription_renewal.schedule_renewal(data, subscription)
    if subscription["cancel_at"]:
        schedule_at(
            data, subscription["cancel_at"], "end_subscription", subscription=subscription_id
        )
    if subscription["trial_end"]:
        notice_at = max(
            data.clock.now(), subscription["trial_end"] - subscription_renewal.TRIAL_NOTICE_SECONDS
        )
        schedule_at(data, notice_at, "emit_trial_will_end", subscription=subscription_id)
    if subscription["status"] == "incomplete":
        expires_at = data.clock.now() + INCOMPLETE_SECONDS
        schedule_at(data, expires_at, "expire_subscription", subscription=subscription_id)


def create_open_payment(data: DataSet, invoice: Json, method: Json | None) -> None:
    """For `default_incomplete`: creates the intent with which the app pays the open invoice."""
    intent = make_intent(
        data,
        invoice["amount_due"],
        invoice["currency"],
        invoice["customer"],
        method or {"type": "card"},
        description="Subscription creation",
        setup_future_usage="off_session",
    )
    make_invoice_payment(data, invoice, intent["id"])
    emit(data, "payment_intent.created", intent)


def expire_subscription(data: DataSet, subscription: str) -> None:
    """Runs 23 hours after the first payment failed."""
    found = data.get("subscription", subscription)
    if found is None or found["status"] != "incomplete":
        return
    ended = {"status": "incomplete_expired", "ended_at": data.clock.now()}
    change(data, found, "customer.subscription.updated", **ended)
    invoice = data.need("invoice", found["latest_invoice"])
    if invoice["status"] == "open":
        invoice_lifecycle.void(data, invoice)
