"""The parameters with which a Checkout Session collects more than a payment, and their rules."""

import re

from billhook_sandbox.api.shipping_rates import RATE_DATA, require_amount
from billhook_sandbox.errors import InvalidRequest
from billhook_sandbox.objects.catalog import make_price, make_product
from billhook_sandbox.objects.shipping_rate import make_shipping_rate
from billhook_sandbox.params import (
    Form,
    ParamType,
    array,
    at_least,
    boolean,
    clearable,
    integer,
    metadata,
    one_of,
    text,
)
from billhook_sandbox.store import DataSet, Json

SWITCH = Form({"enabled": boolean}, required=("enabled",))
SELF = Form({"type": one_of("self")}, required=("type",))
MESSAGE = clearable(Form({"message": text}, required=("message",)))
LENGTHS: dict[str, ParamType] = {
    "default_value": text,
    "maximum_length": at_least(1),
    "minimum_length": at_least(1),
}
OPTION = Form({"label": text, "value": text}, required=("label", "value"))
CUSTOM_FIELD = Form(
    {
        "dropdown": Form({"default_value": text, "options": array(OPTION)}, required=("options",)),
        "key": text,
        "label": Form({"custom": text, "type": one_of("custom")}, required=("custom", "type")),
        "numeric": Form(LENGTHS),
        "optional": boolean,
        "text": Form(LENGTHS),
        "type": one_of("dropdown", "numeric", "text"),
    },
    required=("key", "label", "type"),
)
INVOICE_FIELD = Form({"name": text, "value": text}, required=("name", "value"))
INVOICE_DATA = Form(
    {
        "custom_fields": clearable(array(INVOICE_FIELD)),
        "description": text,
        "footer": text,
        "metadata": metadata,
    }
)
TRIAL_SETTINGS = Form(
    {
        "end_behavior": Form(
            {"missing_payment_method": one_of("cancel", "create_invoice", "pause")},
            required=("missing_payment_method",),
        )
    },
    required=("end_behavior",),
)
OPTIONS: dict[str, ParamType] = {
    "allow_promotion_codes": boolean,
    "automatic_tax": Form({"enabled": boolean, "liability": SELF}, required=("enabled",)),
    "billing_address_collection": one_of("auto", "required"),
    "consent_collection": Form(
        {
            "payment_method_reuse_agreement": Form({"position": one_of("auto", "hidden")}),
            "promotions": one_of("auto", "none"),
            "terms_of_service": one_of("none", "required"),
        }
    ),
    "custom_fields": array(CUSTOM_FIELD),
    "custom_text": Form(
        {
            part: MESSAGE
            for part in (
                "after_submit",
                "shipping_address",
                "submit",
                "terms_of_service_acceptance",
            )
        }
    ),
    "invoice_creation": Form(
        {"enabled": boolean, "invoice_data": INVOICE_DATA}, required=("enabled",)
    ),
    "locale": text,
    "payment_method_collection": one_of("always", "if_required"),
    "payment_method_data": Form({"allow_redisplay": one_of("always", "limited", "unspecified")}),
    "phone_number_collection": SWITCH,
    "redirect_on_completion": one_of("always", "if_required", "never"),
    "saved_payment_method_options": Form(
        {
            "allow_redisplay_filters": array(one_of("always", "limited", "unspecified")),
            "payment_method_remove": one_of("disabled", "enabled"),
            "payment_method_save": one_of("disabled", "enabled"),
        }
    ),
    "shipping_address_collection": Form(
        {"allowed_countries": array(text)}, required=("allowed_countries",)
    ),
    "shipping_options": array(Form({"shipping_rate": text, "shipping_rate_data": RATE_DATA})),
    "tax_id_collection": Form(
        {"enabled": boolean, "required": one_of("if_supported", "never")}, required=("enabled",)
    ),
}
SUBSCRIPTION_DATA = Form(
    {
        "description": text,
        "metadata": metadata,
        "trial_end": integer,
        "trial_period_days": at_least(1),
        "trial_settings": TRIAL_SETTINGS,
    }
)
ONLY_IN_MODE = {
    "customer_creation": ("payment", "setup"),
    "invoice_creation": ("payment",),
    "payment_intent_data": ("payment",),
    "payment_method_collection": ("subscription",),
    "saved_payment_method_options": ("payment", "subscription"),
    "setup_intent_data": ("setup",),
    "shipping_options": ("payment",),
    "subscription_data": ("subscription",),
}
NOT_IN_SETUP = (
    "allow_promotion_codes",
    "automatic_tax",
    "discounts",
    "line_items",
    "shipping_address_collection",
    "submit_type",
    "tax_id_collection",
)
EMBEDDED = ("embedded_page", "elements", "form")
"""The modes without a page at Stripe: the app's own page shows the checkout, with the client
secret."""

MAX_CUSTOM_FIELDS, MAX_DROPDOWN_OPTIONS, MAX_SHIPPING_OPTIONS = 3, 200, 5
MAX_TEXT = 1200
MAX_QUANTITY = 999_999
MIN_TRIAL_SECONDS = 48 * 3600
MAX_TRIAL_DAYS = 730


