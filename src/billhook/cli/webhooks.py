"""`billhook webhooks`: the endpoint in Stripe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from billhook.cli.address import connected
from billhook.cli.options import AsJson, InEnvironment, Url
from billhook.cli.output import show_details, show_json

if TYPE_CHECKING:
    from billhook.models import Connection, EndpointEvents

Types = Annotated[list[str], typer.Argument(help="Stripe's event types.", metavar="TYPE…")]

app = typer.Typer(
    help="The webhook endpoint that Billhook manages in Stripe.", no_args_is_help=True
)
events_app = typer.Typer(help="The event types that Billhook receives.", no_args_is_help=True)
app.add_typer(events_app, name="events")


@app.command(epilog="Example: billhook webhooks configure --environment live")
def configure(
    environment: InEnvironment = "test", url: Url = None, as_json: AsJson = False
) -> None:
    """Create or repair the webhook endpoint, without losing events."""
    with connected(url) as client:
        found = client.webhooks.configure(environment)
    _show(found, as_json)


@app.command(epilog="Example: billhook webhooks status --environment live")
def status(environment: InEnvironment = "test", url: Url = None, as_json: AsJson = False) -> None:
    """Show the webhook endpoint as last configured. `billhook doctor` checks it with Stripe."""
    with connected(url) as client:
        connections = client.status().connections
    _show(next(each for each in connections if each.environment == environment), as_json)


@events_app.command("list", epilog="Example: billhook webhooks events list --environment live")
def list_events(
    environment: InEnvironment = "test", url: Url = None, as_json: AsJson = False
) -> None:
    """Show the event types that Billhook receives, and which of them were added."""
    with connected(url) as client:
        found = client.webhooks.events(environment)
    _show_events(found, as_json)


@events_app.command(
    "add",
    epilog="Example: billhook webhooks events add payout.paid",
)
def add_events(
    types: Types,
    environment: InEnvironment = "test",
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Receive more event types, so that your triggers on payments.webhook_events see them."""
    with connected(url) as client:
        found = client.webhooks.add_events(environment, types)
    _show_events(found, as_json)


@events_app.command("remove", epilog="Example: billhook webhooks events remove payout.paid")
def remove_events(
    types: Types,
    environment: InEnvironment = "test",
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Stop receiving event types that were added. Recorded events are kept."""
    with connected(url) as client:
        for each in types:
            found = client.webhooks.remove_event(environment, each)
    _show_events(found, as_json)


def _show_events(found: EndpointEvents, as_json: bool) -> None:
    if as_json:
        show_json(found)
        return
    for each in found.added:
        print(f"{each} (added)")
    for each in found.always:
        print(each)


def _show(connection: Connection, as_json: bool) -> None:
    from billhook.models import ConnectionResponse

    if as_json:
        show_json(ConnectionResponse(connection=connection))
    elif connection.webhook_endpoint_id is None:
        print(
            f"No endpoint for {connection.environment}: billhook webhooks configure "
            f"--environment {connection.environment}"
        )
    else:
        show_details(
            {
                "endpoint": connection.webhook_endpoint_id,
                "address": connection.webhook_endpoint_url,
                "configured": connection.webhook_configured_at,
            }
        )
