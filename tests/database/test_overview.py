"""The figures of an overview."""

from __future__ import annotations

import asyncio
from datetime import date
from typing import Any
from uuid import UUID

import pytest

import insforge
from billhook.account import archived_rows
from billhook.mirror import archives
from billhook.mirror.rebuild import rebuild
from billhook.models import DayFigures, Figures, Overview, RebuildOrder
from billhook.postgres import Database
from billhook.postgres.migrate import migrate
from billhook.reports.overview import _FIGURES, overview
from books import Books
from stripe_events import event, payment_intent
from stripe_lives import LIFE, PAYS
from totals import assert_exact, figures

TODAY = date(2026, 5, 30)


def shown(books: Books, days: int = 3, today: date = TODAY) -> Overview:
    return books.run(lambda database: overview(database, "test", days, today))


def paid(name: str, at: int = 5) -> dict[str, Any]:
    return event("payment_intent.succeeded", payment_intent(name, metadata=PAYS), at=at)


PAYMENTS = """
    INSERT INTO payments.transactions (
        provider, environment, type, status, amount, currency, paid_at, failed_at, refunded_at)
    VALUES
        ('stripe', 'test', 'one_time_payment', 'succeeded', 1000, 'usd', '2026-05-30T00:00Z', NULL, NULL),
        ('stripe', 'test', 'one_time_payment', 'partially_refunded', 500, 'eur', '2026-05-28T00:00Z', NULL, NULL),
        ('stripe', 'test', 'subscription_invoice', 'refunded', 700, 'eur', '2026-05-28T23:59:59.9Z', NULL, NULL),
        ('stripe', 'test', 'refund', 'refunded', 200, 'eur', NULL, NULL, '2026-05-30T10:00Z'),
        ('stripe', 'test', 'refund', 'pending', 300, 'eur', NULL, NULL, '2026-05-30T10:00Z'),
        ('stripe', 'test', 'failed_payment', 'failed', 900, 'eur', NULL, '2026-05-30T10:00Z', NULL),
        ('stripe', 'test', 'one_time_payment', 'pending', 900, 'eur', NULL, NULL, NULL),
        ('stripe', 'test', 'one_time_payment', 'succeeded', 40, 'eur', '2026-05-25T00:00Z', NULL, NULL),
        ('stripe', 'test', 'one_time_payment', 'succeeded', 2, 'eur', '2026-05-24T23:59Z', NULL, NULL),
        ('stripe', 'test', 'one_time_payment', 'succeeded', 1, 'eur', '2026-05-31T00:00Z', NULL, NULL),
        ('stripe', 'test', 'one_time_payment', 'succeeded', 9, 'sek', '2026-05-01T00:00Z', NULL, NULL),
        ('stripe', 'live', 'one_time_payment', 'succeeded', 1, 'eur', '2026-05-30T00:00Z', NULL, NULL),
        ('paddle', 'test', 'one_time_payment', 'succeeded', 1, 'eur', '2026-05-30T00:00Z', NULL, NULL);
"""  # noqa: E501
SUBSCRIPTIONS = """
    INSERT INTO payments.stripe_subscriptions (environment, subscription_id, customer_id, status)
    VALUES ('test', 'sub_1', 'cus_1', 'active'), ('test', 'sub_2', 'cus_2', 'active'),
        ('test', 'sub_3', 'cus_3', 'past_due'), ('live', 'sub_4', 'cus_4', 'trialing');
"""
MOVED = PAYMENTS + SUBSCRIPTIONS


def test_the_figures_of_three_days(books: Books) -> None:
    books.execute(MOVED)
    found = shown(books)
    assert (found.since, found.until) == (date(2026, 5, 28), TODAY)
    assert [each.currency for each in found.currencies] == ["eur", "usd"]
    euros, dollars = found.currencies
    assert euros.days == [
        DayFigures(day=date(2026, 5, 28), payments=1200, succeeded=2),
        DayFigures(day=date(2026, 5, 29)),
        DayFigures(day=TODAY, refunds=200, refunded=1, failed=1),
    ]
    assert euros.total == Figures(payments=1200, refunds=200, succeeded=2, refunded=1, failed=1)
    assert euros.previous == Figures(payments=40, succeeded=1)
    assert dollars.total == Figures(payments=1000, succeeded=1)
    assert dollars.previous == Figures()
    assert len(dollars.days) == 3
    assert found.subscriptions == {"active": 2, "past_due": 1}


def test_a_year_of_nothing(books: Books) -> None:
    found = shown(books, days=366)
    assert (found.currencies, found.subscriptions) == ([], {})


def test_lives_a_rebuild_an_archive_and_a_restoration_keep_the_figures(books: Books) -> None:
    books.apply_at_once(LIFE[::-1][lane::4] for lane in range(4))
    assert_exact(books)
    told = figures(books)
    assert sum(row[3] for row in told) > 0

    books.execute("""
        UPDATE payments.transactions SET amount = 1, currency = 'xxx', status = 'failed',
            paid_at = now() WHERE provider_object_id = 'pi_1';
        DELETE FROM payments.transactions WHERE provider_object_id = 're_1';
    """)
    assert_exact(books)
    books.run(lambda database: rebuild(database, "test", RebuildOrder()))
    assert_exact(books)
    assert figures(books) != told
    books.run(lambda database: rebuild(database, "test", RebuildOrder(swap=True)))
    assert figures(books) == told
    assert_exact(books)

    books.execute("""
        INSERT INTO payments.provider_connections (
            provider, environment, status, provider_account_id)
        VALUES ('stripe', 'test', 'unconfigured', 'acct_2')""")

    async def archived(database: Database) -> UUID:
        async with database.as_service() as connection:
            return await archived_rows.archive(connection, "test", "acct_1")

    archive = books.run(archived)
    assert figures(books) == []
    books.apply(paid("pi_of_another"))
    assert_exact(books)
    books.run(lambda database: archives.restore(database, archive))
    assert figures(books) == told
    assert_exact(books)


@pytest.mark.parametrize("analyzed", [False, True])
def test_an_overview_reads_its_index_alone_and_sorts_no_rows(books: Books, analyzed: bool) -> None:
    books.execute("""
        INSERT INTO payments.transactions (
            provider, environment, type, status, amount, currency, paid_at, raw)
        SELECT 'stripe', 'test', 'one_time_payment', 'succeeded', n, 'eur',
            now() - n * '1 min'::interval, jsonb_build_object('padding', repeat('x', 500))
        FROM generate_series(1, 20000) n
    """)
    books.execute("VACUUM" + " ANALYZE" * analyzed + " payments.transactions")
    query = _FIGURES.replace("$1", "'test'")
    for number in (2, 3, 4):
        query = query.replace(f"${number}", f"current_date - {50 - 10 * number}")
    plan = "\n".join(row["QUERY PLAN"] for row in books.rows(f"EXPLAIN {query}"))
    assert "Index Only Scan using transactions_by_day" in plan, plan
    below = plan.partition("Subquery Scan")[2]
    assert "GroupAggregate" in below, plan
    assert "Sort" not in below, plan


def test_adoption_counts_what_insforge_wrote(empty_database_url: str) -> None:
    books = Books(empty_database_url)
    insforge.make_payments(books)
    books.execute(MOVED)
    asyncio.run(migrate(books.dsn))
    assert_exact(books)
    assert len(shown(books).currencies) == 2
    assert shown(books).subscriptions == {"active": 2, "past_due": 1}
