"""Stripe's list of events, read tolerantly: for the puller, for repairs and for the doctor."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import structlog

from billhook.endpoint import EVENTS
from billhook.errors import InvalidInput
from billhook.kinds.reading import objects
from billhook.ledger import check
from billhook.mirror import StripeReader
from billhook.settings import Environment
from billhook.stripe.gateway import Fetched, StripeObject

log = structlog.get_logger(__name__)

_PAGE = 100
_TYPES = frozenset(EVENTS)


async def page_of(
    reader: StripeReader, since: int, upto: int | None = None, *, after: str | None = None
) -> Fetched:
    """The newest events created in [since, upto), in epoch seconds.

    Args:
        upto: None for no end.
        after: the id of the last event of the page before.
    """
    created = {"gte": since} if upto is None else {"gte": since, "lt": upto}
    params: dict[str, Any] = {"limit": _PAGE, "created": created}
    if after is not None:
        params["starting_after"] = after
    return await reader.get("event", "/v1/events", params)


async def pages(reader: StripeReader, since: int, upto: int) -> AsyncIterator[list[StripeObject]]:
    """All entries of the list that were created in [since, upto), newest first, page by page."""
    after: str | None = None
    while True:
        page = await page_of(reader, since, upto, after=after)
        listed = objects(page.data)
        yield listed
        if page.data.get("has_more") is not True or not listed:
            return
        after = listed[-1]["id"]


def applicable(environment: Environment, listed: list[StripeObject]) -> list[StripeObject]:
    """The entries that Billhook applies: of its types, of the environment's mode, and whole."""
    return [
        each
        for each in listed
        if each.get("type") in _TYPES
        and _is_event(each)
        and each["livemode"] == (environment == "live")
    ]


def _is_event(entry: StripeObject) -> bool:
    """Whether it can be recorded. What cannot will never be: it must not hold up the others."""
    try:
        check(entry)
    except InvalidInput as error:
        log.warning(
            "an entry of Stripe's event list is no event", id=entry["id"], reason=str(error)
        )
        return False
    return True
