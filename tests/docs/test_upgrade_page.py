"""docs/how-to/upgrade.md: a migration beside a running server, and what an old version does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import shell
from api import STRIPE_KEY, connect
from books import Books
from http_tokens import JWT_SECRET, signature
from pages import block, blocks
from process import Process, serving
from stripe_events import customer, event, payload

PAGE = "docs/how-to/upgrade.md"


@pytest.fixture
def server(direct_database_url: str, sandbox: str, tmp_path: Path) -> Iterator[Process]:
    connect(direct_database_url, sandbox, STRIPE_KEY)
    (tmp_path / "server").mkdir()
    with serving(direct_database_url, sandbox, tmp_path / "server") as running:
        yield running


@pytest.fixture
def settings(direct_database_url: str, sandbox: str) -> dict[str, str]:
    return {
        "DATABASE_URL": direct_database_url,
        "JWT_SECRET": JWT_SECRET,
        "STRIPE_API_BASE": sandbox,
    }


def deliver(server: Process, name: str) -> None:
    body = payload(event("customer.created", customer(name)))
    headers = {"stripe-signature": signature(body) or ""}
    answer = httpx.post(f"{server.url}/api/webhooks/stripe/test", content=body, headers=headers)
    assert answer.is_success, answer.text


def test_functions_are_replaced_beside_a_running_server(
    server: Process, settings: dict[str, str], tmp_path: Path
) -> None:
    migrate, doctor = blocks(PAGE, "sh")
    books = Books(settings["DATABASE_URL"])
    deliver(server, "cus_1")
    # As if a version with other functions had been the last to migrate.
    books.execute("UPDATE billhook.function_files SET checksum = 'other'")
    ran = shell.run(migrate, tmp_path, settings)
    files = books.rows("SELECT name FROM billhook.function_files")
    assert all(f"applied functions/{file['name']}" in ran.out for file in files)
    deliver(server, "cus_2")
    assert len(books.rows("SELECT FROM payments.customers")) == 2
    assert "The database is up to date." in shell.run(migrate, tmp_path, settings).out
    assert "0 broken" in shell.run(doctor, tmp_path, settings).out
    assert books.rows(block(PAGE, "sql", "billhook.migrations"))[0]["number"] == 1


def test_after_a_newer_migration_a_running_server_goes_on_and_none_starts(
    server: Process, settings: dict[str, str], tmp_path: Path
) -> None:
    books = Books(settings["DATABASE_URL"])
    books.execute("INSERT INTO billhook.migrations VALUES (9999, 'later', 'x')")
    deliver(server, "cus_1")
    assert len(books.rows("SELECT FROM payments.customers")) == 1
    ran = shell.run("billhook serve --port 0", tmp_path, settings, fails=True)
    assert "This database is newer than this version of Billhook" in ran.out
