"""docs/explanation/history.md: an import brings in the past, and the totals are Stripe's."""

from __future__ import annotations

from pathlib import Path

import shell
from api import serving
from http_tokens import ADMIN_KEY
from pages import block
from recovering import Station

PAGE = "docs/explanation/history.md"


def in_test_mode(text: str) -> str:
    """A block for the environment that the tests have."""
    assert "live" in text
    return text.replace("'live'", "'test'").replace("--environment live", "--environment test")


def test_the_past_of_an_account_is_imported_and_its_totals_are_stripes(
    database_url: str, sandbox: str, tmp_path: Path
) -> None:
    station = Station(database_url, sandbox)
    v1 = station.stripe.v1
    (session,) = station.bought()
    intent = v1.checkout.sessions.retrieve(session).payment_intent
    v1.refunds.create({"payment_intent": str(intent), "amount": 500})
    with serving(database_url, sandbox) as api:
        given = {"BILLHOOK_URL": api.url, "BILLHOOK_API_KEY": ADMIN_KEY}
        for command in ("live\n", "--progress"):
            shell.run(in_test_mode(block(PAGE, "sh", command)), tmp_path, given)
        (row,) = api.books.rows(in_test_mode(block(PAGE, "sql", "lost_disputes")))
        assert (row["currency"], row["payments"], row["refunds"]) == ("eur", 1500, 500)
        assert row["lost_disputes"] == 0
