"""The summary that `billhook dev` prints when everything is running."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.text import Text

from billhook.dev.listening import Listener
from billhook.dev.state import Keys, State
from billhook.redact import redact


def show(
    console: Console,
    state: State,
    keys: Keys,
    api: Listener,
    sandbox: Listener,
    dsn: str,
    *,
    demo: bool,
) -> None:
    """Print the URLs, the keys and, for the demo shop, the first steps.

    Lines are not wrapped, whatever the terminal's width, so that they can be copied.
    """
    for line in _lines(state, keys, api, sandbox, dsn, demo=demo):
        console.print(Text("  ") + line, soft_wrap=True)


def _lines(
    state: State, keys: Keys, api: Listener, sandbox: Listener, dsn: str, *, demo: bool
) -> Iterator[Text]:
    yield Text()
    yield Text("Billhook is running.", style="bold green")
    yield Text()
    for name, value, style in (
        *([("Demo shop", f"{api.address}/demo", "bold")] if demo else []),
        ("Dashboard", f"{api.address}/dashboard   sign in with the admin key", "bold"),
        ("API", f"{api.address}   documentation at {api.address}/docs", ""),
        ("Admin key", keys.admin_key, ""),
        ("Anonymous key", keys.anonymous_key, ""),
        ("Stripe sandbox", f"{sandbox.address}   key {keys.stripe_key}", ""),
        ("Database", redact(dsn), ""),
        ("State", f"{_short(state.folder)}/", ""),
        ("Command line", f"in another terminal: {_command_line(state.folder)}", ""),
    ):
        yield Text(f"{name:<16}", style="dim").append(Text(value, style=style))
    for each in (api, sandbox):
        if each.instead_of is not None:
            said = f"Port {each.instead_of} was in use, so {each.port} is used instead."
            yield Text(said, style="yellow")
    if demo:
        yield from _first_steps(api)
    yield Text()
    again = f"rm -rf {shlex.quote(_short(state.folder))}"
    yield Text("Press Ctrl-C to stop; the next run keeps all data. To start over: ").append(
        Text(again, style="bold")
    )
    yield Text()


def _command_line(folder: Path) -> str:
    """What makes `billhook` run, and find this run, in a new shell."""
    lines = []
    if sys.prefix != sys.base_prefix:
        lines.append(f". {shlex.quote(_short(Path(sys.prefix) / 'bin' / 'activate'))}")
    if folder != Path(".billhook").resolve():  # where commands look for it
        lines.append(f". {shlex.quote(_short(folder / 'env'))}")
    return " && ".join([*lines, "billhook doctor"])


def _first_steps(api: Listener) -> Iterator[Text]:
    yield Text()
    yield Text("Get started", style="bold")
    yield Text(f"1. Open {api.address}/demo, choose a product and press Buy.")
    yield Text("2. Pay with 4242 4242 4242 4242, any future date and any CVC.")
    yield Text("   4000 0000 0000 0002 is declined; the arrow at the top left cancels.")
    yield Text("3. See the order become paid: a trigger in your database did that.")
    yield Text(f"4. Open {api.address}/dashboard and see the payment and its events.")


def _short(folder: Path) -> str:
    """Relative to where the reader is, if it is below that."""
    here = Path.cwd()
    return str(folder.relative_to(here)) if folder.is_relative_to(here) else str(folder)