def check_options(data: DataSet, given: Json, mode: str) -> None:
    """Raises InvalidRequest for options that Stripe refuses, before anything is created."""
    if mode == "setup":
        for param in NOT_IN_SETUP:
            if param in given:
                refuse(f"You can not pass `{param}` in `setup` mode.", param)
    for param, modes in ONLY_IN_MODE.items():
        if param in given and mode not in modes:
            names = " or ".join(f"`{each}`" for each in modes)
            refuse(f"You can only use `{param}` in {names} mode.", param)
    check_ui_mode(given)
    check_custom_fields(given.get("custom_fields", []))
    check_custom_text(given)
    check_customer_update(data, given)
    check_trial(data, given.get("subscription_data", {}))
    if given.get("shipping_address_collection", {}).get("allowed_countries") == []:
        param = "shipping_address_collection[allowed_countries]"
        refuse("You must specify at least one country.", param)
    if len(given.get("shipping_options", [])) > MAX_SHIPPING_OPTIONS:
        message = f"You can pass at most {MAX_SHIPPING_OPTIONS} `shipping_options`."
        refuse(message, "shipping_options")


def refuse(message: str, param: str, code: str | None = None) -> None:
    raise InvalidRequest(message, code=code, param=param)


def missing(param: str, message: str | None = None) -> None:
    refuse(message or f"Missing required param: {param}.", param, "parameter_missing")


def check_ui_mode(given: Json) -> None:
    mode = given.get("ui_mode", "hosted_page")
    if mode not in EMBEDDED:
        for param in ("return_url", "redirect_on_completion"):
            if param in given:
                refuse(f"`{param}` is not supported with `ui_mode: {mode}`.", param)
        if "success_url" not in given:
            missing("success_url")
        return
    unsupported = ["cancel_url", "success_url"]
    if mode == "elements":
        unsupported += ["custom_fields", "submit_type"]
    if mode != "embedded_page":
        unsupported.append("redirect_on_completion")
    if found := [param for param in sorted(unsupported) if param in given]:
        names = ", ".join(found)
        message = f"The following parameters are not supported with `ui_mode: {mode}`: {names}."
        refuse(message, found[0])
    never = given.get("redirect_on_completion") == "never"
    if never and "return_url" in given:
        message = "You can not pass `return_url` when `redirect_on_completion` is `never`."
        refuse(message, "return_url")
    if not never and "return_url" not in given:
        missing("return_url")


def check_custom_fields(fields: list[Json]) -> None:
    if len(fields) > MAX_CUSTOM_FIELDS:
        refuse(f"You can pass at most {MAX_CUSTOM_FIELDS} `custom_fields`.", "custom_fields")
    keys = [field["key"] for field in fields]
    for i, field in enumerate(fields):
        param = f"custom_fields[{i}]"
        if not re.fullmatch(r"[A-Za-z0-9]{1,200}", field["key"]):
            message = "The `key` of a custom field must be alphanumeric, with up to 200 characters."
            refuse(message, f"{param}[key]")
        if keys.count(field["key"]) > 1:
            refuse("The `key` of each custom field must be unique.", f"{param}[key]")
        for type_ in ("dropdown", "numeric", "text"):
            if type_ in field and type_ != field["type"]:
                message = f"You can only pass `{type_}` if `type` is `{type_}`."
                refuse(message, f"{param}[{type_}]")
        if field["type"] == "dropdown":
            check_dropdown(field, param)


def check_dropdown(field: Json, param: str) -> None:
    dropdown = field.get("dropdown", {})
    if not dropdown.get("options"):
        missing(f"{param}[dropdown][options]")
    if len(dropdown["options"]) > MAX_DROPDOWN_OPTIONS:
        message = f"A dropdown can have up to {MAX_DROPDOWN_OPTIONS} options."
        refuse(message, f"{param}[dropdown][options]")
    values = [option["value"] for option in dropdown["options"]]
    if dropdown.get("default_value") not in (None, *values):
        message = "The `default_value` must be the `value` of an option."
        refuse(message, f"{param}[dropdown][default_value]")


def check_custom_text(given: Json) -> None:
    for part, value in given.get("custom_text", {}).items():
        param = f"custom_text[{part}][message]"
        if value and len(value["message"]) > MAX_TEXT:
            refuse(f"Custom text can have up to {MAX_TEXT} characters.", param)
    part = "terms_of_service_acceptance"
    consent = given.get("consent_collection", {}).get("terms_of_service")
    if given.get("custom_text", {}).get(part) and consent != "required":
        message = f"You can only use `custom_text[{part}]` if "
        refuse(
            message + "`consent_collection[terms_of_service]` is `required`.",
            f"custom_text[{part}]",
        )


