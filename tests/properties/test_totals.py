"""Whatever rows there are: an overview counts what counts, each on its day in UTC."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from billhook.postgres import Database
from books import Books
from depth import by_depth
from totals import assert_exact

# Two days apart, an hour apart across midnight in UTC, and midnight itself.
MOMENTS = [
    datetime(2026, 5, 29, 0, 0, tzinfo=UTC),
    datetime(2026, 5, 29, 23, 30, tzinfo=UTC),
    datetime(2026, 5, 30, 0, 30, tzinfo=UTC),
]
times = st.sampled_from([*MOMENTS, *MOMENTS, None])
# Mostly of one kind, so that much is added up; and a bit of everything else.
COLUMNS: dict[str, st.SearchStrategy[Any]] = {
    "provider": st.sampled_from(["stripe"] * 9 + ["paddle"]),
    "environment": st.sampled_from(["test"] * 9 + ["live"]),
    "type": st.sampled_from(
        ["one_time_payment", "subscription_invoice", "failed_payment", "refund", "refund"]
    ),
    "status": st.sampled_from(
        ["succeeded", "failed", "failed", "pending", "refunded", "refunded", "partially_refunded"]
    ),
    "amount": st.sampled_from([0, 1, 20, 2**63 - 1, None]),
    "amount_out_of_band": st.sampled_from([0, 0, 0, 5]),
    "currency": st.sampled_from(["eur"] * 7 + ["jpy", "", None]),
    "paid_at": times,
    "failed_at": times,
    "refunded_at": times,
    "canceled_at": st.sampled_from([None, None, None, MOMENTS[0]]),
    "provider_created_at": times,
    "created_at": st.sampled_from(MOMENTS),
}
rows = st.fixed_dictionaries(COLUMNS)
changes = st.tuples(
    st.sets(st.sampled_from(sorted(COLUMNS)), min_size=1, max_size=3).flatmap(
        lambda names: st.fixed_dictionaries({name: COLUMNS[name] for name in sorted(names)})
    ),
    st.integers(0, 9),
)

_TABLE = "payments.transactions"
_NTH = f"WHERE id = (SELECT (array_agg(id ORDER BY id))[1 + $1 % count(*)] FROM {_TABLE})"
# A day is a UTC day wherever writers and readers are.
_ELSEWHERE = """
    DO $$ BEGIN
        EXECUTE format('ALTER DATABASE %I SET timezone = "Pacific/Auckland"', current_database());
    END $$
"""


def test_an_overview_counts_what_is_there(books: Books) -> None:
    books.execute(_ELSEWHERE)

    @settings(max_examples=by_depth(8, 25, 2000))
    @given(st.lists(rows, min_size=4, max_size=20), st.lists(changes, max_size=5))
    def holds(inserted: list[dict[str, Any]], changed: list[tuple[dict[str, Any], int]]) -> None:
        async def insert(database: Database) -> None:
            places = ", ".join(f"${number}" for number in range(1, len(COLUMNS) + 1))
            async with database.connection() as connection:
                await connection.execute(f"TRUNCATE {_TABLE}")
                await connection.executemany(
                    f"INSERT INTO {_TABLE} ({', '.join(COLUMNS)}) VALUES ({places})",
                    [[row[name] for name in COLUMNS] for row in inserted],
                )

        books.run(insert)
        assert_exact(books)
        for values, nth in changed:
            places = ", ".join(f"${number}" for number in range(2, len(values) + 2))
            columns = f"({', '.join(values)}) = ROW({places})"
            books.rows(f"UPDATE {_TABLE} SET {columns} {_NTH}", nth, *values.values())
            assert_exact(books)
        books.rows(f"DELETE FROM {_TABLE} {_NTH}", 0)
        assert_exact(books)

    holds()
