"""`billhook doctor`: what is wrong, and what to do about it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import typer
from rich.text import Text

from billhook.cli.address import awaiting, is_known
from billhook.cli.options import AsJson, Url
from billhook.cli.output import cell, console, show_json
from billhook.errors import SettingsError
from billhook.settings import Settings, load_settings

if TYPE_CHECKING:
    from billhook.doctor import Finding, Report

_MARKS = {
    "ok": ("ok", "green"),
    "warning": ("warning", "yellow"),
    "broken": ("broken", "bold red"),
    "skipped": ("-", "dim"),
}


def doctor(url: Url = None, as_json: AsJson = False) -> None:
    """Look for whatever keeps payments from being right, and say what to do about it.

    With DATABASE_URL and the server's other settings it looks into the database and asks Stripe;
    with an address and an admin key it asks the API. Exit code 1 when something is broken.
    """
    report = asyncio.run(_examine(_settings(url), url))
    if as_json:
        show_json(report)
    else:
        _show(report)
    if not report.healthy:
        raise typer.Exit(1)


def _settings(url: str | None) -> Settings | None:
    """The server's settings, where they are known; else the API must do."""
    try:
        return load_settings()
    except SettingsError as error:
        if not str(error).startswith("DATABASE_URL is not set"):
            raise
        if not is_known(url):
            raise SettingsError(
                "Nothing to examine: set DATABASE_URL, or give an address: billhook link"
            ) from None
        return None


async def _examine(settings: Settings | None, url: str | None) -> Report:
    from billhook.doctor import examine

    now = datetime.now(UTC)
    if not is_known(url):
        return await examine(settings, None, now)
    async with awaiting(url) as client:
        return await examine(settings, client, now)


def _show(report: Report) -> None:
    out = console()
    for finding in report.checks:
        out.print(_line(finding))
        if finding.next_actions and finding.state != "ok":
            for line in finding.next_actions.splitlines():
                out.print(Text(f"{'':<9}{line}", style="dim" if finding.state == "skipped" else ""))
    broken = sum(each.state == "broken" for each in report.checks)
    warnings = sum(each.state == "warning" for each in report.checks)
    out.print()
    out.print(Text(f"{broken} broken, {warnings} warnings.", style="bold"))


def _line(finding: Finding) -> Text:
    word, style = _MARKS[finding.state]
    place = f"{finding.environment} {finding.check}" if finding.environment else finding.check
    return Text.assemble((f"{word:<9}", style), (f"{place}: ", "bold"), cell(finding.message))
