"""`billhook sync`: read everything from Stripe, and show the progress."""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from billhook.cli.address import awaiting
from billhook.cli.options import AsJson, InEnvironment, Url
from billhook.cli.output import counts, show_json, words
from billhook.errors import BillhookError

if TYPE_CHECKING:
    from billhook.client import AsyncClient
    from billhook.models import SyncResult
    from billhook.settings import Environment

_LOOK_EVERY = 0.5  # seconds


def sync(environment: InEnvironment = "test", url: Url = None, as_json: AsJson = False) -> None:
    """Read all mirrored objects from Stripe.

    Joins a sync that is already running, and resumes one that was interrupted. The exit code is 1
    if the sync is incomplete.
    """
    result = asyncio.run(_run(url, environment))
    if as_json:
        from billhook.models import SyncResponse

        show_json(SyncResponse(results=[result]))
    else:
        _show(result)
    if result.connection.last_sync_status != "succeeded":
        raise typer.Exit(1)


async def _run(url: str | None, environment: Environment) -> SyncResult:
    async with awaiting(url) as client:
        # Progress bars are for terminals; a log file gets only the result.
        if not sys.stderr.isatty():
            return await client.sync(environment)
        bars = _Bars(await _expected(client, environment))
        with bars.progress:
            watching = asyncio.create_task(_watch(client, environment, bars))
            try:
                return await client.sync(environment)
            finally:
                watching.cancel()
                with suppress(asyncio.CancelledError):
                    await watching


async def _watch(client: AsyncClient, environment: Environment, bars: _Bars) -> None:
    while True:
        # Before the sync starts, the progress is that of the previous one. A failed read of the
        # progress does not stop the sync.
        with suppress(BillhookError):
            progress = await client.sync_progress(environment)
            if progress.running:
                bars.show(progress.counts)
        await asyncio.sleep(_LOOK_EVERY)


async def _expected(client: AsyncClient, environment: Environment) -> dict[str, int]:
    """The counts of the last sync: Stripe does not report totals."""
    connections = (await client.status()).connections
    return next(c.last_sync_counts for c in connections if c.environment == environment)


class _Bars:
    """A bar for each list, relative to the last sync's count; without one, it only pulses."""

    def __init__(self, expected: dict[str, int]) -> None:
        self._expected = expected
        self._tasks: dict[str, TaskID] = {}
        self.progress = Progress(
            TextColumn("{task.description:<16}"),
            BarColumn(),
            TextColumn("{task.completed:>9,.0f}"),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
        )

    def show(self, counts: dict[str, int]) -> None:
        for name, count in counts.items():
            if name not in self._tasks:
                self._tasks[name] = self.progress.add_task(words(name), total=None)
            known = self._expected.get(name)
            total = max(known, count) if known else None
            self.progress.update(self._tasks[name], completed=count, total=total)


def _show(result: SyncResult) -> None:
    connection, subscriptions = result.connection, result.subscriptions
    print(f"{result.environment}: {connection.last_sync_status or connection.status}")
    if connection.last_sync_counts:
        print(f"  {counts(connection.last_sync_counts)}")
    if subscriptions is not None and subscriptions.unmapped:
        print(f"  {subscriptions.unmapped} subscriptions without a billing subject")
    if connection.last_sync_error:
        print(f"  {connection.last_sync_error}")
    if connection.status == "unconfigured":
        print(f"  To set a key: billhook config set --environment {result.environment}")
