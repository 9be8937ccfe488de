"""Pages of objects: newest first, cursors, filters (stripe-facts 42)."""

from collections.abc import Callable, Iterable
from itertools import islice
from math import inf

from billhook_sandbox.errors import InvalidRequest, resource_missing
from billhook_sandbox.routing import Call
from billhook_sandbox.store import Json


def keep_all(_: Json) -> bool:
    return True


def page(
    call: Call,
    kind: str,
    url: str,
    keep: Callable[[Json], bool] = keep_all,
    by: str | None = None,
) -> Json:
    """`by` names a filter parameter that equals the field of the same name, found by index."""
    collection = call.data.all(kind)
    cursor, newer = position(call)
    if cursor is not None and cursor not in collection.position:
        param = "ending_before" if newer else "starting_after"
        raise resource_missing(kind, cursor, param, 400)
    value = call.params.get(by) if by else None
    names = collection.named(by, value) if value is not None else collection.named(None)
    created = call.params.get("created")
    oldest, newest = bounds(created or {})
    found = (
        obj
        for obj in collection.walk(
            names, cursor, newer, collection.position_range(names, oldest, newest)
        )
        if (value is None or obj.get(by or "") == value)
        and (created is None or oldest <= obj["created"] <= newest)
        and keep(obj)
    )
    return window(found, call, url, newer)


def page_of_items(objects: list[Json], call: Call, url: str) -> Json:
    """A page of a short list that keeps its own order (items of a subscription or a session)."""
    cursor, newer = position(call)
    if cursor is None:
        return window(iter(objects), call, url, newer)
    at = next((i for i, obj in enumerate(objects) if obj["id"] == cursor), None)
    if at is None:
        param = "ending_before" if newer else "starting_after"
        raise InvalidRequest(f"No such object: '{cursor}'", code="resource_missing", param=param)
    return window(reversed(objects[:at]) if newer else iter(objects[at + 1 :]), call, url, newer)


def position(call: Call) -> tuple[str | None, bool]:
    """The cursor, and whether it asks for what comes before it."""
    after, before = call.params.get("starting_after"), call.params.get("ending_before")
    if after and before:
        message = "You can't use both 'ending_before' and 'starting_after' in the same request."
        raise InvalidRequest(message, param="ending_before")
    return before or after, before is not None


def window(found: Iterable[Json], call: Call, url: str, newer: bool) -> Json:
    limit = call.params.get("limit", 10)
    data = list(islice(found, limit + 1))
    more = len(data) > limit
    data = data[:limit]
    return list_object(data[::-1] if newer else data, url, more)


def list_object(data: list[Json], url: str, has_more: bool = False) -> Json:
    return {"object": "list", "url": url, "has_more": has_more, "data": data}


def bounds(created: dict[str, int]) -> tuple[float, float]:
    """The first and the last second that a filter lets through."""
    return (
        max(created.get("gte", -inf), created.get("gt", -inf) + 1),
        min(created.get("lte", inf), created.get("lt", inf) - 1),
    )
