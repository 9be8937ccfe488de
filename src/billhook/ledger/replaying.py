"""The ledger for administrators: fetch and replay events (contract section 3.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg
import orjson

from billhook.errors import FAULTS, BillhookError, DatabaseUnavailable, NotFound, fault_of
from billhook.ledger import FINISHED, Delivery, EventNotApplied, Ledger, OtherAccount, decode
from billhook.ledger.transaction import Work, apply_batch
from billhook.models import (
    ReplayedEvents,
    ReplayEvents,
    WebhookEvent,
    WebhookEventWithPayload,
)
from billhook.postgres import Database, repeat_collisions
from billhook.postgres.accounts import hold_account
from billhook.postgres.refusals import reason_of, refusal_in
from billhook.projections import UnreadableObject, project
from billhook.rows import Fact, apply_facts
from billhook.settings import Environment

_COLUMNS = """environment, provider_event_id AS event_id, event_type, livemode,
    provider_account_id AS account_id, object_type, object_id, processing_status, attempt_count,
    last_error, received_at, processed_at, created_at, updated_at"""
_GET = f"""
SELECT {_COLUMNS}, payload FROM payments.webhook_events
WHERE provider = 'stripe' AND environment = $1 AND provider_event_id = $2
"""  # noqa: S608
_GET_ARCHIVED = f"""
SELECT {_COLUMNS}, payload FROM pg_catalog.jsonb_populate_record(NULL::payments.webhook_events, (
    SELECT content FROM billhook.archived_events WHERE environment = $1 AND event_id = $2))
WHERE id IS NOT NULL
"""  # noqa: S608
_OTHER_ACCOUNT = "SELECT account_id FROM billhook.events_of_others($1) WHERE event_id = $2"
# The app's triggers wait for `processed`: removing the mark and setting it again fires them. Of two
# that remove the same mark at once, the second sees what the first has made of it.
_TAKE_MARK = """
UPDATE payments.webhook_events SET processing_status = 'pending', processed_at = NULL
WHERE provider = 'stripe' AND environment = $1 AND provider_event_id = $2
  AND processing_status = ANY ($3)
RETURNING true
"""
_TO_REPLAY = """
SELECT provider_event_id FROM payments.webhook_events
WHERE provider = 'stripe' AND environment = $1 AND processing_status = $2
  AND ($3::text IS NULL OR event_type = $3)
