"""Prompts: secrets and confirmations, from a terminal or from standard input."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

from billhook.errors import SettingsError


def secret(what: str) -> str:
    """A secret from a prompt that does not show it, or from the first line of standard input.

    Raises:
        SettingsError: nothing was entered.
    """
    if sys.stdin.isatty():
        value: str = typer.prompt(what, hide_input=True, err=True)
    else:
        value = sys.stdin.readline()
    if not value.strip():
        raise SettingsError(f"{what} is read from a prompt or standard input, but it was empty.")
    return value.strip()


def refuse_on_command_line(arguments: Sequence[str], command: str) -> None:
    """Refuse a secret among the arguments without quoting it (the parser would quote it).

    Raises:
        SettingsError: there is one.
    """
    if arguments:
        raise SettingsError(
            "A key on the command line ends up in the shell's history and in the process list. "
            f"Omit it to be prompted, or: {command} < file-with-the-key"
        )


def confirm(question: str, yes: bool) -> None:
    """Continue only when confirmed.

    Raises:
        SettingsError: not interactive, and `--yes` was not given.
        typer.Abort: the answer was no.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise SettingsError(f"{question} Not interactive; pass --yes to confirm.")
    typer.confirm(question, abort=True, err=True)
