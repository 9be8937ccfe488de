"""The chart of the overview: a pair of bars for each day, week or month, as the shapes of an SVG.

It is drawn on the server, so it needs no script; a table next to it has the same figures for screen
readers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from billhook.models import FlowOfBucket
from billhook.money import decimals, money

WIDTH = 720
HEIGHT = 220
_LEFT = 64
_TOP = 12
_BOTTOM = 24
_GRID = 4
_LABELS = 6


@dataclass(frozen=True, slots=True)
class Bar:
    """Payments reach from the baseline to `payments_y`; refunds are drawn in front of them."""

    x: float
    width: float
    payments_y: float
    payments_height: float
    refunds_height: float
    title: str


@dataclass(frozen=True, slots=True)
class Mark:
    """A label on an axis."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Chart:
    """All that the template draws."""

    width: int
    height: int
    left: int
    baseline: float
    bars: list[Bar]
    rows: list[Mark]
    days: list[Mark]


def bars(parts: Sequence[FlowOfBucket], currency: str) -> Chart:
    """The parts of a period, in order."""
    highest = max((max(part.payments, part.refunds) for part in parts), default=0)
    step = _step(highest, currency)
    top = step * _GRID
    baseline = HEIGHT - _BOTTOM
    slot = (WIDTH - _LEFT) / max(len(parts), 1)

    def height(amount: int) -> float:
        return round(max(amount, 0) / top * (baseline - _TOP), 1)

    drawn = []
    for number, part in enumerate(parts):
        paid = height(part.payments)
        said = f"{_span(part)}: {money(part.payments, currency)} paid"
        if part.refunds:
            said += f", {money(part.refunds, currency)} refunded"
        drawn.append(
            Bar(
                x=round(_LEFT + number * slot + slot * 0.12, 1),
                width=round(slot * 0.76, 1),
                payments_y=round(baseline - paid, 1),
                payments_height=paid,
                refunds_height=height(part.refunds),
                title=said,
            )
        )
    every = max(1, -(-len(parts) // _LABELS))
    return Chart(
        width=WIDTH,
        height=HEIGHT,
        left=_LEFT,
        baseline=baseline,
        bars=drawn,
        rows=[
            Mark(round(baseline - height(step * line), 1), _short(step * line, currency))
            for line in range(_GRID + 1)
        ],
        days=[
            Mark(round(_LEFT + (number + 0.5) * slot, 1), _day(part.since))
            for number, part in enumerate(parts)
            if number % every == 0
        ],
    )


def _step(highest: int, currency: str) -> int:
    """A round amount; `_GRID` times it is above the highest bar."""
    least = max(highest, 10 ** decimals(currency))
    size = 1
    while True:
        for factor in (1, 2, 5):
            if size * factor * _GRID >= least:
                return size * factor
        size *= 10


def _short(amount: int, currency: str) -> str:
    """An amount for an axis: 12k for 12,000.00."""
    whole = amount / 10 ** decimals(currency)
    for size, word in ((1e9, "bn"), (1e6, "m"), (1e3, "k")):
        if whole >= size:
            return f"{whole / size:g}{word}"
    return f"{whole:g}"


def _day(day: date) -> str:
    return f"{day.day} {day:%b}"


def _span(part: FlowOfBucket) -> str:
    first, last = _day(part.since), _day(part.until)
    return first if first == last else f"{first} to {last}"
