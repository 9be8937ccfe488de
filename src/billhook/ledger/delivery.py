"""A delivery of Stripe: a decoded event, with the fields that the ledger stores."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from billhook.errors import InvalidInput
from billhook.kinds.reading import StripeObject, hash_of, text
from billhook.projections import Event
from billhook.stripe.decoding import decode as decode_json

_REQUIRED = (("id", str), ("type", str), ("created", int), ("livemode", bool))
_YEAR_10000 = 253_402_300_800
_LONGEST_NAME = 255
THIN_REPORTS = frozenset(
    {"v1.billing.meter.error_report_triggered", "v1.billing.meter.no_meter_found"}
)
"""The thin events that are recorded: Stripe reports usage that it could not count only so."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """An event as it arrived.

    Attributes:
        account_id: the connected account of the event, if any.
        payload: its JSON, as PostgreSQL can store it.
        verified_for: the account that its signing secret belongs to; None if no account has been
            connected yet, or without a signature.
    """

    event: Event
    livemode: bool
    account_id: str | None
    object_type: str | None
    object_id: str | None
    payload: str
    verified_for: str | None = None


def decode(payload: bytes) -> Delivery:
    """Read a Stripe event.

    Raises:
        InvalidInput: not JSON, or not an event.
    """
    try:
        body, payload = decode_json(payload)
    except ValueError:
        raise InvalidInput("The body is not valid JSON.") from None
    if isinstance(body, dict) and body.get("type") in THIN_REPORTS:
        return _report(body, payload.decode())
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


def _report(body: dict[str, Any], payload: str) -> Delivery:
    """A thin event about usage. Its object is what it is about, most often the meter."""
    event_id, livemode = _name(body.get("id")), body.get("livemode")
    try:
        created = int(datetime.fromisoformat(str(body.get("created"))).timestamp())
    except ValueError:
        created = 0
    if event_id is None or not isinstance(livemode, bool) or not 0 < created < _YEAR_10000:
        raise InvalidInput("id, livemode, created: a Stripe event has these")
    about = hash_of(body.get("related_object"))
    return Delivery(
        event=Event(id=event_id, type=body["type"], created=created, object=about),
        livemode=livemode,
        account_id=None,
        object_type=_name(about.get("type")),
        object_id=_name(about.get("id")),
        payload=payload,
    )


def _name(value: Any) -> str | None:
    """An id or a type, unless it is too long to be one of Stripe's: they are indexed."""
    found = text(value)
    return found if found and len(found) <= _LONGEST_NAME else None


def check(body: Any) -> StripeObject:
    """Make sure that decoded JSON is an event. Returns its object.

    Raises:
        InvalidInput: it is not, or lacks a field that the ledger requires.
    """
    if not isinstance(body, dict):
        raise InvalidInput("The body is not a Stripe event.")
    if any(str(body.get(each)).startswith("v2.") for each in ("object", "type")):
        # Not `ignored`: the sender must notice that nothing can come of it.
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
    if not 0 < body["created"] < _YEAR_10000:
        raise InvalidInput("created: a Stripe event has a time in epoch seconds here")
    stripe_object = hash_of(body.get("data")).get("object")
    if not isinstance(stripe_object, dict):
        raise InvalidInput("data.object: a Stripe event has an object here")
    return stripe_object
