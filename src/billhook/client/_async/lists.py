"""Lists that come in pages: customers, subscriptions, transactions, webhook events, and the other
mirrored kinds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import date, datetime
from typing import TypeVar

from pydantic.alias_generators import to_camel

from billhook.client._async.subscriptions import AsyncSubscriptionChanges
from billhook.client._async.transport import AsyncTransport
from billhook.client.inputs import AssignmentInput, camel, given, query
from billhook.client.request import Call, Page, path
from billhook.models import (
    LISTS,
    AssignedCustomer,
    AssignedCustomers,
    Customer,
    Customers,
    MirroredRow,
    MovementKind,
    MrrMovement,
    MrrMovements,
    Replayed,
    ReplayedEvents,
    Subscription,
    Subscriptions,
    Transaction,
    Transactions,
    WebhookEvent,
    WebhookEventResponse,
    WebhookEvents,
    WebhookEventWithPayload,
)
from billhook.models.queries import (
    ProcessingStatus,
    SubscriptionStatus,
    TransactionFigure,
    TransactionStatus,
    TransactionType,
)
from billhook.settings import Environment

T = TypeVar("T")

LARGEST = 100
"""The maximum number of items per page."""


async def follow(next_page: Callable[[str | None], Awaitable[Page[T]]]) -> AsyncIterator[T]:
    cursor: str | None = None
    while True:
        page = await next_page(cursor)
        for item in page.items:
            yield item
        cursor = page.next_cursor
        if cursor is None:
            return


class AsyncCustomers:
    """Customers with their total spend: deleted ones last, then by email, name or id."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def page(
        self,
        environment: Environment,
        *,
        limit: int = 50,
        starting_after: str | None = None,
        email: str | None = None,
        customer: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Page[Customer]:
        """One page.

        Args:
            limit: 1 to 100.
            starting_after: the `next_cursor` of the page before.
            since: created not before this time.
            until: created before this time.
        """
        asked = query(
            limit=limit,
            startingAfter=starting_after,
            email=email,
            customer=customer,
            since=since,
            until=until,
        )
        route = path(environment, "customers")
        answer = await self._transport.send(
            Call("GET", route, Customers, query=asked, repeatable=True)
        )
        return Page(answer.model.customers, answer.next_cursor)

    def all(
        self,
        environment: Environment,
        *,
        email: str | None = None,
        customer: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> AsyncIterator[Customer]:
        """All of them, page by page as they are used."""
        return follow(
            lambda cursor: self.page(
                environment,
                limit=LARGEST,
                starting_after=cursor,
                email=email,
                customer=customer,
                since=since,
                until=until,
            )
        )

    async def assign(
        self,
        environment: Environment,
        assignments: Sequence[AssignmentInput],
        *,
        overwrite: bool = False,
        dry_run: bool = False,
    ) -> list[AssignedCustomer]:
        """Specify which subjects customers pay for; returns the outcome of each.

        Args:
            assignments: at most 1,000.
            overwrite: replace mappings that contradict them, instead of skipping them.
            dry_run: only report what would be assigned.
        """
        call = Call(
            "POST",
            path(environment, "customers", "assignments"),
            AssignedCustomers,
            body={
                "assignments": [camel(each) for each in assignments],
                "overwrite": overwrite,
                "dryRun": dry_run,
            },
            repeatable=True,
        )
        return (await self._transport.send(call)).model.assignments


class AsyncSubscriptions(AsyncSubscriptionChanges):
    """Subscriptions with their items, the last changed first; and their changes."""

    async def page(
        self,
        environment: Environment,
        *,
        limit: int = 50,
        starting_after: str | None = None,
        subject: tuple[str, str] | None = None,
        customer: str | None = None,
        status: SubscriptionStatus | None = None,
        currency: str | None = None,
        paying: bool | None = None,
        renews_from: datetime | None = None,
        renews_until: datetime | None = None,
    ) -> Page[Subscription]:
        """One page.

        Args:
            limit: 1 to 100.
            starting_after: the `next_cursor` of the page before.
            subject: type and id.
            paying: only those that count in MRR, or only the others.
            renews_from, renews_until: paid ones that renew from and before these times.
        """
        kind, name = subject or (None, None)
        asked = query(
            limit=limit,
            startingAfter=starting_after,
            subjectType=kind,
            subjectId=name,
            customer=customer,
            status=status,
            currency=currency,
            paying=paying,
            renewsFrom=renews_from,
            renewsUntil=renews_until,
        )
        route = path(environment, "subscriptions")
        answer = await self._transport.send(
            Call("GET", route, Subscriptions, query=asked, repeatable=True)
        )
        return Page(answer.model.subscriptions, answer.next_cursor)

    def all(
        self,
        environment: Environment,
        *,
        subject: tuple[str, str] | None = None,
        customer: str | None = None,
        status: SubscriptionStatus | None = None,
        currency: str | None = None,
        paying: bool | None = None,
        renews_from: datetime | None = None,
        renews_until: datetime | None = None,
    ) -> AsyncIterator[Subscription]:
        """All of them, page by page as they are used."""
        return follow(
            lambda cursor: self.page(
                environment,
                limit=LARGEST,
                starting_after=cursor,
                subject=subject,
                customer=customer,
                status=status,
                currency=currency,
                paying=paying,
                renews_from=renews_from,
                renews_until=renews_until,
            )
        )


class AsyncTransactions:
    """Payments and refunds, newest first."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def page(
        self,
        environment: Environment,
        *,
        limit: int = 50,
        starting_after: str | None = None,
        subject: tuple[str, str] | None = None,
        customer: str | None = None,
        type: TransactionType | None = None,
        status: TransactionStatus | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        figure: TransactionFigure | None = None,
        currency: str | None = None,
    ) -> Page[Transaction]:
        """One page.

        Args:
            limit: 1 to 100.
            starting_after: the `next_cursor` of the page before.
            subject: type and id.
            since: not before this time.
            until: before this time.
            figure: only what this figure of `business` counts.
        """
        kind, name = subject or (None, None)
        asked = query(
            limit=limit,
            startingAfter=starting_after,
            subjectType=kind,
            subjectId=name,
            customer=customer,
            type=type,
            status=status,
            since=since,
            until=until,
            figure=figure,
            currency=currency,
        )
        route = path(environment, "transactions")
        answer = await self._transport.send(
            Call("GET", route, Transactions, query=asked, repeatable=True)
        )
        return Page(answer.model.transactions, answer.next_cursor)

    def all(
        self,
        environment: Environment,
        *,
        subject: tuple[str, str] | None = None,
        customer: str | None = None,
        type: TransactionType | None = None,
        status: TransactionStatus | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        figure: TransactionFigure | None = None,
        currency: str | None = None,
    ) -> AsyncIterator[Transaction]:
        """All of them, page by page as they are used."""
        return follow(
            lambda cursor: self.page(
                environment,
                limit=LARGEST,
                starting_after=cursor,
                subject=subject,
                customer=customer,
                type=type,
                status=status,
                since=since,
                until=until,
                figure=figure,
                currency=currency,
            )
        )


class AsyncMrrMovements:
    """How the MRR of customers changed, newest first."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def page(
        self,
        environment: Environment,
        *,
        limit: int = 50,
        starting_after: str | None = None,
        kind: MovementKind | None = None,
        currency: str | None = None,
        customer: str | None = None,
        since: date | None = None,
        until: date | None = None,
    ) -> Page[MrrMovement]:
        """One page.

        Args:
            limit: 1 to 100.
            starting_after: the `next_cursor` of the page before.
            since, until: the first and the last day, in UTC.
        """
        asked = query(
            limit=limit,
            startingAfter=starting_after,
            kind=kind,
            currency=currency,
            customer=customer,
            since=since,
            until=until,
        )
        route = path(environment, "mrr-movements")
        answer = await self._transport.send(
            Call("GET", route, MrrMovements, query=asked, repeatable=True)
        )
        return Page(answer.model.mrr_movements, answer.next_cursor)

    def all(
        self,
        environment: Environment,
        *,
        kind: MovementKind | None = None,
        currency: str | None = None,
        customer: str | None = None,
        since: date | None = None,
        until: date | None = None,
    ) -> AsyncIterator[MrrMovement]:
        """All of them, page by page as they are used."""
        return follow(
            lambda cursor: self.page(
                environment,
                limit=LARGEST,
                starting_after=cursor,
                kind=kind,
                currency=currency,
                customer=customer,
                since=since,
                until=until,
            )
        )


