"""`billhook link`: store the URL of a server and an admin key for it."""

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
        str | None, typer.Option("--url", envvar="BILLHOOK_URL", help="The URL of the server.")
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Delete the link instead.")] = False,
) -> None:
    """Store a URL and an admin key for commands in this folder and its subfolders.

    The key is read from a prompt or from standard input. Once the server has accepted it, both are
    stored in .billhook/link.json, which only you can read.
    """
    if remove:
        gone = remove_link()
        print(f"Removed {gone}." if gone else "No link found.")
        return
    if url is None:
        raise SettingsError("The URL of the server is missing: billhook link --url https://…")
    asking.refuse_on_command_line(context.args, f"billhook link --url {url}")
    address = Address(url.rstrip("/"), asking.secret("Admin key (ik_…)"))
    _try(address)
    print(f"Linked with {address.url} in {write_link(Path.cwd(), address)}")


def _try(address: Address) -> None:
    """Make a request that needs the key, so that no wrong key is stored."""
    from billhook.client import Client

    parts = urlsplit(address.url)
    if parts.scheme == "http" and parts.hostname not in _HERE:
        note(f"Warning: {address.url} is not encrypted; others on the network can read the key.")
    with settings_errors():
        client = Client(address.url, address.key)
    with client:
        client.status()
