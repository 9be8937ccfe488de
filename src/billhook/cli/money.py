"""Amounts for people. Stripe counts in minor units, and not every currency has a hundred."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

# docs.stripe.com/currencies. ISK and UGX have no decimals either, but Stripe counts them in
# hundredths all the same.
_NO_DECIMALS = frozenset({
    "bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "vnd", "vuv", "xaf",
    "xof", "xpf",
})  # fmt: skip
_THREE_DECIMALS = frozenset(["bhd", "jod", "kwd", "omr", "tnd"])


def decimals(currency: str) -> int:
    """How many digits of an amount in `currency` follow the point."""
    if currency in _NO_DECIMALS:
        return 0
    return 3 if currency in _THREE_DECIMALS else 2


def money(amount: int | Decimal | None, currency: str | None) -> str:
    """`money(150000, "usd")` is `1,500.00 USD`, `money(3600, "jpy")` is `3,600 JPY`.

    A fraction of the minor unit keeps its digits: half a cent is `0.005 USD`.
    """
    if amount is None:
        return ""
    if currency is None:
        return f"{amount:,}"
    digits = decimals(currency.lower())
    exact = Decimal(amount).scaleb(-digits)
    beyond = max(digits, -int(exact.normalize().as_tuple().exponent))
    return f"{exact:,.{beyond}f} {currency.upper()}"


def price(unit_amount: int | None, unit_amount_decimal: str | None, currency: str) -> str:
    """What a Price asks for one unit; tiers and the customer's own choice have no such amount."""
    if unit_amount is not None:
        return money(unit_amount, currency)
    try:
        return money(Decimal(unit_amount_decimal or ""), currency)
    except InvalidOperation:
        return ""
