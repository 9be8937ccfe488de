"""Payment methods: cards and bank accounts."""

import hashlib

from billhook_sandbox.cards import BY_TOKEN, Card
from billhook_sandbox.errors import InvalidRequest
from billhook_sandbox.event_log import change, emit
from billhook_sandbox.objects.card_expiry import schedule_expiry
from billhook_sandbox.store import DataSet, Json

NO_ADDRESS: Json = {
    "city": None,
    "country": None,
    "line1": None,
    "line2": None,
    "postal_code": None,
    "state": None,
}


def billing_details(given: Json | None = None) -> Json:
    given = given or {}
    return {
        "address": {**NO_ADDRESS, **(given.get("address") or {})},
        "email": given.get("email"),
        "name": given.get("name"),
        "phone": given.get("phone"),
        "tax_id": None,
    }


def fingerprint(number: str) -> str:
    """As at Stripe, the same number always has the same fingerprint."""
    return hashlib.sha256(number.encode()).hexdigest()[:16]


def make_card(data: DataSet, card: Card, expiry: tuple[int, int], details: Json | None) -> Json:
    return make(
        data,
        "card",
        details,
        {
            "brand": card.brand,
            "checks": {
                "address_line1_check": None,
                "address_postal_code_check": None,
                "cvc_check": "pass",
            },
            "country": "US",
            "display_brand": card.brand,
            "exp_month": expiry[0],
            "exp_year": expiry[1],
            "fingerprint": fingerprint(card.number),
            "funding": card.funding,
            "generated_from": None,
            "last4": card.last4,
            "networks": {"available": [card.brand], "preferred": None},
            "regulated_status": "unregulated",
            "three_d_secure_usage": {"supported": True},
            "wallet": None,
        },
    )


def make_sepa_debit(data: DataSet, iban: str, details: Json | None) -> Json:
    return make(
        data,
        "sepa_debit",
        details,
        {
            "bank_code": iban[4:9],
            "branch_code": "",
            "country": iban[:2],
            "fingerprint": fingerprint(iban),
            "generated_from": {"charge": None, "setup_attempt": None},
            "last4": iban[-4:],
        },
    )


def make(data: DataSet, type_: str, details: Json | None, specifics: Json) -> Json:
    return data.put(
        {
            "id": data.ids.new("payment_method"),
            "object": "payment_method",
            "allow_redisplay": "unspecified",
            "billing_details": billing_details(details),
            type_: specifics,
            "created": data.clock.now(),
            "customer": None,
            "customer_account": None,
            "livemode": data.livemode,
            "metadata": {},
            "type": type_,
        }
    )


def find_method(data: DataSet, method_id: str, param: str, live_tokens: bool = False) -> Json:
    """A stored method, or a new one for a test token such as `pm_card_visa`."""
    card = BY_TOKEN.get(method_id)
    if card is None:
        return data.need("payment_method", method_id, param)
    if data.livemode and not live_tokens:
        message = (
            f"No such PaymentMethod: '{method_id}'; a test payment method was used in live mode."
        )
        raise InvalidRequest(message, code="resource_missing", param=param)
    return make_card(data, card, (12, 2034), None)


def attach_method(data: DataSet, method: Json, customer: Json) -> Json:
    if method["customer"] == customer["id"]:
        return method
    if method["customer"]:
        raise InvalidRequest(
            "The payment method you provided has already been attached to a customer.",
            code="payment_method_unexpected_state",
        )
    method = data.put({**method, "customer": customer["id"]})
    emit(data, "payment_method.attached", method)
    schedule_expiry(data, method)
    return method


def detach_method(data: DataSet, method: Json) -> Json:
    return change(data, method, "payment_method.detached", customer=None)
