"""Checkout Sessions: create, read, update, expire."""

from billhook_sandbox.api.checkout_options import (
    OPTIONS,
    SUBSCRIPTION_DATA,
    adjustable_quantity,
    check_options,
    inline_price,
    missing,
    shipping_options,
)
from billhook_sandbox.api.customers import SHIPPING
from billhook_sandbox.api.prices import RECURRING, TAX_BEHAVIOR, check_amount
from billhook_sandbox.errors import InvalidRequest
from billhook_sandbox.flows.checkout_expiry import expire_session
from billhook_sandbox.flows.checkout_totals import Cart, calculate, save_totals
from billhook_sandbox.objects.catalog import quantity_of
from billhook_sandbox.objects.checkout_session import make_line_item, make_record, make_session
from billhook_sandbox.objects.coupon import usable_coupon
from billhook_sandbox.objects.discount import discount_by_code, new_discount
from billhook_sandbox.objects.setup_intent import make_setup_intent
from billhook_sandbox.objects.taxes import location_of
from billhook_sandbox.pagination import matching, page, page_of_items
from billhook_sandbox.params import (
    EXPAND,
    RETRIEVE,
    Form,
    array,
    at_least,
    boolean,
    changed_values,
    currency,
    decimal,
    email,
    integer,
    list_form,
    merge_metadata,
    metadata,
    one_of,
    text,
    url,
)
from billhook_sandbox.routing import Call, Operation
from billhook_sandbox.schedule import schedule_at
from billhook_sandbox.store import DataSet, Json

PRICE_DATA = Form(
    {
        "currency": currency,
        "product": text,
        "product_data": Form(
            {
                "name": text,
                "description": text,
                "images": array(url),
                "metadata": metadata,
                "tax_code": text,
            },
            required=("name",),
        ),
        "recurring": RECURRING,
        "tax_behavior": TAX_BEHAVIOR,
        "unit_amount": at_least(0),
        "unit_amount_decimal": decimal,
    },
    required=("currency",),
)
LINE_ITEM = Form(
    {
        "adjustable_quantity": Form(
            {"enabled": boolean, "minimum": integer, "maximum": integer}, required=("enabled",)
        ),
        "metadata": metadata,
        "price": text,
        "price_data": PRICE_DATA,
        "quantity": at_least(1),
    }
)
AUTO = one_of("auto", "never")
DISCOUNT = Form({"coupon": text, "promotion_code": text})
PAYMENT_INTENT_DATA = Form(
    {
        "description": text,
        "metadata": metadata,
        "receipt_email": email,
        "setup_future_usage": one_of("off_session", "on_session"),
        "shipping": SHIPPING,
        "statement_descriptor": text,
        "statement_descriptor_suffix": text,
    }
)
# Without `payment_method_types`, which version endive removed (stripe-facts 43).
CREATE = Form(
    {
        **EXPAND,
        **OPTIONS,
        "allowed_payment_method_types": array(text),
        "cancel_url": url,
        "client_reference_id": text,
        "currency": currency,
        "customer": text,
        "customer_creation": one_of("always", "if_required"),
        "customer_email": email,
        "customer_update": Form({"address": AUTO, "name": AUTO, "shipping": AUTO}),
        "discounts": array(DISCOUNT),
        "expires_at": integer,
        "line_items": array(LINE_ITEM),
        "metadata": metadata,
        "mode": one_of("payment", "setup", "subscription"),
        "payment_intent_data": PAYMENT_INTENT_DATA,
        "return_url": url,
        "setup_intent_data": Form({"description": text, "metadata": metadata}),
        "submit_type": one_of("auto", "book", "donate", "pay", "subscribe"),
        "subscription_data": SUBSCRIPTION_DATA,
        "success_url": url,
        "ui_mode": one_of("elements", "embedded_page", "form", "hosted_page"),
    }
)
UPDATE = Form({**EXPAND, "metadata": metadata})
LIST = list_form(
    customer=text,
    customer_details=Form({"email": email}),
    payment_intent=text,
    status=one_of("complete", "expired", "open"),
    subscription=text,
)
LINE_ITEMS = list_form()
MINIMUM_AMOUNTS = {"eur": 50, "usd": 50}


