"""Durations as people type them: `90s`, `15m`, `12h`, `30d`."""

from __future__ import annotations

import re
from datetime import timedelta

import typer

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def parse_duration(text: str) -> timedelta:
    """`text` as a duration.

    Raises:
        typer.BadParameter: it is not a duration.
    """
    match = re.fullmatch(r"([1-9][0-9]{0,5})([smhd])", text.strip())
    if match is None:
        raise typer.BadParameter(f"{text!r} is not a duration such as 90s, 15m, 12h or 30d")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})
