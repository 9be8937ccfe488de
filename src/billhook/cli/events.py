"""`billhook events`: the ledger of webhook events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import orjson
import typer

from billhook.cli import asking
from billhook.cli.address import connected
from billhook.cli.options import (
    All,
    AsJson,
    InEnvironment,
    Limit,
    Since,
    StartingAfter,
    Until,
    Url,
    Yes,
    utc,
)
from billhook.cli.output import gather, nothing, show_details, show_json, show_table
from billhook.models.queries import ProcessingStatus

if TYPE_CHECKING:
    from billhook.client import Client
    from billhook.models import WebhookEvent
    from billhook.settings import Environment

app = typer.Typer(help="Recorded webhook events: list, show and replay.", no_args_is_help=True)


@app.command("list", epilog="Example: billhook events list --status failed")
def list_events(
    type: Annotated[str | None, typer.Option(help="Only this type, such as invoice.paid.")] = None,
    status: Annotated[ProcessingStatus | None, typer.Option(help="Only this status.")] = None,
    object_id: Annotated[
        str | None, typer.Option("--object", help="Only events of this Stripe object.")
    ] = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = 50,
    everything: All = False,
    starting_after: StartingAfter = None,
    environment: InEnvironment = "test",
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """List recorded events, newest first."""
    from billhook.models import WebhookEvents

    with connected(url) as client:
        found = gather(
            lambda size, cursor: client.events.page(
                environment,
                limit=size,
                starting_after=cursor,
                type=type,
                status=status,
                object_id=object_id,
                since=utc(since),
                until=utc(until),
            ),
            limit,
            everything,
            starting_after,
        )
    if as_json:
        show_json(WebhookEvents(webhook_events=found))
    else:
        filters = (type, status, object_id, since, until, starting_after)
        _show_all(found, nothing("events", *filters))


@app.command(epilog="Example: billhook events show evt_1QxYz --json")
def show(
    event: Annotated[str, typer.Argument(metavar="EVENT", help="The event's id.")],
    environment: InEnvironment = "test",
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Show an event with its payload."""
    from billhook.models import WebhookEventResponse

    with connected(url) as client:
        found = client.events.get(environment, event)
    if as_json:
        show_json(WebhookEventResponse(webhook_event=found))
        return
    _show_one(found)
    print()
    print(orjson.dumps(found.payload, option=orjson.OPT_INDENT_2).decode())


@app.command(epilog="Examples: billhook events replay evt_1QxYz; billhook events replay --failed")
def replay(
    event: Annotated[
        str | None, typer.Argument(metavar="EVENT", help="The id of a single event.")
    ] = None,
    failed: Annotated[bool, typer.Option("--failed", help="All failed events.")] = False,
    status: Annotated[
        ProcessingStatus | None, typer.Option(help="All events with this status.")
    ] = None,
    type: Annotated[str | None, typer.Option(help="Only this type, such as invoice.paid.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Maximum number of events.")] = 100,
    refire: Annotated[
        bool, typer.Option("--refire", help="Also fire your triggers for processed events.")
    ] = False,
    yes: Yes = False,
    environment: InEnvironment = "test",
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Apply events again, from their stored payloads.

    A failed event is applied as if Stripe had sent it again. A processed event is applied again,
    but your triggers fire only with --refire. The exit code is 1 if an event fails again.
    """
    if failed:
        status = "failed"
    if type is not None and status is None:
        raise typer.BadParameter("needs --failed or --status", param_hint="--type")
    if (event is None) == (status is None):
        raise typer.BadParameter("pass one event, --failed or --status")
    if refire:
        asking.confirm("Triggers will fire again for processed events. Continue?", yes)
    with connected(url) as client:
        if event is not None:
            _replay_one(client, environment, event, refire, as_json)
        elif status is not None:
            _replay_many(client, environment, status, type, limit, refire, as_json)


def _replay_one(
    client: Client, environment: Environment, event: str, refire: bool, as_json: bool
) -> None:
    from billhook.models import Replayed

    found = client.events.replay(environment, event, refire=refire)
    if as_json:
        show_json(Replayed(webhook_event=found))
    else:
        _show_one(found)


def _replay_many(
    client: Client,
    environment: Environment,
    status: ProcessingStatus,
    type: str | None,
    limit: int,
    refire: bool,
    as_json: bool,
) -> None:
    done = client.events.replay_many(
        environment, status=status, type=type, limit=limit, refire=refire
    )
    if as_json:
        show_json(done)
    else:
        print(f"{done.replayed} replayed, {len(done.failed)} failed again.")
        if done.failed:
            _show_all(done.failed, "")
    if done.failed:
        raise typer.Exit(1)


def _show_all(events: list[WebhookEvent], none: str) -> None:
    show_table(
        ["received", "event", "type", "object", "status", "attempts", "error"],
        (
            [
                each.received_at,
                each.event_id,
                each.event_type,
                each.object_id,
                each.processing_status,
                each.attempt_count,
                each.last_error,
            ]
            for each in events
        ),
        none=none,
    )


def _show_one(event: WebhookEvent) -> None:
    show_details(
        {
            "event": event.event_id,
            "type": event.event_type,
            "object": event.object_id,
            "status": event.processing_status,
            "attempts": event.attempt_count,
            "error": event.last_error,
            "received": event.received_at,
            "processed": event.processed_at,
        }
    )
