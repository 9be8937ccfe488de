"""Subscriptions: create, read, update, cancel, resume."""

from typing import Any

from billhook_sandbox.api.checkout_sessions import PRICE_DATA
from billhook_sandbox.api.prices import check_amount
from billhook_sandbox.api.subscription_discounts import (
    DISCOUNTS,
    Order,
    changed_discounts,
    new_coupons,
)
from billhook_sandbox.errors import InvalidRequest, NotSupported, resource_missing
from billhook_sandbox.event_log import change
from billhook_sandbox.flows import (
    immediate_cancellation,
    proration,
    subscription_creation,
    subscription_pause,
    subscription_renewal,
)
from billhook_sandbox.flows.subscription_cancellation import (
    ENDED,
    with_cancel_at_period_end,
)
from billhook_sandbox.flows.subscription_changes import MAX_ITEMS, change_items, recurring_price
from billhook_sandbox.objects.catalog import advance_amount, make_price, make_product, quantity_of
from billhook_sandbox.objects.subscription import automatic_tax_values, items_of, with_items
from billhook_sandbox.pagination import page
from billhook_sandbox.params import (
    EXPAND,
    RETRIEVE,
    Form,
    array,
    at_least,
    boolean,
    clearable,
    currency,
    integer,
    list_form,
    merge_metadata,
    metadata,
    one_of,
    text,
)
from billhook_sandbox.routing import Call, Operation
from billhook_sandbox.schedule import schedule_at
from billhook_sandbox.store import DataSet, Json

FEEDBACK = one_of(
    "customer_service",
    "low_quality",
    "missing_features",
    "other",
    "switched_service",
    "too_complex",
    "too_expensive",
    "unused",
)
DETAILS = Form({"comment": clearable(text), "feedback": clearable(FEEDBACK)})
ITEM = Form(
    {
        "clear_usage": boolean,
        "deleted": boolean,
        "id": text,
        "metadata": metadata,
        "price": text,
        "quantity": at_least(0),
    }
)


def timestamp_or_now(raw: Any, param: str) -> int | str:
    return "now" if raw == "now" else integer(raw, param)


PAUSE = Form(
    {"behavior": one_of("keep_as_draft", "mark_uncollectible", "void"), "resumes_at": integer}
)
TRIAL = Form(
    {
        "end_behavior": Form(
            {"missing_payment_method": one_of("cancel", "create_invoice", "pause")},
            required=("missing_payment_method",),
        )
    }
)
FIRST_ITEM = Form(
    {"metadata": metadata, "price": text, "price_data": PRICE_DATA, "quantity": at_least(0)}
)
AUTOMATIC_TAX = Form({"enabled": boolean}, required=("enabled",))
PRORATION = one_of("always_invoice", "create_prorations", "none")
PAYMENT_BEHAVIOR = one_of(
    "allow_incomplete", "default_incomplete", "error_if_incomplete", "pending_if_incomplete"
)
COLLECTION = one_of("charge_automatically", "send_invoice")
CREATE = Form(
    {
        **EXPAND,
        "automatic_tax": AUTOMATIC_TAX,
        "cancel_at": integer,
        "cancel_at_period_end": boolean,
        "collection_method": COLLECTION,
        "currency": currency,
        "customer": text,
        "days_until_due": at_least(0),
        "default_payment_method": text,
        "description": text,
        "discounts": DISCOUNTS,
        "items": array(FIRST_ITEM),
        "metadata": metadata,
        "off_session": boolean,
        "payment_behavior": PAYMENT_BEHAVIOR,
        "proration_behavior": PRORATION,
        "trial_end": timestamp_or_now,
        "trial_period_days": at_least(1),
        "trial_settings": TRIAL,
    },
    required=("customer",),
)
RESUME = Form({**EXPAND, "billing_cycle_anchor": one_of("now"), "proration_behavior": PRORATION})
UPDATE = Form(
    {
        **EXPAND,
        "automatic_tax": AUTOMATIC_TAX,
        "cancel_at": clearable(integer),
        "discounts": DISCOUNTS,
        "off_session": boolean,
        "pause_collection": clearable(PAUSE),
        "payment_behavior": PAYMENT_BEHAVIOR,
        "trial_end": timestamp_or_now,
        "cancel_at_period_end": boolean,
        "cancellation_details": DETAILS,
        "default_payment_method": text,
        "description": clearable(text),
        "items": array(ITEM),
        "metadata": metadata,
        "proration_behavior": PRORATION,
        "proration_date": integer,
    }
)
CANCEL = Form(
    {
        **EXPAND,
        "cancellation_details": DETAILS,
        "invoice_now": boolean,
        "prorate": boolean,
    }
)
STATUSES = (
    "active",
    "all",
    "canceled",
    "ended",
    "incomplete",
    "incomplete_expired",
    "past_due",
    "paused",
    "trialing",
    "unpaid",
)
LIST = list_form(collection_method=text, customer=text, price=text, status=one_of(*STATUSES))


