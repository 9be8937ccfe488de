"""Admin and anonymous keys: made, checked, revoked, seeded, taken over from InsForge."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from pydantic import SecretStr

from billhook.access.api_keys import ApiKeys
from billhook.access.secrets import SecretStore
from billhook.errors import NotFound
from billhook.postgres import Database
from billhook.settings import Settings
from books import Books
from http_tokens import ADMIN_KEY, ANONYMOUS_KEY, JWT_SECRET

SETTINGS = Settings(
    database_url=SecretStr("postgresql://"),
    jwt_secret=SecretStr(JWT_SECRET),
    access_api_key=SecretStr(ADMIN_KEY),
    access_anon_key=SecretStr(ANONYMOUS_KEY),
    _env_file=None,
)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def api_keys(database: Database, clock: Clock | None = None) -> ApiKeys:
    return ApiKeys(database, SecretStore(database, SETTINGS), clock=clock or Clock())


def test_a_key_opens_what_it_was_made_for_and_nothing_else(books: Books) -> None:
    async def work(database: Database) -> tuple[str, str]:
        keys = api_keys(database)
        stored, admin = await keys.create("admin", name="ci")
        _, anonymous = await keys.create("anonymous")
        assert admin.startswith("ik_")
        assert anonymous.startswith("anon_")
        assert await keys.is_valid("admin", admin)
        assert await keys.is_valid("anonymous", anonymous)
        assert not await keys.is_valid("anonymous", admin)
        assert not await keys.is_valid("admin", anonymous)
        assert not await keys.is_valid("admin", admin + "x")
        assert [key.hint for key in await keys.all()] == [stored.hint, f"anon_****{anonymous[-4:]}"]
        return admin, anonymous

    made = books.run(work)
    stored = str(books.rows("SELECT * FROM billhook.api_keys"))
    for key in made:
        assert key not in stored
        assert key[8:] not in stored


def test_a_revoked_key_stops_working_within_thirty_seconds_everywhere(books: Books) -> None:
    async def work(database: Database) -> None:
        clock = Clock()
        here, elsewhere = api_keys(database, clock), api_keys(database, clock)
        stored, key = await here.create("admin")
        assert await here.is_valid("admin", key)
        assert await elsewhere.is_valid("admin", key)
        first = await here.revoke(stored.id)
        assert first.revoked_at is not None
        assert (await here.revoke(stored.id)).revoked_at == first.revoked_at
        assert not await here.is_valid("admin", key)
        clock.now = 30
        assert not await elsewhere.is_valid("admin", key)
        with pytest.raises(NotFound):
            await here.revoke(uuid4())

    books.run(work)


def test_an_expired_key_is_none(books: Books) -> None:
    async def work(database: Database) -> None:
        keys = api_keys(database)
        past = datetime.now(UTC) - timedelta(seconds=1)
        _, key = await keys.create("admin", expires_at=past)
        assert not await keys.is_valid("admin", key)

    books.run(work)


def test_settings_seed_keys_where_there_are_none_and_revoked_ones_stay_revoked(
    books: Books,
) -> None:
    async def work(database: Database) -> None:
        keys = api_keys(database)
        await asyncio.gather(*(keys.seed(SETTINGS) for _ in range(4)))
        assert await keys.is_valid("admin", ADMIN_KEY)
        assert await keys.is_valid("anonymous", ANONYMOUS_KEY)
        everything = await keys.all()
        assert len(everything) == 2
        for key in everything:
            await keys.revoke(key.id)
        await keys.seed(SETTINGS)
        assert not await keys.is_valid("admin", ADMIN_KEY)
        _, other = await keys.create("admin")
        await keys.seed(SETTINGS)
        assert await keys.is_valid("admin", other)
        assert len(await keys.all()) == 3

    books.run(work)


def test_a_published_key_that_insforge_stored_is_not_accepted(books: Books) -> None:
    async def work(database: Database) -> None:
        store = SecretStore(database, SETTINGS)
        await store.set("API_KEY", "ik_your-api-key-here-32-chars-minimum")
        keys = api_keys(database)
        assert not await keys.is_valid("admin", "ik_your-api-key-here-32-chars-minimum")
        await keys.seed(SETTINGS)  # so the settings' key is the first one
        assert await keys.is_valid("admin", ADMIN_KEY)

    books.run(work)


def test_keys_of_insforge_stay_valid_and_the_old_ones_until_they_expire(books: Books) -> None:
    async def work(database: Database) -> None:
        store, soon = SecretStore(database, SETTINGS), datetime.now(UTC) + timedelta(hours=1)
        await store.set("API_KEY", "ik_insforge")
        await store.set("ANON_KEY", "anon_insforge")
        await store.set("API_KEY_OLD_1", "ik_old", expires_at=soon)
        await store.set("API_KEY_OLD_2", "ik_expired", expires_at=datetime.now(UTC))
        await store.set("API_KEY_OLD_3", "ik_off")
        async with database.as_service() as connection:
            await store.deactivate_in(connection, "API_KEY_OLD_3")
        keys = api_keys(database)
        assert await keys.is_valid("admin", "ik_insforge")
        assert await keys.is_valid("admin", "ik_old")
        assert await keys.is_valid("anonymous", "anon_insforge")
        for bad in ("ik_expired", "ik_off", "anon_insforge"):
            assert not await keys.is_valid("admin", bad)
        await keys.seed(SETTINGS)  # there are keys: the settings bring none
        assert not await keys.is_valid("admin", ADMIN_KEY)

    books.run(work)


def test_an_unreadable_key_of_insforges_locks_nobody_out(books: Books) -> None:
    books.execute(
        "INSERT INTO system.secrets (key, value_ciphertext) VALUES ('API_KEY', 'bh1.dead.AAAA')"
    )

    async def work(database: Database) -> None:
        keys = api_keys(database)
        await keys.seed(SETTINGS)
        assert await keys.is_valid("admin", ADMIN_KEY)
        assert not await keys.is_valid("admin", "ik_unknown")

    books.run(work)
