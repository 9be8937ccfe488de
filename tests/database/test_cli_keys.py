"""`billhook keys`: what an operator types."""

from __future__ import annotations

import json

import asyncpg
import pytest
from typer.testing import CliRunner, Result

from billhook.cli.keys import app
from billhook.errors import BillhookError
from billhook.postgres import no_answer
from books import Books
from http_tokens import JWT_SECRET


def run(dsn: str, *arguments: str) -> Result:
    env = {"DATABASE_URL": dsn, "JWT_SECRET": JWT_SECRET, "COLUMNS": "80"}
    return CliRunner().invoke(app, list(arguments), env=env)


def test_a_key_is_shown_once_listed_by_its_ending_and_revoked(books: Books) -> None:
    made = run(books.dsn, "create", "--admin", "--name", "ci", "--expires", "30d")
    key = made.output.strip()
    assert (made.exit_code, key[:3]) == (0, "ik_")
    anonymous = run(books.dsn, "create", "--anonymous").output.strip()
    assert anonymous.startswith("anon_")
    listed = run(books.dsn, "list").output
    assert key not in listed
    assert f"ik_****{key[-4:]}" in listed
    assert "valid until" in listed
    stored = str(books.row("SELECT id FROM billhook.api_keys WHERE kind = 'admin'")["id"])
    assert stored in listed
    told = json.loads(run(books.dsn, "list", "--json").stdout)["keys"]
    admin = next(each for each in told if each["kind"] == "admin")
    assert (admin["id"], admin["name"], admin["revokedAt"]) == (stored, "ci", None)
    assert admin["expiresAt"].endswith("Z")
    revoked = run(books.dsn, "revoke", stored)
    assert (revoked.exit_code, "revoked" in revoked.output) == (0, True)
    assert "revoked" in run(books.dsn, "list").output


def test_the_kind_of_key_must_be_said(books: Books) -> None:
    assert run(books.dsn, "create").exit_code == 2
    assert run(books.dsn, "create", "--admin", "--anonymous").exit_code == 2
    assert run(books.dsn, "create", "--admin", "--expires", "soon").exit_code == 2
    assert "no keys yet" in run(books.dsn, "list").output


def test_a_key_that_is_not_there_and_a_database_without_schema_are_clear_errors(
    books: Books, empty_database_url: str
) -> None:
    unknown = run(books.dsn, "revoke", "3fa85f64-5717-4562-b3fc-2c963f66afa6")
    assert isinstance(unknown.exception, BillhookError)
    assert "There is no key" in unknown.exception.message
    bare = run(empty_database_url, "list")
    assert isinstance(bare.exception, BillhookError)
    assert bare.exception.next_actions == "Run: billhook migrate"


@pytest.mark.parametrize("command", [["list"], ["create", "--admin"]])
def test_a_server_that_does_not_answer_is_a_clear_error(command: list[str]) -> None:
    result = run("postgresql://nobody@127.0.0.1:9/none", *command)
    assert isinstance(result.exception, BillhookError)
    assert "PostgreSQL does not respond" in result.exception.message


@pytest.mark.parametrize(
    "error",
    [asyncpg.AdminShutdownError, asyncpg.CannotConnectNowError, asyncpg.TooManyConnectionsError],
)
def test_a_server_that_restarts_or_is_full_is_not_blamed_on_the_password(
    error: type[asyncpg.PostgresError],
) -> None:
    told = no_answer(error("for some time"))
    assert told.message == "PostgreSQL does not respond: for some time"
    assert "password" not in (told.next_actions or "")


def test_a_server_that_refuses_the_connection_is_not_called_unresponsive(books: Books) -> None:
    result = run(books.dsn.replace("postgres@", "nobody@"), "list")
    assert isinstance(result.exception, BillhookError)
    assert result.exception.message.startswith("PostgreSQL refused the connection: ")
    assert "nobody" in result.exception.message
    assert "password" in (result.exception.next_actions or "")
