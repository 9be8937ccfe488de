"""Batches: events that arrive while a transaction runs share the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest

import aside
from billhook.ledger import Ledger, queue
from billhook.ledger.delivery import Delivery, decode
from billhook.ledger.queue import Aside, Queue
from billhook.ledger.transaction import Entry, Work
from billhook.postgres import Database
from billhook.projections import project
from billhook.settings import ENVIRONMENTS, Environment
from stripe_events import customer, event, payload

NOW = datetime(2026, 5, 28, tzinfo=UTC)
MOST_ASIDE = 8


def work(name: str, type: str = "customer.created") -> Work:
    delivery: Delivery = decode(payload(event(type, customer(name))))
    return Work(delivery, project(delivery.event))


def entry(spent: float = 0.0) -> Entry:
    return Entry(True, "processed", 1, None, NOW, NOW, NOW, NOW, spent)


class Transactions:
    """In place of PostgreSQL: notes what is applied together, and waits until it is let go.

    Attributes:
        begun: the customers of each transaction, in the order in which they begin.
        running: the transactions that run now.
    """

    def __init__(self) -> None:
        self.begun: list[list[str]] = []
        self.running: list[list[str]] = []
        self.refuses: set[str] = set()
        self.hangs: set[str] = set()
        self.spent: dict[str, float] = {}
        self._gates: list[asyncio.Event] = []

    async def apply(self, _: Environment, batch: Sequence[Work]) -> list[Entry]:
        names = [str(each.delivery.object_id) for each in batch]
        self.begun.append(names)
        self.running.append(names)
        gate = asyncio.Event()
        self._gates.append(gate)
        try:
            while self.hangs & set(names):  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            await gate.wait()
            if self.refuses & set(names):
                raise asyncpg.RaiseError("no stock left")
            return [entry(self.spent.get(each.delivery.event.type, 0.0)) for each in batch]
        finally:
            self.running.remove(names)

    def blocked(self) -> list[str]:
        """The customers whose transactions wait for a lock of somebody else."""
        return sorted(name for names in self.running for name in names if name in self.hangs)

    def commit(self) -> None:
        """Let all go that run now."""
        for gate in self._gates:
            gate.set()

    async def commit_all(self, answers: Sequence[asyncio.Future[Any]]) -> None:
        while not all(answer.done() for answer in answers):
            self.commit()
            await asyncio.sleep(0)


def run(test: Callable[[Queue, Transactions], Awaitable[None]]) -> None:
    async def main() -> None:
        transactions = Transactions()
        async with asyncio.timeout(20):
            await test(Queue("test", transactions.apply, Aside(MOST_ASIDE)), transactions)

    asyncio.run(main())


async def begin(queue: Queue, *names: str, type: str = "customer.created") -> list[Any]:
    tasks = [asyncio.create_task(queue.submit(work(name, type))) for name in names]
    for _ in range(5):
        await asyncio.sleep(0)
    return tasks


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.001)


def test_a_lone_event_goes_at_once_and_those_that_come_meanwhile_share_the_next() -> None:
    async def test(queue: Queue, transactions: Transactions) -> None:
        answers = await begin(queue, "cus_1")
        answers += await begin(queue, "cus_2", "cus_3", "cus_4")
        assert transactions.begun == [["cus_1"]]
        await transactions.commit_all(answers)
        assert transactions.begun == [["cus_1"], ["cus_2", "cus_3", "cus_4"]]
        assert {answer.result().processing_status for answer in answers} == {"processed"}

    run(test)


def test_an_event_that_is_refused_fails_alone() -> None:
    async def test(queue: Queue, transactions: Transactions) -> None:
        transactions.refuses = {"cus_3"}
        answers = await begin(queue, "cus_1")
        answers += await begin(queue, "cus_2", "cus_3", "cus_4")
        await transactions.commit_all(answers)
        failed = [answer for answer in answers if answer.exception() is not None]
        assert failed == [answers[2]]
        assert str(failed[0].exception()) == "no stock left"
        assert transactions.begun[2:] == [["cus_2"], ["cus_3"], ["cus_4"]]

    run(test)


def test_events_of_one_object_never_run_in_two_transactions_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(queue, "_STUCK_AFTER", 0.0)

    async def test(queue: Queue, transactions: Transactions) -> None:
        answers = await begin(queue, "cus_1")
        await asyncio.sleep(0.01)  # the first is stuck now: another transaction may start
        answers += await begin(queue, "cus_1", "cus_2")
        await asyncio.sleep(0.01)
        assert transactions.running == [["cus_1"], ["cus_2"]]
        await transactions.commit_all(answers)
        assert transactions.begun == [["cus_1"], ["cus_2"], ["cus_1"]]

    run(test)


def test_types_whose_triggers_are_slow_go_alone_beside_the_batches() -> None:
    async def test(queue: Queue, transactions: Transactions) -> None:
        transactions.spent = {"customer.updated": 0.05}
        await transactions.commit_all(await begin(queue, "cus_0", type="customer.updated"))
        slow = await begin(queue, "cus_1", "cus_2", type="customer.updated")
        fast = await begin(queue, "cus_3")
        fast += await begin(queue, "cus_4", "cus_5")
        assert transactions.running == [["cus_1"], ["cus_2"], ["cus_3"]]
        await transactions.commit_all(slow + fast)
        assert transactions.begun[-1] == ["cus_4", "cus_5"]

    run(test)


def test_a_batch_that_hangs_is_given_up_and_its_events_go_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(queue, "_BATCH_TIMEOUT", 0.05)

    async def test(queue: Queue, transactions: Transactions) -> None:
        transactions.hangs = {"cus_2"}
        answers = await begin(queue, "cus_1")
        answers += await begin(queue, "cus_2", "cus_3")
        transactions.commit()
        await until(lambda: len(transactions.begun) == 4)
        await transactions.commit_all([answers[0], answers[2]])
        transactions.hangs.clear()
        await transactions.commit_all(answers)
        assert transactions.begun == [["cus_1"], ["cus_2", "cus_3"], ["cus_2"], ["cus_3"]]

    run(test)


def test_a_batch_has_a_limit() -> None:
    async def test(queued: Queue, transactions: Transactions) -> None:
        answers = await begin(queued, "cus_first")
        answers += await begin(queued, *(f"cus_{n}" for n in range(40)))
        await transactions.commit_all(answers)
        assert [len(each) for each in transactions.begun] == [1, queue.MOST_EVENTS, 8]

    run(test)


@pytest.mark.parametrize("at_once", [True, False])
def test_blocked_events_hold_up_no_others(monkeypatch: pytest.MonkeyPatch, at_once: bool) -> None:
    """However many there are: they wait for one another, the others for none of them."""
    monkeypatch.setattr(queue, "_STUCK_AFTER", 0.005)
    monkeypatch.setattr(queue, "_BATCH_TIMEOUT", 0.02)

    async def test(queued: Queue, transactions: Transactions) -> None:
        names = [f"cus_blocked_{n}" for n in range(20)]
        transactions.hangs = set(names)
        blocked = []
        for some in [names] if at_once else [[name] for name in names]:
            blocked += await begin(queued, *some, type="customer.updated")
            await asyncio.sleep(0.006)
        await until(lambda: len(transactions.blocked()) >= MOST_ASIDE)
        for n in range(3):
            others = await begin(queued, f"cus_{n}")
            await transactions.commit_all(others)
        assert not any(answer.done() for answer in blocked)
        assert len(transactions.running) <= MOST_ASIDE + 1
        transactions.hangs.clear()
        await transactions.commit_all(blocked)
        assert {answer.result().processing_status for answer in blocked} == {"processed"}

    run(test)


def test_events_that_share_an_object_keep_their_order_when_their_batch_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(queue, "_BATCH_TIMEOUT", 0.02)

    async def test(queue: Queue, transactions: Transactions) -> None:
        transactions.hangs = {"cus_2"}
        answers = await begin(queue, "cus_1")
        first = await begin(queue, "cus_2", "cus_3", type="customer.created")
        transactions.commit()
        await until(lambda: ["cus_2", "cus_3"] in transactions.running)
        second = await begin(queue, "cus_2", type="customer.updated")
        await until(lambda: ["cus_2"] in transactions.running)
        await transactions.commit_all(await begin(queue, "cus_4"))
        assert transactions.running == [["cus_2"]]
        transactions.hangs.clear()
        await transactions.commit_all(answers + first + second)
        assert transactions.begun.count(["cus_2"]) == 2

    run(test)


def test_a_type_that_was_blocked_until_it_failed_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "_STUCK_AFTER", 0.005)

    async def test(queue: Queue, transactions: Transactions) -> None:
        transactions.hangs = transactions.refuses = {"cus_1"}
        failed = await begin(queue, "cus_1", type="customer.updated")
        await asyncio.sleep(0.02)
        transactions.hangs = set()
        await transactions.commit_all(failed)
        answers = await begin(queue, "cus_2", "cus_3", type="customer.updated")
        assert transactions.running == [["cus_2"], ["cus_3"]]
        await transactions.commit_all(answers)

    run(test)


SLEEPY = """
    CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN PERFORM pg_advisory_xact_lock_shared(4711); RETURN NULL; END $$;
    CREATE TRIGGER wait AFTER UPDATE ON payments.webhook_events
    FOR EACH ROW WHEN (NEW.processing_status = 'processed') EXECUTE FUNCTION wait();
