"""Customer portal sessions and configurations."""

from billhook_sandbox.event_log import change, emit
from billhook_sandbox.objects.portal_flow import make_flow
from billhook_sandbox.store import DataSet, Json

# The default configuration enables what Stripe leaves off, so that the whole portal can be used.
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
    """Given values replace the old ones; features that are not named stay unchanged."""
    values = {k: v for k, v in given.items() if k != "features"}
    if "business_profile" in values:
        profile = {**configuration["business_profile"], **values["business_profile"]}
        values["business_profile"] = profile
    if "features" in given:
        named = {k: v for k, v in features(given["features"]).items() if k in given["features"]}
        values["features"] = {**configuration["features"], **named}
    values["updated"] = data.clock.now()
    return change(data, configuration, "billing_portal.configuration.updated", **values)


def features(given: Json) -> Json:
    def enabled(name: str, default: bool) -> bool:
        return bool(given.get(name, {}).get("enabled", default))

    update = given.get("subscription_update", {})
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
            "default_allowed_updates": update.get("default_allowed_updates", []),
            "enabled": enabled("subscription_update", False),
            "proration_behavior": update.get("proration_behavior", "none"),
            **(
                {"products": with_fixed_quantity(update["products"])}
                if "products" in update
                else {}
            ),
            "schedule_at_period_end": {"conditions": []},
            "trial_update_behavior": "end_trial",
        },
    }


def with_fixed_quantity(products: list[Json]) -> list[Json]:
    fixed = {"enabled": False, "maximum": None, "minimum": 1}
    return [{"adjustable_quantity": fixed, **product} for product in products]


def default_configuration(data: DataSet) -> Json:
    for configuration in data.all("billing_portal.configuration").rows.values():
        if configuration["is_default"]:
            return configuration
    return make_configuration(data, {"features": DEFAULT_FEATURES}, is_default=True)


def make_portal_session(
    data: DataSet, customer: str, configuration: Json, given: Json, base_url: str
) -> Json:
    session_id = data.ids.new("billing_portal.session")
    session = data.put(
        {
            "id": session_id,
            "object": "billing_portal.session",
            "configuration": configuration["id"],
            "created": data.clock.now(),
            "customer": customer,
            "customer_account": None,
            "flow": make_flow(given.get("flow_data")),
            "livemode": data.livemode,
            "locale": given.get("locale"),
            "on_behalf_of": None,
            "return_url": given.get("return_url", configuration["default_return_url"]),
            "url": f"{base_url}/p/session/{session_id}",
        }
    )
    emit(data, "billing_portal.session.created", session)
    return session
