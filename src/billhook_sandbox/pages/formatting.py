"""Formats amounts, prices and card numbers for the pages."""

from decimal import Decimal

from billhook_sandbox.objects.catalog import is_metered
from billhook_sandbox.store import Json

SYMBOLS = {"usd": "$", "eur": "€", "gbp": "£", "jpy": "¥", "inr": "₹"}
ZERO_DECIMAL_CURRENCIES = frozenset({
    "bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "ugx", "vnd", "vuv",
    "xaf", "xof", "xpf",
})  # fmt: skip


def money(amount: int, currency: str) -> str:
    if amount < 0:
        return f"-{money(-amount, currency)}"
    figures = f"{amount:,}" if currency in ZERO_DECIMAL_CURRENCIES else f"{amount / 100:,.2f}"
    return with_currency(figures, currency)


def with_currency(figures: str, currency: str) -> str:
    symbol = SYMBOLS.get(currency)
    return f"{symbol}{figures}" if symbol else f"{figures} {currency.upper()}"


def unit_price(price: Json) -> str:
    """ "$29.00 per month"; what one unit costs."""
    if price["billing_scheme"] == "tiered":
        amount = "Price depends on quantity,"
    else:
        amount = exact_money(Decimal(price["unit_amount_decimal"] or 0), price["currency"])
        amount += " per unit," if is_metered(price) else ""
    interval = billing_interval(price["recurring"])
    return f"{amount} {interval}".rstrip(" ,").replace(", per", ", billed per")


def exact_money(amount: Decimal, currency: str) -> str:
    """Prices may have fractions of a cent."""
    if amount == int(amount):
        return money(int(amount), currency)
    exact = amount if currency in ZERO_DECIMAL_CURRENCIES else amount / 100
    return with_currency(f"{exact.normalize():f}", currency)


def billing_interval(recurring: dict[str, object] | None) -> str:
    """ "per month", "every 3 months", or empty for a one-time price."""
    if recurring is None:
        return ""
    count, interval = recurring["interval_count"], recurring["interval"]
    return f"per {interval}" if count == 1 else f"every {count} {interval}s"


def grouped(number: str) -> str:
    """A card number or IBAN as people read it."""
    if number.startswith(("34", "37")):
        return f"{number[:4]} {number[4:10]} {number[10:]}"
    return " ".join(number[i : i + 4] for i in range(0, len(number), 4))


def initial(name: str) -> str:
    """For the picture of a merchant or product that has none."""
    return next((character.upper() for character in name if character.isalnum()), "•")
