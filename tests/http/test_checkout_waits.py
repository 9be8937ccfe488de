"""How the page after a checkout hears of its end."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest
from pydantic import SecretStr

from api import STRIPE_KEY, Api, connect, serving
from billhook import Settings, create_app, prepare_connection, running
from billhook.access.auth import Caller
from billhook.checkout import result
from billhook.checkout.result import CheckoutResults
from billhook.ledger import EventNotApplied, Ledger
from billhook.models import CheckoutSession
from billhook.postgres import Connection, Database
from billhook.postgres.refusals import acting_as_caller
from billhook.settings import Environment
from billhook.stripe.gateway import Gateway
from books import Books, apply_one
from http_tokens import JWT_SECRET, USER, token
from pooler import Pooler
from stripe_events import event, session
from waiting import until

NEVER = 3600.0  # seconds; whoever is woken before was told
PATH = "/api/payments/stripe/test/checkout-sessions/"
CALLER = Caller("user", "authenticated", USER, claims={"role": "authenticated", "sub": USER})

_OPENED = """
    INSERT INTO payments.stripe_checkout_sessions
        (environment, mode, status, success_url, cancel_url, checkout_session_id)
    SELECT 'test', 'payment', 'open', 'https://shop.test', 'https://shop.test', 'cs_' || n
    FROM generate_series(1, $1::integer) n
    RETURNING id, checkout_session_id AS name
"""


def opened(books: Books, number: int = 1) -> list[dict[str, Any]]:
    return books.rows(_OPENED, number)


def ended(row: dict[str, Any]) -> dict[str, Any]:
    """Stripe's event that a session was paid."""
    names = {"insforge_checkout_mode": "payment", "insforge_checkout_session_id": str(row["id"])}
    number = row["name"].removeprefix("cs_")
    paid = session(row["name"], metadata=names, payment_intent=f"pi_{number}", customer=None)
    return event("checkout.session.completed", paid)


@pytest.fixture
def shop(direct_database_url: str, sandbox: str) -> Iterator[Api]:
    connect(direct_database_url, sandbox, STRIPE_KEY)
    with serving(direct_database_url, sandbox, pool_size=2) as found:
        yield found


