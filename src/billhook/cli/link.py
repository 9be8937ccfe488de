"""`billhook link`: remember a Billhook and a key for it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from billhook.cli import asking
from billhook.cli.address import Address, remove_link, settings_errors, write_link
from billhook.cli.output import note
from billhook.errors import SettingsError

_HERE = frozenset({"localhost", "127.0.0.1", "::1"})


def link(
    context: typer.Context,
    url: Annotated[
        str | None, typer.Option("--url", envvar="BILLHOOK_URL", help="The address of Billhook.")
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Delete the link instead.")] = False,
) -> None:
    """Store an address and its admin key for commands in this folder and its subfolders.

    The key is read from a prompt or from standard input. Both are kept in .billhook/link.json,
    readable by you alone, once the server has taken the key.
    """
    if remove:
        gone = remove_link(Path.cwd())
        print(f"{gone} is removed." if gone else "There is no link here.")
        return
    if url is None:
        raise SettingsError("Which Billhook? Give its address: billhook link --url https://…")
    asking.refuse_on_command_line(context.args, f"billhook link --url {url}")
    address = Address(url.rstrip("/"), asking.secret("Admin key (ik_…)"))
    _try(address)
    print(f"Linked with {address.url} in {write_link(Path.cwd(), address)}")


def _try(address: Address) -> None:
    """Ask for something that needs the key, so that nothing wrong is remembered."""
    from billhook.client import Client

    parts = urlsplit(address.url)
    if parts.scheme == "http" and parts.hostname not in _HERE:
        note(f"Careful: {address.url} is not encrypted; whoever is in between can read the key.")
    with settings_errors():
        client = Client(address.url, address.key)
    with client:
        client.status()
