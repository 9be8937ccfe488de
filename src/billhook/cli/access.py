"""`billhook access`: who has access, and the settings that decide about it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from billhook.cli.address import connected
from billhook.cli.duration import parse_duration
from billhook.cli.options import AsJson, Url
from billhook.cli.output import show_json, show_table
from billhook.settings import Environment

if TYPE_CHECKING:
    from billhook.models import AccessSettings

app = typer.Typer(help="Show and configure which subjects have access.", no_args_is_help=True)

_Grace = Annotated[
    str | None,
    typer.Option("--grace", help="Such as 3d, or 0.", metavar="DURATION", show_default=False),
]


def _seconds(grace: str | None) -> int | None:
    if grace is None:
        return None
    return 0 if grace.strip() == "0" else int(parse_duration(grace).total_seconds())


@app.command(epilog="Example: billhook access show")
def show(url: Url = None, as_json: AsJson = False) -> None:
    """Show which environment's subscriptions give access, and the grace period."""
    with connected(url) as client:
        found = client.access.settings()
    _show(found, as_json)


@app.command("set", epilog="Example: billhook access set --environment live --grace 3d")
def set_(
    environment: Annotated[
        Environment | None,
        typer.Option("--environment", "-e", help="Environment whose subscriptions give access."),
    ] = None,
    grace: _Grace = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Change the settings that your policies use. An environment that you set does not
    change if you connect another account later."""
    if environment is None and grace is None:
        raise typer.BadParameter("give --environment, --grace or both")
    with connected(url) as client:
        found = client.access.update_settings(
            environment=environment, grace_seconds=_seconds(grace)
        )
    _show(found, as_json)


def _show(found: AccessSettings, as_json: bool) -> None:
    if as_json:
        show_json(found)
        return
    by = "chosen" if found.is_chosen else "until a live account is connected"
    if not found.is_chosen and found.environment == "live":
        by = "a live account was connected"
    print(f"environment: {found.environment} ({by})")
    print(f"grace: {timedelta(seconds=found.grace_seconds)}")


@app.command(epilog="Example: billhook access check team t_42 pro")
def check(
    subject_type: Annotated[str, typer.Argument(help="Such as team.")],
    subject_id: Annotated[str, typer.Argument(help="Such as t_42.")],
    what: Annotated[
        str,
        typer.Argument(
            help="A product or price, or the lookup key of a price, product or feature."
        ),
    ],
    environment: Annotated[
        Environment | None,
        typer.Option(
            "--environment", "-e", help="Default: the one that `billhook access show` prints."
        ),
    ] = None,
    grace: _Grace = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Check whether a subject has access. The exit code is 0 if it does, and 1 if not."""
    with connected(url) as client:
        found = client.access.check(
            subject_type, subject_id, what, environment=environment, grace_seconds=_seconds(grace)
        )
    if as_json:
        show_json(found)
    else:
        verdict = "has" if found.has_access else "does not have"
        print(f"{subject_type} {subject_id} {verdict} {what} ({found.environment}).")
        show_table(
            ["product", "key", "price", "quantity", "status", "until"],
            (
                (
                    each.product_name or each.product_id,
                    each.product_lookup_key or each.lookup_key,
                    each.price_id,
                    each.quantity,
                    each.status,
                    each.until,
                )
                for each in found.subscriptions
            ),
            none="No subscription gives it access to anything.",
        )
        if found.features:
            print(f"Features: {', '.join(found.features)}")
    if not found.has_access:
        raise typer.Exit(1)
