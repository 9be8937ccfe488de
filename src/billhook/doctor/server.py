"""Checks of a running server over its API, if its database cannot be reached from here."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from datetime import datetime

from billhook.client import ApiError, AsyncClient
from billhook.doctor.database import failing, last_event
from billhook.doctor.finding import Finding, failure
from billhook.doctor.stripe import no_key
from billhook.doctor.usage import usage
from billhook.models import Connection, Status


async def answers(client: AsyncClient) -> tuple[Finding, datetime | None]:
    """Whether the server works; and its time."""
    try:
        health = await client.health()
    except ApiError as error:
        return failure("server", error), None
    message = f"{client.base_url} responds, Billhook {health.version}."
    return Finding(check="server", state="ok", message=message), health.timestamp


async def takes_key(client: AsyncClient) -> tuple[Finding, Status | None]:
    """Whether the server accepts the admin key; and its status."""
    try:
        status = await client.status()
    except ApiError as error:
        return failure("admin key", error), None
    return Finding(
        check="admin key", state="ok", message="The server accepts the admin key."
    ), status


def policies() -> Finding:
    """What the API does not report: policies are in the database."""
    return Finding(
        check="policies",
        state="skipped",
        message="Row-level security of the session tables can only be checked in the database.",
        next_actions="Run billhook doctor where DATABASE_URL is set.",
    )


async def connection(
    client: AsyncClient, found: Connection, now: datetime
) -> AsyncIterator[Finding]:
    """The state of one environment, as far as the API reports it."""
    environment = found.environment
    if found.status == "unconfigured":
        yield no_key(environment)
        return
    if found.status == "error":
        yield Finding(
            check="stripe key",
            environment=environment,
            state="broken",
            message=found.last_sync_error or "The connection to Stripe is broken.",
            next_actions=f"billhook config set --environment {environment}, then billhook sync "
            f"--environment {environment}",
        )
    else:
        yield Finding(
            check="stripe key",
            environment=environment,
            state="ok",
            message=f"Connected to {found.account_id} with {found.masked_key}.",
        )
    yield _endpoint(found)
    try:
        failed = await client.events.page(environment, status="failed", limit=100)
        last = await client.events.page(environment, limit=1)
    except ApiError as error:
        yield failure("events", error, environment)
        return
    if failed.items:
        kinds = Counter(each.event_type for each in failed.items)
        told = ", ".join(f"{number} {kind}" for kind, number in kinds.most_common())
        yield failing(environment, told, failed.items[0].last_error)
    else:
        yield Finding(
            check="events", environment=environment, state="ok", message="No event is failing."
        )
    seen = next(((each.received_at, each.event_type) for each in last.items), None)
    yield last_event(environment, seen, now)
    try:
        state = await client.usage.status(environment)
    except ApiError as error:
        yield failure("usage", error, environment)
        return
    for each in usage(state):
        yield each


def _endpoint(found: Connection) -> Finding:
    configure = f"billhook webhooks configure --environment {found.environment}"
    if found.webhook_endpoint_id is None:
        return Finding(
            check="webhook endpoint",
            environment=found.environment,
            state="skipped",
            message="Billhook manages no endpoint: events are pulled, or sent to an endpoint that "
            "you manage. Run doctor where DATABASE_URL is set to find out.",
            next_actions=f"To create an endpoint, if Stripe can reach the server: {configure}",
        )
    return Finding(
        check="webhook endpoint",
        environment=found.environment,
        state="ok",
        message=f"{found.webhook_endpoint_id} was set up for {found.webhook_endpoint_url}. "
        "Run doctor where DATABASE_URL is set to compare it with Stripe.",
        next_actions=f"To check and repair it: {configure}",
    )
