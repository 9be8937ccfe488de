"""Reads the forms of the hosted pages."""

import re

from billhook_sandbox.api.payment_methods import card_by_number
from billhook_sandbox.cards import Card
from billhook_sandbox.errors import InvalidRequest


class FormError(Exception):
    """A field of the form is invalid."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field
        self.message = message


def read_card(filled: dict[str, str]) -> tuple[Card, tuple[int, int]]:
    """The card and its expiry date. The name is required too."""
    try:
        card = card_by_number(filled.get("number", ""))
    except InvalidRequest as error:
        raise FormError("cardNumber", error.message) from error
    expiry = re.fullmatch(r"(0?[1-9]|1[0-2])\s*/\s*(?:20)?(\d\d)", filled.get("expiry", ""))
    if expiry is None:
        raise FormError("cardExpiry", "Enter your card's expiration date as MM / YY.")
    if not re.fullmatch(r"\d{3,4}", filled.get("cvc", "")):
        raise FormError("cardCvc", "Enter your card's security code: three or four digits.")
    if not filled.get("name"):
        raise FormError("billingName", "Enter the name on the card.")
    return card, (int(expiry[1]), 2000 + int(expiry[2]))
