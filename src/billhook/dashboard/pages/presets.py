"""Filters that are often wanted, as one click. Days are UTC, as in the lists."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from billhook.dashboard.visit import Preset, Visit


def by_time(visit: Visit, *more: tuple[str, dict[str, str]]) -> list[Preset]:
    """All, today, the last 7 days, this month, and `more`."""
    today = datetime.now(UTC).date()
    return visit.presets(
        ("All", {}),
        ("Today", {"since": f"{today}"}),
        ("Last 7 days", {"since": week()}),
        ("This month", {"since": f"{today.replace(day=1)}"}),
        *more,
    )


def week() -> str:
    """The first of the last seven days."""
    return f"{datetime.now(UTC).date() - timedelta(days=6)}"
