"""docs/how-to/run-code.md: a job for each paid order, run at least once, its writes kept once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import pytest

import aside
from billhook.postgres import Connection
from books import Books
from pages import app_sql, block, blocks
from stripe_events import event, session
from waiting import until

PAGE = "docs/how-to/run-code.md"
ORDERS = 12

Handler = Callable[[Connection, asyncpg.Record], Awaitable[None]]


@pytest.fixture
def app(database_url: str) -> Books:
    books = Books(database_url)
    for sql in (*app_sql(), block(PAGE, "sql", "CREATE TABLE jobs")):
        books.execute(sql)
    books.execute(f"""
        INSERT INTO orders SELECT n::text, 'test', 1500, 'eur' FROM generate_series(1, {ORDERS}) n;
        CREATE TABLE sent (order_id text)
    """)
    return books


@pytest.fixture
def worker() -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "worker"}
    exec(block(PAGE, "python", "# worker.py"), names)
    return names


def paid(n: int) -> dict[str, Any]:
    bought = session(f"cs_{n}", payment_intent=f"pi_{n}", metadata={"order_id": str(n)})
    return event("checkout.session.completed", bought, at=n)


async def send(connection: Connection, job: asyncpg.Record) -> None:
    await connection.execute("INSERT INTO sent VALUES ($1)", job["order_id"])


def sent(books: Books) -> list[str]:
    return [row["order_id"] for row in books.rows("SELECT order_id FROM sent ORDER BY 1")]


async def drain(books: Books, worker: dict[str, Any], handler: Handler) -> None:
    connection = await asyncpg.connect(books.dsn, statement_cache_size=0)
    try:
        while await worker["run_next"](connection, {"send_receipt": handler}):
            pass
    finally:
        await connection.close()


def test_several_workers_run_each_job_once(app: Books, worker: dict[str, Any]) -> None:
    events = [paid(n) for n in range(1, ORDERS + 1)]
    app.apply(*events, *events)

    async def together() -> None:
        await asyncio.gather(*(drain(app, worker, send) for _ in range(4)))

    aside.run(together())
    assert sorted(sent(app), key=int) == [str(n) for n in range(1, ORDERS + 1)]
    assert app.rows("SELECT FROM jobs WHERE done_at IS NULL") == []


def test_no_job_is_left_of_an_event_that_failed(app: Books) -> None:
    app.execute("ALTER TABLE jobs ADD CHECK (order_id <> '1')")
    app.apply(paid(1), paid(2))
    assert app.rows("SELECT order_id FROM jobs") == [{"order_id": "2"}]
    assert app.rows("SELECT id FROM orders WHERE status = 'paid'") == [{"id": "2"}]


def test_a_job_that_fails_is_undone_and_run_again(app: Books, worker: dict[str, Any]) -> None:
    app.apply(paid(1))

    async def fail(connection: Connection, job: asyncpg.Record) -> None:
        await send(connection, job)
        raise OSError("no mail server")

    aside.run(drain(app, worker, fail))
    job = app.row("SELECT attempts, last_error, run_after > now() AS waits FROM jobs")
    assert job == {"attempts": 1, "last_error": "OSError('no mail server')", "waits": True}
    assert sent(app) == []
    app.execute("UPDATE jobs SET run_after = now()")
    aside.run(drain(app, worker, send))
    assert sent(app) == ["1"]


def test_a_job_of_a_worker_that_died_is_run_again(app: Books, worker: dict[str, Any]) -> None:
    app.apply(paid(1))

    pids = []

    async def die(connection: Connection, job: asyncpg.Record) -> None:
        await send(connection, job)
        pids.append(connection.get_server_pid())
        connection.terminate()
        raise asyncio.CancelledError

    with pytest.raises((asyncio.CancelledError, asyncpg.InterfaceError)):
        aside.run(drain(app, worker, die))
    # PostgreSQL takes a moment to see that the other side is gone, and to release its locks.
    until(lambda: not app.rows("SELECT FROM pg_stat_activity WHERE pid = ANY ($1)", pids))
    assert sent(app) == []
    aside.run(drain(app, worker, send))
    assert sent(app) == ["1"]


def test_jobs_that_failed_too_often_are_listed_and_started_again(
    app: Books, worker: dict[str, Any]
) -> None:
    app.apply(paid(1))
    app.execute("UPDATE jobs SET attempts = 10, last_error = 'x'")
    aside.run(drain(app, worker, send))
    assert sent(app) == []
    (_, again) = blocks(PAGE, "sql")
    found, restart = again.strip().splitlines()
    assert app.row(found)["last_error"] == "x"
    app.execute(restart)
    aside.run(drain(app, worker, send))
    assert sent(app) == ["1"]


def test_the_worker_is_woken(direct_database_url: str, app: Books, worker: dict[str, Any]) -> None:
    async def working() -> None:
        done = asyncio.Event()

        async def handle(connection: Connection, job: asyncpg.Record) -> None:
            await send(connection, job)
            done.set()

        handlers = {"send_receipt": handle}
        task = asyncio.create_task(worker["work"](direct_database_url, handlers))
        await asyncio.to_thread(app.apply, paid(1))
        await asyncio.wait_for(done.wait(), 30)
        task.cancel()

    aside.run(working())


def test_the_receipt_of_the_page_is_written(
    app: Books, worker: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    app.apply(paid(1))
    aside.run(drain(app, worker, worker["send_receipt"]))
    assert capsys.readouterr().out == "Receipt 1 for 1500 eur\n"
