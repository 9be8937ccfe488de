"""`billhook doctor`: what is wrong, and what to do about it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import typer
from rich.table import Table
from rich.text import Text

from billhook.cli.address import awaiting, is_known, stripe_api_base
from billhook.cli.dev_run import server_settings
from billhook.cli.options import AsJson, Url
from billhook.cli.output import cell, console, show_json
from billhook.errors import SettingsError
from billhook.settings import Settings, load_settings

if TYPE_CHECKING:
    from billhook.doctor import Report

_STYLES = {"ok": "green", "warning": "yellow", "broken": "bold red", "skipped": "dim"}


def doctor(url: Url = None, as_json: AsJson = False) -> None:
    """Check everything that payments depend on, and suggest a fix for each problem.

    With DATABASE_URL and the server's other settings, it checks the database and Stripe directly.
    With a URL and an admin key, it uses the API. The exit code is 1 if something is broken.
    """
    report = asyncio.run(_examine(_settings(url), url))
    if as_json:
        show_json(report)
    else:
        _show(report)
    if not report.healthy:
        raise typer.Exit(1)


def _settings(url: str | None) -> Settings | None:
    """The server's settings, if they are available; otherwise the API is used."""
    try:
        return load_settings() if url else server_settings()
    except SettingsError as error:
        if not str(error).startswith("DATABASE_URL is not set"):
            raise
        if not is_known(url):
            raise SettingsError(
                "Nothing to check: set DATABASE_URL, or link a server: billhook link"
            ) from None
        return None


async def _examine(settings: Settings | None, url: str | None) -> Report:
    from billhook.doctor import examine

    now = datetime.now(UTC)
    if not is_known(url):
        return await examine(settings, None, now)
    async with awaiting(url) as client:
        return await examine(settings, client, now, api_base=stripe_api_base())


def _show(report: Report) -> None:
    lines = Table.grid(padding=(0, 2, 0, 0))
    lines.add_column(no_wrap=True)
    lines.add_column(overflow="fold")
    for finding in report.checks:
        place = f"{finding.environment} {finding.check}" if finding.environment else finding.check
        said = Text.assemble((f"{place}: ", "bold"), cell(finding.message))
        lines.add_row(Text(finding.state, style=_STYLES[finding.state]), said)
        if finding.state != "ok":
            # Line by line, so that a policy can be copied.
            for line in (finding.next_actions or "").splitlines():
                lines.add_row("", Text(line))
    out = console()
    out.print(lines)
    broken = sum(each.state == "broken" for each in report.checks)
    warnings = sum(each.state == "warning" for each in report.checks)
    s = "" if warnings == 1 else "s"
    out.print(Text(f"\n{broken} broken, {warnings} warning{s}.", style="bold"))
