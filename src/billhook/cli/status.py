"""`billhook status`: how both environments are connected."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from billhook.cli.address import connected
from billhook.cli.options import AsJson, Url
from billhook.cli.output import cell, pairs, show_json, show_table
from billhook.settings import Environment

if TYPE_CHECKING:
    from billhook.models import Connection


def status(
    environment: Annotated[
        Environment | None, typer.Option("--environment", "-e", help="Only this one.")
    ] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Show for test and live: account, key, webhook endpoint, last sync."""
    with connected(url) as client:
        found = client.status()
    found.connections = [c for c in found.connections if environment in (None, c.environment)]
    if as_json:
        show_json(found)
    else:
        show_connections(found.connections)


def show_connections(connections: list[Connection]) -> None:
    """A column for each connection."""
    facts = [_facts(each) for each in connections]
    rows = ([name, *(each[name] for each in facts)] for name in facts[0])
    show_table(["", *(each.environment for each in connections)], rows, none="")


def _facts(connection: Connection) -> dict[str, object]:
    account = " ".join(filter(None, (connection.account_id, connection.account_email)))
    return {
        "status": connection.status,
        "account": account or "-",
        "key": connection.masked_key or "-",
        "webhook endpoint": connection.webhook_endpoint_url or "-",
        "endpoint id": connection.webhook_endpoint_id or "-",
        "last sync": " ".join(
            filter(None, (connection.last_sync_status, cell(connection.last_synced_at)))
        )
        or "-",
        "synced": pairs(connection.last_sync_counts) or "-",
        "problem": connection.last_sync_error or "-",
    }
