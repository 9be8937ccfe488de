"""`billhook status`: the connections of both environments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from billhook.cli.address import connected
from billhook.cli.options import AsJson, Url
from billhook.cli.output import cell, counts, show_json, show_table
from billhook.cli.usage import in_words
from billhook.settings import Environment

if TYPE_CHECKING:
    from billhook.models import Connection, MirrorStatus, UsageState


def status(
    environment: Annotated[
        Environment | None, typer.Option("--environment", "-e", help="Only this environment.")
    ] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Show the account, key, webhook endpoint and last sync of test mode and live mode."""
    with connected(url) as client:
        found = client.status()
        found.connections = [c for c in found.connections if environment in (None, c.environment)]
        if as_json:
            show_json(found)
            return
        mirrors = [client.mirror(each.environment) for each in found.connections]
        usage = [client.usage.status(each.environment) for each in found.connections]
    show_connections(found.connections, mirrors, usage)


def show_connections(
    connections: list[Connection],
    mirrors: list[MirrorStatus] | None = None,
    usage: list[UsageState] | None = None,
) -> None:
    """A column for each connection."""
    facts = [_facts(each) for each in connections]
    for column, mirror in zip(facts, mirrors or [], strict=False):
        column.update(_following(mirror))
    for column, state in zip(facts, usage or [], strict=False):
        column["usage"] = in_words(state) or "-"
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
        "synced": counts(connection.last_sync_counts) or "-",
        "problem": connection.last_sync_error or "-",
    }


def _following(mirror: MirrorStatus) -> dict[str, object]:
    lag = "-" if mirror.lag_seconds is None else f"{mirror.lag_seconds} s"
    failed = f"{mirror.failed_events} failed"
    if mirror.dead_letters:
        failed += f", {mirror.dead_letters} of them dead letters"
    return {
        "behind Stripe": lag,
        "events pulled": cell(mirror.pulled_at),
        "events": failed if mirror.failed_events else "-",
        "needs refresh": mirror.objects_to_refresh or "-",
        "history": f"since {cell(mirror.history_since)}"
        if mirror.history_since
        else "not imported"
        if mirror.history == "none"
        else "importing",
        "verified": cell(mirror.verified_at),
        "drifted": mirror.drifting_objects or "-",
        "trouble": mirror.pull_error or "-",
    }