ORDER BY received_at, id LIMIT $4
"""


class EventNotFound(NotFound):
    """404: the ledger has no such event."""

    code = "PAYMENT_NOT_FOUND"


async def event(
    database: Database, environment: Environment, event_id: str
) -> WebhookEventWithPayload:
    """One recorded event with its payload, even if it was archived by age.

    Raises:
        EventNotFound: it never arrived.
    """
    try:
        row = await _row(database, environment, event_id)
    except EventNotFound:
        put_away = await _put_away(database, environment, event_id)
        if put_away is None:
            raise
        row = put_away
    return WebhookEventWithPayload(**row)


async def replay(
    ledger: Ledger, environment: Environment, event_id: str, *, refire: bool
) -> WebhookEvent:
    """Apply a recorded event again, from its stored payload. Safe at any time.

    A failed event is tried as on its first delivery: when it succeeds, the app's triggers fire
    once. A processed one is projected again; the app's triggers fire only with `refire`.

    Raises:
        EventNotFound: it never arrived.
        EventNotApplied: it failed again, with the reason.
        OtherAccount: it belongs to an account that is not connected.
        BillhookError: 409, it was archived by age.
    """
    database = ledger.database
    try:
        row = await _row(database, environment, event_id)
    except EventNotFound:
        if await _put_away(database, environment, event_id) is None:
            raise
        raise BillhookError(
            f"Event {event_id} was archived (BILLHOOK_EVENT_RETENTION_DAYS); it can be fetched, "
            "but no longer replayed.",
            status=409,
            code="DATABASE_DUPLICATE",
            next_actions="Its changes are in the mirror, and `billhook rebuild` includes it.",
        ) from None
    delivery = decode(orjson.dumps(row["payload"]))
    if row["processing_status"] == "processed":
        await project_again(database, environment, delivery, marked=FINISHED if refire else ())
    elif row["processing_status"] == "ignored":
        # A newer version may handle its type: then it is `processed` for the first time.
        marked = FINISHED if refire else ("ignored",)
        await project_again(database, environment, delivery, marked=marked)
    else:
        try:
            await ledger.record(environment, delivery)
        except EventNotApplied as error:
            # Not sent by Stripe this time.
            error.next_actions = (
                "Fix the cause, then replay the event. Your app's triggers fire once."
            )
            raise
    return WebhookEvent(**_without_payload(await _row(database, environment, event_id)))


async def replay_many(
    ledger: Ledger, environment: Environment, order: ReplayEvents
) -> ReplayedEvents:
    """Replay matching events, the oldest first. One that fails again does not stop the others."""
    database = ledger.database
    async with database.connection() as connection:
        rows = await connection.fetch(
            _TO_REPLAY, environment, order.status, order.type, order.limit
        )
    failed = []
    for row in rows:
        event_id = row["provider_event_id"]
        try:
            await replay(ledger, environment, event_id, refire=order.refire)
        except BillhookError as error:
            # An event that makes PostgreSQL look unavailable is no outage if this query succeeds:
            found = await event(database, environment, event_id)  # it may be archived by now
            columns = found.model_dump(exclude={"payload"}) | {"last_error": error.message}
            failed.append(WebhookEvent(**columns))
    return ReplayedEvents(replayed=len(rows) - len(failed), failed=failed)


async def project_again(
    database: Database, environment: Environment, delivery: Delivery, *, marked: Sequence[str] = ()
) -> None:
    """Apply a finished event again.

    Args:
        marked: the statuses with which it is marked again, so that the app's triggers fire.

    Raises:
        EventNotApplied: it stays as it was.
        OtherAccount: it belongs to an account that is not connected.
    """
    found = delivery.event
    try:
        changes = project(found)
    except UnreadableObject as error:
        raise EventNotApplied(f"Event {found.id} cannot be read: {error}") from error

    async def work() -> None:
        async with database.as_service() as connection:
            connected = await hold_account(connection, environment)
            if account := await connection.fetchval(_OTHER_ACCOUNT, environment, found.id):
                raise OtherAccount(found.id, account, connected)
            if marked and await connection.fetchval(_TAKE_MARK, environment, found.id, marked):
                await apply_batch(connection, environment, [Work(delivery, changes)])
            else:
                facts = [Fact(found, changes)]
                await apply_facts(connection, environment, facts, outside_ledger=False)

    try:
        await repeat_collisions(work)
    except (asyncpg.PostgresError, DatabaseUnavailable, *FAULTS) as error:
        reason = fault_of(error) if isinstance(error, FAULTS) else reason_of(refusal_in(error))
        raise EventNotApplied(
            f"Event {found.id} could not be replayed and stays as it was: {reason}",
            next_actions="Fix the cause, then replay the event.",
        ) from error


async def _row(database: Database, environment: Environment, event_id: str) -> Mapping[str, Any]:
    async with database.connection() as connection:
        row: asyncpg.Record | None = await connection.fetchrow(_GET, environment, event_id)
    if row is None:
        raise EventNotFound(
            f"There is no event {event_id} in the {environment} environment.",
            next_actions="Look for it in Stripe's Dashboard (Developers, Events), and resend it "
            "from there.",
        )
    return dict(row)


async def _put_away(
    database: Database, environment: Environment, event_id: str
) -> Mapping[str, Any] | None:
    async with database.connection() as connection:
        row: asyncpg.Record | None = await connection.fetchrow(_GET_ARCHIVED, environment, event_id)
    return dict(row) if row else None


def _without_payload(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "payload"}
