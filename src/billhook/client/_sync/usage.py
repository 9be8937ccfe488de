# Generated from _async/usage.py by `python src/billhook/client/generate.py`; don't edit.
"""Usage, meters and billing credits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Literal, TypeAlias
from uuid import uuid4

from billhook.client._sync.lists import LARGEST, SyncMirrored, follow
from billhook.client._sync.transport import SyncTransport
from billhook.client.inputs import SubjectInput, UsageEntry, given, query, usage_body
from billhook.client.request import Call, Page, path
from billhook.models import (
    CreditGrant,
    CreditGrantResponse,
    Credits,
    MeterResponse,
    MirroredRow,
    RecordedUsage,
    RetriedUsage,
    Usage,
    UsageList,
    UsageState,
    UsageStateResponse,
    UsageTotal,
    UsageTotals,
)
from billhook.models.usage import UsageStatus
from billhook.settings import Environment

Totals: TypeAlias = list[UsageTotal]


class SyncUsage:
    """What customers have used: recorded in PostgreSQL, and sent to Stripe's meters."""

    def __init__(self, transport: SyncTransport) -> None:
        self._transport = transport

    def record(self, environment: Environment, usage: Sequence[UsageEntry]) -> RecordedUsage:
        """Record up to 1,000 entries: all, or none.

        What has no `identifier` gets one, so that a lost response does not record it twice.
        """
        body = {"usage": [usage_body(each) for each in usage]}
        call = Call("POST", path(environment, "usage"), RecordedUsage, body=body, repeatable=True)
        return (self._transport.send(call)).model

    def page(
        self,
        environment: Environment,
        *,
        limit: int = 50,
        starting_after: str | None = None,
        status: UsageStatus | None = None,
        meter: str | None = None,
        subject: tuple[str, str] | None = None,
        customer: str | None = None,
    ) -> Page[Usage]:
        """One page, the last recorded first.

        Args:
            limit: 1 to 100.
            starting_after: the `next_cursor` of the page before.
            subject: type and id.
            customer: usage that was recorded for this Stripe customer instead of a subject.
        """
        kind, name = subject or (None, None)
        asked = query(
            limit=limit,
            startingAfter=starting_after,
            status=status,
            meter=meter,
            subjectType=kind,
            subjectId=name,
            customer=customer,
        )
        answer = self._transport.send(
            Call("GET", path(environment, "usage"), UsageList, query=asked, repeatable=True)
        )
        return Page(answer.model.usage, answer.next_cursor)

    def all(
        self,
        environment: Environment,
        *,
        status: UsageStatus | None = None,
        meter: str | None = None,
        subject: tuple[str, str] | None = None,
        customer: str | None = None,
    ) -> Iterator[Usage]:
        """All of it, page by page as it is used."""
        return follow(
            lambda cursor: self.page(
                environment,
                limit=LARGEST,
                starting_after=cursor,
                status=status,
                meter=meter,
                subject=subject,
                customer=customer,
            )
        )

    def totals(
        self, environment: Environment, *, subject: tuple[str, str], meter: str | None = None
    ) -> Totals:
        """What a subject has used of each meter in its current period.

        Args:
            subject: type and id.
        """
        kind, name = subject
        asked = query(subjectType=kind, subjectId=name, meter=meter)
        route = path(environment, "usage", "totals")
        call = Call("GET", route, UsageTotals, query=asked, repeatable=True)
        return (self._transport.send(call)).model.totals

    def status(self, environment: Environment) -> UsageState:
        """How far sending is: what waits, what failed, and for how long."""
        route = path(environment, "usage", "status")
        call = Call("GET", route, UsageStateResponse, repeatable=True)
        return (self._transport.send(call)).model.usage

    def retry(
        self,
        environment: Environment,
        *,
        status: Literal["failed", "uncertain"] = "failed",
        ids: Sequence[int] | None = None,
        meter: str | None = None,
        counted: bool = False,
        limit: int = 1_000,
    ) -> int:
        """Send usage again that Stripe rejected, or that Stripe may or may not have. Returns how
        many rows.

        Args:
            ids: only these rows.
            counted: Stripe has the uncertain usage: don't send it.
            limit: 1 to 10,000.
        """
        body = given(
            status=status,
            ids=None if ids is None else list(ids),
            meter=meter,
            counted=counted or None,
            limit=limit,
        )
        route = path(environment, "usage", "retry")
        call = Call("POST", route, RetriedUsage, body=body, repeatable=True)
        return (self._transport.send(call)).model.retried


