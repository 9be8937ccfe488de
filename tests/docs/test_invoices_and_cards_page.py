"""docs/how-to/invoices-and-cards.md: users list and change what is theirs, from a browser."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

import shell
from api import Api, serving
from card_holders import customer_of, default_of
from clients_of_node import require_node
from http_tokens import ADMIN_KEY, USER, token
from pages import app_sql, block
from recovering import Station
from stripe_events import event, payment_method

PAGE = "docs/how-to/invoices-and-cards.md"


@pytest.fixture
def station(database_url: str, sandbox: str) -> Station:
    return Station(database_url, sandbox)


@pytest.fixture
def app(station: Station) -> Iterator[Api]:
    for sql in (*app_sql(), block(PAGE, "sql", "CREATE POLICY")):
        station.books.execute(sql)
    with serving(station.books.dsn, station.sandbox) as api:
        yield api


def run(app: Api, script: str, **names: str) -> Any:
    """What the page's script leaves in `result`."""
    require_node()
    given = {"billhook": app.url, "token": token(), **names}
    head = "".join(f"const {name} = {json.dumps(value)};\n" for name, value in given.items())
    program = f"{head}const user = {{ id: {json.dumps(USER)} }};\n{script}"
    ran = subprocess.run(
        ["node", "--input-type=module", "--eval", program],
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(ran.stdout or "null")


def test_a_user_lists_invoices(app: Api, station: Station) -> None:
    customer, _ = customer_of(station, USER)
    station.pull()
    script = block(PAGE, "js", "my/invoices") + "\nconsole.log(JSON.stringify(invoices));"
    (found,) = run(app, script)
    assert found["customerId"] == customer
    assert {"number", "status", "total", "currency", "hostedInvoiceUrl", "invoicePdf"} <= set(found)


def test_a_user_changes_cards(app: Api, station: Station) -> None:
    customer, (old, new) = customer_of(station, USER)
    station.pull()
    run(app, block(PAGE, "js", "/detach"), newCard=new, oldCard=old)
    assert default_of(station, customer) == new
    left = station.books.rows("SELECT payment_method_id FROM payments.stripe_payment_methods")
    assert [row["payment_method_id"] for row in left] == [new]


def test_the_server_changes_cards(app: Api, station: Station, tmp_path: Any) -> None:
    customer, (old, new) = customer_of(station, USER)
    station.pull()
    commands = block(PAGE, "sh", "payment-methods").replace("pm_123", new).replace("pm_456", old)
    shell.run(commands, tmp_path, {"BILLHOOK_URL": app.url, "BILLHOOK_API_KEY": ADMIN_KEY})
    assert default_of(station, customer) == new


def test_cards_that_expire_soon_are_found(app: Api) -> None:
    now = datetime.now(UTC)
    for name, year in (("pm_soon", now.year), ("pm_later", now.year + 3)):
        card = {"brand": "visa", "last4": "4242", "exp_month": now.month, "exp_year": year}
        app.books.apply(
            event("payment_method.attached", payment_method(name, customer="cus_1", card=card))
        )
    query = block(PAGE, "sql", "exp_year").replace("'live'", "'test'")
    assert [row["exp_year"] for row in app.books.rows(query)] == [now.year]