def check_customer_update(data: DataSet, given: Json) -> None:
    """What Stripe must be able to store on an existing customer."""
    update = given.get("customer_update", {})
    customer = data.get("customer", given.get("customer"))
    if customer is None:
        if "customer_update" in given:
            message = "`customer_update` can only be used with `customer`."
            refuse(message, "customer_update")
        return
    if update.get("shipping") == "auto" and "shipping_address_collection" not in given:
        message = "You can only set `customer_update[shipping]` to `auto` if you pass "
        refuse(message + "`shipping_address_collection`.", "customer_update[shipping]")
    if given.get("tax_id_collection", {}).get("enabled") and update.get("name") != "auto":
        raise InvalidRequest(
            "Tax ID collection requires updating business name on the customer. To enable tax ID "
            "collection for an existing customer, please set `customer_update[name]` to `auto`."
        )
    if not given.get("automatic_tax", {}).get("enabled"):
        return
    saved = "auto" in (update.get("address"), update.get("shipping"))
    known = (customer["address"] or {}).get("country") or customer["shipping"]
    if not saved and not known:
        raise InvalidRequest(
            "Automatic tax calculation in Checkout requires a valid address on the Customer. Add a "
            "valid address to the Customer or set either `customer_update[address]` to 'auto' or "
            "`customer_update[shipping]` to 'auto' to save the address entered in Checkout to the "
            "Customer.",
            code="customer_tax_location_invalid",
        )


def check_trial(data: DataSet, given: Json) -> None:
    if "trial_end" in given and "trial_period_days" in given:
        message = "You may only specify one of these parameters: trial_end, trial_period_days."
        refuse(message, "subscription_data[trial_end]")
    param = "subscription_data[trial_end]"
    if "trial_end" in given:
        left = given["trial_end"] - data.clock.now()
        if left < MIN_TRIAL_SECONDS:
            message = "The `trial_end` date has to be at least 2 days in the future."
            refuse(message, param)
        if left > MAX_TRIAL_DAYS * 86400:
            refuse("The `trial_end` date can be at most 2 years in the future.", param)
    if given.get("trial_period_days", 0) > MAX_TRIAL_DAYS:
        message = f"The trial period can have up to {MAX_TRIAL_DAYS} days."
        refuse(message, "subscription_data[trial_period_days]")
    if "trial_settings" in given and not given.keys() & {"trial_end", "trial_period_days"}:
        message = "`trial_settings` requires `trial_end` or `trial_period_days`."
        refuse(message, "subscription_data[trial_settings]")


def shipping_options(data: DataSet, given: list[Json], currency: str) -> list[Json]:
    """The session's options; creates the shipping rates of `shipping_rate_data`."""
    options = []
    for i, option in enumerate(given):
        param = f"shipping_options[{i}]"
        if ("shipping_rate" in option) == ("shipping_rate_data" in option):
            message = f"You must specify one of `{param}[shipping_rate]` or "
            missing(f"{param}[shipping_rate]", message + f"`{param}[shipping_rate_data]`.")
        if "shipping_rate" in option:
            param = f"{param}[shipping_rate]"
            rate = data.need("shipping_rate", option["shipping_rate"], param)
            if not rate["active"]:
                refuse("The shipping rate specified is inactive.", param)
        else:
            param = f"{param}[shipping_rate_data][fixed_amount]"
            require_amount(option["shipping_rate_data"], param)
            rate = {**option["shipping_rate_data"]}
        if rate["fixed_amount"]["currency"] != currency:
            message = f"The shipping rate must have the currency of the session, {currency}."
            refuse(message, param)
        options.append(rate)
    made = [rate if "id" in rate else make_shipping_rate(data, rate) for rate in options]
    return [
        {"shipping_amount": rate["fixed_amount"]["amount"], "shipping_rate": rate["id"]}
        for rate in made
    ]


def adjustable_quantity(given: Json, quantity: int | None, param: str) -> Json | None:
    """The bounds between which the buyer may change the quantity."""
    found = given.get("adjustable_quantity")
    if not found or not found["enabled"]:
        return None
    param = f"{param}[adjustable_quantity]"
    maximum, minimum = found.get("maximum", 99), found.get("minimum", 0)
    if not 0 <= minimum <= maximum:
        refuse("The minimum must be between 0 and the maximum.", f"{param}[minimum]")
    if not 1 <= maximum <= MAX_QUANTITY:
        refuse(f"The maximum must be between 1 and {MAX_QUANTITY}.", f"{param}[maximum]")
    if quantity is None or not minimum <= quantity <= maximum:
        message = "The quantity must be between the minimum and the maximum."
        refuse(message, f"{param.removesuffix('[adjustable_quantity]')}[quantity]")
    return {"enabled": True, "maximum": maximum, "minimum": minimum}


def inline_price(data: DataSet, param: str, given: Json) -> Json:
    """Creates a price for this session only, which is archived from the start."""
    if "product" in given:
        product = data.need("product", given["product"], f"{param}[price_data][product]")
    elif "product_data" in given:
        product = make_product(data, {**given["product_data"], "active": False})
    else:
        missing(f"{param}[price_data][product_data]")
    return make_price(data, {**given, "product": product["id"], "active": False})
