"""Payment intents created by API: confirm, capture, cancel."""

from billhook_sandbox.cards import Card
from billhook_sandbox.errors import CardError, InvalidRequest
from billhook_sandbox.event_log import change, emit, previous_attributes
from billhook_sandbox.flows import charge_attempts
from billhook_sandbox.flows.dispute_lifecycle import open_dispute_for_card
from billhook_sandbox.objects.charge import make_balance_transaction, make_charge
from billhook_sandbox.objects.payment_method import attach_method
from billhook_sandbox.schedule import schedule_in
from billhook_sandbox.store import DataSet, Json

CONFIRMABLE = ("requires_payment_method", "requires_confirmation", "requires_action")
PARTICIPLES = {
    "authenticate": "authenticated",
    "cancel": "canceled",
    "capture": "captured",
    "confirm": "confirmed",
    "update": "updated",
}
CANCELABLE = (*CONFIRMABLE, "requires_capture")
AUTHENTICATION_PATH = "/authenticate"
"""The path of the page where customers authenticate, before the intent's id."""


def require_status(intent: Json, statuses: tuple[str, ...], verb: str) -> None:
    if intent["status"] in statuses:
        return
    kind = intent["object"]
    name = {"payment_intent": "PaymentIntent", "setup_intent": "SetupIntent"}[kind]
    error = InvalidRequest(
        f"You cannot {verb} this {name} because it has a status of {intent['status']}. Only a "
        f"{name} with one of the following statuses may be {PARTICIPLES[verb]}: "
        f"{', '.join(statuses)}.",
        code=f"{kind}_unexpected_state",
    )
    error.details[kind] = intent
    raise error


def check_method(intent: Json, method: Json) -> None:
    if method["type"] not in intent["payment_method_types"]:
        raise InvalidRequest(
            f"The PaymentMethod provided ({method['type']}) is not allowed for this intent.",
            code="payment_intent_incompatible_payment_method",
            param="payment_method",
        )
    if method["customer"] not in (None, intent["customer"]):
        raise InvalidRequest(
            f"The payment method {method['id']} belongs to another customer.",
            code="payment_method_unexpected_state",
            param="payment_method",
        )


def confirm(
    data: DataSet,
    intent: Json,
    off_session: bool = False,
    return_url: str | None = None,
    base_url: str = "",
) -> Json:
    """One attempt with the intent's payment method; raises CardError if it is declined."""
    require_status(intent, CONFIRMABLE, "confirm")
    if intent["payment_method"] is None:
        message = "You cannot confirm this PaymentIntent because it's missing a payment method."
        raise InvalidRequest(message, code="payment_intent_unexpected_state")
    method = data.need("payment_method", intent["payment_method"], "payment_method")
    check_method(intent, method)
    card = charge_attempts.card_for(data, method, intent["customer"])
    if card.payment == "declined":
        raise charge_attempts.decline(data, intent, method, card)
    if card.payment == "requires_authentication":
        if off_session:
            raise fail_off_session(data, intent, method)
        action = next_action(intent, return_url, base_url)
        intent = change(data, intent, next_action=action, status="requires_action")
        emit(data, "payment_intent.requires_action", intent)
        return intent
    return collect(data, intent, method, card)


def next_action(intent: Json, return_url: str | None, base_url: str) -> Json:
    """A redirect to the bank's page if the customer can return from it, else Stripe.js's dialog."""
    if return_url is None:
        return {"type": "use_stripe_sdk", "use_stripe_sdk": {}}
    url = f"{base_url}{AUTHENTICATION_PATH}/{intent['id']}"
    return {"type": "redirect_to_url", "redirect_to_url": {"return_url": return_url, "url": url}}


def fail_off_session(data: DataSet, intent: Json, method: Json) -> CardError:
    message = "Your card was declined. This transaction requires authentication."
    code = "authentication_required"
    details = {"code": code, "decline_code": code, "message": message}
    intent = charge_attempts.record_failure(data, intent, method, details, None)
    emit(data, "payment_intent.payment_failed", intent)
    return CardError(
        message, code=code, decline_code=code, payment_intent=intent, payment_method=method
    )