"""


def test_blocked_events_leave_a_connection_of_a_small_pool_to_everything_else(
    database_url: str,
) -> None:
    async def work() -> None:
        holder = await asyncpg.connect(database_url)
        await holder.execute(SLEEPY)
        await holder.execute("SELECT pg_advisory_lock(4711)")
        database = Database(database_url, pool_size=3, acquire_timeout=2)
        await database.open()
        ledger = Ledger(database)
        told = [decode(payload(event("customer.created", customer(f"cus_{n}")))) for n in range(8)]
        running = []
        for each in told:  # each in a batch of its own, which is soon set aside
            running.append(asyncio.create_task(ledger.record("test", each)))
            await asyncio.sleep(1.5 * queue._STUCK_AFTER)
        async with database.connection() as connection:
            assert await connection.fetchval("SELECT 1") == 1
        await holder.close()
        assert {(await each).processing_status for each in running} == {"processed"}
        await ledger.close()
        await database.close()

    aside.run(work())


def test_slow_triggers_in_test_and_live_together_leave_connections_for_everything_else() -> None:
    async def main() -> None:
        transactions = Transactions()
        aside = Aside(2)
        queues = [Queue(each, transactions.apply, aside) for each in ENVIRONMENTS]
        transactions.spent = {"customer.created": 0.1}
        answers = [task for queue in queues for task in await begin(queue, "cus_0")]
        await transactions.commit_all(answers)  # now the type is known to be slow
        names = [f"cus_{number}" for number in range(1, 4)]
        answers = [task for queue in queues for task in await begin(queue, *names)]
        assert len(transactions.running) == 2
        await transactions.commit_all(answers)
        assert [answer.result().processing_status for answer in answers] == ["processed"] * 6
        assert len(transactions.begun) == 8

    asyncio.run(main())
