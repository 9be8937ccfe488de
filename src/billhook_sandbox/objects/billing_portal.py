"""Portal sessions and their configurations."""

from billhook_sandbox.event_log import change, emit
from billhook_sandbox.store import DataSet, Json

# What the account's own configuration offers, so that all of the portal can be tried at once.
DEFAULT_FEATURES: Json = {
    "payment_method_update": {"enabled": True},
    "subscription_update": {"enabled": True, "default_allowed_updates": ["price"]},
}


def make_configuration(data: DataSet, given: Json, is_default: bool = False) -> Json:
    now = data.clock.now()
    business = {"headline": None, "privacy_policy_url": None, "terms_of_service_url": None}
    configuration = data.put(
        {
            "id": data.ids.new("billing_portal.configuration"),
            "object": "billing_portal.configuration",
            "active": True,
            "application": None,
            "business_profile": {**business, **given.get("business_profile", {})},
            "created": now,
            "default_return_url": given.get("default_return_url"),
            "features": features(given.get("features", {})),
            "is_default": is_default,
            "livemode": data.livemode,
            "login_page": {"enabled": False, "url": None},
            "metadata": given.get("metadata") or {},
            "name": given.get("name"),
            "updated": now,
        }
    )
    emit(data, "billing_portal.configuration.created", configuration)
    return configuration


def update_configuration(data: DataSet, configuration: Json, given: Json) -> Json:
    """What is given replaces its part; features that aren't named stay as they were."""
    values = {k: v for k, v in given.items() if k not in ("expand", "features")}
    if "business_profile" in values:
        profile = {**configuration["business_profile"], **values["business_profile"]}
        values["business_profile"] = profile
    if "features" in given:
        found = {k: v for k, v in features(given["features"]).items() if k in given["features"]}
        values["features"] = {**configuration["features"], **found}
    values["updated"] = data.clock.now()
    return change(data, configuration, "billing_portal.configuration.updated", **values)


def features(given: Json) -> Json:
    def enabled(name: str, default: bool) -> bool:
        return bool(given.get(name, {}).get("enabled", default))

    updating = given.get("subscription_update", {})
    return {
        "customer_update": {"allowed_updates": [], "enabled": enabled("customer_update", False)},
        "invoice_history": {"enabled": enabled("invoice_history", True)},
        "payment_method_update": {
            "enabled": enabled("payment_method_update", False),
            "payment_method_configuration": None,
        },
        "subscription_cancel": {
            "cancellation_reason": {"enabled": False, "feedback_options": [], "options": []},
            "enabled": enabled("subscription_cancel", True),
            "mode": given.get("subscription_cancel", {}).get("mode", "at_period_end"),
            "proration_behavior": "none",
        },
        "subscription_pause": {
            "duration": {"interval_options": [], "type": "indefinite"},
            "enabled": False,
        },
        "subscription_update": {
            "billing_cycle_anchor": None,
            "default_allowed_updates": updating.get("default_allowed_updates", []),
            "enabled": enabled("subscription_update", False),
            "proration_behavior": updating.get("proration_behavior", "none"),
            **({"products": plans(updating["products"])} if "products" in updating else {}),
            "schedule_at_period_end": {"conditions": []},
            "trial_update_behavior": "end_trial",
        },
    }


def plans(products: list[Json]) -> list[Json]:
    fixed = {"enabled": False, "maximum": None, "minimum": 1}
    return [{"adjustable_quantity": fixed, **product} for product in products]


def default_configuration(data: DataSet) -> Json:
    for configuration in data.all("billing_portal.configuration").rows.values():
        if configuration["is_default"]:
            return configuration
    return make_configuration(data, {"features": DEFAULT_FEATURES}, is_default=True)


def make_portal_session(data: DataSet, customer: str, configuration: Json, given: Json) -> Json:
    name = data.ids.new("billing_portal.session")
    session = data.put(
        {
            "id": name,
            "object": "billing_portal.session",
            "configuration": configuration["id"],
            "created": data.clock.now(),
            "customer": customer,
            "customer_account": None,
            "flow": None,
            "livemode": data.livemode,
            "locale": given.get("locale"),
            "on_behalf_of": None,
            "return_url": given.get("return_url", configuration["default_return_url"]),
            "url": f"{given['site']}/p/session/{name}",
        }
    )
    emit(data, "billing_portal.session.created", session)
    return session
