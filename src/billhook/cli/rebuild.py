"""`billhook rebuild`: recreate every projected row from the ledger, and compare."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from billhook.cli import asking
from billhook.cli.address import connected
from billhook.cli.options import AsJson, InEnvironment, Url, Yes
from billhook.cli.output import show_json, show_table

if TYPE_CHECKING:
    from billhook.models import Difference, Rebuilt


def rebuild(
    environment: InEnvironment = "test",
    swap: Annotated[
        bool, typer.Option("--swap", help="Replace rows that differ with the rebuilt ones.")
    ] = False,
    yes: Yes = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Rebuild every row from the recorded events, without calling Stripe, and compare the tables.

    The exit code is 1 if a row differs and was not replaced.
    """
    if swap:
        asking.confirm(
            f"Rows of {environment} that differ from the ledger will be replaced. Events wait "
            "until this is done. Continue?",
            yes,
        )
    with connected(url) as client:
        found = client.rebuild(environment, swap=swap)
    if as_json:
        from billhook.models import RebuiltResponse

        show_json(RebuiltResponse(rebuild=found))
    else:
        _show(found)
    if not found.equal:
        raise typer.Exit(1)


def _show(found: Rebuilt) -> None:
    show_table(
        ["table", "rows", "rebuilt", "checksum", "rebuilt checksum", "different"],
        (
            [
                each.table,
                each.rows,
                each.rebuilt_rows,
                each.checksum,
                each.rebuilt_checksum,
                each.different or "",
            ]
            for each in found.tables
        ),
        none="",
    )
    print()
    show_table(
        ["table", "object", "how"],
        (
            [table.table, each.object_id, _how(each)]
            for table in found.tables
            for each in table.differences
        ),
        none=f"Every row matches the {found.events} events of the ledger.",
    )
    if found.skipped:
        print()
        show_table(
            ["skipped event", "error"], ([e.event_id, e.reason] for e in found.skipped), none=""
        )
    if found.swapped and any(each.different for each in found.tables):
        print("\nThe rows that differed were replaced.")
    elif not found.equal:
        print(f"\nTo replace them: billhook rebuild --environment {found.environment} --swap")


def _how(difference: Difference) -> str:
    fields = ", ".join(difference.fields)
    return f"{difference.problem}: {fields}" if fields else difference.problem
