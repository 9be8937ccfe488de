"""`billhook audit-log`: who changed what."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

import typer

from billhook.cli.address import connected
from billhook.cli.options import All, AsJson, Limit, Since, StartingAfter, Until, Url, utc
from billhook.cli.output import gather, nothing, show_json, show_table
from billhook.settings import Environment


def audit_log(
    action: Annotated[
        str | None, typer.Option(help="Only this action, such as refund.create.")
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="Only changes of the object with this id.")
    ] = None,
    key: Annotated[UUID | None, typer.Option(help="Only changes made with this key.")] = None,
    outcome: Annotated[
        Literal["done", "failed"] | None, typer.Option(help="Only this outcome.")
    ] = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = 50,
    everything: All = False,
    starting_after: StartingAfter = None,
    environment: Annotated[
        Environment | None,
        typer.Option("--environment", "-e", help="Only changes in this environment."),
    ] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """List who changed what, newest first. `--json` also shows the request and the result.

    The log contains changes through the API, the dashboard and the command line. Entries can't be
    changed or removed.
    """
    from billhook.models import AuditEntries

    with connected(url) as client:
        found = gather(
            lambda size, cursor: client.audit_log.page(
                limit=size,
                starting_after=cursor,
                environment=environment,
                action=action,
                target=target,
                key_id=key,
                outcome=outcome,
                since=utc(since),
                until=utc(until),
            ),
            limit,
            everything,
            starting_after,
        )
    if as_json:
        show_json(AuditEntries(entries=found))
        return
    show_table(
        ["time", "environment", "action", "target", "by", "via", "from", "outcome", "error"],
        (
            [
                each.at,
                each.environment,
                each.action,
                each.target,
                each.actor,
                each.via,
                each.address,
                each.outcome or "unknown",
                each.error,
            ]
            for each in found
        ),
        none=nothing("changes", action, target, key, outcome, since, until, starting_after),
    )
