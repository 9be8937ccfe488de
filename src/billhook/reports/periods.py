"""Periods of whole UTC days, the periods that they are compared with, and their buckets."""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import get_args

from billhook.models.business import Bucket, PeriodName

NAMES: tuple[PeriodName, ...] = get_args(PeriodName)
_ONE = timedelta(days=1)
_ROLLING = {"today": 1, "7d": 7, "30d": 30, "90d": 90}
_MONTHS = {"month": 1, "quarter": 3, "year": 12}
_DAYS_SHOWN = 31
_WEEKS_SHOWN = 26 * 7


@dataclass(frozen=True, slots=True)
class Span:
    """From a day to a day, both included."""

    since: date
    until: date

    @property
    def days(self) -> int:
        return (self.until - self.since).days + 1


@dataclass(frozen=True, slots=True)
class Period:
    """A span, and the one that it is compared with, which ends before it."""

    now: Span
    before: Span


def period_of(name: PeriodName, today: date) -> Period:
    """The period of a name.

    A rolling period is compared with the same number of days (or months) before it. A calendar
    period that is not over ends today, and is compared with the same days of the one before.
    """
    if name in _ROLLING:
        return between(today - timedelta(days=_ROLLING[name] - 1), today)
    if name == "12m":
        since = months_later(today + _ONE, -12)
        return Period(Span(since, today), Span(months_later(since, -12), since - _ONE))
    which, _, unit = name.partition("_")
    start = _start(today, unit)
    previous = _start(start - _ONE, unit)
    if which == "last":
        before = Span(_start(previous - _ONE, unit), previous - _ONE)
        return Period(Span(previous, start - _ONE), before)
    return Period(Span(start, today), Span(previous, _same_day(start, today, previous, unit)))


def between(since: date, until: date) -> Period:
    """Any days, compared with as many before them."""
    days = (until - since).days + 1
    return Period(Span(since, until), Span(since - timedelta(days=days), since - _ONE))


def buckets_of(span: Span, bucket: Bucket) -> list[Span]:
    """The parts of a span. The first and the last week or month may be incomplete."""
    return list(_buckets(span, bucket))


def usual_bucket(span: Span) -> Bucket:
    """Days of up to a month, weeks of up to half a year, else months."""
    if span.days <= _DAYS_SHOWN:
        return "day"
    return "week" if span.days <= _WEEKS_SHOWN else "month"


def months_later(day: date, months: int) -> date:
    """The same day of another month, or the last day of that month."""
    number = day.year * 12 + day.month - 1 + months
    year, month = number // 12, number % 12 + 1
    return date(year, month, min(day.day, monthrange(year, month)[1]))


def _buckets(span: Span, bucket: Bucket) -> Iterator[Span]:
    since = span.since
    while since <= span.until:
        following = since + _ONE if bucket == "day" else _next(since, bucket)
        yield Span(since, min(span.until, following - _ONE))
        since = following


def _start(day: date, unit: str) -> date:
    """The first day of its week (a Monday), month, quarter or year."""
    if unit == "week":
        return day - timedelta(days=day.weekday())
    months = _MONTHS[unit]
    return date(day.year, (day.month - 1) // months * months + 1, 1)


def _next(day: date, unit: str) -> date:
    start = _start(day, unit)
    return start + timedelta(days=7) if unit == "week" else months_later(start, _MONTHS[unit])


def _same_day(start: date, today: date, previous: date, unit: str) -> date:
    """The day of the unit before that corresponds to today: at most the last one of its month."""
    if unit == "week":
        return previous + (today - start)
    return months_later(today, -_MONTHS[unit])
