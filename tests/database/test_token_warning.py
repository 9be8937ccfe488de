"""`billhook token` for users whose ids are no UUIDs, where policies expect UUIDs."""

from __future__ import annotations

import jwt
import pytest

from books import Books
from cli import Billhook, billhook
from http_tokens import JWT_SECRET, USER

__all__ = ["billhook"]

SESSIONS = "payments.stripe_checkout_sessions"


@pytest.fixture
def at_database(database_url: str, billhook: Billhook, monkeypatch: pytest.MonkeyPatch) -> Billhook:
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("JWT_SECRET", JWT_SECRET)
    return billhook


def minted(billhook: Billhook, sub: str, *more: str) -> str:
    """The warning; the token is on standard output in any case."""
    ran = billhook("token", "--sub", sub, *more)
    assert ran.code == 0
    assert jwt.decode(ran.out.strip(), JWT_SECRET, algorithms=["HS256"])["sub"] == sub
    return ran.err


@pytest.mark.parametrize(
    "condition",
    ["subject_id = auth.uid()::text", "may_bill(subject_id)"],
    ids=["in the policy", "in a function of the policy"],
)
def test_policies_that_expect_a_uuid_are_named(
    at_database: Billhook, books: Books, condition: str
) -> None:
    books.execute(
        "CREATE FUNCTION may_bill(id text) RETURNS boolean LANGUAGE sql AS "
        "$$ SELECT id = auth.uid()::text $$;"
        f"CREATE POLICY own ON {SESSIONS} TO authenticated USING ({condition})"
    )
    warned = minted(at_database, "user_2abc")
    assert "user_2abc is not a UUID" in warned
    assert f"own on {SESSIONS}" in warned
    assert "auth.jwt() ->> 'sub'" in warned
    assert minted(at_database, USER) == ""
    assert minted(at_database, "user_2abc", "--role", "anon") == ""


def test_policies_that_compare_text_need_no_warning(at_database: Billhook, books: Books) -> None:
    books.execute(
        f"CREATE POLICY own ON {SESSIONS} TO authenticated "
        "USING (subject_id = auth.jwt() ->> 'sub')"
    )
    assert minted(at_database, "user_2abc") == ""


def test_without_the_database_it_says_what_to_look_for(
    at_database: Billhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:9/app")
    assert "Policies that use auth.uid() raise" in minted(at_database, "user_2abc")
    monkeypatch.delenv("DATABASE_URL")
    assert "Policies that use auth.uid() raise" in minted(at_database, "user_2abc")
