"""Reads the forms of the hosted pages."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from billhook_sandbox.api.payment_methods import card_by_number
from billhook_sandbox.cards import Card
from billhook_sandbox.errors import InvalidRequest


class FormError(Exception):
    """Fields of the form are invalid. `errors` has their messages by the id of the field."""

    def __init__(self, errors: Mapping[str, str]) -> None:
        super().__init__(" ".join(errors.values()))
        self.errors = errors


class FormErrors:
    """Collects the errors of several checks, so that the page shows all of them at once."""

    def __init__(self) -> None:
        self.errors: dict[str, str] = {}

    @contextmanager
    def check(self) -> Iterator[None]:
        try:
            yield
        except FormError as error:
            self.errors = {**error.errors, **self.errors}

    def require(self, is_valid: bool, field: str, message: str) -> None:
        if not is_valid:
            self.errors.setdefault(field, message)

    def raise_any(self) -> None:
        if self.errors:
            raise FormError(self.errors)


def read_card(filled: dict[str, str]) -> tuple[Card, tuple[int, int]]:
    """The card and its expiry date. The name is required too."""
    problems = FormErrors()
    with problems.check():
        card = read_number(filled)
    expiry = re.fullmatch(r"(0?[1-9]|1[0-2])\s*/\s*(?:20)?(\d\d)", filled.get("expiry", ""))
    message = "Enter your card's expiration date as MM / YY."
    problems.require(expiry is not None, "cardExpiry", message)
    has_code = re.fullmatch(r"\d{3,4}", filled.get("cvc", "")) is not None
    message = "Enter your card's security code: three or four digits."
    problems.require(has_code, "cardCvc", message)
    problems.require(bool(filled.get("name")), "billingName", "Enter the name on the card.")
    problems.raise_any()
    assert expiry is not None
    return card, (int(expiry[1]), 2000 + int(expiry[2]))


def read_number(filled: dict[str, str]) -> Card:
    if not filled.get("number"):
        raise FormError({"cardNumber": "Enter your card number."})
    try:
        return card_by_number(filled["number"])
    except InvalidRequest as error:
        raise FormError({"cardNumber": error.message}) from error
