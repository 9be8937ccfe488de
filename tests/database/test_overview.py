"""The figures of an overview, and the totals that they are read from."""

from __future__ import annotations

import asyncio
from datetime import date
from typing import Any

import asyncpg
import pytest

import insforge
from billhook.db import Database
from billhook.db.migrate import migrate
from billhook.models import DayFigures, Figures, Overview, RebuildOrder
from billhook.overview import overview
from billhook.rebuild import rebuild
from billhook.recovery import housekeeping
from books import Books
from stripe_events import event, payment_intent
from stripe_lives import LIFE, PAYS
from totals import FOLD, assert_exact, kept

TODAY = date(2026, 5, 30)


def shown(books: Books, days: int = 3, today: date = TODAY) -> Overview:
    return books.run(lambda database: overview(database, "test", days, today))


def fold(books: Books) -> None:
    async def work(database: Database) -> None:
        while await housekeeping.fold(database):
            pass

    books.run(work)


def unfolded(books: Books) -> int:
    count: int = books.row("""
        SELECT (SELECT count(*) FROM billhook.daily_changes)
            + (SELECT count(*) FROM billhook.subscription_changes) AS n
    """)["n"]
    return count


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


@pytest.mark.parametrize("folded", [False, True])
def test_the_figures_of_three_days(books: Books, folded: bool) -> None:
    books.execute(MOVED)
    if folded:
        fold(books)
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


def test_what_no_longer_counts_is_not_shown_as_a_currency(books: Books) -> None:
    books.execute(MOVED)
    fold(books)
    books.execute("UPDATE payments.transactions SET currency = 'eur' WHERE currency = 'usd'")
    assert [each.currency for each in shown(books).currencies] == ["eur"]
    fold(books)
    assert [each.currency for each in shown(books).currencies] == ["eur"]


def test_events_write_a_change_only_where_they_make_a_difference(books: Books) -> None:
    books.apply(paid("pi_1"))
    assert unfolded(books) == 1
    again = payment_intent(metadata=PAYS, description="Tea")
    books.apply(event("payment_intent.succeeded", again, at=7))
    books.execute("UPDATE payments.transactions SET status = 'partially_refunded', raw = '{}'")
    assert unfolded(books) == 1


def test_lives_a_rebuild_an_archive_and_a_restoration_keep_the_totals(books: Books) -> None:
    books.apply_at_once(LIFE[::-1][lane::4] for lane in range(4))
    assert_exact(books)
    told = kept(books)
    assert sum(row[3] for row in told) > 0
    fold(books)
    assert (kept(books), unfolded(books)) == (told, 0)

    books.execute("""
        UPDATE payments.transactions SET amount = 1, currency = 'xxx', status = 'failed',
            paid_at = now() WHERE provider_object_id = 'pi_1';
        DELETE FROM payments.transactions WHERE provider_object_id = 're_1';
    """)
    assert_exact(books)
    books.run(lambda database: rebuild(database, "test", RebuildOrder()))
    assert_exact(books)
    assert kept(books) != told
    books.run(lambda database: rebuild(database, "test", RebuildOrder(swap=True)))
    assert kept(books) == told
    assert_exact(books)

    (archive,) = books.rows("SELECT billhook.archive('test', 'acct_1')")
    assert kept(books) == []
    fold(books)
    assert kept(books) == []
    books.apply(paid("pi_of_another"))
    assert_exact(books)
    books.rows("SELECT billhook.restore($1, 'acct_2')", archive["archive"])
    assert kept(books) == told
    fold(books)
    assert kept(books) == told
    assert_exact(books)


def test_two_folds_at_once_are_one_and_readers_see_neither_half(books: Books) -> None:
    books.execute(MOVED)
    told = kept(books)

    async def work(database: Database) -> None:
        async with database.as_service() as first, database.connection() as second:
            assert await first.fetchval(FOLD, 4) == 8
            assert await second.fetchval(FOLD, 4) == 0
            assert await asyncio.to_thread(kept, books) == told
            await asyncio.to_thread(assert_exact, books)
            await asyncio.to_thread(books.execute, PAYMENTS)  # nobody waits
        await asyncio.gather(*(housekeeping.fold(database) for _ in range(8)))
        await housekeeping.fold(database)

    books.run(work)
    assert unfolded(books) == 0
    assert_exact(books)
    assert [row[3] for row in kept(books)] == [2 * row[3] for row in told]


def test_truncate_leaves_nothing(books: Books) -> None:
    books.execute(MOVED)
    fold(books)
    books.execute(PAYMENTS)
    books.execute("TRUNCATE payments.transactions")
    assert (kept(books), unfolded(books)) == ([], 0)
    assert shown(books).subscriptions == {"active": 2, "past_due": 1}
    books.execute("UPDATE payments.stripe_subscriptions SET status = 'unpaid'")
    books.execute("TRUNCATE payments.stripe_subscriptions")
    assert (shown(books).subscriptions, unfolded(books)) == ({}, 0)


def test_whoever_the_app_lets_change_transactions_keeps_the_totals(
    direct_database_url: str,
) -> None:
    books = Books(direct_database_url)
    books.execute(MOVED)
    books.execute("""
        GRANT UPDATE, DELETE ON payments.transactions, payments.stripe_subscriptions
            TO project_admin;
        SET ROLE project_admin;
        UPDATE payments.transactions SET amount = amount + 1;
        DELETE FROM payments.transactions WHERE currency = 'usd';
        UPDATE payments.stripe_subscriptions SET status = 'canceled';
    """)
    assert_exact(books)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        books.execute("SET ROLE project_admin; TABLE billhook.daily_totals")


def test_adoption_counts_what_insforge_wrote(empty_database_url: str) -> None:
    books = Books(empty_database_url)
    insforge.make_payments(books)
    books.execute(MOVED)
    asyncio.run(migrate(books.dsn))
    assert_exact(books)
    assert unfolded(books) == 0
    assert len(shown(books).currencies) == 2
    assert shown(books).subscriptions == {"active": 2, "past_due": 1}
