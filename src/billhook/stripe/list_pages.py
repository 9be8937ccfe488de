"""Stripe's lists, page by page, newest first, tolerating malformed responses."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from billhook.kinds.reading import objects
from billhook.stripe.gateway import Fetched, StripeObject

Get: TypeAlias = Callable[[str, str, dict[str, Any]], Awaitable[Fetched]]
"""`GET path` with parameters, within the rate of a list's name: `StripeReader.get`."""

_PAGE = 100


@dataclass(frozen=True, slots=True)
class ListPage:
    """One page of a list.

    Attributes:
        objects: its entries that are objects with an id; others are skipped.
        at: epoch seconds of Stripe's clock at which they certainly had this state.
        more: Stripe says that there is another page, and this one has an object to continue from.
    """

    objects: list[StripeObject]
    at: int
    more: bool


async def list_page(
    get: Get, name: str, path: str, params: Mapping[str, Any], *, after: str | None = None
) -> ListPage:
    """One page of the list at `path`: its first, or the one after the object with the id `after`.

    Raises:
        BillhookError: the request failed.
    """
    cursor = {} if after is None else {"starting_after": after}
    page = await get(name, path, {"limit": _PAGE, **params, **cursor})
    found = objects(page.data)
    return ListPage(found, page.at, page.data.get("has_more") is True and bool(found))


async def list_pages(
    get: Get, name: str, path: str, params: Mapping[str, Any], *, after: str | None = None
) -> AsyncIterator[ListPage]:
    """All pages from there on, each requested when the caller gets to it. Raises as `list_page`."""
    more = True
    while more:
        page = await list_page(get, name, path, params, after=after)
        yield page
        more = page.more
        after = page.objects[-1]["id"] if more else None
