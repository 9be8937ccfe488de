"""The way of an event: verify, decode, record, project, mark (design §2).

Record, projections, the mark `processed` and whatever the app's triggers do commit together in
one transaction (I1): one call of the SQL function `billhook.apply_event`, one round trip. Nothing
here asks Stripe anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

import asyncpg
import orjson
import structlog

from billhook.db import Connection, Database, repeat_collisions
from billhook.db.leases import Lease
from billhook.db.refusals import place_of, reason_of, refusal_in
from billhook.errors import BillhookError, DatabaseUnavailable, InvalidInput
from billhook.projections import NOTHING, Event, UnreadableObject, as_json, project
from billhook.projections.shapes import StripeObject, hash_of, text
from billhook.settings import Environment
from billhook.stripe.decoding import decode as decode_json

log = structlog.get_logger(__name__)

CHECKOUT_ENDED = "billhook_checkout_ended"
"""The channel that tells which of our session rows (their ids) are no longer open."""

_REQUIRED = (("id", str), ("type", str), ("created", int), ("livemode", bool))
_END_OF_TIME = 253_402_300_800  # the year 10000
_LONGEST_NAME = 255

_APPLY = """
    SELECT handled, processing_status, attempt_count, last_error,
           received_at, processed_at, created_at, updated_at, billhook.reset_session()
    FROM billhook.apply_event(
        $1, $2, $3, $4, $5, $6, $7, pg_catalog.to_timestamp($8::bigint), $9::text::jsonb, $10, $11)
"""
_SILENCE = "SELECT billhook.silence_triggers()"
_RESTORE = "SELECT billhook.restore_triggers($1)"

_PING = b"v2.core.event_destination.ping"
_OTHER_ACCOUNT = "BH001"  # billhook.claim_event

FINISHED = ("processed", "ignored")
"""What an event is when nothing is left to do."""
DROPPED = "a trigger on payments.webhook_events drops what is written"
"""Why an event is not recorded as it should be, though nothing raised."""


class SignatureVerifier(Protocol):
    """Whatever knows the environment's signing secrets."""

    async def verify(
        self, environment: Environment, payload: bytes, header: str | None, now: float
    ) -> None:
        """Return if the signature is good, raise the contract's error if not."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """The answer to a delivered event, ready to send."""

    status: int
    body: bytes


@dataclass(frozen=True, slots=True)
class _Failure:
    """Why an event could not be applied.

    Attributes:
        raised_in: the function and line of the app's, where it raised.
        was_cut_off: a trigger may be what makes PostgreSQL look as if it were away.
    """

    reason: str
    raised_in: str | None = None
    was_cut_off: bool = False


@dataclass(frozen=True, slots=True)
class Delivery:
    """A decoded event with what the ledger keeps of it."""

    event: Event
    livemode: bool
    account_id: str | None
    object_type: str | None
    object_id: str | None
    payload: str


class EventNotApplied(BillhookError):
    """500: the event is in the ledger as `failed`, with this reason. Stripe sends it again."""


class EventNotRecorded(BillhookError):
    """500: the app's triggers let nothing be written, and are not ours to pass by."""


async def receive(
    database: Database,
    environment: Environment,
    payload: bytes,
    signature_header: str | None,
    secrets: SignatureVerifier,
    now: float,
) -> Receipt:
    """Take one delivery of Stripe's: the whole of `POST /api/webhooks/stripe/{environment}`.

    Args:
        payload: the raw body, exactly as it came.
        signature_header: `Stripe-Signature`, or None.
        now: epoch seconds, for the signature's tolerance.

    Returns:
        200 `{received, handled, event}` (contract §3.1).

    Raises:
        BillhookError: 401 no signature; 400 a bad one, no event, or one of the other mode;
            `EventNotApplied` or `EventNotRecorded` 500; `DatabaseUnavailable` 503. Nothing
            acknowledged is ever lost.
    """
    await secrets.verify(environment, payload, signature_header, now)
    if _PING in payload and (receipt := _ping_receipt(environment, payload)) is not None:
        return receipt
    delivery = decode(payload)
    if delivery.livemode != (environment == "live"):
        raise InvalidInput(
            f"The event is from {'live' if delivery.livemode else 'test'} mode, but this is the "
            f"{environment} endpoint. It was not recorded.",
            next_actions="Point each Stripe mode at its own address: …/webhooks/stripe/test and "
            "…/webhooks/stripe/live.",
        )
    row = await apply(database, environment, delivery)
    return Receipt(200, _receipt(environment, delivery, row))


