"""`billhook import`: what happened before the account was connected."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from billhook.cli.address import awaiting
from billhook.cli.options import AsJson, InEnvironment, Since, Url, utc
from billhook.cli.output import cell, note, show_json, show_table, words
from billhook.errors import BillhookError

if TYPE_CHECKING:
    from datetime import datetime

    from billhook.client import AsyncClient
    from billhook.models import ImportProgress
    from billhook.settings import Environment

_LOOK_EVERY = 0.5  # seconds


def import_(
    environment: InEnvironment = "test",
    since: Since = None,
    progress: Annotated[
        bool, typer.Option("--progress", help="Only show the progress of the import.")
    ] = False,
    background: Annotated[
        bool, typer.Option("--background", help="Start it without waiting until it ends.")
    ] = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Import payments, refunds, checkouts and invoices from before the account was connected.

    A newly connected account is imported automatically. The import runs on the server and
    continues if this command is interrupted. The exit code is 1 if it has to wait because of an
    error, or if a rule of the app rejected facts.
    """
    if progress and (since or background):
        raise typer.BadParameter(
            "starts nothing; omit --since and --background", param_hint="--progress"
        )
    found = asyncio.run(_run(url, environment, utc(since), progress=progress, wait=not background))
    if as_json:
        show_json(found)
    else:
        _show(found)
    if not (progress or background) and (found.status != "finished" or found.skipped):
        raise typer.Exit(1)


async def _run(
    url: str | None,
    environment: Environment,
    since: datetime | None,
    *,
    progress: bool,
    wait: bool,
) -> ImportProgress:
    async with awaiting(url) as client:
        if progress:
            return await client.import_progress(environment)
        found = await client.start_import(environment, since=since)
        return await _ended(client, found) if wait else found


async def _ended(client: AsyncClient, found: ImportProgress) -> ImportProgress:
    """Wait until it is finished, or stops because of an error."""
    try:
        with Console(stderr=True).status("") as shown:
            while found.status == "running" or (
                found.status == "waiting" and found.retry_at is None
            ):
                shown.update(_line(found))
                await asyncio.sleep(_LOOK_EVERY)
                found = await client.import_progress(found.environment)
    except (asyncio.CancelledError, BillhookError):
        note(
            "The import continues on the server. To see how far it is: "
            f"billhook import --environment {found.environment} --progress"
        )
        raise
    return found


def _line(found: ImportProgress) -> str:
    read = sum(each.read for each in found.lists)
    rate = f", {found.objects_per_second:,.0f}/s" if found.objects_per_second else ""
    left = found.remaining_seconds
    return f"{read:,} objects{rate}" + ("" if left is None else f", about {left} s left")


def _show(found: ImportProgress) -> None:
    since = f", complete since {cell(found.complete_since)}" if found.complete_since else ""
    print(f"{found.environment}: {found.status}{since}")
    show_table(
        ["list", "read", "new facts", "read since", ""],
        (
            [words(each.name), each.read, each.written, each.reached, "done" if each.done else ""]
            for each in found.lists
        ),
        none="",
    )
    if found.skipped:
        print(f"{found.skipped} facts were rejected by a rule of the app")
    if found.error:
        print(cell(found.error))
    if found.retry_at:
        print(f"It continues at {cell(found.retry_at)} UTC.")
