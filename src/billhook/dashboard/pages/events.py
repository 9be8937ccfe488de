"""Webhook events: the ledger, live; payloads, errors, replays."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import suppress
from typing import get_args

import orjson
from starlette.responses import Response, StreamingResponse

from billhook.access.permissions import changes
from billhook.dashboard.pages import presets
from billhook.dashboard.pages.exports import exported, text, time
from billhook.dashboard.rendering import COUNTED
from billhook.dashboard.visit import Visit
from billhook.errors import BillhookError
from billhook.kinds.reading import hash_of, id_of
from billhook.ledger import replaying
from billhook.mirror.status import mirror_status
from billhook.models import (
    EventsQuery,
    ReplayEvents,
    WebhookEvent,
    WebhookEventWithPayload,
    parse,
)
from billhook.models.queries import ProcessingStatus
from billhook.paths import encoded
from billhook.reports import lists, timelines

_LOOK_EVERY = 1.0  # seconds: one short index scan for each page that watches
_LIVE_FOR = 5
"""Reads per stream. The browser then reconnects, so that its session is checked again."""
_REPLAYED = 1_000
_PAGE = re.compile(r"(/(transactions|customers|subscriptions|invoices|disputes)/[\w%.~-]+)")
_COLUMNS = (
    "id", "type", "object_type", "object", "status", "attempts", "last_error", "received_at",
    "processed_at",
)  # fmt: skip


async def listing(visit: Visit) -> Response:
    """The most recent events; the page's script updates the first page."""
    query = visit.query(EventsQuery)
    database, environment = visit.services.database, visit.environment
    page, types, status = await asyncio.gather(
        lists.events(database, environment, query, count_to=COUNTED),
        lists.event_types(database, environment),
        mirror_status(database, environment),
    )
    return visit.show(
        "events.html",
        query=query,
        page=page,
        types=types,
        statuses=get_args(ProcessingStatus),
        mirror=status,
        presets=presets.by_time(
            visit,
            ("Failed", {"status": "failed"}),
            ("Failed this week", {"status": "failed", "since": presets.week()}),
            ("Dead letters", {"deadLetter": "true"}),
        ),
        is_live=query.order == "newest" and page.previous_cursor is None,
    )


async def show(visit: Visit) -> Response:
    """One event with Stripe's payload."""
    event_id = visit.request.path_params["event"]
    database, environment = visit.services.database, visit.environment
    found = await replaying.event(database, environment, event_id)
    timeline = await timelines.of_event(database, environment, found)
    return visit.show("event.html", event=found, timeline=timeline, about=_about(visit, found))


def _about(visit: Visit, event: WebhookEventWithPayload) -> list[tuple[str, str]]:
    """Names and pages of the objects that an event is about."""
    content = hash_of(hash_of(event.payload.get("data")).get("object"))
    named: dict[str | None, str | None] = {event.object_type: event.object_id}
    for field in ("customer", "subscription", "invoice", "payment_intent", "charge"):
        named.setdefault(field, id_of(content.get(field)))
    pages: dict[str, str] = {}
    for kind, object_id in named.items():
        found = visit.page_of(object_id)
        if found is not None:
            label = (kind or "object").replace("_", " ").capitalize()
            name = "Payment" if "/transactions/" in found else label
            pages.setdefault(name, found)
    return list(pages.items())


async def export(visit: Visit) -> Response:
    """The list as CSV, without the payloads."""
    database, environment = visit.services.database, visit.environment

    async def read(part: EventsQuery) -> lists.Page[WebhookEvent]:
        return await lists.events(database, environment, part)

    return exported(visit, "events", visit.query(EventsQuery), _COLUMNS, read, _lines)


async def _lines(rows: Sequence[WebhookEvent]) -> Iterable[list[str]]:
    return [
        [
            *map(text, (e.event_id, e.event_type, e.object_type, e.object_id)),
            e.processing_status,
            str(e.attempt_count),
            text(e.last_error),
            time(e.received_at),
            time(e.processed_at),
        ]
        for e in rows
    ]


