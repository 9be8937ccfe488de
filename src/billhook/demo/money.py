"""Formats amounts: Stripe uses minor units, and not every currency has 100 of them."""

from __future__ import annotations

_SYMBOLS = {"usd": "$", "eur": "€", "jpy": "¥", "gbp": "£"}

# docs.stripe.com/currencies: zero-decimal and three-decimal currencies
_ZERO_DECIMAL = frozenset(
    [
        "bif",
        "clp",
        "djf",
        "gnf",
        "jpy",
        "kmf",
        "krw",
        "mga",
        "pyg",
        "rwf",
        "vnd",
        "vuv",
        "xaf",
        "xof",
        "xpf",
    ],
)
_THREE_DECIMAL = frozenset(["bhd", "jod", "kwd", "omr", "tnd"])


def decimals(currency: str) -> int:
    """The number of decimal places of `currency`."""
    if currency in _ZERO_DECIMAL:
        return 0
    return 3 if currency in _THREE_DECIMAL else 2


def money(amount: int, currency: str) -> str:
    """`money(2400, "usd")` is `$24.00`, `money(3600, "jpy")` is `¥3,600`."""
    currency = currency.lower()
    digits = decimals(currency)
    whole, rest = divmod(abs(amount), 10**digits)
    number = f"{whole:,}.{rest:0{digits}d}" if digits else f"{whole:,}"
    sign = "−" if amount < 0 else ""
    symbol = _SYMBOLS.get(currency)
    return f"{sign}{symbol}{number}" if symbol else f"{sign}{number} {currency.upper()}"
