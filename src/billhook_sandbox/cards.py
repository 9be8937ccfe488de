"""Stripe's test cards and bank accounts, and what each of them does.

What a card does is found again by its brand and last four digits, so that a stored payment method
needs no hidden notes.
"""

from dataclasses import dataclass
from typing import Literal

PaymentBehavior = Literal["succeeds", "declined", "authenticates"]
DisputeKind = Literal["fraudulent", "product_not_received", "inquiry"]
RefundBehavior = Literal["succeeds", "pending", "fails later"]


@dataclass(frozen=True, slots=True)
class Card:
    number: str
    token: str
    payment: PaymentBehavior = "succeeds"
    decline_code: str = "generic_decline"
    refund: RefundBehavior = "succeeds"
    brand: str = "visa"
    funding: str = "credit"
    about: str = "is paid"
    dispute: DisputeKind | None = None
    available_at_once: bool = False
    """Its money skips the days of waiting."""

    @property
    def last4(self) -> str:
        return self.number[-4:]

    @property
    def error_code(self) -> str:
        special = ("expired_card", "incorrect_cvc", "processing_error")
        return self.decline_code if self.decline_code in special else "card_declined"


CARDS = (
    Card("4242424242424242", "pm_card_visa"),
    Card("4000056655665556", "pm_card_visa_debit", funding="debit"),
    Card("5555555555554444", "pm_card_mastercard", brand="mastercard"),
    Card("378282246310005", "pm_card_amex", brand="amex"),
    Card("6011111111111117", "pm_card_discover", brand="discover"),
    Card("4000000000000002", "pm_card_chargeDeclined", "declined", about="is declined"),
    Card(
        "4000000000009995",
        "pm_card_chargeDeclinedInsufficientFunds",
        "declined",
        "insufficient_funds",
        about="has insufficient funds",
    ),
    Card(
        "4000000000000069",
        "pm_card_chargeDeclinedExpiredCard",
        "declined",
        "expired_card",
        about="has expired",
    ),
    Card(
        "4000000000000127",
        "pm_card_chargeDeclinedIncorrectCvc",
        "declined",
        "incorrect_cvc",
        about="has another security code",
    ),
    Card(
        "4000000000000119",
        "pm_card_chargeDeclinedProcessingError",
        "declined",
        "processing_error",
        about="meets a processing error",
    ),
    Card("4000000000000341", "pm_card_chargeCustomerFail", "declined", about="can't be charged"),
    Card(
        "4000002500003155",
        "pm_card_authenticationRequiredOnSetup",
        "authenticates",
        about="asks for authentication",
    ),
    Card(
        "4000002760003184",
        "pm_card_authenticationRequired",
        "authenticates",
        about="always asks for authentication",
    ),
    Card(
        "4000000000003220",
        "pm_card_threeDSecure2Required",
        "authenticates",
        about="requires 3D Secure 2",
    ),
    Card("4000000000007726", "pm_card_pendingRefund", refund="pending", about="refunds late"),
    Card("4000000000005126", "pm_card_refundFail", refund="fails later", about="refund fails"),
    Card("4000000000000259", "pm_card_createDispute", about="is disputed", dispute="fraudulent"),
    Card(
        "4000000000002685",
        "pm_card_createDisputeProductNotReceived",
        about="is disputed: nothing came",
        dispute="product_not_received",
    ),
    Card(
        "4000000000001976",
        "pm_card_createDisputeInquiry",
        about="is inquired about",
        dispute="inquiry",
    ),
    Card(
        "4000000000000077",
        "pm_card_bypassPending",
        about="is paid, available at once",
        available_at_once=True,
    ),
)

BY_NUMBER = {card.number: card for card in CARDS}
BY_TOKEN = {card.token: card for card in CARDS}
BY_TOKEN["pm_card_visa_chargeDeclined"] = BY_TOKEN["pm_card_chargeDeclined"]
BY_BRAND_AND_LAST4 = {(card.brand, card.last4): card for card in CARDS}

DECLINES = {
    "generic_decline": "Your card was declined.",
    "insufficient_funds": "Your card has insufficient funds.",
    "expired_card": "Your card has expired.",
    "incorrect_cvc": "Your card's security code is incorrect.",
    "processing_error": (
        "An error occurred while processing your card. Try again in a little bit."
    ),
}

# Test accounts of SEPA debit (stripe-facts, section 4): money comes days later, or doesn't.
IBANS: dict[str, bool] = {"AT611904300234573201": True, "AT861904300235473202": False}
"""IBAN -> whether the debit succeeds."""
FAILING_IBANS = ("AT861904300235473202", "IT60X0542811101000000123456")


def passes_luhn(number: str) -> bool:
    digits = [int(digit) for digit in reversed(number)]
    return (sum(digits[::2]) + sum(sum(divmod(2 * d, 10)) for d in digits[1::2])) % 10 == 0
