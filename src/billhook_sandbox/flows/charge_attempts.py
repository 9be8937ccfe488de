"""One attempt to pay a payment intent: it succeeds, is declined, or takes days."""

from billhook_sandbox.cards import BY_BRAND_AND_LAST4, CARDS, DECLINES, FAILING_IBANS, Card
from billhook_sandbox.errors import DOC_URL, CardError
from billhook_sandbox.event_log import change, emit
from billhook_sandbox.objects.charge import failure_fields, make_charge, outcome
from billhook_sandbox.objects.payment_method import fingerprint
from billhook_sandbox.payment_outcomes import take_next_outcome
from billhook_sandbox.schedule import schedule_in
from billhook_sandbox.store import DataSet, Json

SETTLE_SECONDS = 2
"""A charge gets its balance transaction 1–3 seconds later (stripe-facts 3)."""

DEBIT_SECONDS = 5
"""A direct debit takes days at Stripe; here it takes seconds, or until time is advanced."""


def card_of(method: Json) -> Card:
    """The test card of a payment method; any other card number succeeds."""
    if method["type"] != "card":
        return CARDS[0]
    return BY_BRAND_AND_LAST4.get((method["card"]["brand"], method["card"]["last4"]), CARDS[0])


def card_for(data: DataSet, method: Json, customer: str | None) -> Card:
    """The test card that decides this attempt: an outcome that was set, else the method's own."""
    return take_next_outcome(data, customer) or card_of(method)


def requires_authentication(card: Card, off_session: bool) -> bool:
    """Whether the payment requires authentication; one card only does on its first payment."""
    only_first = card.token == "pm_card_authenticationRequiredOnSetup"  # noqa: S105 - a card's name
    return card.payment == "requires_authentication" and not (off_session and only_first)


def succeed(data: DataSet, intent: Json, method: Json) -> tuple[Json, Json]:
    """Pays the intent; returns it and its charge. The caller emits the events."""
    charge = make_charge(data, intent, method, "succeeded", receipt_url=receipt_url(data))
    return settle(data, intent, charge), charge


def settle(data: DataSet, intent: Json, charge: Json) -> Json:
    schedule_in(data, SETTLE_SECONDS, "settle_charge", charge=charge["id"])
    return change(
        data,
        intent,
        amount_received=charge["amount_captured"],
        customer=charge["customer"],
        last_payment_error=None,
        latest_charge=charge["id"],
        next_action=None,
        payment_method=charge["payment_method"],
        status="succeeded",
    )


def receipt_url(data: DataSet) -> str:
    return f"https://pay.stripe.com/receipts/payment/{data.ids.random(24)}"


def start_debit(data: DataSet, intent: Json, method: Json) -> tuple[Json, Json]:
    charge = make_charge(data, intent, method, "pending", captured=True, paid=False)
    intent = change(
        data,
        intent,
        last_payment_error=None,
        latest_charge=charge["id"],
        payment_method=method["id"],
        status="processing",
    )
    return intent, charge


def settle_debit(data: DataSet, intent: Json) -> bool:
    """The bank's response to a direct debit. Returns whether the payment succeeded."""
    charge = data.need("charge", intent["latest_charge"])
    method = data.need("payment_method", charge["payment_method"])
    if not any(method["sepa_debit"]["fingerprint"] == fingerprint(iban) for iban in FAILING_IBANS):
        values = {"outcome": outcome("authorized"), "receipt_url": receipt_url(data)}
        charge = change(data, charge, paid=True, status="succeeded", **values)
        intent = settle(data, intent, charge)
        emit(data, "charge.succeeded", charge)
        emit(data, "payment_intent.succeeded", intent)
        return True
    message = "The customer's bank refused the debit."
    code = "payment_method_provider_decline"
    details = {"charge": charge["id"], "code": code, "message": message}
    failure = {"failure_code": code, "failure_message": message}
    uncaptured = {"captured": False, "amount_captured": 0}
    charge = change(data, charge, status="failed", **uncaptured, **failure)
    intent = record_failure(data, intent, method, details, charge["id"])
    emit(data, "charge.failed", charge)
    emit(data, "payment_intent.payment_failed", intent)
    return False


def decline(data: DataSet, intent: Json, method: Json, card: Card | None = None) -> CardError:
    """Fails the attempt; the intent then needs another payment method (stripe-facts 6).

    `card` decides the error if an outcome was set that differs from the method's own card.
    """
    card = card or card_of(method)
    charge = make_charge(data, intent, method, "failed", **failure_fields(card))
    message = DECLINES[card.decline_code]
    details = {
        "charge": charge["id"],
        "code": card.error_code,
        "decline_code": card.decline_code,
        "message": message,
    }
    intent = record_failure(data, intent, method, details, charge["id"])
    emit(data, "charge.failed", charge)
    emit(data, "payment_intent.payment_failed", intent)
    return CardError(
        message,
        code=card.error_code,
        charge=charge["id"],
        decline_code=card.decline_code,
        payment_intent=intent,
        payment_method=method,
    )


def fail_authentication(data: DataSet, intent: Json, method: Json) -> CardError:
    message = (
        "We are unable to authenticate your payment method. Please choose a different payment "
        "method and try again."
    )
    code = "payment_intent_authentication_failure"
    intent = record_failure(data, intent, method, {"code": code, "message": message}, None)
    emit(data, "payment_intent.payment_failed", intent)
    return CardError(message, code=code, payment_intent=intent, payment_method=method)


def record_failure(
    data: DataSet, intent: Json, method: Json, details: Json, charge: str | None
) -> Json:
    """The intent with its `last_payment_error`."""
    error = {
        **details,
        "doc_url": DOC_URL + details["code"].replace("_", "-"),
        "payment_method": method,
        "type": "card_error",
    }
    return change(
        data,
        intent,
        last_payment_error=error,
        latest_charge=charge or intent["latest_charge"],
        next_action=None,
        payment_method=None,
        status="requires_payment_method",
    )
