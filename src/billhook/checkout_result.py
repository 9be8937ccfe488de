"""The page after a checkout waits here for its result.

The answer comes as soon as the session's event was applied. Where the webhook is late, the session
is fetched from Stripe to see whether it has ended, and its event is pulled through the usual
pipeline: so the app's triggers have run before the page gets its answer. Meanwhile the webhook may
still come first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from urllib.parse import quote
from uuid import UUID

import asyncpg

from billhook.auth import Caller
from billhook.checkout import TABLE
from billhook.db import Database
from billhook.db.refusals import acting_as_caller
from billhook.errors import BillhookError, DatabaseUnavailable, PaymentNotFound
from billhook.ledger import Ledger
from billhook.models import CheckoutSession
from billhook.recovery.pulling import pull_due
from billhook.settings import Environment
from billhook.stripe.gateway import Gateway

_UNDECIDED = ("initialized", "open")
_POLL_EVERY = 0.1  # seconds

_COLUMNS = ", ".join(CheckoutSession.model_fields)
_BY_ROW = f"SELECT {_COLUMNS} FROM {TABLE} WHERE environment = $1 AND id = $2"  # noqa: S608
_BY_STRIPE = f"""
SELECT {_COLUMNS} FROM {TABLE} WHERE environment = $1 AND checkout_session_id = $2
"""  # noqa: S608

_ENDED = f"SELECT id FROM {TABLE} WHERE id = ANY ($1) AND status <> ALL ($2)"  # noqa: S608


@dataclass(slots=True)
class _Question:
    """What is asked of Stripe about one checkout, for all pages that wait for it.

    Attributes:
        pages: how many wait.
        next_at: no page asks before (time of the event loop).
        task: the question that is on its way, if any.
    """

    pages: int = 0
    next_at: float = float("-inf")
    task: asyncio.Task[None] | None = None


class _Ended:
    """Tells which of the sessions that pages wait for are no longer open: one query for all of
    them, as long as there are any."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._awaited: dict[UUID, list[asyncio.Event]] = {}
        self._task: asyncio.Task[None] | None = None

    @contextmanager
    def awaiting(self, row_id: UUID) -> Iterator[asyncio.Event]:
        """An event that is set once the session may have ended."""
        event = asyncio.Event()
        self._awaited.setdefault(row_id, []).append(event)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._poll())
        try:
            yield event
        finally:
            self._awaited[row_id].remove(event)
            if not self._awaited[row_id]:
                del self._awaited[row_id]

    def wake_all(self) -> None:
        """Let everybody look."""
        for events in self._awaited.values():
            for event in events:
                event.set()

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _poll(self) -> None:
        while self._awaited:
            await asyncio.sleep(_POLL_EVERY)
            # PostgreSQL may be away for a moment: the pages wait on.
            with suppress(DatabaseUnavailable, asyncpg.PostgresError):
                async with self._database.connection() as connection:
                    rows = await connection.fetch(_ENDED, list(self._awaited), _UNDECIDED)
                for row in rows:
                    for event in self._awaited.get(row["id"], ()):
                        event.set()


class CheckoutResults:
    """How checkouts ended. `close` it at shutdown.

    Args:
        ask_after: seconds after which a webhook is late, so that Stripe is asked.
        ask_every: seconds from one such question to the next.
    """

    def __init__(
        self,
        ledger: Ledger,
        gateway: Gateway,
        *,
        ask_after: float = 1.5,
        ask_every: float = 3.0,
    ) -> None:
        self._ledger = ledger
        self._database = ledger.database
        self._ended = _Ended(ledger.database)
        self._gateway = gateway
        self._ask_after = ask_after
        self._ask_every = ask_every
        self._questions: dict[UUID, _Question] = {}
        self._stopping = False

    async def read(
        self, environment: Environment, session_id: str, caller: Caller, wait: float
    ) -> CheckoutSession:
        """The caller's Checkout Session, once it is no longer open or `wait` seconds have passed.

        Args:
            session_id: the row's id, or Stripe's (`{CHECKOUT_SESSION_ID}` of the success URL).

        Raises:
            PaymentNotFound: the caller may see no such session.
        """
        now = asyncio.get_running_loop().time
        end = now() + wait
        ask_at = now() + min(self._ask_after, wait / 2)
        session = await self._read(environment, session_id, caller)
        if not wait or session.status not in _UNDECIDED:
            return session
        with self._ended.awaiting(session.id) as ended, self._asking_about(session.id) as question:
            while not self._stopping:
                session = await self._read(environment, session_id, caller)
                if session.status not in _UNDECIDED or now() >= end:
                    break
                if now() >= max(ask_at, question.next_at) and question.task is None:
                    self._ask(environment, session, question)
                    question.next_at = now() + self._ask_every
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(min(end, max(ask_at, question.next_at))):
                        await ended.wait()
        return session

    def stop(self) -> None:
        """The server shuts down: whoever waits is answered with what is known."""
        self._stopping = True
        self._ended.wake_all()

    async def close(self) -> None:
        """Stop, and ask Stripe no more."""
        self.stop()
        await self._ended.close()
        asking = [each.task for each in self._questions.values() if each.task is not None]
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)

    @contextmanager
    def _asking_about(self, row_id: UUID) -> Iterator[_Question]:
        question = self._questions.setdefault(row_id, _Question())
        question.pages += 1
        try:
            yield question
        finally:
            question.pages -= 1
            self._forget(row_id, question)

    def _forget(self, row_id: UUID, question: _Question) -> None:
        if question.pages == 0 and question.task is None:
            self._questions.pop(row_id, None)

    def _ask(self, environment: Environment, session: CheckoutSession, question: _Question) -> None:
        """Ask Stripe in a task of its own: Stripe may be slow, and the webhook come meanwhile."""

        def answered(_task: object) -> None:
            question.task = None
            self._forget(session.id, question)

        question.task = asyncio.create_task(self._pull_its_event(environment, session))
        question.task.add_done_callback(answered)

    async def _read(
        self, environment: Environment, session_id: str, caller: Caller
    ) -> CheckoutSession:
        row: asyncpg.Record | None
        as_caller = acting_as_caller(self._database, caller.database_role, caller.claims, TABLE)
        async with as_caller as connection:
            try:
                row = await connection.fetchrow(_BY_ROW, environment, UUID(session_id))
            except ValueError:
                row = await connection.fetchrow(_BY_STRIPE, environment, session_id)
        if row is None:
            raise PaymentNotFound(
                "There is no such Checkout Session, or it is not yours.",
                next_actions="Ask with the token of the user who created it; where row-level "
                f"security is on, {TABLE} needs a SELECT policy for them.",
            )
        return CheckoutSession(**dict(row))

    async def _pull_its_event(self, environment: Environment, session: CheckoutSession) -> None:
        """Fetch the session. If it has ended, its event is in Stripe's list: pull it."""
        if session.checkout_session_id is None:
            return
        path = f"/v1/checkout/sessions/{quote(session.checkout_session_id, safe='')}"
        # That Stripe cannot be asked is no reason to fail: the webhook may still come.
        with suppress(BillhookError, asyncpg.PostgresError):
            if (await self._gateway.get(environment, path)).data.get("status") != "open":
                await pull_due(self._ledger, self._gateway, environment, every=None)
