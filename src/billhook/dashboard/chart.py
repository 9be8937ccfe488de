"""The charts of the overview. The server draws them as SVG, so that they need no script; the page's
script replaces them with charts of the same data that fit the window and say what is under the
pointer. A table next to them has the same figures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import count, zip_longest
from typing import Literal

import orjson

from billhook.models import FlowOfBucket
from billhook.money import decimals, money

WIDTH = 720
HEIGHT = 220
_LEFT = 64
_TOP = 12
_BOTTOM = 24
_LINES = 5
_LABELS = 6
_BAR = 0.76  # of the width of a part


@dataclass(frozen=True, slots=True)
class Series:
    """One amount for each part of the period, in minor units; None where the period before, which
    may be shorter, has none."""

    name: str
    kind: Literal["bars", "line"]
    amounts: Sequence[int | None]


@dataclass(frozen=True, slots=True)
class Bar:
    """It reaches from `y` to the baseline."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Shapes:
    """What a series looks like: its bars, or the points of its line."""

    name: str
    bars: list[Bar]
    points: str


@dataclass(frozen=True, slots=True)
class Slot:
    """A part of the period, with what the chart says about it."""

    x: float
    width: float
    title: str


@dataclass(frozen=True, slots=True)
class Mark:
    """A label on an axis."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Chart:
    """All that the template draws, and what the script draws: `data`, as JSON."""

    width: int
    height: int
    left: int
    baseline: float
    slots: list[Slot]
    shapes: list[Shapes]
    rows: list[Mark]
    days: list[Mark]
    data: str


def revenue(parts: Sequence[FlowOfBucket], before: Sequence[FlowOfBucket], currency: str) -> Chart:
    """What was paid and refunded in each part of a period, and paid in the period before."""

    def paid(part: FlowOfBucket) -> str:
        return f"{money(part.payments, currency)} paid"

    def title(part: FlowOfBucket) -> str:
        refunded = f", {money(part.refunds, currency)} refunded" if part.refunds else ""
        return paid(part) + refunded

    series = [
        Series("payments", "bars", [part.payments for part in parts]),
        Series("refunds", "bars", [part.refunds for part in parts]),
        Series("before", "line", _as_many(parts, [part.payments for part in before])),
    ]
    return _chart(parts, series, _titles(parts, before, title, paid), currency)


def recurring(
    parts: Sequence[FlowOfBucket], before: Sequence[FlowOfBucket], currency: str
) -> Chart:
    """The MRR at the end of each part of a period and of the period before."""

    def title(part: FlowOfBucket) -> str:
        return f"{money(part.mrr_end, currency)} MRR"

    series = [
        Series("mrr", "line", [part.mrr_end for part in parts]),
        Series("before", "line", _as_many(parts, [part.mrr_end for part in before])),
    ]
    return _chart(parts, series, _titles(parts, before, title, title), currency)


def _as_many(parts: Sequence[FlowOfBucket], amounts: list[int]) -> list[int | None]:
    return [amount for _, amount in zip_longest(parts, amounts)][: len(parts)]


def _titles(
    parts: Sequence[FlowOfBucket],
    before: Sequence[FlowOfBucket],
    now: Callable[[FlowOfBucket], str],
    then: Callable[[FlowOfBucket], str],
) -> list[str]:
    """For each part, what happened in it, and on the next line in the one that it is compared
    with."""
    return [
        f"{_span(part)}: {now(part)}" + (f"\n{_span(earlier)}: {then(earlier)}" if earlier else "")
        for part, earlier in zip_longest(parts, before[: len(parts)])
    ]


def _chart(
    parts: Sequence[FlowOfBucket], series: Sequence[Series], titles: Sequence[str], currency: str
) -> Chart:
    highest = max((amount or 0 for each in series for amount in each.amounts), default=0)
    lines = _lines(highest, currency)
    baseline = HEIGHT - _BOTTOM
    slot = (WIDTH - _LEFT) / max(len(parts), 1)
    every = max(1, -(-len(parts) // _LABELS))
    rows = [(amount, _short(amount, currency)) for amount in lines]
    labels = [_day(part.since) for part in parts]

    def height(amount: int) -> float:
        return round(max(amount, 0) / lines[-1] * (baseline - _TOP), 1)

    def middle(number: int) -> float:
        return round(_LEFT + (number + 0.5) * slot, 1)

    def shapes(each: Series) -> Shapes:
        found = [(number, height(amount)) for number, amount in _known(each.amounts)]
        if each.kind == "line":
            points = (f"{middle(number)},{round(baseline - high, 1)}" for number, high in found)
            return Shapes(each.name, [], " ".join(points))
        width = round(slot * _BAR, 1)
        bars = [
            Bar(round(middle(number) - width / 2, 1), round(baseline - high, 1), width, high)
            for number, high in found
            if high
        ]
        return Shapes(each.name, bars, "")

    return Chart(
        width=WIDTH,
        height=HEIGHT,
        left=_LEFT,
        baseline=baseline,
        slots=[
            Slot(round(_LEFT + number * slot, 1), round(slot, 1), title)
            for number, title in enumerate(titles)
        ],
        shapes=[shapes(each) for each in series],
        rows=[Mark(round(baseline - height(amount), 1), text) for amount, text in rows],
        days=[Mark(middle(number), labels[number]) for number in range(0, len(parts), every)],
        data=orjson.dumps(
            {
                "labels": labels,
                "titles": list(titles),
                "rows": rows,
                "series": [
                    {"name": each.name, "kind": each.kind, "amounts": list(each.amounts)}
                    for each in series
                ],
            }
        ).decode(),
    )


def _known(amounts: Sequence[int | None]) -> Iterable[tuple[int, int]]:
    return ((number, amount) for number, amount in enumerate(amounts) if amount is not None)


def _lines(highest: int, currency: str) -> list[int]:
    """The amounts of the horizontal lines: round ones from 0 to above `highest`."""
    least = max(highest, 10 ** decimals(currency))
    steps = (factor * 10**size for size in count() for factor in (1, 2, 5))
    step = next(each for each in steps if each * _LINES >= least)
    return [step * line for line in range(-(-least // step) + 1)]


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