class Looks:
    """Counts how often pages have read their checkout, in this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun = 0
        self.done = 0
        self.next: Callable[[], Any] = int
        """Called once, before the next look."""
        monkeypatch.setattr(result, "acting_as_caller", self._acting_as_caller)

    async def reach(self, number: int) -> None:
        while self.done < number:  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    @asynccontextmanager
    async def _acting_as_caller(self, *arguments: Any) -> AsyncIterator[Connection]:
        self.begun += 1
        first, self.next = self.next, int
        await asyncio.to_thread(first)
        async with acting_as_caller(*arguments) as connection:
            yield connection
        self.done += 1


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Looks:
    return Looks(monkeypatch)


class Pages:
    """Pages that wait for checkouts, each of its own user, in a thread of theirs."""

    def __init__(self, api: Api, rows: list[dict[str, Any]]) -> None:
        self._answers: list[httpx.Response] = []
        self._thread = threading.Thread(target=lambda: asyncio.run(self._read(api, rows)))
        self._thread.start()

    def statuses(self) -> list[str]:
        """What they were told in the end."""
        self._thread.join()
        return [
            each.json()["checkoutSession"]["status"] if each.status_code == 200 else each.text
            for each in self._answers
        ]

    async def _read(self, api: Api, rows: list[dict[str, Any]]) -> None:
        everybody = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=api.url, timeout=60, limits=everybody) as http:
            waits = (
                http.get(
                    f"{PATH}{row['id']}",
                    params={"wait": 30},
                    headers={"authorization": f"Bearer {token(sub=str(row['id']))}"},
                )
                for row in rows
            )
            self._answers = await asyncio.gather(*waits)


def test_the_webhook_ends_the_wait_without_a_question_to_stripe(
    direct_database_url: str, looks: Looks
) -> None:
    books = Books(direct_database_url)
    (row,) = opened(books)

    async def work(database: Database) -> None:
        async with reading(database, ask_after=NEVER) as results:
            page = asyncio.create_task(results.read("test", str(row["id"]), CALLER, NEVER))
            await looks.reach(1)
            await apply_one(database, ended(row))
            assert (await page).status == "completed"
            assert looks.begun == 2

    books.run(work)


def test_a_checkout_that_is_open_again_when_the_page_looks_is_waited_for(
    direct_database_url: str, looks: Looks
) -> None:
    books = Books(direct_database_url)
    (row,) = opened(books)
    update = "UPDATE payments.stripe_checkout_sessions SET status = "

    async def work(database: Database) -> None:
        async with reading(database, ask_after=NEVER) as results:
            page = asyncio.create_task(results.read("test", str(row["id"]), CALLER, NEVER))
            await looks.reach(1)
            looks.next = lambda: books.execute(f"{update} 'open'")
            await asyncio.to_thread(books.execute, f"{update} 'expired'")
            await looks.reach(2)
            await apply_one(database, ended(row))
            assert (await page).status == "completed"
            assert looks.begun <= 5  # 3, unless the query for all pages found it expired twice

    books.run(work)


def test_an_event_that_the_apps_trigger_refuses_ends_the_wait_as_well(
    direct_database_url: str, looks: Looks
) -> None:
    books = Books(direct_database_url)
    (row,) = opened(books)
    books.execute(
        """
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'closed'; END $$;
        CREATE TRIGGER refuse BEFORE UPDATE ON payments.webhook_events FOR EACH ROW
        WHEN (NEW.processing_status = 'processed') EXECUTE FUNCTION refuse();
        """
    )

    async def work(database: Database) -> None:
        async with reading(database, ask_after=NEVER) as results:
            page = asyncio.create_task(results.read("test", row["name"], CALLER, NEVER))
            await looks.reach(1)
            assert isinstance(await apply_one(database, ended(row)), EventNotApplied)
            assert (await page).status == "completed"

    books.run(work)


def test_while_stripe_does_not_answer_the_webhook_ends_the_wait(
    direct_database_url: str, looks: Looks
) -> None:
    books = Books(direct_database_url)
    (row,) = opened(books)
    asked = asyncio.Event()

    async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        asked.set()

    async def work(database: Database) -> None:
        stripe = await asyncio.start_server(never, "127.0.0.1")
        address = f"http://127.0.0.1:{stripe.sockets[0].getsockname()[1]}"
        here = reading(database, address, ask_after=0.01, ask_every=0.01)
        async with stripe, here as results:
            page = asyncio.create_task(results.read("test", str(row["id"]), CALLER, NEVER))
            await asked.wait()
            await apply_one(database, ended(row))
            assert (await page).status == "completed"
            assert looks.begun <= 3  # at first, before Stripe is asked, and in the end

    books.run(work)


def test_pages_that_wait_for_one_checkout_share_one_question_to_stripe(
    direct_database_url: str,
) -> None:
    books = Books(direct_database_url)
    row, other = opened(books, 2)
    asked: list[bytes] = []

    async def still_open(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            if line.startswith(b"GET "):
                asked.append(line.split()[1].rpartition(b"/")[2])
            if line == b"\r\n":
                body = b'{"object":"checkout.session","status":"open"}'
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)

    async def work(database: Database) -> None:
        stripe = await asyncio.start_server(still_open, "127.0.0.1")
        address = f"http://127.0.0.1:{stripe.sockets[0].getsockname()[1]}"
        here = reading(database, address, ask_after=0.01)
        async with stripe, here as results:
            names = [str(row["id"]), row["name"]] * 8 + [other["name"]]
            pages = [
                asyncio.create_task(results.read("test", name, CALLER, NEVER)) for name in names
            ]
            while len(asked) < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            # One more comes later: what was asked a moment ago is not asked again.
            pages.append(asyncio.create_task(results.read("test", row["name"], CALLER, 0.2)))
            await pages[-1]
            assert sorted(asked) == [b"cs_1", b"cs_2"]
            await apply_one(database, ended(row))
            await apply_one(database, ended(other))
            assert {(await page).status for page in pages[:-1]} == {"completed"}

    books.run(work)


def test_too_many_pages_of_one_caller_are_answered_immediately(
    direct_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(result, "_MOST_PAGES_EACH", 2)
    monkeypatch.setattr(result, "_MOST_PAGES", 7)
    books = Books(direct_database_url)
    rows = opened(books, 3)
    users = [replace(CALLER, user_id=name) for name in ("ada", "bob")]
    guest = Caller("anonymous", "anon", claims={"role": "anon"})
    # Of a user for any checkouts, of guests for one of them, and of everybody.
    waiting = [
        *((users[0], 0), (users[0], 1), (users[1], 0), (users[1], 1)),
        *((guest, 0), (guest, 0), (guest, 1)),
    ]
    full = [(users[0], 2), (guest, 0), (CALLER, 2)]

    async def work(database: Database) -> None:
        async with reading(database, ask_after=NEVER) as results, asyncio.TaskGroup() as group:

            def read(caller: Caller, number: int) -> asyncio.Task[CheckoutSession]:
                return group.create_task(
                    results.read("test", str(rows[number]["id"]), caller, NEVER)
                )

            pages = [read(*each) for each in waiting]
            while results._pages.total() < len(waiting):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            assert [(await read(*each)).status for each in full] == ["open"] * len(full)
            assert not any(page.done() for page in pages)
            for row in rows:
                await apply_one(database, ended(row))
            assert {(await page).status for page in pages} == {"completed"}
            assert results._pages == {}

    books.run(work)


@asynccontextmanager
async def reading(
    database: Database, stripe: str = "http://127.0.0.1:9", **options: float
) -> AsyncIterator[CheckoutResults]:
    async def key(environment: Environment) -> str:
        return STRIPE_KEY

    gateway = Gateway(key, stripe)
    results = CheckoutResults(Ledger(database), gateway, **{"ask_every": NEVER} | options)
    async with asyncio.timeout(30):
        yield results
        await results.close()
        await gateway.close()


@pytest.mark.full
def test_two_hundred_pages_wait_and_hold_no_connection_of_the_pool(shop: Api, looks: Looks) -> None:
    rows = opened(shop.books, 200)
    pages = Pages(shop, rows)
    until(lambda: looks.done >= 200)
    for row in rows:
        assert shop.deliver(ended(row)).status_code == 200  # over the pool's two connections
    assert pages.statuses() == ["completed"] * 200


def test_behind_a_pooler_the_page_hears_of_it_as_well(
    direct_database_url: str, sandbox: str, pooler: Pooler, looks: Looks
) -> None:
    connect(direct_database_url, sandbox, STRIPE_KEY)
    books = Books(direct_database_url)
    through = pooler.dsn(urlsplit(direct_database_url).path.removeprefix("/"))
    (row,) = opened(books)
    with serving(through, sandbox) as api:
        pages = Pages(api, [row])
        until(lambda: looks.done)
        api.deliver(ended(row))
        assert pages.statuses() == ["completed"]


def test_shutdown_waits_for_no_page(direct_database_url: str, sandbox: str, looks: Looks) -> None:
    connect(direct_database_url, sandbox, STRIPE_KEY)
    books = Books(direct_database_url)
    (row,) = opened(books)
    settings = Settings(
        database_url=SecretStr(direct_database_url),
        jwt_secret=SecretStr(JWT_SECRET),
        stripe_api_base=sandbox,
        recovery=False,
        _env_file=None,
    )

    async def up() -> None:
        async with (
            asyncio.timeout(30),
            asyncpg.create_pool(
                direct_database_url, min_size=1, max_size=1, init=prepare_connection
            ) as own,
        ):
            app = create_app(settings, pool=own)
            async with (
                httpx.AsyncClient(
                    transport=httpx.ASGITransport(app),
                    base_url="http://host.test",
                    headers={"authorization": f"Bearer {token()}"},
                    timeout=60,
                ) as http,
                asyncio.TaskGroup() as group,
            ):
                async with running(app):
                    page = group.create_task(http.get(f"{PATH}{row['id']}", params={"wait": 30}))
                    await looks.reach(1)
                told = (await page).json()["checkoutSession"]  # what was known
                assert told["status"] == "open"

    began = time.monotonic()
    asyncio.run(up())
    assert time.monotonic() - began < 25
