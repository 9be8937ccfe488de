"""Setup intents: save a payment method for later without charging it."""

from billhook_sandbox.event_log import emit
from billhook_sandbox.params import merge_metadata
from billhook_sandbox.store import DataSet, Json

CARD_OPTIONS: Json = {
    "mandate_options": None,
    "network": None,
    "request_three_d_secure": "automatic",
}


def make_setup_intent(data: DataSet, given: Json, types: list[str]) -> Json:
    """A new intent, before its first attempt; emits `setup_intent.created`."""
    intent_id, allowed = data.ids.new("setup_intent"), given.get("allowed_payment_method_types")
    automatic = given.get("automatic_payment_methods", {"enabled": True})
    options = {"card": CARD_OPTIONS, "sepa_debit": {}}
    intent = data.put(
        {
            "id": intent_id,
            "object": "setup_intent",
            "allowed_payment_method_types": allowed,
            "application": None,
            "automatic_payment_methods": None
            if allowed
            else {"allow_redirects": "always", **automatic},
            "cancellation_reason": None,
            "client_secret": data.ids.secret(intent_id),
            "created": data.clock.now(),
            "customer": given.get("customer"),
            "customer_account": None,
            "description": given.get("description"),
            "excluded_payment_method_types": None,
            "flow_directions": None,
            "last_setup_error": None,
            "latest_attempt": None,
            "livemode": data.livemode,
            "managed_payments": None,
            "mandate": None,
            "metadata": merge_metadata({}, given.get("metadata", {})),
            "next_action": None,
            "on_behalf_of": None,
            "payment_method": None,
            "payment_method_configuration_details": None,
            "payment_method_options": {type_: options[type_] for type_ in types},
            "payment_method_types": types,
            "single_use_mandate": None,
            "status": "requires_payment_method",
            "usage": given.get("usage", "off_session"),
        }
    )
    emit(data, "setup_intent.created", intent)
    return intent
