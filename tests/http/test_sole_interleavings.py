"""A payment whose events arrive between any two statements of another checkout's decision: the
subject gets neither a second subscription nor a second trial."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from itertools import count
from typing import Any
from uuid import uuid4

import pytest

from billhook.checkout.one_subscription import claim_subscription
from billhook.checkout.sole import Purpose
from billhook.checkout.trials import claim_trial
from billhook.models import BillingSubject
from billhook.postgres import Connection, Database
from billhook.stripe.gateway import Gateway
from billhook_sandbox.testing import ControlRefused
from http_tokens import token
from selling import Shop

OPTIONS = {
    "subscription": {"oneSubscription": True},
    "trial": {"trialDays": 14, "trialOncePerSubject": True},
}


class Gap:
    """What happens after one of the statements of the first transactions.

    Attributes:
        reached: whether there were so many statements.
    """

    def __init__(self, after: int, happens: Callable[[], Awaitable[None]]) -> None:
        self._statements = after
        self._happens = happens
        self.reached = False

    async def statement_done(self) -> None:
        self._statements -= 1
        if self._statements == 0:
            self.reached = True
            await self._happens()


class Interrupted:
    """A connection with a gap between its statements."""

    def __init__(self, connection: Connection, gap: Gap) -> None:
        self._connection = connection
        self._gap = gap

    def __getattr__(self, name: str) -> Any:
        run = getattr(self._connection, name)

        async def then_the_gap(*args: Any) -> Any:
            found = await run(*args)
            await self._gap.statement_done()
            return found

        return then_the_gap


class WithGap:
    """A database whose transactions have a gap."""

    def __init__(self, database: Database, gap: Gap) -> None:
        self._database = database
        self._gap = gap

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)

    @asynccontextmanager
    async def as_service(self) -> AsyncIterator[Interrupted]:
        async with self._database.as_service() as connection:
            yield Interrupted(connection, self._gap)


@pytest.mark.parametrize("purpose", ["subscription", "trial"])
@pytest.mark.parametrize(
    "events",
    [[], ["checkout.session.completed"], ["customer.subscription.created"]],
    ids=["all events", "only the session's", "only the subscription's"],
)
def test_a_payment_is_seen_whenever_its_events_arrive(
    shop: Shop, purpose: Purpose, events: list[str]
) -> None:
    plan = shop.plan()
    shop.offer("mine", options=OPTIONS[purpose])

    async def key(_: Any) -> str:
        return shop.account.key

    async def is_right(database: Database, paid_after: int) -> bool | None:
        """Whether another checkout is refused if the first one was paid. None: it has fewer
        statements."""
        buyer = str(uuid4())
        subject = BillingSubject(type="user", id=buyer)
        body = shop.order(plan, offer="mine", subject=subject.model_dump())
        session = await asyncio.to_thread(shop.open, body, token(buyer))

        paid = False

        def pay() -> None:
            nonlocal paid
            with suppress(ControlRefused):  # expired, for the other one
                shop.pay(session)
                paid = True
            shop.deliver(*events)

        gap = Gap(paid_after, lambda: asyncio.to_thread(pay))
        gateway = Gateway(key, shop.account.url)
        with_gap: Any = WithGap(database, gap)
        try:
            if purpose == "trial":
                refused = not await claim_trial(with_gap, gateway, "test", subject, uuid4())
            else:
                found = await claim_subscription(with_gap, gateway, "test", subject, uuid4())
                refused = found is not None
        finally:
            await gateway.close()
        return refused == paid if gap.reached else None

    async def work(database: Database) -> int:
        for statement in count(1):
            right = await is_right(database, statement)
            if right is None:
                return statement - 1
            assert right, f"paid after statement {statement}"
        raise AssertionError

    assert shop.api.books.run(work) >= 3
