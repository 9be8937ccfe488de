"""Webhook deliveries: verify, decode, apply, answer (contract section 3.1)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import orjson
import structlog

from billhook.errors import InvalidInput
from billhook.kinds.reading import text
from billhook.ledger.applying import Ledger
from billhook.ledger.delivery import Delivery, decode
from billhook.ledger.transaction import Entry, OtherAccount
from billhook.models import iso
from billhook.settings import Environment
from billhook.stripe.decoding import decode as decode_json
from billhook.stripe.signature import SignatureHeader

log = structlog.get_logger(__name__)

_PING = b"v2.core.event_destination.ping"


class SignatureVerifier(Protocol):
    """Verifies signatures with the signing secrets of an environment."""

    async def verify(
        self, environment: Environment, payload: bytes, header: SignatureHeader
    ) -> str | None:
        """The account that the signing secret belongs to, or None if no account has been connected
        yet. Raises the contract's error if the signature is not valid."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """The response to a delivered event, ready to send."""

    status: int
    body: bytes


async def receive(
    ledger: Ledger,
    environment: Environment,
    payload: bytes,
    header: SignatureHeader,
    secrets: SignatureVerifier,
) -> Receipt:
    """Handle one delivery: everything that `POST /api/webhooks/stripe/{environment}` does.

    Args:
        payload: the raw body, exactly as received.
        header: `Stripe-Signature`, whose age was checked on arrival.

    Returns:
        200 `{received, handled, event}` (contract section 3.1).

    Raises:
        BillhookError: 400 a bad signature, no event, or one of the other mode; `OtherAccount` 409;
            `EventNotApplied` or `EventNotRecorded` 500; `DatabaseUnavailable` 503. Nothing
            acknowledged is ever lost.
    """
    account = await secrets.verify(environment, payload, header)
    if _PING in payload and (receipt := _ping_receipt(environment, payload)) is not None:
        return receipt
    delivery = decode(payload)
    if delivery.livemode != (environment == "live"):
        raise InvalidInput(
            f"The event is from {'live' if delivery.livemode else 'test'} mode, but this is the "
            f"{environment} endpoint. It was not recorded.",
            next_actions="Point each Stripe mode at its own URL: …/webhooks/stripe/test and "
            "…/webhooks/stripe/live.",
        )
    try:
        entry = await ledger.apply(environment, replace(delivery, verified_for=account))
    except OtherAccount as error:
        log.warning(
            "a delivery was refused: its event belongs to another Stripe account",
            environment=environment,
            event_id=delivery.event.id,
            account=error.account,
            reason=error.message,
            next_actions=error.next_actions,
        )
        raise
    return Receipt(200, _receipt(environment, delivery, entry))


def _receipt(environment: Environment, delivery: Delivery, entry: Entry) -> bytes:
    return orjson.dumps(
        {
            "received": True,
            "handled": entry.handled,
            "event": {
                "environment": environment,
                "eventId": delivery.event.id,
                "eventType": delivery.event.type,
                "livemode": delivery.livemode,
                "accountId": delivery.account_id,
                "objectType": delivery.object_type,
                "objectId": delivery.object_id,
                "processingStatus": entry.processing_status,
                "attemptCount": entry.attempt_count,
                "lastError": entry.last_error,
                "receivedAt": iso(entry.received_at),
                "processedAt": iso(entry.processed_at) if entry.processed_at else None,
                "createdAt": iso(entry.created_at),
                "updatedAt": iso(entry.updated_at),
            },
        }
    )


def _ping_receipt(environment: Environment, payload: bytes) -> Receipt | None:
    """The response to Stripe's ping of an event destination, which contains nothing to record. None
    if the payload is something else."""
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
