"""`billhook config`: the Stripe keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from billhook.cli import asking
from billhook.cli.address import connected
from billhook.cli.options import AsJson, InEnvironment, Url, Yes
from billhook.cli.output import note, show_json, show_table

if TYPE_CHECKING:
    from billhook.client import Client
    from billhook.models import Config
    from billhook.settings import Environment

app = typer.Typer(help="Set and remove the Stripe keys.", no_args_is_help=True)


@app.command(epilog="Example: billhook config show")
def show(url: Url = None, as_json: AsJson = False) -> None:
    """Show which environments have a key. Keys are masked."""
    with connected(url) as client:
        found = client.config.show()
    _show(found, as_json)


@app.command(
    "set",
    context_settings={"allow_extra_args": True},
    epilog="Example: billhook config set --environment live < stripe-key.txt",
)
def set_key(
    context: typer.Context,
    environment: InEnvironment = "test",
    yes: Yes = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Set a Stripe key, read from a prompt or from standard input.

    Billhook first checks the key with Stripe, then sets up the webhook endpoint and runs a sync. A
    key of another account archives the rows of the previous account (see billhook archive list),
    so you have to confirm it.
    """
    from billhook.client import ApiError

    asking.refuse_on_command_line(context.args, f"billhook config set --environment {environment}")
    secret = asking.secret(f"Stripe key for {environment} (sk_{environment}_… or rk_…)")
    with connected(url) as client:
        before = _account(client, environment)
        try:
            found = client.config.set(environment, secret, replace_account=yes)
        except ApiError as error:
            if (error.status, error.code) != (409, "PAYMENT_CONFIG_INVALID"):
                raise
            asking.confirm(f"{error.message} Archive its rows and connect the other account?", yes)
            found = client.config.set(environment, secret)
        after = _account(client, environment)
    _show(found, as_json)
    if before is not None and before != after:
        note(
            f"The key belongs to another account: {after}. The rows of {before} were archived; "
            "on the server, `billhook archive list` shows the archive."
        )


@app.command(epilog="Example: billhook config remove --environment test --yes")
def remove(
    environment: InEnvironment = "test",
    yes: Yes = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Remove the Stripe key and the webhook endpoint. Mirrored rows are kept."""
    asking.confirm(f"No {environment} payments will be possible or recorded. Continue?", yes)
    with connected(url) as client:
        found = client.config.remove(environment)
    _show(found, as_json)


def _account(client: Client, environment: Environment) -> str | None:
    """The account that the mirrored rows belong to."""
    found = (each for each in client.status().connections if each.environment == environment)
    return next(found).account_id


def _show(config: Config, as_json: bool) -> None:
    if as_json:
        show_json(config)
        return
    rows = ([each.environment, each.value or "-"] for each in config.keys)
    show_table(["environment", "key"], rows, none="")
