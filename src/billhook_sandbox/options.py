"""The options that the sandbox is started with."""

from dataclasses import dataclass
from pathlib import Path

API_VERSION = "2026-10-28.endive"


@dataclass(frozen=True, slots=True)
class Options:
    data: Path | None = None
    """SQLite file to keep all data in. Without it, data is lost when the sandbox stops."""

    allow_live: bool = False
    """Accept `sk_live_` keys, to test live mode. Off, because a real live key is a mistake here."""

    public_url: str | None = None
    """URL of the hosted pages, if it differs from the URL that the API is called at."""

    allow_remote: bool = False
    """Accept requests to any name of this machine, as other machines send them. The controls still
    only accept requests from this machine."""

    begin_ago: float = 0
    """Seconds by which the clock of a new sandbox is behind real time."""