def decode(payload: bytes) -> Delivery:
    """Read a Stripe event.

    Raises:
        InvalidInput: not JSON, or not an event.
    """
    try:
        body, payload = decode_json(payload)
    except ValueError:
        raise InvalidInput("The body is not valid JSON.") from None
    stripe_object = check(body)
    previous = body["data"].get("previous_attributes")
    return Delivery(
        event=Event(
            id=body["id"],
            type=body["type"],
            created=body["created"],
            object=stripe_object,
            previous=previous if isinstance(previous, dict) else None,
            account=text(body.get("account")),
        ),
        livemode=body["livemode"],
        account_id=_name(body.get("account")),
        object_type=_name(stripe_object.get("object")),
        object_id=_name(stripe_object.get("id")),
        payload=payload.decode(),
    )


def _name(value: Any) -> str | None:
    """An id or a type, unless it is longer than any of Stripe's: they are indexed."""
    found = text(value)
    return found if found and len(found) <= _LONGEST_NAME else None


def check(body: Any) -> StripeObject:
    """Make sure that decoded JSON is an event. Returns its object.

    Raises:
        InvalidInput: it is not, or lacks what the ledger cannot be without.
    """
    if not isinstance(body, dict):
        raise InvalidInput("The body is not a Stripe event.")
    if any(str(body.get(each)).startswith("v2.") for each in ("object", "type")):
        # Not `ignored`: whoever set it up must notice that nothing can come of it.
        raise InvalidInput(
            "This is a thin event (v2.core.event), which says only that something happened. "
            "Billhook needs snapshot events, which carry their object.",
            next_actions="In Stripe's dashboard (Workbench, Webhooks) create a destination with "
            "the payload style Snapshot and its events of the API v1, or let Billhook manage one: "
            "billhook webhooks configure",
        )
    for field, kind in _REQUIRED:
        if not isinstance(body.get(field), kind) or body[field] == "":
            raise InvalidInput(f"{field}: a Stripe event has a {kind.__name__} here")
    if _name(body["id"]) is None or _name(body["type"]) is None:
        raise InvalidInput(f"id, type: at most {_LONGEST_NAME} characters")
    if not 0 < body["created"] < _END_OF_TIME:
        raise InvalidInput("created: a Stripe event has a time in epoch seconds here")
    stripe_object = hash_of(body.get("data")).get("object")
    if not isinstance(stripe_object, dict):
        raise InvalidInput("data.object: a Stripe event has an object here")
    return stripe_object


async def apply(
    database: Database, environment: Environment, delivery: Delivery, lease: Lease | None = None
) -> Mapping[str, Any]:
    """Record, project and mark one event, in one transaction.

    Where that raises (the app's trigger, most likely) the transaction is gone, and another one
    moves the mirror on and marks the event `failed`.

    Args:
        lease: whoever lost it records nothing.

    Returns:
        The ledger's columns of the event, and `handled`.

    Raises:
        EventNotApplied: it was recorded as `failed`.
        EventNotRecorded: the app's triggers let nothing be recorded.
        LeaseLost: `lease` is gone; nothing was recorded.
        DatabaseUnavailable: PostgreSQL is away; nothing was recorded.
    """
    try:
        changes = as_json(project(delivery.event), delivery.event)
    except UnreadableObject as error:
        changes, failure = {}, _Failure(str(error))
    else:
        try:
            row = await _apply(database, environment, delivery, changes, lease)
        except (asyncpg.PostgresError, DatabaseUnavailable) as error:
            refusal = refusal_in(error)
            failure = _Failure(reason_of(refusal), place_of(refusal))
            if refusal.sqlstate == _OTHER_ACCOUNT:
                raise EventNotApplied(
                    f"Event {delivery.event.id} failed before and stays so: {failure.reason}.",
                    next_actions="Set a key of that account, restore its archive, and replay the "
                    "event: `billhook archive list`.",
                ) from error
        else:
            if row["processing_status"] in FINISHED:
                return row
            failure = _Failure(DROPPED)
    row = await _record_failure(database, environment, delivery, changes, lease, failure)
    if row["processing_status"] in FINISHED:
        return row  # another delivery succeeded meanwhile
    raise EventNotApplied(
        f"Event {delivery.event.id} was recorded, but could not be applied: {failure.reason}",
        next_actions="Fix the cause; Stripe sends the event again.",
    )


async def record_cut_off(
    database: Database, environment: Environment, delivery: Delivery, lease: Lease | None = None
) -> Mapping[str, Any]:
    """Record an event as `failed` whose `apply` raised `DatabaseUnavailable`, where that was no
    outage: the app's trigger slept too long, or ended its own session.

    Returns:
        The ledger's columns of the event.

    Raises:
        EventNotRecorded, LeaseLost: as `apply`.
        DatabaseUnavailable: it is PostgreSQL itself that is away.
    """
    try:
        changes = as_json(project(delivery.event), delivery.event)
    except UnreadableObject:
        changes = {}
    failure = _Failure("its transaction was cut off", was_cut_off=True)
    return await _record_failure(database, environment, delivery, changes, lease, failure)