class SyncMeters:
    """Meters, which aggregate usage: read from the mirror, changed at Stripe."""

    def __init__(self, transport: SyncTransport) -> None:
        self._transport = transport
        self._list = SyncMirrored(transport, "meters")

    def page(
        self,
        environment: Environment,
        *,
        limit: int = 50,
        starting_after: str | None = None,
        status: Literal["active", "inactive"] | None = None,
    ) -> Page[MirroredRow]:
        """One page, the newest first.

        Args:
            limit: 1 to 100.
            starting_after: the `next_cursor` of the page before.
        """
        return self._list.page(
            environment, limit=limit, starting_after=starting_after, status=status
        )

    def create(
        self,
        environment: Environment,
        *,
        event_name: str,
        display_name: str,
        formula: Literal["count", "last", "sum"] = "sum",
        customer_key: str | None = None,
        value_key: str | None = None,
        event_time_window: Literal["day", "hour"] | None = None,
        idempotency_key: str | None = None,
    ) -> MirroredRow:
        """Create a meter. Without an `idempotency_key`, one is generated for retries."""
        body = given(
            eventName=event_name,
            displayName=display_name,
            formula=formula,
            customerKey=customer_key,
            valueKey=value_key,
            eventTimeWindow=event_time_window,
            idempotencyKey=idempotency_key or str(uuid4()),
        )
        call = Call("POST", path(environment, "meters"), MeterResponse, body=body, repeatable=True)
        return (self._transport.send(call)).model.meter

    def deactivate(self, environment: Environment, meter_id: str) -> MirroredRow:
        """Deactivate a meter: Stripe then rejects usage of it."""
        # Not repeated: the second time, Stripe would respond that it is inactive.
        route = path(environment, "meters", meter_id, "deactivate")
        return (self._transport.send(Call("POST", route, MeterResponse))).model.meter

    def reactivate(self, environment: Environment, meter_id: str) -> MirroredRow:
        """Reactivate a meter."""
        route = path(environment, "meters", meter_id, "reactivate")
        return (self._transport.send(Call("POST", route, MeterResponse))).model.meter


class SyncCredits:
    """Billing credits, which pay for metered usage. They are kept at Stripe."""

    def __init__(self, transport: SyncTransport) -> None:
        self._transport = transport

    def grant(
        self,
        environment: Environment,
        *,
        amount: int,
        currency: str,
        subject: SubjectInput | None = None,
        customer_id: str | None = None,
        category: Literal["paid", "promotional"] = "paid",
        name: str | None = None,
        price_ids: Sequence[str] | None = None,
        priority: int | None = None,
        effective_at: datetime | None = None,
        expires_at: datetime | None = None,
        metadata: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> CreditGrant:
        """Grant credits to a subject or a Stripe customer. Without an `idempotency_key`, one is
        generated for retries.

        Args:
            amount: in the currency's minor unit.
            price_ids: the metered prices that they pay for; None: all.
            priority: 0 (used first) to 100.
        """
        body = given(
            subject=subject,
            customerId=customer_id,
            amount=amount,
            currency=currency,
            category=category,
            name=name,
            priceIds=None if price_ids is None else list(price_ids),
            priority=priority,
            **query(effectiveAt=effective_at, expiresAt=expires_at),
            metadata=metadata,
            idempotencyKey=idempotency_key or str(uuid4()),
        )
        route = path(environment, "credit-grants")
        call = Call("POST", route, CreditGrantResponse, body=body, repeatable=True)
        return (self._transport.send(call)).model.credit_grant

    def list(
        self,
        environment: Environment,
        *,
        subject: tuple[str, str] | None = None,
        customer: str | None = None,
    ) -> Credits:
        """The newest 100 grants of a subject or a customer, and what is left in each currency."""
        kind, name = subject or (None, None)
        asked = query(subjectType=kind, subjectId=name, customer=customer)
        route = path(environment, "credit-grants")
        call = Call("GET", route, Credits, query=asked, repeatable=True)
        return (self._transport.send(call)).model