class AsyncMirrored:
    """The list of another mirrored kind, the newest first."""

    def __init__(self, transport: AsyncTransport, name: str) -> None:
        if name not in LISTS:
            raise ValueError(f"not a list: {name!r}; there are {', '.join(LISTS)}")
        self._transport = transport
        self._list = LISTS[name]

    async def page(
        self,
        environment: Environment,
        *,
        limit: int = 50,
        starting_after: str | None = None,
        subject: tuple[str, str] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        **filters: str | None,
    ) -> Page[MirroredRow]:
        """One page.

        Args:
            limit: 1 to 100.
            starting_after: the `next_cursor` of the page before.
            subject: type and id.
            since: not created before this time.
            until: created before this time.
            filters: such as `customer` or `status`.
        """
        kind, name = subject or (None, None)
        asked = query(
            limit=limit,
            startingAfter=starting_after,
            subjectType=kind,
            subjectId=name,
            since=since,
            until=until,
            **{to_camel(each): value for each, value in filters.items()},
        )
        return await self._page(path(environment, self._list.route), asked)

    async def own(
        self,
        environment: Environment,
        *,
        subject: tuple[str, str],
        limit: int = 50,
        starting_after: str | None = None,
    ) -> Page[MirroredRow]:
        """One page of a subject's invoices or payment methods, as the user of this client's token:
        what the policies of the table let them see.

        Args:
            subject: type and id.
            limit: 1 to 100.
            starting_after: the `next_cursor` of the page before.
        """
        kind, name = subject
        asked = query(limit=limit, startingAfter=starting_after, subjectType=kind, subjectId=name)
        return await self._page(path(environment, "my", self._list.route), asked)

    async def _page(self, route: str, asked: Mapping[str, str]) -> Page[MirroredRow]:
        answer = await self._transport.send(
            Call("GET", route, self._list.page, query=asked, repeatable=True)
        )
        return Page(getattr(answer.model, self._list.name), answer.next_cursor)

    def all(
        self,
        environment: Environment,
        *,
        subject: tuple[str, str] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        **filters: str | None,
    ) -> AsyncIterator[MirroredRow]:
        """All of them, page by page as they are used."""
        return follow(
            lambda cursor: self.page(
                environment,
                limit=LARGEST,
                starting_after=cursor,
                subject=subject,
                since=since,
                until=until,
                **filters,
            )
        )


