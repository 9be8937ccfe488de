"""`system.secrets`: what is stored, seeded, taken over from InsForge, rotated."""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import SecretStr
from structlog.testing import capture_logs

from billhook.access.secrets import Examination, Reencryption, SecretStore
from billhook.errors import BillhookError, InvalidInput, SecretUnreadable
from billhook.postgres import Database
from billhook.settings import Settings
from billhook.stripe.signature import SignatureHeader, parse
from billhook.stripe.signing_secrets import SigningSecrets
from books import Books
from http_tokens import JWT_SECRET, signature

KEY = "STRIPE_TEST_SECRET_KEY"
HOOK = "STRIPE_TEST_WEBHOOK_SECRET"
BODY = b"{}"
ENCRYPTION_KEY = "5f0c8e1b2d7a4936b1c8e0f7a2d95346"
NOW = 1_780_000_000


def settings(dsn: str, **more: str) -> Settings:
    secrets: dict[str, Any] = {name: SecretStr(value) for name, value in more.items()}
    return Settings(
        database_url=SecretStr(dsn), jwt_secret=SecretStr(JWT_SECRET), _env_file=None, **secrets
    )


def store(database: Database, **more: str) -> SecretStore:
    return SecretStore(database, settings("postgresql://", **more))


async def deactivated(database: Database, secrets: SecretStore) -> bool:
    async with database.as_service() as connection:
        return await secrets.deactivate_in(connection, KEY)


def signing_secrets(database: Database, given: Settings, **more: Any) -> SigningSecrets:
    return SigningSecrets(database, SecretStore(database, given), given, **more)


def insforge(value: str, key: str = JWT_SECRET) -> str:
    nonce = os.urandom(16)
    sealed = AESGCM(sha256(key.encode()).digest()).encrypt(nonce, value.encode(), None)
    return f"{nonce.hex()}:{sealed[-16:].hex()}:{sealed[:-16].hex()}"


def put(books: Books, name: str, ciphertext: str, more: str = "true, NULL") -> None:
    books.execute(
        "INSERT INTO system.secrets (key, value_ciphertext, is_active, expires_at) "
        f"VALUES ('{name}', '{ciphertext}', {more})"
    )


def test_a_stored_secret_comes_back_and_lies_encrypted(books: Books) -> None:
    async def work(database: Database) -> None:
        secrets = store(database)
        assert await secrets.stripe_key("test") is None
        await secrets.set(KEY, "sk_test_one")
        await secrets.set(KEY, "sk_test_two")
        assert await secrets.stripe_key("test") == "sk_test_two"
        assert await secrets.stripe_key("live") is None
        assert await deactivated(database, secrets)
        assert not await deactivated(database, secrets)
        assert await secrets.get(KEY) is None

    books.run(work)
    row = books.row("SELECT * FROM system.secrets")
    assert row["value_ciphertext"].startswith("bh1.")
    assert "sk_test" not in str(row)


def test_an_expired_secret_is_none(books: Books) -> None:
    async def work(database: Database) -> None:
        secrets = store(database)
        await secrets.set(KEY, "old", expires_at=datetime.now(UTC) - timedelta(seconds=1))
        assert await secrets.get(KEY) is None

    books.run(work)


def test_a_replaced_signing_secret_stays_valid_for_a_while(books: Books) -> None:
    async def work(database: Database) -> None:
        secrets = store(database)
        await secrets.set(HOOK, "whsec_one")
        await secrets.rotate(HOOK, "whsec_two", keep_old=timedelta(hours=1))
        new, old = await secrets.get_with_old(HOOK)
        assert (new.value, old.value) == ("whsec_two", "whsec_one")
        assert new.expires_at is None
        assert old.expires_at is not None
        left = old.expires_at - datetime.now(UTC)
        assert timedelta(minutes=50) < left <= timedelta(hours=1)

    books.run(work)


