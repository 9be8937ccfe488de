"""docs/how-to/more-events.md: events of added types reach the app's triggers."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import pytest

from api import Api, serving
from billhook.account.endpoint_events import EVENTS
from cli import Billhook, billhook
from http_tokens import ADMIN_KEY
from pages import ROOT, block
from stripe_events import event

__all__ = ["billhook"]

PAGE = "docs/how-to/more-events.md"


@pytest.fixture
def app(database_url: str, sandbox: str) -> Iterator[Api]:
    with serving(database_url, sandbox, public_url="http://127.0.0.1:9") as api:
        yield api


def added(app: Api) -> list[str]:
    found: list[str] = app.admin("GET", "/test/webhook/events").json()["added"]
    return found


def test_the_commands_add_list_and_remove_a_type(
    app: Api, billhook: Billhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BILLHOOK_URL", app.url)
    monkeypatch.setenv("BILLHOOK_API_KEY", ADMIN_KEY)
    add, show, remove = block(PAGE, "sh", "events add").splitlines()
    for command, left in ((add, ["payout.paid"]), (show, ["payout.paid"]), (remove, [])):
        ran = billhook(*shlex.split(command)[1:])
        assert ran.code == 0, ran.err
        assert ("payout.paid (added)" in ran.out) == bool(left)
        assert added(app) == left


def test_the_notices_of_the_page_come_without_asking() -> None:
    rows = [
        line.split("`")[1]
        for line in (ROOT / PAGE).read_text().splitlines()
        if line.startswith("| `")
    ]
    assert len(rows) == 4
    assert set(rows) <= set(EVENTS)


def test_a_payout_is_recorded_once(app: Api) -> None:
    app.books.execute(block(PAGE, "sql", "record_payout"))
    paid = event(
        "payout.paid", {"id": "po_1", "object": "payout", "amount": 900, "currency": "eur"}
    )
    assert app.deliver(paid).json()["event"]["processingStatus"] == "ignored"
    assert app.deliver(paid).status_code == 200
    assert app.books.rows("SELECT * FROM public.payouts") == [
        {"payout_id": "po_1", "amount": 900, "currency": "eur"}
    ]