def create(call: Call) -> Json:
    data, given = call.data, dict(call.params)
    given["mode"] = check_params(call, given)
    items = [line_item(data, i, item) for i, item in enumerate(given.get("line_items", []))]
    currency_ = items[0]["currency"] if items else given.get("currency")
    given["metadata"] = merge_metadata({}, given.get("metadata", {}))
    session_id = data.ids.checkout_session(data.livemode)
    values = cart_values(data, session_id, given, items) if items else {}
    page_url = f"{call.base_url}/c/pay/{session_id}"
    make_record(data, session_id, given, page_url=page_url, **values)
    session = make_session(data, session_id, given, currency_, page_url)
    session = with_cart(data, session, values) if items else with_setup_intent(data, session, given)
    schedule_at(data, session["expires_at"], "expire_session", session=session["id"])
    return session


def cart_values(data: DataSet, session_id: str, given: Json, items: list[Json]) -> Json:
    """What the totals depend on, checked: it is stored in the session's record."""
    check_prices(given["mode"], [item["price"] for item in items])
    trial = bool(given.get("subscription_data", {}).keys() & {"trial_end", "trial_period_days"})
    location = location_of(data.get("customer", given.get("customer")))
    cart = Cart(items, [], None, False, location, trial)
    total = calculate(data, cart).session["amount_subtotal"]
    discounts = session_discounts(data, session_id, given, total, items[0]["currency"])
    check_total(calculate(data, cart._replace(discounts=discounts)).items)
    options = shipping_options(data, given.get("shipping_options", []), items[0]["currency"])
    return {
        "discounts": discounts,
        "line_items": items,
        "location": location and list(location),
        "shipping_options": options,
        "shipping_rate": options[0]["shipping_rate"] if options else None,
        "trial": trial,
    }


def with_cart(data: DataSet, session: Json, values: Json) -> Json:
    """The session with its totals. The first shipping option is selected at first."""
    for discount in values["discounts"]:
        data.put(discount)
    session = data.put({**session, "shipping_options": values["shipping_options"]})
    return save_totals(data, session, data.need("_checkout", session["id"]))


def with_setup_intent(data: DataSet, session: Json, given: Json) -> Json:
    """In setup mode, the session has its intent from the start."""
    types = session["payment_method_types"]
    values = {"customer": session["customer"], **given.get("setup_intent_data", {})}
    intent = make_setup_intent(data, values, types)
    return data.put({**session, "setup_intent": intent["id"]})


def check_params(call: Call, given: Json) -> str:
    """Checks everything that does not need the prices; returns the mode."""
    if given.get("mode") == "setup":
        if "currency" not in given and "allowed_payment_method_types" not in given:
            missing("currency", "You must specify `currency` in `setup` mode.")
    elif not given.get("line_items"):
        missing("line_items", "You must specify line items for payment and subscription mode.")
    if "mode" not in given:
        missing("mode", "You must specify `mode` when creating a Checkout Session.")
    if "customer" in given:
        if "customer_email" in given:
            message = "You may only specify one of these parameters: customer, customer_email."
            raise InvalidRequest(message, param="customer_email")
        if "customer_creation" in given:
            message = "You can't use `customer_creation` together with `customer`."
            raise InvalidRequest(message, param="customer_creation")
        call.data.need("customer", given["customer"], "customer")
    check_options(call.data, given, given["mode"])
    now = call.data.clock.now()
    if "expires_at" in given and not now + 1790 <= given["expires_at"] <= now + 24 * 3600 + 10:
        raise InvalidRequest(
            "The `expires_at` timestamp must be at least 30 minutes and at most 24 hours from "
            "Checkout Session creation.",
            param="expires_at",
        )
    return str(given["mode"])


def line_item(data: DataSet, index: int, given: Json) -> Json:
    param = f"line_items[{index}]"
    if ("price" in given) == ("price_data" in given):
        message = f"You must specify one of `{param}[price]` or `{param}[price_data]`."
        raise InvalidRequest(message, code="parameter_missing", param=f"{param}[price]")
    if "price_data" in given:
        check_amount(given["price_data"], f"{param}[price_data][unit_amount]")
        price = inline_price(data, param, given["price_data"])
    else:
        price = data.need("price", given["price"], f"{param}[price]")
        if not price["active"]:
            message = "The price specified is inactive. This field only accepts active prices."
            raise InvalidRequest(message, param=f"{param}[price]")
    quantity = quantity_of(given, price, param)
    adjustable = adjustable_quantity(given, quantity, param)
    metadata_ = merge_metadata({}, given.get("metadata", {}))
    return make_line_item(data, price, quantity, adjustable, metadata_)


