"""While PostgreSQL hangs, requests that anyone can send wait for one attempt together, not for one
attempt each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from pydantic import SecretStr

from billhook.access.secrets import SecretStore, StoredSecret
from billhook.errors import DatabaseUnavailable, InvalidInput
from billhook.postgres import Connection, Database
from billhook.reports.public_catalog import PublicCatalogs
from billhook.settings import Settings
from billhook.stripe.signature import parse
from billhook.stripe.signing_secrets import SigningSecrets
from books import Books
from http_tokens import JWT_SECRET, signature

BODY = b"{}"
NOW = 1_780_000_000
SETTINGS = Settings(
    database_url=SecretStr("postgresql://"), jwt_secret=SecretStr(JWT_SECRET), _env_file=None
)
Read = Callable[[Database], Callable[[], Awaitable[object]]]


def catalog(database: Database) -> Callable[[], Awaitable[object]]:
    catalogs = PublicCatalogs(database)
    return lambda: catalogs.offered("test")


def forged_webhook(database: Database) -> Callable[[], Awaitable[object]]:
    signing = SigningSecrets(database, SecretStore(database, SETTINGS), SETTINGS)
    return lambda: verified(signing, "whsec_forged")


async def verified(signing: SigningSecrets, secret: str) -> str | None:
    header = parse(signature(BODY, secret=secret, at=NOW), NOW)
    return await signing.verify("test", BODY, header)


class HungDatabase(Database):
    """Its connections fail, but only after `gives_up` is set."""

    def __init__(self) -> None:
        super().__init__("postgresql://")
        self.is_asked = asyncio.Event()
        self.gives_up = asyncio.Event()
        self.attempts = 0

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        self.attempts += 1
        self.is_asked.set()
        await self.gives_up.wait()
        raise DatabaseUnavailable("The database is not available just now.")
        yield  # an asynchronous context manager is a generator


@pytest.mark.parametrize("kind", [catalog, forged_webhook])
def test_all_waiting_requests_fail_with_the_first_attempt(kind: Read) -> None:
    async def work() -> None:
        database = HungDatabase()
        read = kind(database)
        requests = [asyncio.ensure_future(read()) for _ in range(20)]
        await database.is_asked.wait()
        database.gives_up.set()
        results = await asyncio.gather(*requests, return_exceptions=True)
        assert [type(each) for each in results] == [DatabaseUnavailable] * 20
        assert database.attempts == 1
        # The next request tries again.
        with pytest.raises(DatabaseUnavailable):
            await read()
        assert database.attempts == 2

    asyncio.run(work())


class SlowStore(SecretStore):
    """Pauses after reading a secret, while `pause` is not set."""

    def __init__(self, database: Database) -> None:
        super().__init__(database, SETTINGS)
        self.pause = asyncio.Event()
        self.pause.set()
        self.has_read = asyncio.Event()

    async def get_with_old(self, name: str) -> list[StoredSecret]:
        found = await super().get_with_old(name)
        self.has_read.set()
        await self.pause.wait()
        return found


def test_a_new_signing_secret_is_found_although_an_earlier_read_is_running(books: Books) -> None:
    async def work(database: Database) -> None:
        store = SlowStore(database)
        signing = SigningSecrets(database, store, SETTINGS)
        await store.set("STRIPE_TEST_WEBHOOK_SECRET", "whsec_old")
        await verified(signing, "whsec_old")
        store.pause.clear()
        store.has_read.clear()
        earlier = asyncio.ensure_future(verified(signing, "whsec_forged"))
        await store.has_read.wait()
        await store.set("STRIPE_TEST_WEBHOOK_SECRET", "whsec_new")
        new = asyncio.ensure_future(verified(signing, "whsec_new"))
        await asyncio.sleep(0)  # until it shares the read
        store.pause.set()
        await new
        with pytest.raises(InvalidInput):
            await earlier

    books.run(work)
