"""The result of a checkout, for the page after it, which waits here.

The response comes as soon as the session's event is applied. If the webhook is late, the session
is fetched from Stripe to see whether it has ended, and its event is pulled through the usual
pipeline, so the app's triggers have run before the page gets its response. The webhook may still
arrive first.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from uuid import UUID

import asyncpg

from billhook.access.auth import Caller
from billhook.checkout.rows import TABLE
from billhook.errors import BillhookError, DatabaseUnavailable, PaymentNotFound
from billhook.ledger import Ledger
from billhook.models import CheckoutSession
from billhook.paths import encoded
from billhook.postgres.refusals import acting_as_caller
from billhook.recovery.pulling import pull_due
from billhook.settings import Environment
from billhook.stripe.gateway import Gateway

_UNDECIDED = ("initialized", "open")
_POLL_EVERY = 0.1  # seconds
_MOST_PAGES = 2_000
"""Pages that wait in this process; more are answered immediately. Each keeps its HTTP connection
open, but none to the database."""
_MOST_PAGES_EACH = 20
"""Likewise of one user, or of all guests for one checkout: these have no identity."""

_COLUMNS = ", ".join(CheckoutSession.model_fields)
_BY_ROW = f"SELECT {_COLUMNS} FROM {TABLE} WHERE environment = $1 AND id = $2"  # noqa: S608
_BY_STRIPE = f"""
SELECT {_COLUMNS} FROM {TABLE} WHERE environment = $1 AND checkout_session_id = $2
"""  # noqa: S608

# Texts: asyncpg would look up an array of any other type (docs/decisions/0010-search-path.md).
_ENDED = f"""
SELECT id FROM {TABLE} WHERE id = ANY ($1::text[]::uuid[]) AND status <> ALL ($2)
"""  # noqa: S608


@dataclass(slots=True)
class _Awaited:
    """A checkout that pages wait for.

    Attributes:
        pages: an event for each page, set when it should look again.
        ask_at: no request to Stripe before (time of the event loop).
        question: the current request to Stripe, on behalf of all pages.
    """

    pages: set[asyncio.Event] = field(default_factory=set)
    ask_at: float = -math.inf
    question: asyncio.Task[None] | None = None

    def wake(self) -> None:
        for page in self.pages:
            page.set()


class CheckoutResults:
    """The results of checkouts. `close` it at shutdown.

    Args:
        ask_after: seconds after which a webhook is late and the session is fetched from Stripe.
        ask_every: seconds from Stripe's response to the next request.
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
        self._gateway = gateway
        self._ask_after = ask_after
        self._ask_every = ask_every
        self._awaited: dict[UUID, _Awaited] = {}
        self._pages: Counter[str | UUID] = Counter()
        """How many pages wait, by user, or by checkout for guests."""
        self._poll: asyncio.Task[None] | None = None
        self._stopping = False

    async def read(
        self, environment: Environment, session_id: str, caller: Caller, wait: float
    ) -> CheckoutSession:
        """The caller's Checkout Session, once it is no longer open or `wait` seconds have passed.
        If too many pages wait already, it is read once.

        Args:
            session_id: the row's id, or Stripe's (`{CHECKOUT_SESSION_ID}` of the success URL).

        Raises:
            PaymentNotFound: the caller may see no such session.
        """
        now = asyncio.get_running_loop().time
        end = now() + wait
        ask_at = now() + min(self._ask_after, wait / 2)
        session = await self._read(environment, session_id, caller)
        waiter = caller.user_id or session.id
        if not wait or self._stopping or session.status not in _UNDECIDED or self._is_full(waiter):
            return session
        with self._awaiting(session.id, waiter) as (awaited, page):
            while session.status in _UNDECIDED and now() < end and not self._stopping:
                if now() >= max(ask_at, awaited.ask_at):
                    self._ask(environment, session, awaited)
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(min(end, max(ask_at, awaited.ask_at))):
                        await page.wait()
                page.clear()
                if not self._stopping:
                    session = await self._read(environment, session_id, caller)
        return session

    def stop(self) -> None:
        """The server shuts down: waiting pages get the current state."""
        self._stopping = True
        for awaited in self._awaited.values():
            awaited.wake()

    async def close(self) -> None:
        """Stop, and send no more requests to PostgreSQL and Stripe."""
        self.stop()
        tasks = [self._poll, *(each.question for each in self._awaited.values())]
        running = [task for task in tasks if task is not None]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def _is_full(self, waiter: str | UUID) -> bool:
        return self._pages[waiter] >= _MOST_PAGES_EACH or self._pages.total() >= _MOST_PAGES

    @contextmanager
    def _awaiting(
        self, row_id: UUID, waiter: str | UUID
    ) -> Iterator[tuple[_Awaited, asyncio.Event]]:
        """The checkout, and the event of one page that waits for it."""
        awaited = self._awaited.setdefault(row_id, _Awaited())
        page = asyncio.Event()
        awaited.pages.add(page)
        self._pages[waiter] += 1
        if self._poll is None or self._poll.done():
            self._poll = asyncio.create_task(self._wake_those_that_ended())
        try:
            yield awaited, page
        finally:
            awaited.pages.remove(page)
            self._pages[waiter] -= 1
            if not self._pages[waiter]:
                del self._pages[waiter]
            self._forget(row_id, awaited)

    def _forget(self, row_id: UUID, awaited: _Awaited) -> None:
        if not awaited.pages and awaited.question is None:
            self._awaited.pop(row_id, None)

    async def _wake_those_that_ended(self) -> None:
        """One query for all checkouts that pages wait for, as long as there are any."""
        while self._awaited:
            await asyncio.sleep(_POLL_EVERY)
            # PostgreSQL may be unavailable for a moment: the pages keep waiting.
            with suppress(DatabaseUnavailable, asyncpg.PostgresError):
                async with self._database.connection() as connection:
                    ids = [str(row_id) for row_id in self._awaited]
                    rows = await connection.fetch(_ENDED, ids, _UNDECIDED)
                for row in rows:
                    if (awaited := self._awaited.get(row["id"])) is not None:
                        awaited.wake()

    def _ask(self, environment: Environment, session: CheckoutSession, awaited: _Awaited) -> None:
        """Fetch from Stripe in a separate task: the webhook may arrive in the meantime."""

        def answered(_task: object) -> None:
            awaited.question = None
            awaited.ask_at = asyncio.get_running_loop().time() + self._ask_every
            awaited.wake()
            self._forget(session.id, awaited)

        awaited.ask_at = math.inf
        awaited.question = asyncio.create_task(self._pull_its_event(environment, session))
        awaited.question.add_done_callback(answered)

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
                next_actions="Use the token of the user who created it; if row-level "
                f"security is on, {TABLE} needs a SELECT policy for them.",
            )
        return CheckoutSession(**dict(row))

    async def _pull_its_event(self, environment: Environment, session: CheckoutSession) -> None:
        """Fetch the session. If it has ended, its event is in Stripe's list: pull it."""
        if session.checkout_session_id is None:
            return
        path = f"/v1/checkout/sessions/{encoded(session.checkout_session_id)}"
        # A failed request to Stripe is no reason to fail: the webhook may still arrive.
        with suppress(BillhookError, asyncpg.PostgresError):
            if (await self._gateway.get(environment, path)).data.get("status") != "open":
                await pull_due(self._ledger, self._gateway, environment, every=None)
