"""Stripe's list of events, read tolerantly: for the puller, for repairs and for the doctor."""

from __future__ import annotations

from collections.abc import AsyncIterator

import structlog

from billhook.account.endpoint_events import Received
from billhook.errors import InvalidInput
from billhook.ledger import check
from billhook.mirror.fetching import StripeReader
from billhook.settings import Environment
from billhook.stripe.gateway import StripeObject
from billhook.stripe.list_pages import ListPage, list_page, list_pages

log = structlog.get_logger(__name__)

_LIST = ("event", "/v1/events")


async def newest(reader: StripeReader, since: int) -> ListPage:
    """The newest entries of the list that were created at `since` (epoch seconds) or later."""
    return await list_page(reader.get, *_LIST, {"created": {"gte": since}})


def pages(reader: StripeReader, since: int, upto: int) -> AsyncIterator[ListPage]:
    """All entries of the list that were created in [since, upto), newest first."""
    return list_pages(reader.get, *_LIST, {"created": {"gte": since, "lt": upto}})


def applicable(
    environment: Environment, types: Received, listed: list[StripeObject]
) -> list[StripeObject]:
    """The entries that Billhook records: complete ones of the types that it receives, and of the
    environment's mode."""
    return [
        each
        for each in listed
        if each.get("type") in types
        and _is_event(each)
        and each["livemode"] == (environment == "live")
    ]


def _is_event(entry: StripeObject) -> bool:
    """Whether it can be recorded. An entry that cannot be recorded now never will be, so it must
    not block the others."""
    try:
        check(entry)
    except InvalidInput as error:
        log.warning(
            "an entry of Stripe's event list is not an event", id=entry["id"], reason=str(error)
        )
        return False
    return True
