"""Which server the commands call, and with what key.

The URL: `--url`, else BILLHOOK_URL, else that of `billhook link`. The key: BILLHOOK_API_KEY,
else the one linked *to that URL*, else ACCESS_API_KEY. A linked key is sent only to the URL that it
was linked to. If none of these is set, it is the `billhook dev` of this folder, if it runs.

The link is `.billhook/link.json` in this folder or one above it: a link belongs to a project, as
its `.env` does, so that a command in one project cannot reach another's live account.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field, SecretStr

from billhook.cli.dev_run import LINK, dev_run, find_upwards, refuse_foreign
from billhook.errors import SettingsError
from billhook.settings import FromEnvironment

if TYPE_CHECKING:
    from billhook.client import AsyncClient, Client


APPLICATION = "billhook-cli"
"""How the command line introduces itself to the server, whose audit log says so."""


class _Given(FromEnvironment):
    """The settings of the command line; the server's are not needed."""

    url: str | None = Field(None, alias="BILLHOOK_URL")
    api_key: SecretStr | None = Field(None, alias="BILLHOOK_API_KEY")
    access_api_key: SecretStr | None = Field(None, alias="ACCESS_API_KEY")
    stripe_api_base: str | None = Field(None, alias="STRIPE_API_BASE")


@dataclass(frozen=True, slots=True)
class Address:
    """The URL of a server and an admin key for it."""

    url: str
    key: str = field(repr=False)


@contextmanager
def connected(url: str | None) -> Iterator[Client]:
    """A client for the selected server.

    Raises:
        SettingsError: there is no URL or no key.
    """
    from billhook.client import Client

    found = find(url)
    with settings_errors():
        client = Client(found.url, found.key, application=APPLICATION)
    with client:
        yield client


def awaiting(url: str | None) -> AsyncClient:
    """As `connected`, for commands that do two things at once."""
    from billhook.client import AsyncClient

    found = find(url)
    with settings_errors():
        return AsyncClient(found.url, found.key, application=APPLICATION)


@contextmanager
def settings_errors() -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise SettingsError(f"{str(error).capitalize()}.") from None


def find(url: str | None) -> Address:
    """The URL and the key to use.

    Args:
        url: the option `--url`.

    Raises:
        SettingsError: there is no URL or no key.
    """
    given = _Given()
    linked = _read_link()
    run = dev_run()
    of_run = Address(run["BILLHOOK_URL"], run["BILLHOOK_API_KEY"]) if run else None
    url = url or given.url
    if url is None:
        known = linked or of_run
        if known is None:
            raise SettingsError(
                "No server is configured. Pass --url, set BILLHOOK_URL, or link this folder: "
                "billhook link --url https://your.host"
            )
        url = known.url
    if given.api_key is not None:
        return Address(url, given.api_key.get_secret_value())
    for known in (linked, of_run):
        if known is not None and known.url.rstrip("/") == url.rstrip("/"):
            return Address(url, known.key)
    if given.access_api_key is not None:
        return Address(url, given.access_api_key.get_secret_value())
    raise SettingsError(
        f"There is no admin key for {url}. Set BILLHOOK_API_KEY, or: billhook link --url {url}"
    )


def stripe_api_base() -> str | None:
    """The server's STRIPE_API_BASE, if it is set here as well: a sandbox, a proxy."""
    return _Given().stripe_api_base


def is_known(url: str | None) -> bool:
    """Whether `find` would succeed."""
    try:
        find(url)
    except SettingsError:
        return False
    return True


def write_link(folder: Path, address: Address) -> Path:
    """Store `address` so that only its owner can read it, and Git ignores it."""
    target = folder / LINK
    target.parent.mkdir(mode=0o700, exist_ok=True)
    ignore = target.parent / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n")
    # mkstemp creates it with mode 0600; replacing it is atomic.
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix="link-")
    with os.fdopen(handle, "w") as file:
        json.dump({"url": address.url, "apiKey": address.key}, file)
    Path(temporary).replace(target)
    return target


def remove_link() -> Path | None:
    """Delete the link that applies here. None if there is none."""
    found = find_upwards(LINK)
    if found is not None:
        found.unlink()
    return found


def _read_link() -> Address | None:
    path = find_upwards(LINK)
    if path is None:
        return None
    refuse_foreign(path)
    try:
        content = json.loads(path.read_text())
        return Address(str(content["url"]), str(content["apiKey"]))
    except (OSError, ValueError, KeyError, TypeError):
        raise SettingsError(f"{path} cannot be read. Link again: billhook link") from None
