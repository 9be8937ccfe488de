"""Periods of days, what they are compared with, and their buckets."""

from __future__ import annotations

from datetime import date, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billhook.reports.periods import (
    NAMES,
    Bucket,
    PeriodName,
    Span,
    between,
    buckets_of,
    period_of,
    usual_bucket,
)

A_SATURDAY = date(2026, 11, 28)


def days(since: str, until: str) -> Span:
    return Span(date.fromisoformat(since), date.fromisoformat(until))


@pytest.mark.parametrize(
    ("name", "now", "before"),
    [
        ("today", ("2026-11-28", "2026-11-28"), ("2026-11-27", "2026-11-27")),
        ("7d", ("2026-11-22", "2026-11-28"), ("2026-11-15", "2026-11-21")),
        ("30d", ("2026-10-30", "2026-11-28"), ("2026-09-30", "2026-10-29")),
        ("90d", ("2026-08-31", "2026-11-28"), ("2026-06-02", "2026-08-30")),
        ("12m", ("2025-11-29", "2026-11-28"), ("2024-11-29", "2025-11-28")),
        ("this_week", ("2026-11-23", "2026-11-28"), ("2026-11-16", "2026-11-21")),
        ("last_week", ("2026-11-16", "2026-11-22"), ("2026-11-09", "2026-11-15")),
        ("this_month", ("2026-11-01", "2026-11-28"), ("2026-10-01", "2026-10-28")),
        ("last_month", ("2026-10-01", "2026-10-31"), ("2026-09-01", "2026-09-30")),
        ("this_quarter", ("2026-10-01", "2026-11-28"), ("2026-07-01", "2026-08-28")),
        ("last_quarter", ("2026-07-01", "2026-09-30"), ("2026-04-01", "2026-06-30")),
        ("this_year", ("2026-01-01", "2026-11-28"), ("2025-01-01", "2025-11-28")),
        ("last_year", ("2025-01-01", "2025-12-31"), ("2024-01-01", "2024-12-31")),
    ],
)
def test_each_name_is_a_period_and_the_one_before(
    name: PeriodName, now: tuple[str, str], before: tuple[str, str]
) -> None:
    found = period_of(name, A_SATURDAY)
    assert (found.now, found.before) == (days(*now), days(*before))


def test_the_month_before_may_be_shorter() -> None:
    found = period_of("this_month", date(2026, 3, 31))
    assert found.before == days("2026-02-01", "2026-02-28")
    assert period_of("this_year", date(2028, 2, 29)).before == days("2027-01-01", "2027-02-28")


def test_any_days_are_compared_with_as_many_before() -> None:
    found = between(date(2026, 3, 1), date(2026, 3, 10))
    assert found.before == days("2026-02-19", "2026-02-28")


def test_weeks_begin_on_monday_and_months_on_the_first() -> None:
    span = days("2026-10-29", "2026-11-10")
    assert buckets_of(span, "week") == [
        days("2026-10-29", "2026-11-01"),
        days("2026-11-02", "2026-11-08"),
        days("2026-11-09", "2026-11-10"),
    ]
    assert buckets_of(span, "month") == [
        days("2026-10-29", "2026-10-31"),
        days("2026-11-01", "2026-11-10"),
    ]


def test_a_short_period_is_shown_by_day_and_a_long_one_by_month() -> None:
    shown = [usual_bucket(period_of(name, A_SATURDAY).now) for name in NAMES]
    assert "".join(each[0] for each in shown) == "dddwmddddwwmm"


some_day = st.dates(date(2000, 1, 1), date(2100, 1, 1))


@given(st.sampled_from(NAMES), some_day, st.sampled_from(["day", "week", "month"]))
def test_buckets_are_the_whole_period_and_no_period_reaches_into_the_next(
    name: PeriodName, today: date, bucket: Bucket
) -> None:
    found = period_of(name, today)
    assert found.before.since <= found.before.until < found.now.since <= found.now.until <= today
    for span in (found.now, found.before):
        parts = buckets_of(span, bucket)
        assert sum(part.days for part in parts) == span.days
        assert (parts[0].since, parts[-1].until) == (span.since, span.until)
        assert all(b.since == a.until + timedelta(1) for a, b in pairwise(parts))
