"""`billhook invoices list` and the like: a command for each list that a declaration makes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, Literal

import typer

from billhook.cli.address import connected
from billhook.cli.options import (
    All,
    AsJson,
    InEnvironment,
    Limit,
    Since,
    StartingAfter,
    SubjectOption,
    Until,
    Url,
    subject_of,
    utc,
)
from billhook.cli.output import gather, nothing, show_json, show_table, words
from billhook.kinds import LISTED, Entries
from billhook.kinds.kind import Listed
from billhook.money import money
from billhook.settings import Environment


def add_to(app: typer.Typer) -> dict[str, typer.Typer]:
    """Add a group of commands for each list. Returns the groups by name, for more commands."""
    groups = {}
    for of in LISTED:
        name = of.name.replace("_", "-")
        group = typer.Typer(help=of.listed.about, no_args_is_help=True)
        group.command("list", epilog=f"Example: billhook {name} list --limit 10")(_command(of))
        app.add_typer(group, name=name)
        groups[name] = group
    return groups


def _command(of: Entries) -> Callable[..., None]:
    """The command of a list: typer reads its options from the signature."""
    listed = of.listed
    filters = [*map(Listed.filter_of, listed.references), listed.choice]

    def command(
        limit: int,
        everything: bool,
        starting_after: str | None,
        environment: Environment,
        url: str | None,
        as_json: bool,
        since: datetime | None,
        until: datetime | None,
        subject: str | None = None,
        **given: str | None,
    ) -> None:
        whom = subject_of(subject)
        with connected(url) as client:
            found = gather(
                lambda size, cursor: client.mirrored(of.name).page(
                    environment,
                    limit=size,
                    starting_after=cursor,
                    subject=whom,
                    since=utc(since),
                    until=utc(until),
                    **given,
                ),
                limit,
                everything,
                starting_after,
            )
        if as_json:
            from billhook.models import LISTS

            show_json(LISTS[of.name].page.model_validate({of.name: found}))
            return
        amounts = {column.name for column in of.columns if column.amount}

        def shown(row: Any, column: str) -> object:
            value = getattr(row, column)
            return money(value, row.currency) if column in amounts else value

        show_table(
            [_heading(column) for column in (of.key, *listed.summary)],
            ([shown(row, column) for column in (of.key, *listed.summary)] for row in found),
            none=nothing(
                words(of.name),
                *(subject, since, until, starting_after, *given.values()),
            ),
        )

    options: dict[str, tuple[Any, object]] = {name: _filter(listed, name) for name in filters}
    if of.has_subject:
        options["subject"] = (SubjectOption, None)
    options |= {
        "since": (Since, None),
        "until": (Until, None),
        "limit": (Limit, 50),
        "everything": (All, False),
        "starting_after": (StartingAfter, None),
        "environment": (InEnvironment, "test"),
        "url": (Url, None),
        "as_json": (AsJson, False),
    }
    keyword = inspect.Parameter.KEYWORD_ONLY
    command.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(name, keyword, annotation=annotation, default=default)
            for name, (annotation, default) in options.items()
        ]
    )
    command.__annotations__ = {name: annotation for name, (annotation, _) in options.items()}
    command.__doc__ = f"{listed.about} The newest come first."
    return command


def _filter(listed: Listed, name: str) -> tuple[Any, None]:
    type_: Any = Literal[listed.choices] if name == listed.choice and listed.choices else str
    return Annotated[type_ | None, typer.Option(help=f"Only this {words(name)}.")], None


def _heading(column: str) -> str:
    """`invoice` for `invoice_id`, `created` for `provider_created_at`."""
    return (
        column.removeprefix("provider_").removesuffix("_id").removesuffix("_at").replace("_", " ")
    )
