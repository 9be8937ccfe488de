"""What people read: amounts in their currency, cells, options as they are typed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
import typer

from billhook.cli.options import metadata_of, subject_of, utc
from billhook.cli.output import cell
from billhook.money import money, price


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [
        (150000, "usd", "1,500.00 USD"),
        (5, "eur", "0.05 EUR"),
        (-2400, "usd", "-24.00 USD"),
        (3600, "jpy", "3,600 JPY"),
        (100, "ugx", "1.00 UGX"),
        (12345, "kwd", "12.345 KWD"),
        (0, "USD", "0.00 USD"),
        (Decimal("0.5"), "usd", "0.005 USD"),
        (Decimal("1E+3"), "usd", "10.00 USD"),
        (2**53 - 1, "usd", "90,071,992,547,409.91 USD"),
        (1500, None, "1,500"),
        (None, "usd", ""),
    ],
)
def test_amounts_have_the_decimals_of_their_currency(
    amount: int | Decimal | None, currency: str | None, text: str
) -> None:
    assert money(amount, currency) == text


def test_a_price_below_the_minor_unit_keeps_its_digits_and_tiers_have_none() -> None:
    assert price(1500, "1500", "usd") == "15.00 USD"
    assert price(None, "0.25", "usd") == "0.0025 USD"
    assert price(None, None, "usd") == ""


def test_cells() -> None:
    assert [cell(value) for value in (None, True, False, 3, "a\tb\x1b[31m")] == [
        *("", "yes", "no", "3"),
        "a b [31m",
    ]
    east = timezone(timedelta(hours=2))
    assert cell(datetime(2026, 5, 12, 1, 30, tzinfo=east)) == "2026-05-11 23:30:00"


def test_options_as_they_are_typed() -> None:
    assert subject_of("team:t:42") == ("team", "t:42")
    assert metadata_of(["a=1", "b=", "c=d=e"]) == {"a": "1", "b": "", "c": "d=e"}
    assert (subject_of(None), metadata_of(None), utc(None)) == (None, None, None)
    assert utc(datetime(2026, 5, 12)) == datetime(2026, 5, 12, tzinfo=UTC)
    for wrong in ("team", ":1", "team:"):
        with pytest.raises(typer.BadParameter):
            subject_of(wrong)
