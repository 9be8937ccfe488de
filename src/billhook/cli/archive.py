"""`billhook archive`: the rows of accounts that are no longer connected."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, TypeVar
from uuid import UUID

import typer

from billhook.cli import asking
from billhook.cli.dev_run import server_settings
from billhook.cli.options import AsJson, Yes
from billhook.cli.output import as_wire, show_json
from billhook.cli.recording import recorded

# Imported when a command runs, to keep shell completion fast.
if TYPE_CHECKING:
    from billhook.postgres import Database

T = TypeVar("T")

app = typer.Typer(
    help="Rows of Stripe accounts that are no longer connected.", no_args_is_help=True
)


@app.command("list", epilog="Example: billhook archive list")
def list_(as_json: AsJson = False) -> None:
    """List the archives, newest first."""
    from billhook.mirror import archives

    found = _run(archives.archives)
    if as_json:
        show_json({"archives": [as_wire(each) for each in found]})
        return
    if not found:
        print("No archives.")
    for each in found:
        state = f"restored {each.restored_at:%Y-%m-%d %H:%M}" if each.restored_at else "kept"
        print(
            f"{each.id}  {each.environment}  {each.account_id}  "
            f"archived {each.archived_at:%Y-%m-%d %H:%M} UTC  {state}"
        )


@app.command(epilog="Example: billhook archive restore 3fa85f64-5717-4562-b3fc-2c963f66afa6")
def restore(
    archive_id: Annotated[UUID, typer.Argument(help="The id that `billhook archive list` shows.")],
    yes: Yes = False,
) -> None:
    """Restore an archive's rows. The current rows are archived first. If the same account is
    connected, newer rows are kept."""
    from billhook.mirror import archives

    asking.confirm("The environment's current rows will be archived. Continue?", yes)

    async def work(database: Database) -> int:
        async with recorded(database, "archive.restore", archive_id) as change:
            rows = await archives.restore(database, archive_id)
            change.result = {"rows": rows}
            return rows

    print(f"{_run(work)} rows restored.")


def _run(work: Callable[[Database], Awaitable[T]]) -> T:
    from billhook.postgres import Database

    async def opened() -> T:
        database = Database(server_settings().database_url.get_secret_value(), pool_size=1)
        await database.open()
        try:
            return await work(database)
        finally:
            await database.close()

    return asyncio.run(opened())