def retrieve(call: Call) -> Json:
    return call.data.need("subscription", call.id)


def list_(call: Call) -> Json:
    """Without a status, canceled subscriptions are left out (stripe-facts 22)."""
    status, price = call.params.get("status"), call.params.get("price")

    def keep(subscription: Json) -> bool:
        found = subscription["status"]
        matches = {
            None: found != "canceled",
            "all": True,
            "ended": found in ENDED,
        }.get(status, found == status)
        return matches and (price is None or has_price(call.data, subscription, price))

    return page(call, "subscription", "/v1/subscriptions", keep, by="customer")


def has_price(data: DataSet, subscription: Json, price: str) -> bool:
    return any(item["price"]["id"] == price for item in items_of(data, subscription["id"]))


def update(call: Call) -> Json:
    data, given = call.data, call.params
    subscription = data.need("subscription", call.id)
    if subscription["status"] in ENDED and given.keys() - {
        "cancellation_details",
        "expand",
        "metadata",
    }:
        raise InvalidRequest(
            "A canceled subscription can only update its cancellation_details and metadata.",
        )
    if given.get("payment_behavior") == "pending_if_incomplete":
        check_pending(subscription, given)
    values = changed_fields(data, subscription, given)
    if "items" in given:
        return change_items(data, subscription, given["items"], given, values)
    subscription = change(data, subscription, "customer.subscription.updated", **values)
    if "trial_end" in given:
        subscription_renewal.schedule_renewal(data, subscription)
    return subscription


PENDING = (
    "expand",
    "items",
    "metadata",
    "off_session",
    "payment_behavior",
    "proration_behavior",
    "proration_date",
)
"""What can be changed with `pending_if_incomplete`."""


def check_pending(subscription: Json, given: Json) -> None:
    pending = "`payment_behavior=pending_if_incomplete`"
    if subscription["collection_method"] != "charge_automatically":
        message = f"{pending} needs `collection_method=charge_automatically`."
        raise InvalidRequest(message, param="payment_behavior")
    for name in sorted(given.keys() - set(PENDING)):
        if name in ("cancel_at_period_end", "discounts", "trial_end"):
            raise NotSupported(
                f"`{name}` with {pending} is not supported by the sandbox yet.",
                code="sandbox_not_built",
                param=name,
            )
        message = f"{pending} cannot be used together with `{name}`. Use separate requests."
        raise InvalidRequest(message, param=name)


def changed_fields(data: DataSet, subscription: Json, given: Json) -> Json:
    """The changed fields of the subscription, except for its items."""
    values: Json = {k: given[k] for k in ("description",) if k in given}
    if "default_payment_method" in given:
        method = data.need(
            "payment_method", given["default_payment_method"], "default_payment_method"
        )
        values["default_payment_method"] = method["id"]
    if "metadata" in given:
        values["metadata"] = merge_metadata(subscription["metadata"], given["metadata"])
    if "cancel_at_period_end" in given:
        values |= with_cancel_at_period_end(data, subscription, given["cancel_at_period_end"])
    if "cancel_at" in given:
        values |= cancel_at(data, subscription, given["cancel_at"])
    if "pause_collection" in given:
        values |= subscription_pause.paused(data, subscription, given["pause_collection"])
    if "automatic_tax" in given:
        values |= automatic_tax_values(given["automatic_tax"]["enabled"])
    if "discounts" in given:
        values |= changed_discounts(data, subscription, given["discounts"])
    if "cancellation_details" in given:
        before = values.get("cancellation_details") or subscription["cancellation_details"]
        values["cancellation_details"] = {**before, **given["cancellation_details"]}
    if "trial_end" in given:
        values |= move_trial(data, subscription, given["trial_end"])
    return values


