"""What can be chosen when the sandbox starts."""

from dataclasses import dataclass
from pathlib import Path

API_VERSION = "2026-10-28.endive"


@dataclass(frozen=True, slots=True)
class Options:
    data: Path | None = None
    """SQLite file that keeps everything; without it the sandbox forgets when it stops."""

    allow_live: bool = False
    """Accept `sk_live_` keys, for testing live mode. Off, because a live key here is a mistake."""

    public_url: str | None = None
    """Address of the hosted pages, when it isn't the one that the API was called at."""