def check_prices(mode: str, prices: list[Json]) -> None:
    recurring = [price["type"] == "recurring" for price in prices]
    if mode == "payment" and any(recurring):
        raise InvalidRequest(
            "You specified `payment` mode but passed a recurring price. Either switch to "
            "`subscription` mode or use only one-time prices.",
            param=f"line_items[{recurring.index(True)}]",
        )
    if mode == "subscription" and not any(recurring):
        message = "You must provide at least one recurring price in `subscription` mode."
        raise InvalidRequest(message, param="line_items[0]")
    if len({price["currency"] for price in prices}) > 1:
        message = "All line items must have prices of the same currency."
        raise InvalidRequest(message, param="line_items")
    intervals = {
        (price["recurring"]["interval"], price["recurring"]["interval_count"])
        for price in prices
        if price["recurring"]
    }
    if len(intervals) > 1:
        message = "Checkout does not support multiple prices with different billing intervals."
        raise InvalidRequest(message, param="line_items")


def session_discounts(
    data: DataSet, session_id: str, given: Json, total: int, currency_: str
) -> list[Json]:
    """The discounts of the session, not stored yet."""
    if not given.get("discounts"):
        return []
    check_discounts(given)
    wanted = given["discounts"][0]
    if "promotion_code" in wanted:
        param = "discounts[0][promotion_code]"
        code = data.need("promotion_code", wanted["promotion_code"], param)
        discount = discount_by_code(data, code, given.get("customer"), total, currency_, param)
    else:
        coupon = usable_coupon(data, wanted["coupon"], currency_, "discounts[0][coupon]")
        discount = new_discount(data, coupon, customer=given.get("customer"))
    return [{**discount, "checkout_session": session_id}]


def check_discounts(given: Json) -> None:
    if given.get("allow_promotion_codes") is not None:
        message = "You may only specify one of these parameters: allow_promotion_codes, discounts."
        raise InvalidRequest(message, param="discounts")
    if len(given["discounts"]) > 1:
        message = "You can only apply one discount to a Checkout Session."
        raise InvalidRequest(message, param="discounts")
    if len(given["discounts"][0]) != 1:
        message = (
            "You must specify one of `discounts[0][coupon]` or `discounts[0][promotion_code]`."
        )
        raise InvalidRequest(message, param="discounts[0]")


def check_total(items: list[Json]) -> None:
    total, currency_ = sum(item["amount_total"] for item in items), items[0]["currency"]
    minimum = MINIMUM_AMOUNTS.get(currency_, 0)
    if 0 < total < minimum:
        raise InvalidRequest(
            "The Checkout Session's total amount due must add up to at least "
            f"{minimum / 100:.2f} {currency_}",
            code="amount_too_small",
        )


def retrieve(call: Call) -> Json:
    return call.data.need("checkout.session", call.id)


def update(call: Call) -> Json:
    session = call.data.need("checkout.session", call.id)
    return call.data.put({**session, **changed_values(session, call.params)})


def list_(call: Call) -> Json:
    matches = matching(call, "customer", "status", "subscription")
    email_ = call.params.get("customer_details", {}).get("email")

    def keep(session: Json) -> bool:
        details = session["customer_details"] or {}
        return matches(session) and (email_ is None or details.get("email") == email_)

    return page(call, "checkout.session", "/v1/checkout/sessions", keep, by="payment_intent")


def list_line_items(call: Call) -> Json:
    call.data.need("checkout.session", call.id)
    items = call.data.need("_checkout", call.id)["line_items"]
    return page_of_items(items, call, f"/v1/checkout/sessions/{call.id}/line_items")


def expire(call: Call) -> Json:
    session = call.data.need("checkout.session", call.id)
    if session["status"] != "open":
        raise InvalidRequest(
            'Only Checkout Sessions with a status in ["open"] can be expired. This Checkout '
            f"Session has a status of {session['status']}."
        )
    return expire_session(call.data, session)


OPERATIONS = (
    Operation("POST", "/v1/checkout/sessions", CREATE, create),
    Operation("GET", "/v1/checkout/sessions", LIST, list_),
    Operation("GET", "/v1/checkout/sessions/{id}", RETRIEVE, retrieve),
    Operation("POST", "/v1/checkout/sessions/{id}", UPDATE, update),
    Operation("GET", "/v1/checkout/sessions/{id}/line_items", LINE_ITEMS, list_line_items),
    Operation("POST", "/v1/checkout/sessions/{id}/expire", Form(EXPAND), expire),
)
