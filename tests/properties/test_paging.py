"""Any list in any order, with ties: pages forwards and backwards are what a sorted list says."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billhook.models import (
    CustomersQuery,
    EventsQuery,
    ListQuery,
    ProductsQuery,
    SubscriptionsQuery,
    TransactionsQuery,
)
from billhook.postgres import Database
from billhook.reports import lists
from billhook.reports.paging import Page
from books import Books
from depth import by_depth

Row = dict[str, Any]
BEGIN = datetime(2026, 5, 28, 20, 26, 40, tzinfo=UTC)
LATEST = datetime(9999, 12, 31, tzinfo=UTC)

moments = st.integers(0, 2).map(lambda n: BEGIN + timedelta(seconds=n, microseconds=n))
maybe = st.none()


def at(row: Row) -> datetime:
    found: datetime = row["provider_created_at"] or row["created_at"]
    return found


@dataclass(frozen=True)
class Kind:
    """A list: how its rows come about, and what it should make of them."""

    table: str
    row: st.SearchStrategy[Row]
    ask: Callable[..., Awaitable[Page[Any]]]
    query: type[ListQuery]
    identity: Callable[[Any], object]
    own: Callable[[Row], object]
    key: Callable[[Row], Any]
    falling: bool
    given: tuple[tuple[str, object], ...] = ()
    fits: Callable[[Row], bool] = lambda row: True


def transactions(order: str, key: Callable[[Row], Any], falling: bool, **given: Any) -> Kind:
    kinds = ["one_time_payment", "refund", "failed_payment"]
    return Kind(
        "payments.transactions",
        st.fixed_dictionaries(
            {
                "id": st.uuids(),
                "provider": st.just("stripe"),
                "environment": st.just("test"),
                "type": st.sampled_from(kinds),
                "status": st.sampled_from(["succeeded", "failed"]),
                "amount": maybe | st.integers(0, 2),
                "provider_created_at": maybe | moments,
                "created_at": moments,
            }
        ).map(
            lambda row: row | {"provider_object_type": "x", "provider_object_id": str(row["id"])}
        ),
        lists.transactions,
        TransactionsQuery,
        lambda found: UUID(found.provider_reference_id),
        lambda row: row["id"],
        key,
        falling,
        (("order", order), *given.items()),
        lambda row: all(row[name] == value for name, value in given.items()),
    )


def customers(order: str, key: Callable[[Row], Any], falling: bool, search: str = "") -> Kind:
    return Kind(
        "payments.customers",
        st.fixed_dictionaries(
            {
                "id": st.uuids(),
                "provider": st.just("stripe"),
                "environment": st.just("test"),
                "email": maybe
                | st.sampled_from(["Ada@b.test", "ada@b.test", "b@b.test", "Ä@b.test"]),
                "name": maybe | st.sampled_from(["ada", "Ad", "adz", "ädel", "Bo"]),
                "deleted": st.booleans(),
                "provider_created_at": maybe | moments,
                "created_at": moments,
            }
        ).map(lambda row: row | {"provider_customer_id": f"cus_{row['id']}"}),
        lists.customers,
        CustomersQuery,
        lambda found: UUID(found.provider_customer_id.removeprefix("cus_")),
        lambda row: row["id"],
        key,
        falling,
        (("order", order), *((("search", search),) if search else ())),
        lambda row: (
            any((row[name] or "").lower().startswith(search.lower()) for name in ("email", "name"))
            or not search
        ),
    )


def by_what_fits(row: Row) -> Any:
    email, name = ((row[each] or "").lower() for each in ("email", "name"))
    fits = email.startswith("ad")
    return (1, email.encode()) if fits else (2, name.encode()), row["provider_customer_id"]


def subscriptions(order: str, key: Callable[[Row], Any], falling: bool, **given: Any) -> Kind:
    return Kind(
        "payments.stripe_subscriptions",
        st.fixed_dictionaries(
            {
                "id": st.uuids(),
                "environment": st.just("test"),
                "customer_id": st.just("cus_1"),
                # Stripe's eighth and ninth
                "status": st.sampled_from(["active", "canceled", "frozen"]),
                "current_period_end": maybe | moments,
                "updated_at": moments,
            }
        ).map(lambda row: row | {"subscription_id": str(row["id"])}),
        lists.subscriptions,
        SubscriptionsQuery,
        lambda found: UUID(found.subscription_id),
        lambda row: row["id"],
        key,
        falling,
        (("order", order), *given.items()),
        lambda row: all(row[name] == value for name, value in given.items()),
    )


def events(order: str, falling: bool, fits: Callable[[Row], bool], **given: Any) -> Kind:
    return Kind(
        "payments.webhook_events",
        st.fixed_dictionaries(
            {
                "id": st.uuids(),
                "provider": st.just("stripe"),
                "environment": st.just("test"),
                "event_type": st.sampled_from(["price.created", "price.updated", "refund.created"]),
                "processing_status": st.sampled_from(["processed", "failed"]),
                "object_type": maybe | st.sampled_from(["price", "refund"]),
                "object_id": maybe | st.sampled_from(["price_1", "price_2"]),
                "received_at": moments,
                "livemode": st.just(False),
                "payload": st.just({}),
            }
        ).map(lambda row: row | {"provider_event_id": str(row["id"])}),
        lists.events,
        EventsQuery,
        lambda found: UUID(found.event_id),
        lambda row: row["id"],
        lambda row: (row["received_at"], row["id"]),
        falling,
        (("order", order), *given.items()),
        fits,
    )


def products(fits: Callable[[Row], bool], **given: Any) -> Kind:
    return Kind(
        "payments.stripe_products",
        st.fixed_dictionaries(
            {
                "id": st.uuids(),
                "environment": st.just("test"),
                "name": st.sampled_from(["Tea", "tea", "teapot", "Cup", "cup"]),
                "active": st.booleans(),
            }
        ).map(lambda row: row | {"product_id": str(row["id"])}),
        lists.products,
        ProductsQuery,
        lambda found: UUID(found.product.product_id),
        lambda row: row["id"],
        lambda row: (row["name"].lower(), row["product_id"]),
        False,
        tuple(given.items()),
        fits,
    )


def newest(row: Row) -> Any:
    return at(row), row["id"]


def largest(row: Row) -> Any:
    return row["amount"] or 0, at(row), row["id"]


def renewal(row: Row) -> Any:
    return row["current_period_end"] or LATEST, row["id"]


def display(row: Row) -> Any:
    shown = row["email"] or row["name"] or row["provider_customer_id"]
    return row["deleted"], shown, row["provider_customer_id"]


KINDS = {
    "transactions, newest": transactions("newest", newest, True),
    "transactions, oldest": transactions("oldest", newest, False),
    "transactions, largest": transactions("largest", largest, True),
    "transactions of a type": transactions("newest", newest, True, type="refund"),
    "transactions of a status, largest": transactions("largest", largest, True, status="failed"),
    "transactions of both": transactions(
        "oldest", newest, False, type="failed_payment", status="failed"
    ),
    "customers by name": customers("name", display, False),
    "customers, newest": customers("newest", newest, True),
    "customers, oldest": customers("oldest", newest, False),
    "customers found by name": customers("name", by_what_fits, False, "AD"),
    "customers found, newest": customers("newest", newest, True, "aD"),
    "subscriptions, changed": subscriptions(
        "changed", lambda row: (row["updated_at"], row["id"]), True
    ),
    "subscriptions, renewal": subscriptions("renewal", renewal, False),
    "subscriptions of a status": subscriptions("renewal", renewal, False, status="active"),
    "events, newest": events("newest", True, lambda row: True),
    "events, oldest": events("oldest", False, lambda row: True),
    "events of a status": events(
        "newest", True, lambda row: row["processing_status"] == "failed", status="failed"
    ),
    "events of a type": events(
        "oldest", False, lambda row: row["event_type"] == "price.created", type="price.created"
    ),
    "events of types and a status": events(
        "newest",
        True,
        lambda row: row["event_type"][:6] == "price." and row["processing_status"] == "failed",
        search="price.*",
        status="failed",
    ),
    "events of an object": events(
        "newest", True, lambda row: row["object_id"] == "price_1", search="price_1"
    ),
    "events found by type": events(
        "newest", True, lambda row: row["event_type"] == "price.created", search="price.created"
    ),
    "products": products(lambda row: True),
    "products, active": products(lambda row: row["active"], active=True),
    "products found": products(lambda row: row["name"][:3].lower() == "tea", search="TEA"),
}


async def insert(database: Database, table: str, rows: list[Row]) -> None:
    if rows:
        names = list(rows[0])
        places = ", ".join(f"${n}" for n in range(1, len(names) + 1))
        async with database.connection() as connection:
            await connection.executemany(
                f"INSERT INTO {table} ({', '.join(names)}) VALUES ({places})",
                [[row[name] for name in names] for row in rows],
            )


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.sampled(2)
def test_pages_in_both_directions_are_parts_of_the_sorted_list(books: Books, name: str) -> None:
    kind = KINDS[name]

    def sorted_(rows: list[Row]) -> list[Row]:
        return sorted(filter(kind.fits, rows), key=kind.key, reverse=kind.falling)

    def own(rows: list[Row]) -> list[object]:
        return [kind.own(row) for row in rows]

    async def example(
        database: Database, here: list[Row], come: list[Row], limit: int, pick: int, lost: set[int]
    ) -> None:
        async with database.connection() as connection:
            await connection.execute(f"TRUNCATE {kind.table}")
        await insert(database, kind.table, here)

        async def page(**where: str) -> Page[Any]:
            query = kind.query(**{"limit": limit, **dict(kind.given), **where})
            return await kind.ask(database, "test", query)

        async def shown(**where: str) -> tuple[list[object], str | None, str | None]:
            found = await page(**where)
            rows = [kind.identity(row) for row in found.rows]
            return rows, found.previous_cursor, found.next_cursor

        # Forwards, and at each page back to the one before.
        whole = sorted_(here)
        rows, previous, following = await shown()
        assert (rows, previous) == (own(whole[:limit]), None)
        seen, cursors = len(rows), []
        while following:
            cursors.append((whole[seen - 1], following))
            rows, previous, following = await shown(startingAfter=following)
            assert rows == own(whole[seen : seen + limit])
            assert previous
            before, earlier, back = await shown(endingBefore=previous)
            assert before == own(whole[seen - limit : seen])
            assert (bool(earlier), bool(back)) == (seen > limit, True)
            seen += len(rows)
        assert seen == len(whole)
        if not cursors:
            return

        # Rows go and others come: a cursor still says the same place.
        row, cursor = cursors[pick % len(cursors)]
        gone = {here[each]["id"] for each in lost if each < len(here)}
        come = [each for each in come if each["id"] not in {old["id"] for old in here}]
        async with database.connection() as connection:
            await connection.execute(
                f"DELETE FROM {kind.table} WHERE id = ANY ($1::uuid[])", list(gone)
            )
        await insert(database, kind.table, come)
        now = sorted_([each for each in here if each["id"] not in gone] + come)
        place = kind.key(row)
        upto = [
            each
            for each in now
            if (kind.key(each) >= place if kind.falling else kind.key(each) <= place)
        ]
        after = now[len(upto) :]

        rows, previous, following = await shown(startingAfter=cursor)
        assert rows == own(after[:limit])
        assert (bool(previous), bool(following)) == (bool(upto), len(after) > limit)
        if previous:
            rows, previous, following = await shown(endingBefore=previous)
            assert rows == own(upto[-limit:])
            assert (bool(previous), bool(following)) == (len(upto) > limit, bool(after))
        before = [each for each in upto if kind.key(each) != place]
        rows, previous, following = await shown(endingBefore=cursor)
        assert rows == own(before[-limit:])
        assert (bool(previous), bool(following)) == (len(before) > limit, len(before) < len(now))
        if following:
            rows, previous, following = await shown(startingAfter=following)
            assert rows == own(now[len(before) :][:limit])
            assert bool(previous) == bool(before)

    @settings(max_examples=by_depth(6, 25, 200))
    @given(
        here=st.lists(kind.row, unique_by=lambda row: row["id"], max_size=14),
        come=st.lists(kind.row, unique_by=lambda row: row["id"], max_size=14),
        limit=st.integers(1, 4),
        pick=st.integers(0, 13),
        lost=st.sets(st.integers(0, 13)),
    )
    def holds(**drawn: Any) -> None:
        books.run(lambda database: example(database, **drawn))

    holds()
