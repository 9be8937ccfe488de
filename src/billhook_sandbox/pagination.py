"""Pagination: newest objects first, cursors, filters (stripe-facts 42)."""

from collections.abc import Callable, Iterable
from itertools import islice
from math import inf

from billhook_sandbox.errors import InvalidRequest, resource_missing
from billhook_sandbox.routing import Call
from billhook_sandbox.store import Json


def keep_all(_: Json) -> bool:
    return True


def matching(call: Call, *fields: str) -> Callable[[Json], bool]:
    """A filter for the given fields: those that the request names must be equal."""
    wanted = {field: call.params[field] for field in fields if field in call.params}
    return lambda obj: all(obj[field] == value for field, value in wanted.items())


def page(
    call: Call,
    kind: str,
    url: str,
    keep: Callable[[Json], bool] = keep_all,
    by: str | None = None,
) -> Json:
    """A page of the objects of a kind. `by` names a parameter that filters by the field of the same
    name, using an index."""
    collection = call.data.all(kind)
    cursor, newer = cursor_of(call)
    if cursor is not None and cursor not in collection.position:
        param = "ending_before" if newer else "starting_after"
        raise resource_missing(kind, cursor, param, 400)
    value = call.params.get(by) if by else None
    ids = collection.ids(by, value) if value is not None else collection.ids(None)
    created = call.params.get("created")
    oldest, newest = bounds(created or {})
    position_range = collection.position_range(ids, oldest, newest)
    found = (
        obj
        for obj in collection.walk(ids, cursor, newer, position_range)
        if (value is None or obj.get(by or "") == value)
        and (created is None or oldest <= obj["created"] <= newest)
        and keep(obj)
    )
    return first_page(found, call, url, newer)


def page_of_items(objects: list[Json], call: Call, url: str) -> Json:
    """A page of a short list in its own order (items of a subscription, lines of an invoice)."""
    cursor, newer = cursor_of(call)
    if cursor is None:
        return first_page(objects, call, url, newer)
    at = next((i for i, obj in enumerate(objects) if obj["id"] == cursor), None)
    if at is None:
        param = "ending_before" if newer else "starting_after"
        raise InvalidRequest(f"No such object: '{cursor}'", code="resource_missing", param=param)
    rest = reversed(objects[:at]) if newer else iter(objects[at + 1 :])
    return first_page(rest, call, url, newer)


def cursor_of(call: Call) -> tuple[str | None, bool]:
    """The cursor, and whether the request is for the objects before it (the newer ones)."""
    after, before = call.params.get("starting_after"), call.params.get("ending_before")
    if after and before:
        message = "You can't use both 'ending_before' and 'starting_after' in the same request."
        raise InvalidRequest(message, param="ending_before")
    return before or after, before is not None


def first_page(objects: Iterable[Json], call: Call, url: str, newer: bool) -> Json:
    limit = call.params.get("limit", 10)
    data = list(islice(objects, limit + 1))
    has_more = len(data) > limit
    data = data[:limit]
    return list_object(data[::-1] if newer else data, url, has_more)


def list_object(data: list[Json], url: str, has_more: bool = False) -> Json:
    return {"object": "list", "url": url, "has_more": has_more, "data": data}


def bounds(created: dict[str, int]) -> tuple[float, float]:
    """The earliest and latest creation time that the filter allows."""
    return (
        max(created.get("gte", -inf), created.get("gt", -inf) + 1),
        min(created.get("lte", inf), created.get("lt", inf) - 1),
    )
