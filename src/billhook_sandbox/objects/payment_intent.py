"""Payment intents: one for each payment, for all its attempts."""

from billhook_sandbox.objects.payment_method import NO_ADDRESS
from billhook_sandbox.store import DataSet, Json

UNUSED_FIELDS: Json = {
    "allowed_payment_method_types": None,
    "application": None,
    "application_fee_amount": None,
    "automatic_payment_methods": None,
    "canceled_at": None,
    "cancellation_reason": None,
    "customer_account": None,
    "description": None,
    "excluded_payment_method_types": None,
    "managed_payments": None,
    "on_behalf_of": None,
    "payment_method_configuration_details": None,
    "payment_record": None,
    "processing": None,
    "receipt_email": None,
    "review": None,
    "setup_future_usage": None,
    "shipping": None,
    "source": None,
    "statement_descriptor": None,
    "statement_descriptor_suffix": None,
    "transfer_data": None,
    "transfer_group": None,
}
"""Fields that the sandbox never sets. Shared, because objects are never modified in place."""


def make_intent(
    data: DataSet, amount: int, currency: str, customer: str | None, method: Json, **values: object
) -> Json:
    """A new intent, before its first attempt."""
    intent_id = data.ids.new("payment_intent")
    return data.put(
        {
            "id": intent_id,
            "object": "payment_intent",
            **UNUSED_FIELDS,
            "amount": amount,
            "amount_capturable": 0,
            "amount_details": {"tip": {}},
            "amount_received": 0,
            # The default since 2024: the balance transaction is created later (stripe-facts 4).
            "capture_method": "automatic_async",
            "client_secret": data.ids.secret(intent_id),
            "confirmation_method": "automatic",
            "created": data.clock.now(),
            "currency": currency,
            "customer": customer,
            "last_payment_error": None,
            "latest_charge": None,
            "livemode": data.livemode,
            "metadata": {},
            "next_action": None,
            "payment_method": None,
            "payment_method_options": options_for(method["type"]),
            "payment_method_types": [method["type"]],
            "status": "requires_payment_method",
            **values,
        }
    )


def full_shipping(given: Json | None) -> Json | None:
    if given is None:
        return None
    defaults = {"carrier": None, "phone": None, "tracking_number": None}
    return {**defaults, **given, "address": {**NO_ADDRESS, **given["address"]}}


def options_for(type_: str) -> Json:
    if type_ == "sepa_debit":
        return {"sepa_debit": {}}
    return {
        "card": {
            "installments": None,
            "mandate_options": None,
            "network": None,
            "request_three_d_secure": "automatic",
        }
    }
