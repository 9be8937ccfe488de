"""The test cards and bank accounts that a page offers, grouped by what they do."""

from typing import NamedTuple

from billhook_sandbox.cards import BY_NUMBER, CARDS, IBANS, Card
from billhook_sandbox.pages.formatting import grouped

BRANDS = {
    "amex": "American Express",
    "discover": "Discover",
    "mastercard": "Mastercard",
    "visa": "Visa",
}
GROUPS = ("Succeeds", "Authentication", "Declined", "Refunds and disputes", "Bank accounts")
BUYER = {"email": "buyer@example.com", "name": "Test Buyer", "postal_code": "10115"}
"""For fields that are empty when a test card is chosen."""


class SampleMethod(NamedTuple):
    number: str
    label: str
    filled: dict[str, str]
    """The fields that it fills in, by name."""


def sample_methods(types: list[str]) -> dict[str, list[SampleMethod]]:
    groups: dict[str, list[SampleMethod]] = {group: [] for group in GROUPS}
    for card in CARDS if "card" in types else ():
        groups[group_of(card)].append(method_of_card(card))
    for iban, succeeds in IBANS.items() if "sepa_debit" in types else ():
        label = "Succeeds later" if succeeds else "Fails later"
        groups["Bank accounts"].append(method_of_iban(iban, label))
    return {group: methods for group, methods in groups.items() if methods}


def group_of(card: Card) -> str:
    if card.payment != "succeeds":
        return "Declined" if card.payment == "declined" else "Authentication"
    return "Refunds and disputes" if card.dispute or card.refund != "succeeds" else "Succeeds"


def label_of(card: Card) -> str:
    if card.description != "Succeeds":
        label = card.description.removeprefix("Declined: ")
        return label[0].upper() + label[1:]
    return BRANDS[card.brand] + (" debit" if card.funding == "debit" else "")


def method_of_card(card: Card) -> SampleMethod:
    number = grouped(card.number)
    code = "1234" if card.brand == "amex" else "123"
    filled = {"saved": "", "method": "card", "number": number, "expiry": "12 / 34", "cvc": code}
    return SampleMethod(number, label_of(card), filled)


def method_of_iban(iban: str, label: str) -> SampleMethod:
    number = grouped(iban)
    return SampleMethod(number, label, {"saved": "", "method": "sepa_debit", "iban": number})


def with_sample_method(filled: dict[str, str]) -> dict[str, str]:
    """The form, filled in with the method that was chosen."""
    number = "".join(filled["test_number"].split())
    if number in BY_NUMBER:
        chosen = method_of_card(BY_NUMBER[number]).filled
    else:
        chosen = method_of_iban(number, "").filled if number in IBANS else {}
    empty = {name: value for name, value in BUYER.items() if not filled.get(name)}
    return {**filled, **empty, **chosen}
