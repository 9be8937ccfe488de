"""The options of a Checkout Session, as its object shows them."""

from billhook_sandbox.store import Json

CUSTOM_TEXTS = ("after_submit", "shipping_address", "submit", "terms_of_service_acceptance")


def options_of(given: Json) -> Json:
    """The fields for options that collect more than a payment."""
    found: Json = {
        "billing_address_collection": given.get("billing_address_collection"),
        "consent_collection": consent_collection(given.get("consent_collection")),
        "custom_fields": [custom_field(field) for field in given.get("custom_fields", [])],
        "custom_text": {part: given.get("custom_text", {}).get(part) for part in CUSTOM_TEXTS},
        "locale": given.get("locale"),
        "phone_number_collection": given.get("phone_number_collection", {"enabled": False}),
        "saved_payment_method_options": saved_methods(given),
        "shipping_address_collection": given.get("shipping_address_collection"),
    }
    if "tax_id_collection" in given:
        found["tax_id_collection"] = {"required": "never", **given["tax_id_collection"]}
    return found


def consent_collection(given: Json | None) -> Json | None:
    defaults = {
        "payment_method_reuse_agreement": None,
        "promotions": "none",
        "terms_of_service": "none",
    }
    return None if given is None else {**defaults, **given}


def custom_field(given: Json) -> Json:
    """The field before the buyer has filled it in."""
    type_ = given["type"]
    specifics = {"default_value": None, "value": None, **given.get(type_, {})}
    if type_ != "dropdown":
        specifics = {"maximum_length": None, "minimum_length": None, **specifics}
    return {
        "key": given["key"],
        "label": given["label"],
        "optional": given.get("optional", False),
        "type": type_,
        type_: specifics,
    }


def saved_methods(given: Json) -> Json | None:
    """Stripe shows this for sessions of existing customers, or if it was requested."""
    if given["mode"] == "setup":
        return None
    if not given.get("customer") and "saved_payment_method_options" not in given:
        return None
    defaults = {
        "allow_redisplay_filters": ["always"],
        "payment_method_remove": "disabled",
        "payment_method_save": None,
    }
    return {**defaults, **given.get("saved_payment_method_options", {})}


def interface(given: Json) -> Json:
    """How and where the session is shown."""
    mode = given.get("ui_mode", "hosted_page")
    found: Json = {
        "cancel_url": given.get("cancel_url"),
        "success_url": given.get("success_url"),
        "ui_mode": mode,
    }
    if "return_url" in given:
        found["return_url"] = given["return_url"]
    if mode == "embedded_page":
        found["redirect_on_completion"] = given.get("redirect_on_completion", "always")
    return found


def invoice_creation(given: Json) -> Json | None:
    """In payment mode, whether the payment also creates an invoice."""
    if given["mode"] != "payment":
        return None
    wanted = given.get("invoice_creation", {"enabled": False})
    data: Json = {
        "account_tax_ids": None,
        "custom_fields": None,
        "description": None,
        "footer": None,
        "issuer": None,
        "metadata": {},
        "rendering_options": None,
    }
    invoice_data = {**data, **wanted.get("invoice_data", {})}
    invoice_data["metadata"] = invoice_data["metadata"] or {}
    return {"enabled": wanted["enabled"], "invoice_data": invoice_data}