class AsyncEvents:
    """The ledger: recorded webhook events, the last received first."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def page(
        self,
        environment: Environment,
        *,
        limit: int = 50,
        starting_after: str | None = None,
        type: str | None = None,
        status: ProcessingStatus | None = None,
        object_id: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Page[WebhookEvent]:
        """One page.

        Args:
            limit: 1 to 100.
            starting_after: the `next_cursor` of the page before.
            since: not before this time.
            until: before this time.
        """
        asked = query(
            limit=limit,
            startingAfter=starting_after,
            type=type,
            status=status,
            objectId=object_id,
            since=since,
            until=until,
        )
        route = path(environment, "webhook-events")
        answer = await self._transport.send(
            Call("GET", route, WebhookEvents, query=asked, repeatable=True)
        )
        return Page(answer.model.webhook_events, answer.next_cursor)

    def all(
        self,
        environment: Environment,
        *,
        type: str | None = None,
        status: ProcessingStatus | None = None,
        object_id: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> AsyncIterator[WebhookEvent]:
        """All of them, page by page as they are used."""
        return follow(
            lambda cursor: self.page(
                environment,
                limit=LARGEST,
                starting_after=cursor,
                type=type,
                status=status,
                object_id=object_id,
                since=since,
                until=until,
            )
        )

    async def get(self, environment: Environment, event_id: str) -> WebhookEventWithPayload:
        """One event with Stripe's original payload."""
        route = path(environment, "webhook-events", event_id)
        call = Call("GET", route, WebhookEventResponse, repeatable=True)
        return (await self._transport.send(call)).model.webhook_event

    async def replay(
        self, environment: Environment, event_id: str, *, refire: bool = False
    ) -> WebhookEvent:
        """Apply an event again.

        Args:
            refire: fire the app's triggers again for a processed event.
        """
        route = path(environment, "webhook-events", event_id, "replay")
        # With `refire`, a retry after a lost response would fire the triggers twice.
        call = Call("POST", route, Replayed, body={"refire": refire}, repeatable=not refire)
        return (await self._transport.send(call)).model.webhook_event

    async def replay_many(
        self,
        environment: Environment,
        *,
        status: ProcessingStatus = "failed",
        type: str | None = None,
        limit: int = 100,
        refire: bool = False,
    ) -> ReplayedEvents:
        """Apply all matching events again, the oldest first.

        Args:
            limit: 1 to 1000.
            refire: fire the app's triggers again for processed events.
        """
        body = given(status=status, type=type, limit=limit, refire=refire)
        route = path(environment, "webhook-events", "replay")
        call = Call("POST", route, ReplayedEvents, body=body, slow=True)
        return (await self._transport.send(call)).model