async def _record_failure(
    database: Database,
    environment: Environment,
    delivery: Delivery,
    changes: Mapping[str, Any],
    lease: Lease | None,
    failure: _Failure,
) -> Mapping[str, Any]:
    """Mark the event `failed`. The mirror follows, unless it was the mirror's rows that were
    refused. Triggers of the app that let nothing be written to the ledger are passed by."""
    log.warning(
        "event failed",
        environment=environment,
        event_id=delivery.event.id,
        event_type=delivery.event.type,
        error=failure.reason,
        raised_in=failure.raised_in,
    )
    outage: DatabaseUnavailable | None = None
    for silently in (False, True):
        for what in (changes, as_json(NOTHING, delivery.event)):
            try:
                row = await _apply(
                    database, environment, delivery, what, lease, failure.reason, silently=silently
                )
            except (asyncpg.PostgresError, DatabaseUnavailable) as error:
                if not failure.was_cut_off:
                    refusal_in(error)
                outage = error if isinstance(error, DatabaseUnavailable) else None
                continue
            if row["processing_status"] in ("failed", *FINISHED):
                return row
    if outage is not None and failure.was_cut_off:
        raise outage
    raise EventNotRecorded(
        f"Event {delivery.event.id} could not be recorded: {failure.reason}",
        next_actions="Fix the trigger on payments.webhook_events that refuses every write; Stripe "
        "sends the event again.",
    )


async def _apply(
    database: Database,
    environment: Environment,
    delivery: Delivery,
    changes: Mapping[str, Any],
    lease: Lease | None,
    failure: str | None = None,
    *,
    silently: bool = False,
) -> Mapping[str, Any]:
    async def work() -> Mapping[str, Any]:
        if lease is None and not silently:
            # One statement is one transaction.
            async with database.connection(resets_itself=True) as connection:
                return await apply_in(connection, environment, delivery, changes, failure)
        async with database.as_service() as connection:
            if lease is not None:
                await lease.check(connection)
            silenced = await connection.fetchval(_SILENCE) if silently else {}
            row = await apply_in(connection, environment, delivery, changes, failure)
            if silenced:
                await connection.execute(_RESTORE, silenced)
            return row

    row = await repeat_collisions(work)
    if row_id := changes.get("checkout_session", {}).get("row_id"):
        database.announce(CHECKOUT_ENDED, row_id)
    return row


async def apply_in(
    connection: Connection,
    environment: Environment,
    delivery: Delivery,
    changes: Mapping[str, Any],
    failure: str | None = None,
) -> Mapping[str, Any]:
    """One try, in the caller's transaction or one of its own.

    Args:
        changes: what `projections.as_json` made of the event.
        failure: mark the event `failed` with this reason.

    Raises:
        asyncpg.PostgresError: nothing was done; the app's trigger, most likely.
    """
    event = delivery.event
    row = await connection.fetchrow(
        _APPLY,
        environment,
        event.id,
        event.type,
        delivery.livemode,
        delivery.account_id,
        delivery.object_type,
        delivery.object_id,
        event.created,
        delivery.payload,
        changes,
        failure,
    )
    assert row is not None
    columns = dict(row)
    del columns["reset_session"]
    return columns


def _receipt(environment: Environment, delivery: Delivery, row: Mapping[str, Any]) -> bytes:
    return orjson.dumps(
        {
            "received": True,
            "handled": row["handled"],
            "event": {
                "environment": environment,
                "eventId": delivery.event.id,
                "eventType": delivery.event.type,
                "livemode": delivery.livemode,
                "accountId": delivery.account_id,
                "objectType": delivery.object_type,
                "objectId": delivery.object_id,
                "processingStatus": row["processing_status"],
                "attemptCount": row["attempt_count"],
                "lastError": row["last_error"],
                "receivedAt": _iso(row["received_at"]),
                "processedAt": _iso(row["processed_at"]),
                "createdAt": _iso(row["created_at"]),
                "updatedAt": _iso(row["updated_at"]),
            },
        }
    )


def _ping_receipt(environment: Environment, payload: bytes) -> Receipt | None:
    """The answer to Stripe's ping of an event destination: it holds nothing to record. None when
    the payload is something else."""
    try:
        body, _ = decode_json(payload)
    except ValueError:
        return None
    if not isinstance(body, dict) or body.get("type") != _PING.decode():
        return None
    event = {
        "environment": environment,
        "eventId": text(body.get("id")),
        "eventType": body["type"],
        "processingStatus": "ignored",
    }
    return Receipt(200, orjson.dumps({"received": True, "handled": False, "event": event}))


def _iso(at: datetime | None) -> str | None:
    """ISO 8601 UTC with milliseconds and `Z` (contract §1)."""
    if at is None:
        return None
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
