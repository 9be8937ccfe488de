"""Amounts as people read and write them."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billhook.errors import InvalidInput
from billhook.money import decimal_text, minor_units, money, price

CURRENCIES = ("eur", "jpy", "kwd", "isk", "ugx")


@pytest.mark.parametrize(
    ("amount", "currency", "shown"),
    [
        (150000, "usd", "1,500.00 USD"),
        (-5, "usd", "-0.05 USD"),
        (3600, "jpy", "3,600 JPY"),
        (1234, "kwd", "1.234 KWD"),
        (500, "isk", "5.00 ISK"),
        (Decimal("0.5"), "usd", "0.005 USD"),
        (9_007_199_254_740_993, "eur", "90,071,992,547,409.93 EUR"),
        (0, "EUR", "0.00 EUR"),
        (1234, "KWD", "1.234 KWD"),
        (7, None, "7"),
        (None, "eur", ""),
    ],
)
def test_an_amount_is_shown_with_its_currencys_decimals(
    amount: int | Decimal | None, currency: str | None, shown: str
) -> None:
    assert money(amount, currency) == shown


def test_a_price_without_an_amount_of_its_own_shows_none() -> None:
    assert price(None, None, "eur") == ""
    assert price(None, "0.5", "usd") == "0.005 USD"


@given(st.integers(0, 10**14), st.sampled_from(CURRENCIES))
def test_what_is_written_for_machines_is_read_back_to_the_cent(amount: int, currency: str) -> None:
    assert minor_units(decimal_text(amount, currency), currency) == amount


@pytest.mark.parametrize(
    ("text", "currency", "amount"),
    [("15", "eur", 1500), ("15.5", "eur", 1550), ("0.05", "usd", 5), ("1500", "jpy", 1500),
     ("1.5", "kwd", 1500), ("19,90", "eur", 1990), ("0,5", "usd", 50)],
)  # fmt: skip
def test_what_people_type_becomes_minor_units(text: str, currency: str, amount: int) -> None:
    assert minor_units(text, currency) == amount


@pytest.mark.parametrize(
    ("text", "currency"),
    [("", "eur"), ("1,500.00", "eur"), ("1.500,00", "eur"), ("15.005", "eur"), ("15.5", "jpy"),
     ("-1", "eur"), ("1e3", "eur"), ("١٥", "eur"), ("15.", "eur"), ("1" * 30, "eur"),
     # A thousand and a half, or one and a half?
     ("1,500", "eur"), ("1.500", "eur"), ("1,500", "jpy"), ("1,500", "kwd")],
)  # fmt: skip
def test_what_is_no_amount_is_refused_with_an_example(text: str, currency: str) -> None:
    with pytest.raises(InvalidInput, match="amount: "):
        minor_units(text, currency)
