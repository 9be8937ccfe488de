"""docs/explanation/business-figures.md: the command shows the figures, and the query the rows."""

from __future__ import annotations

from pathlib import Path

import shell
import stripe_events as stripe
from api import Api, serving
from http_tokens import ADMIN_KEY
from pages import block

PAGE = "docs/explanation/business-figures.md"


def in_test_mode(text: str) -> str:
    """A block for the environment that the tests have."""
    assert "live" in text
    return text.replace("'live'", "'test'").replace("--environment live", "--environment test")


def subscribed(api: Api) -> None:
    """Somebody pays 20 euros a month, since 28 May 2026."""
    shown = stripe.subscription(currency="eur")
    shown["items"]["data"][0] |= {"quantity": 1}
    price = {"unit_amount": 2000, "recurring": {"interval": "month"}}
    shown["items"]["data"][0]["price"] |= price
    assert api.deliver(stripe.event("customer.subscription.created", shown)).status_code == 200


def test_the_figures_and_the_rows_behind_them_are_shown(
    database_url: str, sandbox: str, tmp_path: Path
) -> None:
    with serving(database_url, sandbox) as api:
        subscribed(api)
        given = {"BILLHOOK_URL": api.url, "BILLHOOK_API_KEY": ADMIN_KEY}
        shown = shell.run(in_test_mode(block(PAGE, "sh", "billhook business")), tmp_path, given)
        assert "20.00 EUR" in shown.out
        (row,) = api.books.rows(in_test_mode(block(PAGE, "sql", "mrr_movements")))
        del row["day"]
        expected = {"kind": "new", "customer_id": "cus_1", "amount": 2000, "mrr": 2000}
        assert row == expected
