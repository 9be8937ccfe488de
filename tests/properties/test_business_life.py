"""The figures of a business whose life is known: subscriptions that start, change, pause, end and
come back, in two currencies; payments that fail, recover, are refunded and disputed."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime, timedelta
from typing import Any

import httpx
import pytest
from lives import DAY, Living
from test_order import assert_all_applied

from billhook.models import (
    Business,
    BusinessQuery,
    CustomersQuery,
    MovementsQuery,
    SubscriptionsQuery,
    TransactionsQuery,
)
from billhook.reports import lists
from billhook.reports.business import business
from billhook_sandbox.app import create_sandbox
from books import Books


class Told(Living):
    """A fortnight, one thing a day."""

    async def fortnight(self) -> tuple[list[dict[str, Any]], dict[str, Any], int, int]:
        """Its events, the subscription with its discount in full and when it was fetched, and the
        time at its end."""
        async with self.web:
            now = (await self.made("customers", {"name": "Nobody"}))["created"]
            await self.advance(DAY + DAY // 2 - now % DAY)  # to noon
            self.product = (await self.made("products", {"name": "Gold"}))["id"]
            month, dearer, cheaper, year = [
                await self.price(*each)
                for each in ((3000, "month"), (5000, "month"), (1500, "month"), (24000, "year"))
            ]
            dollars = await self.price(1000, "month", "usd")
            ada, bob, cy, dan = [await self.customer(name) for name in "ABCD"]

            hers = await self.subscription(ada, month)
            his = await self.subscription(bob, year)
            cys = await self.subscription(cy, dollars)
            await self.subscription(dan, month, trial_period_days="7")
            await self.payments_in_pounds()
            await self.advance(DAY)
            await self.change(hers, price=dearer)
            await self.advance(DAY)
            await self.change(his, quantity="2")
            await self.advance(DAY)
            await self.change(hers, price=cheaper)
            await self.advance(DAY)
            await self.made(f"subscriptions/{cys}", {"pause_collection[behavior]": "void"})
            await self.advance(DAY)
            await self.made(f"subscriptions/{cys}", {"pause_collection": ""})
            await self.advance(DAY)
            await self.made(f"subscriptions/{his}", {"cancel_at_period_end": "true"})
            await self.advance(4 * DAY)  # the trial ends
            coupon = await self.made("coupons", {"percent_off": "50", "duration": "forever"})
            await self.made(f"subscriptions/{hers}", {"discounts[0][coupon]": coupon["id"]})
            await self.advance(60)
            shown = await self.web.get(
                f"/v1/subscriptions/{hers}",
                params={"expand[]": "discounts.source.coupon"},
                auth=("sk_test_sandbox", ""),
            )
            fetched_at = (await self.made("products", {"name": "Clock"}))["created"]
            await self.advance(DAY)
            await self.ask("DELETE", f"subscriptions/{hers}", {})
            await self.advance(DAY)
            await self.subscription(ada, month)
            await self.advance(60)
            await self.listen()
            end = (await self.made("products", {"name": "Clock"}))["created"]
            return list(self.events.values()), shown.json(), fetched_at, end

    async def price(self, amount: int, interval: str, currency: str = "eur") -> str:
        given = {"product": self.product, "currency": currency, "unit_amount": str(amount)}
        return str((await self.made("prices", given | {"recurring[interval]": interval}))["id"])

    async def customer(self, name: str) -> str:
        card = "pm_card_visa"
        given = {"name": name, "payment_method": card}
        given["invoice_settings[default_payment_method]"] = card
        return str((await self.made("customers", given))["id"])

    async def subscription(self, customer: str, price: str, **more: str) -> str:
        given = {"customer": customer, "items[0][price]": price, **more}
        return str((await self.made("subscriptions", given))["id"])

    async def change(self, subscription: str, **item: str) -> None:
        found = await self.all("subscription_items", {"subscription": subscription})
        changed = {f"items[0][{name}]": value for name, value in item.items()}
        changed |= {"items[0][id]": found[0]["id"], "proration_behavior": "none"}
        await self.made(f"subscriptions/{subscription}", changed)

    async def payments_in_pounds(self) -> None:
        """One that is refunded in part, one that fails, one that succeeds after it failed, and one
        whose dispute is lost."""
        paid = await self.intent(900, "pm_card_visa")
        await self.made("refunds", {"payment_intent": paid, "amount": "400"})
        await self.intent(700, "pm_card_chargeDeclined")
        failed = await self.intent(500, "pm_card_chargeDeclined")
        await self.made(f"payment_intents/{failed}/confirm", {"payment_method": "pm_card_visa"})
        await self.intent(1100, "pm_card_createDispute")
        await self.advance(60)
        (dispute,) = await self.all("disputes", {})
        await self.made(f"disputes/{dispute['id']}/close", {})

    async def intent(self, amount: int, card: str) -> str:
        made = await self.made("payment_intents", {"amount": str(amount), "currency": "gbp"})
        await self.ask("POST", f"payment_intents/{made['id']}/confirm", {"payment_method": card})
        return str(made["id"])


@pytest.fixture(scope="module")
def told() -> tuple[list[dict[str, Any]], dict[str, Any], int, int]:
    transport = httpx.ASGITransport(create_sandbox())
    web = httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1")
    return asyncio.run(Told(web).fortnight())


@pytest.fixture
def lived(books: Books, told: Any) -> tuple[Books, datetime]:
    """The life in the mirror, and the time at its end."""
    events, shown, fetched_at, end = told
    assert_all_applied(books.apply(*events))
    assert books.rows("SELECT object_id FROM billhook.refreshes WHERE reason LIKE '%discounts%'")
    books.fetch("subscription", shown, fetched_at)
    return books, datetime.fromtimestamp(end, UTC)


def figures(books: Books, now: datetime, **query: Any) -> Business:
    asked = BusinessQuery.model_validate(query)
    return books.run(lambda database: business(database, "test", asked, now))


EUROS = {
    "mrr_start": 0,
    "mrr_new": 8000,  # 3000 and 24000 a year, and 3000 after a trial
    "mrr_expansion": 4000,  # a dearer price, and a second seat
    "mrr_contraction": -4250,  # a cheaper price, and half of it off
    "mrr_churn": -4750,
    "mrr_reactivation": 3000,
    "mrr_end": 6000,
    "subscribers_start": 0,
    "subscribers_new": 3,
    "subscribers_reactivated": 1,
    "subscribers_churned": 2,
    "subscribers_end": 2,
    "subscriber_churn_rate": 0.666667,
    "mrr_churn_rate": None,
    "arpu": 3000,
}
DOLLARS = {"mrr_new": 1000, "mrr_churn": -1000, "mrr_reactivation": 1000, "mrr_end": 1000}
POUNDS = {
    "payments": 2500,
    "succeeded": 3,
    "refunds": 400,
    "refunded": 1,
    "lost": 1100,
    "disputes_lost": 1,
    "disputes_opened": 1,
    "amount_disputed": 1100,
    "net_volume": 1000,
    "failed": 1,
    "recovered": 1,
    "recovered_amount": 500,
    "mrr_end": 0,
}


def test_the_figures_are_those_of_the_life(lived: tuple[Books, datetime]) -> None:
    books, now = lived
    found = figures(books, now, period="30d")
    by_currency = {each.currency: each for each in found.currencies}
    for currency, expected in (("eur", EUROS), ("usd", DOLLARS), ("gbp", POUNDS)):
        total = by_currency[currency].total.model_dump()
        assert {name: total[name] for name in expected} == expected
    assert found.new_customers.total == 5
    assert found.subscriptions == {"active": 4, "canceled": 1}
    assert by_currency["eur"].paying_subscriptions == 2
    # The other one renews in 31 days.
    assert by_currency["eur"].renewals_30_days.model_dump() == {"number": 1, "amount": 3000}
    assert by_currency["usd"].renewals_30_days.model_dump() == {"number": 1, "amount": 1000}
    assert by_currency["usd"].renewals_7_days.number == 0


def test_parts_of_a_period_add_up(lived: tuple[Books, datetime]) -> None:
    books, now = lived
    whole = figures(books, now, period="12m")
    for bucket in ("day", "week", "month"):
        found = figures(books, now, period="12m", bucket=bucket)
        for of, same in zip(found.currencies, whole.currencies, strict=True):
            assert of.total == same.total
            for name in ("payments", "failed", "mrr_new", "mrr_churn", "subscribers_churned"):
                parts = [getattr(each, name) for each in of.buckets]
                assert sum(parts) == getattr(of.total, name)
            for one, following in zip(of.buckets, of.buckets[1:], strict=False):
                assert one.mrr_end == following.mrr_start
            assert of.buckets[0].mrr_start == of.total.mrr_start
            assert of.buckets[-1].mrr_end == of.total.mrr_end
        assert sum(found.new_customers.buckets) == found.new_customers.total


def test_each_day_begins_with_the_mrr_of_the_day_before(lived: tuple[Books, datetime]) -> None:
    books, now = lived
    first = now.date() - timedelta(days=12)
    names = ("mrr_start", "mrr_new", "mrr_expansion", "mrr_contraction", "mrr_churn", "mrr_end")

    def of(day: date) -> list[int]:
        found = figures(books, now, since=str(day), until=str(day))
        (euros,) = [each for each in found.currencies if each.currency == "eur"]
        return [getattr(euros.total, name) for name in names]

    assert of(first) == [0, 5000, 0, 0, 0, 5000]
    assert of(first + timedelta(days=1)) == [5000, 0, 2000, 0, 0, 7000]
    assert of(first + timedelta(days=3)) == [9000, 0, 0, -3500, 0, 5500]
    assert of(first + timedelta(days=6)) == [5500, 0, 0, 0, -4000, 1500]
    assert of(now.date() - timedelta(days=2)) == [4500, 0, 0, -750, 0, 3750]


def test_lists_show_exactly_what_figures_count(lived: tuple[Books, datetime]) -> None:
    books, now = lived
    found = figures(books, now, period="30d")
    since = datetime.combine(found.since, datetime.min.time(), UTC)
    until = datetime.combine(found.until, datetime.min.time(), UTC) + timedelta(days=1)
    for of in found.currencies:
        numbers = {
            "payments": of.total.succeeded,
            "refunds": of.total.refunded,
            "failed": of.total.failed,
            "recovered": of.total.recovered,
            "lost": of.total.disputes_lost,
        }
        for figure, number in numbers.items():
            asked = TransactionsQuery.model_validate(
                {"figure": figure, "currency": of.currency, "limit": 100}
            ).model_copy(update={"since": since, "until": until})
            page = books.run(lambda db, q=asked: lists.transactions(db, "test", q))
            assert len(page.rows) == number, (figure, of.currency)
        for kind in ("new", "reactivation", "expansion", "contraction", "churn"):
            moved = MovementsQuery.model_validate(
                {"kind": kind, "currency": of.currency, "since": found.since, "until": found.until}
            )
            rows = books.run(lambda db, q=moved: lists.movements(db, "test", q)).rows
            assert sum(row.amount for row in rows) == getattr(of.total, f"mrr_{kind}")
        paying = SubscriptionsQuery.model_validate({"currency": of.currency, "paying": "true"})
        rows = books.run(lambda db, q=paying: lists.subscriptions(db, "test", q)).rows
        assert len(rows) == of.paying_subscriptions
        assert sum(row.mrr or 0 for row in rows) == of.total.mrr_end
        renewing = paying.model_copy(
            update={"paying": None, "renews_from": now, "renews_until": now + timedelta(days=30)}
        )
        rows = books.run(lambda db, q=renewing: lists.subscriptions(db, "test", q)).rows
        assert len(rows) == of.renewals_30_days.number
    asked_customers = CustomersQuery().model_copy(update={"since": since, "until": until})
    page = books.run(lambda db: lists.customers(db, "test", asked_customers))
    assert len(page.rows) == found.new_customers.total


def test_pages_of_a_figure_follow_each_other(lived: tuple[Books, datetime]) -> None:
    books, _ = lived
    for order in ("newest", "oldest"):
        seen, cursor = [], None
        while True:
            asked = TransactionsQuery.model_validate(
                {"figure": "payments", "limit": 2, "order": order}
                | ({"startingAfter": cursor} if cursor else {})
            )
            page = books.run(lambda db, q=asked: lists.transactions(db, "test", q))
            seen += [row.provider_reference_id for row in page.rows]
            if (cursor := page.next_cursor) is None:
                break
        assert len(seen) == len(set(seen)) > 4


def test_the_figures_are_the_same_after_a_rebuild(lived: tuple[Books, datetime], told: Any) -> None:
    from billhook.mirror.rebuild import rebuild
    from billhook.models import RebuildOrder

    books, now = lived
    before = figures(books, now, period="30d")
    rebuilt = books.run(lambda db: rebuild(db, "test", RebuildOrder(swap=True)))
    assert [each.table for each in rebuilt.tables if each.different] == []
    assert figures(books, now, period="30d") == before