async def payload(visit: Visit) -> Response:
    """The complete payload as a download."""
    event_id = visit.request.path_params["event"]
    found = await replaying.event(visit.services.database, visit.environment, event_id)
    headers = {"content-disposition": 'attachment; filename="event.json"'}
    body = orjson.dumps(found.payload, option=orjson.OPT_INDENT_2)
    return Response(body, media_type="application/json", headers=headers)


@changes("event.replay", role="support", target="event")
async def replay(visit: Visit) -> Response:
    """Apply one event again."""
    event_id = visit.request.path_params["event"]
    refire = visit.field("refire") == "yes"
    back = _back(visit) or f"/events/{encoded(event_id)}"
    try:
        found = await replaying.replay(
            visit.services.ledger, visit.environment, event_id, refire=refire
        )
    except BillhookError as error:
        return await visit.back(back, error)
    return await visit.go(back, f"Replayed: the event is {found.processing_status}.")


def _back(visit: Visit) -> str | None:
    """The page on which an event was replayed, if that is not the event's own."""
    wanted = visit.field("back")
    return wanted if _PAGE.fullmatch(wanted) else None


@changes("events.replay", role="support")
async def replay_many(visit: Visit) -> Response:
    """Apply the selected events again, or all that failed."""
    environment = visit.environment
    if visit.field("all") == "failed":
        of_type = {"type": visit.field("type")} if visit.field("type") else {}
        order = parse(ReplayEvents, {"limit": _REPLAYED, **of_type})
        result = await replaying.replay_many(visit.services.ledger, environment, order)
        return await _told(visit, result.replayed, [each.event_id for each in result.failed])
    failed = []
    chosen = visit.fields("event")
    for event_id in chosen:
        try:
            await replaying.replay(visit.services.ledger, environment, event_id, refire=False)
        except BillhookError as error:
            if error.status == 503:
                return await visit.back("/events", error)
            failed.append(event_id)
    return await _told(visit, len(chosen) - len(failed), failed)


async def _told(visit: Visit, done: int, failed: list[str]) -> Response:
    said = f"{done} event{'' if done == 1 else 's'} replayed."
    if not failed:
        return await visit.go("/events", said if done else "No events to replay.")
    names = ", ".join(failed[:3]) + (" …" if len(failed) > 3 else "")
    error = BillhookError(
        f"{said} {len(failed)} failed again: {names}",
        next_actions="Open an event to see why. Usually, a trigger of your app raises an error.",
    )
    return await visit.back("/events", error)


async def live(visit: Visit) -> Response:
    """Changes among the newest events, as server-sent events."""
    query = visit.query(EventsQuery)
    # Always the newest rows, however the first page was reached.
    query = query.model_copy(update={"starting_after": None, "ending_before": None})
    stream = _changes(visit, query)
    # Ask proxies not to buffer the response.
    headers = {"x-accel-buffering": "no"}
    return StreamingResponse(stream, media_type="text/event-stream", headers=headers)


async def _changes(visit: Visit, query: EventsQuery) -> AsyncIterator[bytes]:
    """Each row that is new or changed since it was last sent, oldest first."""
    sent: dict[str, WebhookEvent] = {}
    yield b"retry: 500\n\n"
    for _ in range(_LIVE_FOR):
        try:
            page = await lists.events(visit.services.database, visit.environment, query)
        except BillhookError:
            return  # the database is unavailable: the browser reconnects
        for each in reversed(page.rows):
            if sent.get(each.event_id) != each:
                row = visit.render("event_row.html", event=each)
                data = orjson.dumps({"id": each.event_id, "row": row})
                yield b"event: row\ndata: " + data + b"\n\n"
        shown = [each.event_id for each in page.rows]
        # Rows leave the page if they no longer match the filters or newer rows displace them.
        if sent.keys() != set(shown):
            yield b"event: shown\ndata: " + orjson.dumps(shown) + b"\n\n"
        sent = {each.event_id: each for each in page.rows}
        yield b"event: beat\ndata: {}\n\n"
        with suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_EVERY):
                await visit.services.stopping.wait()
                return  # the browser reconnects, to another server
