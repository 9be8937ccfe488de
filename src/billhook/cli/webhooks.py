"""`billhook webhooks`: the endpoint in Stripe."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from billhook.cli.address import connected
from billhook.cli.options import AsJson, InEnvironment, Url
from billhook.cli.output import show_details, show_json

if TYPE_CHECKING:
    from billhook.models import Connection

app = typer.Typer(
    help="The webhook endpoint that Billhook manages in Stripe.", no_args_is_help=True
)


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
