"""Amounts for people. Stripe counts in minor units, and not every currency has a hundred."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation

from billhook.errors import InvalidInput

# docs.stripe.com/currencies
_NO_DECIMALS = frozenset({
    "bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "vnd", "vuv", "xaf",
    "xof", "xpf",
})  # fmt: skip
# They have no decimals either, but Stripe counts them in hundredths all the same.
_IN_HUNDREDTHS = frozenset(["isk", "ugx"])
_THREE_DECIMALS = frozenset(["bhd", "jod", "kwd", "omr", "tnd"])

_EXAMPLES = {
    0: "1500, without thousands separators",
    2: "15.00, without thousands separators",
    3: "15.000, with a point and without thousands separators",
}


def decimals(currency: str) -> int:
    """How many digits of an amount in `currency` follow the point."""
    code = currency.lower()
    if code in _NO_DECIMALS:
        return 0
    return 3 if code in _THREE_DECIMALS else 2


def step(currency: str | None) -> int:
    """Stripe charges and refunds only multiples of it, in the minor unit."""
    code = (currency or "").lower()
    if code in _IN_HUNDREDTHS:
        return 100
    return 10 if code in _THREE_DECIMALS else 1


def money(amount: int | Decimal | None, currency: str | None) -> str:
    """`money(150000, "usd")` is `1,500.00 USD`, `money(3600, "jpy")` is `3,600 JPY`.

    A fraction of the minor unit keeps its digits: half a cent is `0.005 USD`.
    """
    if amount is None:
        return ""
    if currency is None:
        return f"{amount:,}"
    return f"{_decimal(amount, currency):,f} {currency.upper()}"


def decimal_text(amount: int | None, currency: str | None) -> str:
    """The amount alone, for machines: `decimal_text(150000, "usd")` is `1500.00`."""
    if amount is None:
        return ""
    return f"{_decimal(amount, currency):f}" if currency else str(amount)


def _decimal(amount: int | Decimal, currency: str) -> Decimal:
    digits = decimals(currency)
    exact = Decimal(amount).scaleb(-digits)
    beyond = max(digits, -int(exact.normalize().as_tuple().exponent))
    return exact.quantize(Decimal(1).scaleb(-beyond))


def minor_units(text: str, currency: str) -> int:
    """What somebody typed, in the currency's minor unit: `minor_units("15", "usd")` is 1500, and so
    is `minor_units("15,00", "usd")`, as most of Europe writes it.

    Raises:
        InvalidInput: it is no amount, or has more decimals than the currency.
    """
    digits = decimals(currency)
    found = re.fullmatch(r"([0-9]{1,15})(?:[.,]([0-9]{1,3}))?", text)
    if found is None or (digits == 3 and "," in text):
        raise InvalidInput(f"amount: must look like {_EXAMPLES[digits]}")
    whole, fraction = found[1], found[2] or ""
    # 1.500 may be meant as a thousand and a half.
    if len(fraction) > digits:
        raise InvalidInput(f"amount: {currency.upper()} has {digits or 'no'} decimals")
    return int(whole + fraction.ljust(digits, "0"))


def price(unit_amount: int | None, unit_amount_decimal: str | None, currency: str) -> str:
    """What a Price asks for one unit; tiers and the customer's own choice have no such amount."""
    if unit_amount is not None:
        return money(unit_amount, currency)
    try:
        amount = Decimal(unit_amount_decimal or "")
        return money(amount, currency) if amount.is_finite() else ""
    except InvalidOperation:
        return ""