def test_settings_seed_a_key_once_and_bring_no_removed_one_back(books: Books) -> None:
    async def work(database: Database) -> None:
        first = store(database, stripe_test_secret_key="sk_test_one")
        await asyncio.gather(*(first.seed() for _ in range(4)))
        other = store(database, stripe_test_secret_key="sk_test_two")
        await other.seed()
        assert await first.stripe_key("test") == "sk_test_one"
        assert not await other.would_seed("test")
        assert await deactivated(database, first)
        assert not await first.would_seed("test")
        await first.seed()
        assert await first.stripe_key("test") is None
        assert await other.would_seed("test")
        assert not await other.would_seed("live")
        await other.seed()
        assert await first.stripe_key("test") == "sk_test_two"

    books.run(work)
    assert len(books.rows("SELECT 1 FROM system.secrets")) == 1


def test_another_key_in_the_environment_than_the_stored_one_is_told_and_neither_is_shown(
    books: Books,
) -> None:
    async def work(database: Database) -> None:
        one, two = "sk_test_oneOneOneOne1111", "sk_test_twoTwoTwoTwo2222"
        await store(database, stripe_test_secret_key=one).seed()
        with capture_logs() as logged:
            await store(database, stripe_test_secret_key=one).seed()
        assert logged == []
        with capture_logs() as logged:
            await store(database, stripe_test_secret_key=two).seed()
        (warning,) = logged
        assert warning["log_level"] == "warning"
        assert (warning["stored"], warning["given"]) == ("sk_test_****1111", "sk_test_****2222")
        assert "billhook config set" in warning["next_actions"]
        assert one not in str(warning)
        assert two not in str(warning)

    books.run(work)


def test_what_insforge_stored_is_read_and_written_anew_and_what_it_still_reads_is_left_alone(
    books: Books,
) -> None:
    """InsForge's other services go on: without its API key, InsForge does not start."""
    put(books, KEY, insforge("sk_test_moved"))
    put(books, "API_KEY", of_insforge := insforge("ik_moved"))
    put(books, "STRIPE_LIVE_SECRET_KEY", insforge("sk_live_lost", "a lost key"))
    put(books, "S3_SECRET", foreign := insforge("of another service"))

    async def work(database: Database) -> None:
        secrets = store(database)
        assert await secrets.stripe_key("test") == "sk_test_moved"
        result = await secrets.reencrypt_all()
        assert (result.reencrypted, result.unreadable) == (1, ("STRIPE_LIVE_SECRET_KEY",))
        assert (await secrets.examine()).earlier == 0
        assert (await secrets.reencrypt_all()).reencrypted == 0
        assert await secrets.stripe_key("test") == "sk_test_moved"
        with pytest.raises(SecretUnreadable, match="STRIPE_LIVE_SECRET_KEY"):
            await secrets.stripe_key("live")

    books.run(work)
    rows = books.rows("SELECT key, value_ciphertext FROM system.secrets")
    found = {row["key"]: row["value_ciphertext"] for row in rows}
    assert found[KEY].startswith("bh1.")
    assert (found["S3_SECRET"], found["API_KEY"]) == (foreign, of_insforge)


def test_an_encryption_key_added_later_takes_the_secrets_over(books: Books) -> None:
    async def work(database: Database) -> None:
        await store(database).set(KEY, "sk_test_one")
        later = store(database, encryption_key=ENCRYPTION_KEY)
        assert await later.stripe_key("test") == "sk_test_one"
        assert (await later.reencrypt_all()).reencrypted == 1
        with pytest.raises(SecretUnreadable, match=KEY):
            await store(database).stripe_key("test")

    books.run(work)