def cancel_at(data: DataSet, subscription: Json, time: int | None) -> Json:
    now = data.clock.now()
    details = subscription["cancellation_details"]
    if time is None:
        cleared = {"cancel_at": None, "cancel_at_period_end": False, "canceled_at": None}
        return {**cleared, "cancellation_details": {**details, "reason": None}}
    if time <= now:
        raise InvalidRequest("`cancel_at` must be in the future.", param="cancel_at")
    schedule_at(data, time, "end_subscription", subscription=subscription["id"])
    reason = {"cancellation_details": {**details, "reason": "cancellation_requested"}}
    return {"cancel_at": time, "cancel_at_period_end": False, "canceled_at": now, **reason}


def move_trial(data: DataSet, subscription: Json, end: int | str) -> Json:
    """Changes the end of the trial, where the subscription is renewed and billed."""
    if subscription["status"] != "trialing":
        raise InvalidRequest(
            "You can only set `trial_end` while the subscription is in its trial.",
            param="trial_end",
        )
    trial_end = data.clock.now() if end == "now" else int(end)
    items = [
        {**item, "current_period_end": trial_end} for item in items_of(data, subscription["id"])
    ]
    changes = with_items(data, subscription, items)
    return {**changes, "billing_cycle_anchor": trial_end, "trial_end": trial_end}


def create(call: Call) -> Json:
    data, given = call.data, dict(call.params)
    customer = data.need("customer", given["customer"], "customer")
    if not given.get("items"):
        message = "Missing required param: items."
        raise InvalidRequest(message, code="parameter_missing", param="items")
    wanted = [first_item(data, item, i) for i, item in enumerate(given["items"])]
    if len(wanted) > MAX_ITEMS:
        message = f"A subscription must have between 1 and {MAX_ITEMS} items."
        raise InvalidRequest(message, param="items")
    if given.get("payment_behavior") == "pending_if_incomplete":
        message = "`payment_behavior=pending_if_incomplete` is only for updates of a subscription."
        raise InvalidRequest(message, param="payment_behavior")
    given["metadata"] = merge_metadata({}, given.get("metadata"))
    currency_ = wanted[0]["price"]["currency"]
    total = sum(advance_amount(data, each) for each in wanted)
    order = Order(customer["id"], currency_, total)
    coupons = new_coupons(data, given.get("discounts") or [], order)
    return subscription_creation.create(data, customer, wanted, given, coupons)


def first_item(data: DataSet, given: Json, i: int) -> Json:
    if "price_data" in given:
        price = create_price(data, given["price_data"], f"items[{i}][price_data]")
    elif "price" in given:
        price = recurring_price(data, given["price"], f"items[{i}][price]")
    else:
        param = f"items[{i}][price]"
        message = f"Missing required param: {param}."
        raise InvalidRequest(message, code="parameter_missing", param=param)
    return {
        "metadata": merge_metadata({}, given.get("metadata")),
        "price": price,
        "quantity": quantity_of(given, price, f"items[{i}]", default=1),
    }


def create_price(data: DataSet, given: Json, param: str) -> Json:
    """Creates a price for this subscription only."""
    if "recurring" not in given:
        message = f"Missing required param: {param}[recurring]."
        raise InvalidRequest(message, code="parameter_missing", param=f"{param}[recurring]")
    check_amount(given, f"{param}[unit_amount]")
    if "product_data" in given:
        product = make_product(data, given["product_data"])["id"]
    else:
        product = data.need("product", given.get("product", ""), f"{param}[product]")["id"]
    return make_price(data, {**given, "active": False, "product": product})


def resume(call: Call) -> Json:
    subscription = call.data.need("subscription", call.id)
    if subscription["status"] != "paused":
        raise InvalidRequest("You can only resume a subscription that is paused.")
    return proration.resume(call.data, subscription)


def cancel(call: Call) -> Json:
    """Canceling a second time fails with 404 (stripe-facts 22)."""
    subscription = call.data.need("subscription", call.id)
    if subscription["status"] in ENDED:
        raise resource_missing("subscription", call.id, "id", 404)
    flags = {name: call.params.get(name, False) for name in ("invoice_now", "prorate")}
    details = call.params.get("cancellation_details")
    return immediate_cancellation.cancel(call.data, subscription, details, **flags)


OPERATIONS = (
    Operation("POST", "/v1/subscriptions", CREATE, create),
    Operation("GET", "/v1/subscriptions", LIST, list_),
    Operation("GET", "/v1/subscriptions/{id}", RETRIEVE, retrieve),
    Operation("POST", "/v1/subscriptions/{id}", UPDATE, update),
    Operation("POST", "/v1/subscriptions/{id}/resume", RESUME, resume),
    Operation("DELETE", "/v1/subscriptions/{id}", CANCEL, cancel),
)
