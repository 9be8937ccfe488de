"""Options that several commands share."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, TypeAlias

import typer

from billhook.settings import Environment

Url: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--url",
        help="The URL of the server. Default: BILLHOOK_URL, else the linked server (`billhook "
        "link`), else the `billhook dev` that runs in this folder.",
        show_default=False,
    ),
]
InEnvironment: TypeAlias = Annotated[
    Environment, typer.Option("--environment", "-e", help="Stripe's test mode or live mode.")
]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print the API's JSON.")]
Yes: TypeAlias = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask for confirmation.")]
Limit: TypeAlias = Annotated[
    int, typer.Option("--limit", "-n", min=1, help="Maximum number of entries.")
]
All: TypeAlias = Annotated[bool, typer.Option("--all", help="List all entries, on all pages.")]
StartingAfter: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--starting-after",
        help="Continue a previous list from the cursor that it printed.",
        metavar="CURSOR",
    ),
]
SubjectOption: TypeAlias = Annotated[
    str | None, typer.Option("--subject", help="Only this billing subject.", metavar="TYPE:ID")
]
CustomerOption: TypeAlias = Annotated[
    str | None, typer.Option("--customer", help="Only this Stripe customer.", metavar="cus_…")
]
_TIMES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S%z"]
Since: TypeAlias = Annotated[
    datetime | None, typer.Option("--since", formats=_TIMES, help="Only from this time on (UTC).")
]
Until: TypeAlias = Annotated[
    datetime | None, typer.Option("--until", formats=_TIMES, help="Only before this time (UTC).")
]
MetadataOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--metadata", metavar="KEY=VALUE", help="May be repeated."),
]


def plain_digits(text: str) -> int:
    """`1500`. Only digits: typer reads `15.00` as 15, a hundredth of the intended amount.

    Raises:
        typer.BadParameter: anything else.
    """
    if not (text.isascii() and text.isdigit()):
        raise typer.BadParameter(
            f"{text!r} must be a whole number in the currency's minor unit: 1500 is 15.00 USD, "
            "and 1,500 JPY."
        )
    return int(text)


def subject_of(text: str | None) -> tuple[str, str] | None:
    """`team:t_42` as type and id.

    Raises:
        typer.BadParameter: one of the two is missing.
    """
    if text is None:
        return None
    kind, _, name = text.partition(":")
    if not kind or not name:
        raise typer.BadParameter("must look like team:t_42", param_hint="--subject")
    return kind, name


def metadata_of(pairs: list[str] | None) -> dict[str, str] | None:
    """`["a=1", "b="]` as a dictionary; None when nothing was given.

    Raises:
        typer.BadParameter: a pair without `=`.
    """
    if not pairs:
        return None
    found = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise typer.BadParameter("must look like key=value", param_hint="--metadata")
        found[key] = value
    return found


def utc(moment: datetime | None) -> datetime | None:
    """A time without a time zone is UTC, like all times in the output."""
    return moment if moment is None or moment.tzinfo else moment.replace(tzinfo=UTC)
