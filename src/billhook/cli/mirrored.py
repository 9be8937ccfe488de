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
from billhook.kinds import KINDS, Kind
from billhook.kinds.kind import Listed
from billhook.money import money
from billhook.settings import Environment


def add_to(app: typer.Typer) -> dict[str, typer.Typer]:
    """Add a group of commands for each list. Returns the groups by name, for more commands."""
    groups = {}
    for kind in KINDS.values():
        if kind.listed is not None:
            name = kind.plural.replace("_", "-")
            group = typer.Typer(help=kind.listed.about, no_args_is_help=True)
            group.command("list", epilog=f"Example: billhook {name} list --limit 10")(
                _command(kind, kind.listed)
            )
            app.add_typer(group, name=name)
            groups[name] = group
    return groups


def _command(kind: Kind, listed: Listed) -> Callable[..., None]:
    """The command of a list: typer reads its options from the signature."""
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
                lambda size, cursor: client.mirrored(kind.plural).page(
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

            show_json(LISTS[kind.plural].page.model_validate({kind.plural: found}))
            return
        amounts = {column.name for column in kind.columns if column.amount}

        def shown(row: Any, column: str) -> object:
            value = getattr(row, column)
            return money(value, row.currency) if column in amounts else value

        show_table(
            [_heading(kind, column) for column in (kind.key, *listed.summary)],
            ([shown(row, column) for column in (kind.key, *listed.summary)] for row in found),
            none=nothing(
                words(kind.plural),
                *(subject, since, until, starting_after, *given.values()),
            ),
        )

    options: dict[str, tuple[Any, object]] = {name: _filter(listed, name) for name in filters}
    if kind.subject is not None:
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


def _heading(kind: Kind, column: str) -> str:
    """`invoice` for `invoice_id`, `created` for `provider_created_at`."""
    return (
        column.removeprefix("provider_").removesuffix("_id").removesuffix("_at").replace("_", " ")
    )