def test_a_changed_encryption_key_leaves_nothing_under_the_previous_one(books: Books) -> None:
    weak, soon = "hunter2", datetime.now(UTC) + timedelta(hours=1)
    put(books, "API_KEY", insforge("ik_of_insforge", weak))
    put(books, "STRIPE_LIVE_SECRET_KEY", insforge("sk_live_removed", weak), "false, NULL")
    put(books, f"{HOOK}_OLD_1", insforge("whsec_old", weak))

    async def work(database: Database) -> None:
        # It was JWT_SECRET that encrypted these, before there was an ENCRYPTION_KEY.
        await store(database).set(KEY, "sk_test_one", expires_at=soon)
        first = {"encryption_key": ENCRYPTION_KEY, "previous_encryption_key": weak}
        assert await store(database, **first).reencrypt_all() == Reencryption(4, ())
        second = {
            "encryption_key": "another key that is long and varied",
            "previous_encryption_key": ENCRYPTION_KEY,
        }
        # While servers change over, each reads what the others write.
        before = store(database, encryption_key=ENCRYPTION_KEY)
        prepared = store(
            database,
            encryption_key=ENCRYPTION_KEY,
            previous_encryption_key=second["encryption_key"],
        )
        assert await store(database, **second).reencrypt_all() == Reencryption(4, ())
        assert await prepared.stripe_key("test") == "sk_test_one"
        with pytest.raises(SecretUnreadable, match=KEY) as refused:
            await before.stripe_key("test")
        assert "ENCRYPTION_KEY_PREVIOUS" in (refused.value.next_actions or "")
        alone = store(database, encryption_key=second["encryption_key"])
        assert (await alone.examine()) == Examination(0, ())
        assert await alone.stripe_key("test") == "sk_test_one"
        assert [each.value for each in await alone.get_with_old("API_KEY")] == ["ik_of_insforge"]
        assert [each.value for each in await alone.get_with_old(HOOK)] == ["whsec_old"]

    books.run(work)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def header(*secrets: str) -> SignatureHeader:
    """Signed with several secrets, as while one is rolled."""
    signed = [parse(signature(BODY, secret=each, at=NOW), NOW) for each in secrets]
    return SignatureHeader(int(NOW), tuple(s for each in signed for s in each.signatures))


def connected(books: Books, account: str) -> None:
    books.execute(f"""
        INSERT INTO payments.provider_connections AS c
            (provider, environment, status, provider_account_id)
        VALUES ('stripe', 'test', 'connected', '{account}')
        ON CONFLICT (provider, environment)
            DO UPDATE SET provider_account_id = EXCLUDED.provider_account_id
    """)


def test_stored_and_hand_set_signing_secrets_count_and_a_rotated_one_until_it_expires(
    books: Books,
) -> None:
    async def work(database: Database) -> None:
        given = settings("postgresql://", stripe_test_webhook_secret="whsec_by_hand")
        secrets = SecretStore(database, given)
        soon = datetime.now(UTC) + timedelta(hours=1)
        await secrets.set(HOOK, "whsec_new")
        await secrets.set(f"{HOOK}_OLD_1", "whsec_old", expires_at=soon)
        await secrets.set(f"{HOOK}_OLD_2", "whsec_older", expires_at=datetime.now(UTC))
        await secrets.set("STRIPE_LIVE_WEBHOOK_SECRET", "whsec_live")
        signing = signing_secrets(database, given)
        for good in ("whsec_by_hand", "whsec_new", "whsec_old"):
            await signing.verify("test", BODY, header(good))
        for bad in ("whsec_older", "whsec_live"):
            with pytest.raises(InvalidInput):
                await signing.verify("test", BODY, header(bad))

    books.run(work)


def test_a_new_signing_secret_works_at_once_and_an_old_one_ends_within_five_seconds(
    books: Books,
) -> None:
    connected(books, "acct_1")

    async def work(database: Database) -> None:
        clock = Clock()
        secrets = store(database)
        signing = signing_secrets(database, settings("postgresql://"), clock=clock)
        await secrets.set(HOOK, "whsec_one")
        await signing.verify("test", BODY, header("whsec_one"))
        await secrets.set(HOOK, "whsec_two")
        await signing.verify("test", BODY, header("whsec_one"))  # remembered still
        clock.now += 1
        await asyncio.gather(
            *(signing.verify("test", BODY, header("whsec_two")) for _ in range(20))
        )
        with pytest.raises(InvalidInput):
            await signing.verify("test", BODY, header("whsec_one"))
        await secrets.set(HOOK, "whsec_three")
        clock.now += 5
        with pytest.raises(InvalidInput):
            await signing.verify("test", BODY, header("whsec_two"))

    books.run(work)


