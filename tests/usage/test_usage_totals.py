"""Totals in SQL: by subject, meter and period, the same before and after old rows are compacted."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta
from typing import Any

import orjson
import pytest

from billhook.postgres import Database
from billhook.usage import retention
from books import Books
from metering import METER

NOW = datetime.now(UTC)


def add(books: Books, at: datetime, value: int = 1, **columns: Any) -> None:
    row = {
        "meter": METER,
        "subject_type": "team",
        "subject_id": "t1",
        "status": "sent",
        **columns,
    }
    row = {name: each for name, each in row.items() if each is not None}
    names, values = ", ".join(row), ", ".join(f"'{each}'" for each in row.values())
    books.execute(
        f"""INSERT INTO payments.usage (environment, value, occurred_at, created_at, {names})
            VALUES ('test', {value}, '{at.isoformat()}', '{at.isoformat()}', {values})"""
    )


def subscribe(
    books: Books, start: datetime, end: datetime, name: str = "sub_1", meter: str | None = None
) -> None:
    books.execute(
        f"""INSERT INTO payments.stripe_subscriptions (environment, subscription_id, customer_id,
                subject_type, subject_id, status, current_period_start, current_period_end)
            VALUES ('test', '{name}', 'cus_1', 'team', 't1', 'active', '{start}', '{end}')"""
    )
    if meter:
        books.execute(
            f"""INSERT INTO payments.stripe_subscription_items
                    (environment, subscription_item_id, subscription_id, price_id)
                VALUES ('test', 'si_{name}', '{name}', 'price_{name}');
                INSERT INTO payments.stripe_prices
                    (environment, price_id, currency, type, active, raw)
                VALUES ('test', 'price_{name}', 'usd', 'recurring', true,
                    '{{"recurring": {{"meter": "mtr_{name}"}}}}');
                INSERT INTO payments.stripe_meters (environment, meter_id, event_name, formula,
                    status, customer_key, value_key)
                VALUES ('test', 'mtr_{name}', '{meter}', 'sum', 'active', 'c', 'v')"""
        )


def totals(books: Books, meter: str = METER) -> Any:
    return books.row(
        f"""SELECT subscription_id, period_start, period_end, quantity::bigint AS quantity, count,
                sum::bigint AS sum, last, unsent::bigint AS unsent
            FROM payments.usage_totals WHERE environment = 'test' AND subject_type = 'team'
                AND subject_id = 't1' AND meter = '{meter}'"""
    )


def by_day(books: Books) -> list[dict[str, Any]]:
    return books.rows(
        """SELECT subject_type, subject_id, customer_id, meter, day, count, sum::bigint AS sum
           FROM payments.usage_by_day WHERE environment = 'test' ORDER BY 1, 2, 3, 4, 5"""
    )


def compact(books: Books, days: int = 40) -> None:
    async def work(database: Database) -> None:
        while await retention.compact(database, "test", days):
            pass

    books.run(work)


def test_without_a_subscription_the_period_is_the_month(books: Books) -> None:
    now = datetime.now(UTC)  # in another month than the run began, perhaps
    month = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    add(books, month - timedelta(seconds=1), 100)
    add(books, month, 3)
    add(books, now, 4, status="pending")
    add(books, now, 50, status="failed")
    add(books, now, 70, subject_id="t2")
    add(books, now, 80, meter="tokens")
    found = totals(books)
    assert found["period_start"] == month
    assert found["period_end"] > now
    assert (found["subscription_id"], found["quantity"], found["count"]) == (None, 7, 2)
    assert (found["sum"], found["last"], found["unsent"]) == (7, 4, 4)


def test_with_a_subscription_the_period_is_its_current_one(books: Books) -> None:
    start, end = NOW - timedelta(days=40, seconds=7), NOW + timedelta(days=325)
    subscribe(books, start, end)
    subscribe(books, NOW - timedelta(days=90), NOW - timedelta(days=60), "sub_over")
    add(books, start - timedelta(seconds=1), 100)
    add(books, start, 3)
    found = totals(books)
    assert (found["subscription_id"], found["period_start"], found["period_end"]) == (
        "sub_1",
        start,
        end,
    )
    assert found["sum"] == 3


def test_of_two_subscriptions_the_one_that_bills_the_meter_decides(books: Books) -> None:
    subscribe(books, NOW - timedelta(days=1), NOW + timedelta(days=29), "sub_seats")
    subscribe(books, NOW - timedelta(days=9), NOW + timedelta(days=21), "sub_usage", METER)
    add(books, NOW - timedelta(days=5), 3)
    add(books, NOW - timedelta(days=5), 3, meter="tokens")
    assert (totals(books)["subscription_id"], totals(books)["sum"]) == ("sub_usage", 3)
    assert totals(books, "tokens")["subscription_id"] == "sub_seats"


@pytest.mark.parametrize(("formula", "quantity"), [("sum", 0), ("count", 3), ("last", -4)])
def test_the_quantity_follows_the_meter(books: Books, formula: str, quantity: int) -> None:
    books.execute(
        f"""INSERT INTO payments.stripe_meters (environment, meter_id, event_name, formula, status,
                customer_key, value_key)
            VALUES ('test', 'mtr_old', '{METER}', 'count', 'inactive', 'c', 'v'),
                ('test', 'mtr_1', '{METER}', '{formula}', 'active', 'c', 'v')"""
    )
    add(books, NOW - timedelta(seconds=1), -4)
    add(books, NOW - timedelta(seconds=9), 2)
    add(books, NOW - timedelta(seconds=5), 1)
    found = totals(books)
    assert (found["quantity"], found["sum"], found["count"], found["last"]) == (quantity, -1, 3, -4)


def test_compacting_changes_no_total(books: Books) -> None:
    chance = random.Random(7)
    start = NOW - timedelta(days=200, seconds=4321)
    subscribe(books, start, NOW + timedelta(days=165))
    for _ in range(300):
        at = NOW - timedelta(seconds=chance.randrange(220 * 86400))
        owner: dict[str, Any] = chance.choice(
            [
                {"subject_id": "t1"},
                {"subject_id": "t2"},
                {"subject_type": None, "subject_id": None, "customer_id": "cus_9"},
            ]
        )
        status = chance.choice(["sent"] * 6 + ["failed", "pending", "uncertain"])
        add(books, at, chance.randrange(-5, 50), status=status, **owner)
    for value, seconds in ((1000, -1), (5, 0), (7, 60)):  # around the start of the period
        add(books, start + timedelta(seconds=seconds), value)
    before, days = totals(books), by_day(books)
    compact(books)
    assert (totals(books), by_day(books)) == (before, days)
    kept = books.rows(
        f"""SELECT DISTINCT status FROM payments.usage
            WHERE occurred_at < now() - interval '41 days' AND occurred_at::date <> '{start.date()}'
            ORDER BY 1"""
    )
    assert [row["status"] for row in kept] == ["failed", "pending", "uncertain"]
    assert books.row("SELECT count(*) > 20 AS many FROM payments.usage_days") == {"many": True}
    # More of the same days is sent later.
    books.execute("UPDATE payments.usage SET status = 'sent' WHERE status = 'pending'")
    before, days = totals(books), by_day(books)
    compact(books)
    compact(books)
    assert (totals(books), by_day(books)) == (before, days)


def test_of_values_of_the_same_moment_the_one_recorded_last_is_the_last(books: Books) -> None:
    subscribe(books, NOW - timedelta(days=99), NOW + timedelta(days=1))
    for value in range(9):
        add(books, NOW - timedelta(days=50), value)
    # Whatever the plan: by the index, they come in this order.
    books.execute("DROP INDEX payments.usage_by_subject")
    assert totals(books)["last"] == 8
    compact(books)
    assert books.row("SELECT count(*) AS n FROM payments.usage") == {"n": 0}
    assert totals(books)["last"] == 8


def test_the_last_value_survives_compacting(books: Books) -> None:
    old = datetime.combine(date(NOW.year - 1, 1, 5), datetime.min.time(), UTC)
    subscribe(books, old - timedelta(days=3), NOW + timedelta(days=1))
    for hour, value in ((3, 30), (9, 90), (6, 60)):
        add(books, old + timedelta(hours=hour), value)
        compact(books)
    assert books.row("SELECT count(*) AS n FROM payments.usage") == {"n": 0}
    assert (totals(books)["last"], totals(books)["count"]) == (90, 3)


def test_a_subjects_totals_are_read_by_index(books: Books) -> None:
    """Whatever the planner knows: nothing was analysed."""
    books.execute(
        """INSERT INTO payments.usage
               (environment, meter, subject_type, subject_id, status, occurred_at)
           SELECT 'test', 'api_calls', 'team', 'other' || n % 50, 'sent', now()
           FROM generate_series(1, 30000) AS n"""
    )
    for _ in range(20):
        add(books, NOW)
    asked = """EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT * FROM payments.usage_totals
        WHERE environment = 'test' AND subject_type = 'team' AND subject_id = 't1'"""
    # The first time, a session reads the catalog.
    _, plan = books.row(asked), books.row(asked)
    (found,) = plan.values()
    top = orjson.loads(found)[0]["Plan"]
    assert top["Shared Hit Blocks"] + top["Shared Read Blocks"] < 120
