"""Stripe's test cards and bank accounts, and how each of them behaves.

A stored payment method is matched to its test card by brand and last four digits.
"""

from dataclasses import dataclass
from typing import Literal

PaymentBehavior = Literal["succeeds", "declined", "requires_authentication"]
DisputeKind = Literal["fraudulent", "product_not_received", "inquiry"]
RefundBehavior = Literal["succeeds", "pending", "fails_later"]


@dataclass(frozen=True, slots=True)
class Card:
    number: str
    token: str
    payment: PaymentBehavior = "succeeds"
    decline_code: str = "generic_decline"
    refund: RefundBehavior = "succeeds"
    brand: str = "visa"
    funding: str = "credit"
    description: str = "Succeeds"
    dispute: DisputeKind | None = None
    available_immediately: bool = False
    """The funds skip the pending balance."""

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
    Card("4000000000000002", "pm_card_chargeDeclined", "declined", description="Declined"),
    Card(
        "4000000000009995",
        "pm_card_chargeDeclinedInsufficientFunds",
        "declined",
        "insufficient_funds",
        description="Declined: insufficient funds",
    ),
    Card(
        "4000000000000069",
        "pm_card_chargeDeclinedExpiredCard",
        "declined",
        "expired_card",
        description="Declined: expired card",
    ),
    Card(
        "4000000000000127",
        "pm_card_chargeDeclinedIncorrectCvc",
        "declined",
        "incorrect_cvc",
        description="Declined: incorrect CVC",
    ),
    Card(
        "4000000000000119",
        "pm_card_chargeDeclinedProcessingError",
        "declined",
        "processing_error",
        description="Declined: processing error",
    ),
    Card(
        "4000000000000341",
        "pm_card_chargeCustomerFail",
        "declined",
        description="Can be saved, then is declined",
    ),
    Card(
        "4000002500003155",
        "pm_card_authenticationRequiredOnSetup",
        "requires_authentication",
        description="Requires authentication on the first payment",
    ),
    Card(
        "4000002760003184",
        "pm_card_authenticationRequired",
        "requires_authentication",
        description="Requires authentication on every payment",
    ),
    Card(
        "4000000000003220",
        "pm_card_threeDSecure2Required",
        "requires_authentication",
        description="Requires 3D Secure 2",
    ),
    Card(
        "4000000000007726",
        "pm_card_pendingRefund",
        refund="pending",
        description="Refunds are pending at first",
    ),
    Card(
        "4000000000005126",
        "pm_card_refundFail",
        refund="fails_later",
        description="Refunds fail later",
    ),
    Card(
        "4000000000000259",
        "pm_card_createDispute",
        description="Disputed as fraudulent",
        dispute="fraudulent",
    ),
    Card(
        "4000000000002685",
        "pm_card_createDisputeProductNotReceived",
        description="Disputed as product not received",
        dispute="product_not_received",
    ),
    Card(
        "4000000000001976",
        "pm_card_createDisputeInquiry",
        description="Disputed as an inquiry",
        dispute="inquiry",
    ),
    Card(
        "4000000000000077",
        "pm_card_bypassPending",
        description="Succeeds; funds are available immediately",
        available_immediately=True,
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

# SEPA Direct Debit test accounts (stripe-facts, section 4).
IBANS: dict[str, bool] = {"AT611904300234573201": True, "AT861904300235473202": False}
"""IBAN -> whether the payment succeeds, days later."""
FAILING_IBANS = ("AT861904300235473202", "IT60X0542811101000000123456")


def passes_luhn(number: str) -> bool:
    digits = [int(digit) for digit in reversed(number)]
    return (sum(digits[::2]) + sum(sum(divmod(2 * d, 10)) for d in digits[1::2])) % 10 == 0