def authenticate(data: DataSet, intent: Json, confirmed: bool) -> Json:
    """The customer confirms or denies an intent in `requires_action`."""
    require_status(intent, ("requires_action",), "authenticate")
    method = data.need("payment_method", intent["payment_method"])
    if not confirmed:
        raise charge_attempts.fail_authentication(data, intent, method)
    return collect(data, intent, method, charge_attempts.card_of(method))


def collect(data: DataSet, intent: Json, method: Json, card: Card) -> Json:
    """Charges the payment method: immediately, after a capture, or days later."""
    if intent["customer"] and intent["setup_future_usage"]:
        attach_method(data, method, data.need("customer", intent["customer"]))
    if method["type"] == "sepa_debit":
        intent, charge = charge_attempts.start_debit(data, intent, method)
        emit(data, "charge.pending", charge)
        emit(data, "payment_intent.processing", intent)
        schedule_in(data, charge_attempts.DEBIT_SECONDS, "settle_intent", intent=intent["id"])
        return intent
    if intent["capture_method"] == "manual":
        return authorize(data, intent, method)
    intent, charge = charge_attempts.succeed(data, intent, method)
    charge = add_balance_transaction_if_due(data, intent, charge)
    emit(data, "charge.succeeded", charge)
    emit(data, "payment_intent.succeeded", intent)
    open_dispute_for_card(data, charge, card)
    return intent


def add_balance_transaction_if_due(data: DataSet, intent: Json, charge: Json) -> Json:
    """Except with `automatic_async`, the charge has its balance transaction immediately."""
    if intent["capture_method"] == "automatic_async":
        return charge
    transaction = make_balance_transaction(data, charge, charge["amount_captured"], "charge")
    return data.put({**charge, "balance_transaction": transaction["id"]})


def authorize(data: DataSet, intent: Json, method: Json) -> Json:
    """Authorizes the amount only; a later capture collects it."""
    url = charge_attempts.receipt_url(data)
    values: Json = {"captured": False, "amount_captured": 0, "receipt_url": url}
    charge = make_charge(data, intent, method, "succeeded", **values)
    intent = change(
        data,
        intent,
        amount_capturable=intent["amount"],
        last_payment_error=None,
        latest_charge=charge["id"],
        next_action=None,
        status="requires_capture",
    )
    emit(data, "charge.succeeded", charge)
    emit(data, "payment_intent.amount_capturable_updated", intent)
    return intent


def capture(data: DataSet, intent: Json, amount: int | None) -> Json:
    """Captures the amount (by default all of it) and releases the rest."""
    require_status(intent, ("requires_capture",), "capture")
    maximum = intent["amount_capturable"]
    amount = maximum if amount is None else amount
    if amount > maximum:
        message = (
            f"The requested capture amount ({amount}) exceeds the capturable amount ({maximum})."
        )
        raise InvalidRequest(message, code="amount_too_large", param="amount_to_capture")
    charge = data.need("charge", intent["latest_charge"])
    card = charge_attempts.card_of(data.need("payment_method", charge["payment_method"]))
    before = charge
    released = charge["amount"] - amount
    values = {"amount_refunded": released, "amount_captured": amount, "captured": True}
    charge = data.put({**charge, **values})
    intent = charge_attempts.settle(data, intent, charge)
    intent = data.put({**intent, "amount_capturable": 0, "amount_received": amount})
    emit(data, "charge.captured", charge, previous_attributes(before, charge))
    emit(data, "payment_intent.succeeded", intent)
    open_dispute_for_card(data, charge, card)
    return intent


def cancel(data: DataSet, intent: Json, reason: str | None) -> Json:
    require_status(intent, CANCELABLE, "cancel")
    if intent["status"] == "requires_capture":
        charge = data.need("charge", intent["latest_charge"])
        released = {"amount_refunded": charge["amount"], "refunded": True}
        change(data, charge, "charge.refunded", **released)
    intent = change(
        data,
        intent,
        amount_capturable=0,
        canceled_at=data.clock.now(),
        cancellation_reason=reason,
        next_action=None,
        status="canceled",
    )
    emit(data, "payment_intent.canceled", intent)
    return intent
