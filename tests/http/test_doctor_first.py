"""`billhook doctor` before the server was ever started: with the `.env` that it will read."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from pydantic import SecretStr
from test_doctor import PUBLIC

from billhook.access.secrets import SecretStore, stripe_key_name
from billhook.postgres import Database
from billhook.postgres.migrate import migrate
from billhook.settings import Settings
from books import Books
from cli import Billhook, billhook
from http_tokens import JWT_SECRET

__all__ = ["billhook"]

KEY = "sk_test_first_start"


@pytest.fixture
def env(
    empty_database_url: str, sandbox: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    for name in ("STRIPE_API_BASE", "STRIPE_TEST_SECRET_KEY"):
        monkeypatch.delenv(name, raising=False)
    file = tmp_path / ".env"
    file.write_text(
        f"DATABASE_URL={empty_database_url}\nJWT_SECRET={JWT_SECRET}\n"
        f"STRIPE_API_BASE={sandbox}\nSTRIPE_TEST_SECRET_KEY={KEY}\n"
    )
    return file


def test_what_the_first_start_will_find_is_examined(env: Path, billhook: Billhook) -> None:
    ran = billhook("doctor")
    assert ran.code == 1, ran.out + ran.err
    assert "The schema does not exist yet" in ran.out
    assert "first start of the server creates it" in ran.out
    assert "Stripe accepts STRIPE_TEST_SECRET_KEY (acct_" in ran.out
    assert "live stripe key: No Stripe key is set" in ran.out
    report = billhook("doctor", "--json").json["checks"]
    # The sandbox is shared: other tests may have moved its clock.
    broken = {each["check"] for each in report if each["state"] == "broken"} - {"clock"}
    assert broken == {"schema"}
    assert KEY not in ran.out


def test_a_migrated_database_without_keys_too(
    env: Path, billhook: Billhook, empty_database_url: str
) -> None:
    asyncio.run(migrate(empty_database_url))
    ran = billhook("doctor")
    assert "Stripe accepts STRIPE_TEST_SECRET_KEY (acct_" in ran.out
    assert "nothing can be sold" not in ran.out


def test_a_key_that_was_removed_is_not_stored_again(
    env: Path, billhook: Billhook, empty_database_url: str
) -> None:
    asyncio.run(migrate(empty_database_url))

    async def remove(database: Database) -> None:
        settings = Settings(
            database_url=SecretStr(empty_database_url),
            jwt_secret=SecretStr(JWT_SECRET),
            stripe_test_secret_key=SecretStr(KEY),
            _env_file=None,
        )
        secrets = SecretStore(database, settings)
        assert await secrets.seed() == ["test"]
        async with database.as_service() as connection:
            assert await secrets.deactivate_in(connection, stripe_key_name("test"))

    Books(empty_database_url).run(remove)
    ran = billhook("doctor")
    assert "does not store STRIPE_TEST_SECRET_KEY" in ran.out, ran.out + ran.err
    assert "Neither environment has a Stripe key" in ran.out
    assert ran.code == 1
    env.write_text(env.read_text().replace(KEY, "sk_test_another"))
    assert "The next start of the server stores it" in billhook("doctor").out


def test_a_key_that_cannot_be_checked_is_named(env: Path, billhook: Billhook, sandbox: str) -> None:
    env.write_text(env.read_text().replace(sandbox, PUBLIC))
    ran = billhook("doctor", "--json")
    assert ran.code == 1
    (found,) = (
        each
        for each in ran.json["checks"]
        if each["check"] == "stripe key" and each["environment"] == "test"
    )
    assert found["state"] == "broken"
    assert KEY not in ran.out