def test_webhooks_cost_no_query_while_the_signing_secrets_are_known(books: Books) -> None:
    connected(books, "acct_1")

    async def work(database: Database) -> None:
        given = settings("postgresql://", stripe_test_webhook_secret="whsec_by_hand")
        signing = signing_secrets(database, given)
        await signing.verify("test", BODY, header("whsec_by_hand"))
        await database.close()  # whatever asked it now would fail
        await signing.verify("test", BODY, header("whsec_by_hand"))

    books.run(work)


def test_without_any_signing_secret_the_answer_says_what_to_configure(books: Books) -> None:
    async def work(database: Database) -> None:
        signing = signing_secrets(database, settings("postgresql://"))
        with pytest.raises(BillhookError, match="signing secret") as refused:
            await signing.verify("test", BODY, header("whsec_x"))
        assert (refused.value.status, refused.value.code) == (500, "INTERNAL_ERROR")
        assert HOOK in (refused.value.next_actions or "")

    books.run(work)


def test_an_unreadable_signing_secret_does_not_stop_those_that_can_be_read(books: Books) -> None:
    put(books, HOOK, "bh1.dead.AAAA")

    async def work(database: Database) -> None:
        by_hand = settings("postgresql://", stripe_test_webhook_secret="whsec_by_hand")
        secrets = SecretStore(database, by_hand)
        await signing_secrets(database, by_hand).verify("test", BODY, header("whsec_by_hand"))
        without = settings("postgresql://")
        with pytest.raises(SecretUnreadable, match=HOOK):
            await signing_secrets(database, without).verify("test", BODY, header("whsec_x"))
        await secrets.set(f"{HOOK}_OLD_1", "whsec_old")
        await signing_secrets(database, without).verify("test", BODY, header("whsec_old"))

    books.run(work)


def test_a_rolled_signing_secret_belongs_to_the_account_of_the_secret_before(books: Books) -> None:
    given = settings("postgresql://", stripe_test_webhook_secret="whsec_new,whsec_old,whsec_own")

    async def owner(database: Database, *secrets: str) -> str | None:
        # Each time as in a process that has just started.
        return await signing_secrets(database, given).verify("test", BODY, header(*secrets))

    async def first(database: Database) -> None:
        assert await owner(database, "whsec_old") == "acct_1"

    async def rolled(database: Database) -> None:
        assert await owner(database, "whsec_old", "whsec_new") == "acct_1"
        assert await owner(database, "whsec_new") == "acct_1"
        assert await owner(database, "whsec_own") == "acct_2"

    async def nobody(database: Database) -> None:
        assert await owner(database, "whsec_own") is None

    books.run(nobody)
    connected(books, "acct_1")
    books.run(first)
    connected(books, "acct_2")
    books.run(rolled)


def test_processes_that_verify_a_first_delivery_at_once_agree_on_its_account(books: Books) -> None:
    given = settings("postgresql://", stripe_test_webhook_secret="whsec_by_hand")
    connected(books, "acct_1")

    async def work(database: Database) -> None:
        processes = [signing_secrets(database, given) for _ in range(8)]
        found = await asyncio.gather(
            *(each.verify("test", BODY, header("whsec_by_hand")) for each in processes)
        )
        assert set(found) == {"acct_1"}

    books.run(work)
    hashes = books.rows("SELECT secret_hash FROM billhook.signing_secrets")
    assert [each["secret_hash"] for each in hashes] == [sha256(b"whsec_by_hand").hexdigest()]
