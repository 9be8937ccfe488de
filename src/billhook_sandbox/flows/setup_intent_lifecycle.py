"""Setup intents: attempts to save a payment method."""

from billhook_sandbox.cards import DECLINES, Card
from billhook_sandbox.errors import DOC_URL, CardError, InvalidRequest
from billhook_sandbox.event_log import change, emit
from billhook_sandbox.flows.charge_attempts import card_for
from billhook_sandbox.flows.payment_intent_lifecycle import (
    CONFIRMABLE,
    check_method,
    require_status,
)
from billhook_sandbox.objects.payment_method import attach_method
from billhook_sandbox.store import DataSet, Json

DECLINED_ONLY_WHEN_CHARGED = "pm_card_chargeCustomerFail"
"""This test card (0341) can be saved, but is declined when it is charged."""


def fails(card: Card, authentication: str) -> bool:
    """Whether an attempt with this card is declined or needs authentication first."""
    if card.payment == "declined":
        return card.token != DECLINED_ONLY_WHEN_CHARGED
    return card.payment == "requires_authentication" and authentication != "confirmed"


def confirm(
    data: DataSet, intent: Json, authentication: str = "ask", card: Card | None = None
) -> Json:
    """One attempt with the intent's payment method; raises CardError if it is declined."""
    require_status(intent, CONFIRMABLE, "confirm")
    if intent["payment_method"] is None:
        message = "You cannot confirm this SetupIntent because it's missing a payment method."
        raise InvalidRequest(message, code="setup_intent_unexpected_state")
    method = data.need("payment_method", intent["payment_method"], "payment_method")
    check_method(intent, method)
    card = card or card_for(data, method, intent["customer"])
    if not fails(card, authentication):
        return save(data, intent, method)
    if card.payment == "declined":
        raise decline(data, intent, method, card)
    return require_action(data, intent, method, authentication)


def require_action(data: DataSet, intent: Json, method: Json, authentication: str) -> Json:
    if authentication == "denied":
        raise fail_authentication(data, intent, method)
    action = {"type": "use_stripe_sdk", "use_stripe_sdk": {}}
    intent = change(data, intent, next_action=action, status="requires_action")
    emit(data, "setup_intent.requires_action", intent)
    return intent


def authenticate(data: DataSet, intent: Json, confirmed: bool) -> Json:
    """The customer confirms or denies an intent in `requires_action`."""
    require_status(intent, ("requires_action",), "authenticate")
    method = data.need("payment_method", intent["payment_method"])
    if not confirmed:
        raise fail_authentication(data, intent, method)
    return save(data, intent, method)


def save(data: DataSet, intent: Json, method: Json) -> Json:
    if intent["customer"]:
        attach_method(data, method, data.need("customer", intent["customer"]))
    values = {"last_setup_error": None, "next_action": None, "status": "succeeded"}
    intent = change(data, intent, **values)
    emit(data, "setup_intent.succeeded", intent)
    return intent


def decline(data: DataSet, intent: Json, method: Json, card: Card) -> CardError:
    message, code = DECLINES[card.decline_code], card.error_code
    details = {"code": code, "decline_code": card.decline_code, "message": message}
    intent = record_failure(data, intent, method, details)
    return CardError(
        message,
        code=code,
        decline_code=card.decline_code,
        payment_method=method,
        setup_intent=intent,
    )


def fail_authentication(data: DataSet, intent: Json, method: Json) -> CardError:
    message, code = (
        "We are unable to authenticate your card.",
        "setup_intent_authentication_failure",
    )
    intent = record_failure(data, intent, method, {"code": code, "message": message})
    return CardError(message, code=code, payment_method=method, setup_intent=intent)


def record_failure(data: DataSet, intent: Json, method: Json, details: Json) -> Json:
    """The intent with its `last_setup_error`."""
    error = {
        **details,
        "doc_url": DOC_URL + details["code"].replace("_", "-"),
        "payment_method": method,
        "type": "card_error",
    }
    values = {"last_setup_error": error, "next_action": None, "payment_method": None}
    intent = change(data, intent, **values, status="requires_payment_method")
    emit(data, "setup_intent.setup_failed", intent)
    return intent


def cancel(data: DataSet, intent: Json, reason: str | None) -> Json:
    require_status(intent, CONFIRMABLE, "cancel")
    values = {"cancellation_reason": reason, "next_action": None, "status": "canceled"}
    intent = change(data, intent, **values)
    emit(data, "setup_intent.canceled", intent)
    return intent
