"""`GET …/business` and `GET …/mrr-movements`, their clients and commands. The figures themselves:
tests/properties/test_business_life.py."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pytest

from api import Api
from billhook import Client
from cli import Billhook
from http_tokens import ADMIN_KEY, token
from recovering import Station
from stripe_events import event


def today() -> date:
    return datetime.now(UTC).date()


def subscribed(api: Api, name: str = "sub_1", amount: int = 2000, **more: Any) -> None:
    """A subscription that began today."""
    price = {"id": "price_1", "unit_amount": amount, "currency": "eur"}
    price["recurring"] = {"interval": "month", "interval_count": 1}
    now = int(datetime.now(UTC).timestamp())
    shown = {
        "id": name,
        "object": "subscription",
        "customer": f"cus_{name}",
        "status": "active",
        "currency": "eur",
        "created": now,
        "metadata": {},
        "discounts": [],
        "items": {
            "data": [
                {
                    "id": f"si_{name}",
                    "price": price,
                    "quantity": 1,
                    "current_period_start": now,
                    "current_period_end": now + 5 * 86400,
                }
            ]
        },
        **more,
    }
    told = event("customer.subscription.created", shown) | {"created": now}
    assert api.deliver(told).status_code == 200


def test_the_figures_of_a_month_are_compared_with_the_month_before(api: Api) -> None:
    subscribed(api)
    answer = api.admin("GET", "/test/business?period=this_month")
    assert answer.status_code == 200
    found = answer.json()["business"]
    assert (found["period"], found["bucket"], found["until"]) == ("this_month", "day", str(today()))
    (euros,) = found["currencies"]
    assert euros["total"]["mrrNew"] == euros["total"]["mrrEnd"] == 2000
    assert euros["previous"]["mrrEnd"] == 0
    assert euros["buckets"][-1]["subscribersNew"] == 1
    assert euros["renewals7Days"] == euros["renewals30Days"] == {"number": 1, "amount": 2000}
    assert found["subscriptions"] == {"active": 1}
    nothing = api.admin("GET", "/live/business").json()["business"]
    assert (nothing["period"], nothing["currencies"]) == ("30d", [])


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("period=week", "period"),
        ("period=", "period"),
        ("bucket=year", "bucket"),
        ("since=2026-01-01", "until"),
        ("until=2026-01-01", "since"),
        ("since=2026-01-02&until=2026-01-01", "until"),
        ("since=2020-01-01&until=2026-01-01", "until"),
        ("since=2026-02-30&until=2026-03-01", "since"),
        ("since=0001-01-01&until=0001-01-02", "since"),
        ("since=2026-01-01T00:00:00Z&until=2026-01-02", "since"),
        ("since=2026-01-01&until=2026-01-02&period=7d", "period"),
        ("days=7", "days"),
    ],
)
def test_a_period_that_is_none_is_refused(api: Api, query: str, named: str) -> None:
    answer = api.admin("GET", f"/test/business?{query}")
    assert answer.status_code == 400
    assert answer.json()["error"] == "INVALID_INPUT"
    assert named in answer.json()["message"]


@pytest.mark.parametrize(
    "path",
    [
        "mrr-movements?kind=gone",
        "mrr-movements?currency=EURO",
        "mrr-movements?since=today",
        "transactions?figure=all",
        "transactions?figure=failed&order=largest",
        "subscriptions?paying=perhaps",
        "subscriptions?renewsFrom=2026-01-01",
        "customers?since=yesterday",
    ],
)
def test_filters_that_are_none_are_refused(api: Api, path: str) -> None:
    assert api.admin("GET", f"/test/{path}").json()["error"] == "INVALID_INPUT"


@pytest.mark.parametrize("route", ["business", "mrr-movements"])
def test_only_admins_see_them(api: Api, route: str) -> None:
    path = f"/api/payments/stripe/test/{route}"
    assert api.http.get(path).status_code == 401
    answer = api.http.get(path, headers={"Authorization": f"Bearer {token()}"})
    assert answer.status_code == 403


def test_who_churned_is_a_list(api: Api) -> None:
    subscribed(api, "sub_1")
    subscribed(api, "sub_2", 500)
    api.books.execute("UPDATE payments.mrr_movements SET day = day - 1")
    subscribed(api, "sub_1", status="canceled")
    found = api.admin("GET", "/test/mrr-movements?kind=churn").json()["mrrMovements"]
    expected = {"customerId": "cus_sub_1", "currency": "eur", "kind": "churn"}
    expected |= {"amount": -2000, "mrr": 0, "environment": "test", "day": str(today())}
    assert found == [expected | {"customerEmail": None, "customerName": None}]
    first = api.admin("GET", "/test/mrr-movements?limit=2")
    assert [each["kind"] for each in first.json()["mrrMovements"]] == ["churn", "new"]
    assert 'rel="next"' in first.headers["link"]
    of_one = api.admin("GET", "/test/mrr-movements?customer=cus_sub_2").json()["mrrMovements"]
    assert [each["amount"] for each in of_one] == [500]


def test_a_failed_payment_is_listed_alone(api: Api) -> None:
    api.books.execute("""
        INSERT INTO payments.transactions (
            provider, environment, type, status, amount, currency, failed_at, canceled_at)
        VALUES ('stripe', 'test', 'failed_payment', 'failed', 900, 'eur', now(), NULL),
            ('stripe', 'test', 'failed_payment', 'failed', 900, 'eur', now(), now()),
            ('stripe', 'test', 'failed_payment', 'failed', 900, 'eur', now() - interval '9 days',
                NULL),
            ('stripe', 'test', 'one_time_payment', 'succeeded', 800, 'eur', now(), NULL),
            ('stripe', 'test', 'one_time_payment', 'refunded', 700, 'eur', NULL, NULL),
            ('stripe', 'test', 'refund', 'refunded', 700, 'eur', NULL, NULL),
            ('stripe', 'test', 'refund', 'failed', 600, 'eur', now(), NULL)
    """)
    found = api.admin("GET", "/test/business?period=7d").json()["business"]
    assert found["currencies"][0]["total"]["failed"] == 1
    since = f"{found['since']}T00:00:00Z"
    listed = api.admin("GET", f"/test/transactions?figure=failed&currency=eur&since={since}")
    assert [each["amount"] for each in listed.json()["transactions"]] == [900]
    assert len(api.admin("GET", "/test/transactions?status=failed").json()["transactions"]) == 4


@pytest.fixture
def station(database_url: str, sandbox: str) -> Station:
    return Station(database_url, sandbox)


@pytest.mark.parametrize("way", ["event", "sync"])
def test_a_discount_that_applies_forever_is_fetched_and_reduces_mrr(
    station: Station, way: str
) -> None:
    """An event of a subscription does not say what its discounts take off."""
    stripe = station.stripe.v1
    price = stripe.prices.create(
        {
            "currency": "eur",
            "unit_amount": 3000,
            "recurring": {"interval": "month"},
            "product_data": {"name": "Gold"},
        }
    )
    method = "pm_card_visa"
    customer = stripe.customers.create(
        {"payment_method": method, "invoice_settings": {"default_payment_method": method}}
    )
    coupon = stripe.coupons.create({"percent_off": 50, "duration": "forever"})
    stripe.subscriptions.create(
        {
            "customer": customer.id,
            "items": [{"price": price.id}],
            "discounts": [{"coupon": coupon.id}],
        }
    )
    if way == "sync":
        station.sync()
    else:
        station.pull()
        station.control("advance", seconds=5)  # two states of one second have no order
        station.refresh()
    found = "SELECT mrr, renewal_amount, currency FROM payments.stripe_subscriptions"
    assert station.books.row(found) == {"mrr": 1500, "renewal_amount": 1500, "currency": "eur"}
    moved = station.books.rows("SELECT kind, amount, mrr FROM payments.mrr_movements")
    assert moved == [{"kind": "new", "amount": 1500, "mrr": 1500}]
    assert station.books.rows("SELECT * FROM billhook.refreshes") == []


def test_a_subscription_of_many_items_is_fetched_once_with_all_its_items(station: Station) -> None:
    """Stripe shows the first ten."""
    stripe = station.stripe.v1
    product = stripe.products.create({"name": "Seats"})
    prices = [
        stripe.prices.create(
            {
                "currency": "eur",
                "unit_amount": 100,
                "recurring": {"interval": "month"},
                "product": product.id,
            }
        ).id
        for _ in range(13)
    ]
    customer = stripe.customers.create({})
    given: Any = {"collection_method": "send_invoice", "days_until_due": 30}
    given |= {"customer": customer.id, "items": [{"price": price} for price in prices]}
    stripe.subscriptions.create(given)
    station.pull()
    station.control("advance", seconds=5)  # two states of one second have no order
    station.refresh()
    assert station.books.rows("SELECT * FROM billhook.refreshes") == []
    items = station.books.row("SELECT count(*) AS n FROM payments.stripe_subscription_items")
    assert items == {"n": 13}
    assert station.books.row("SELECT mrr FROM payments.stripe_subscriptions") == {"mrr": 1300}
    moved = station.books.rows("SELECT kind, amount FROM payments.mrr_movements")
    assert moved == [{"kind": "new", "amount": 1300}]


def test_the_command_line_and_the_client_show_them(api: Api, linked: Billhook) -> None:
    subscribed(api)
    shown = linked("business", "--period", "today").out
    assert "MRR after" in shown
    assert "20.00 EUR" in shown
    assert "Renewals: 1 in 7 days (20.00 EUR)" in shown
    assert "cus_sub_1" in linked("mrr-movements", "--kind", "new").out
    assert "No movements" in linked("mrr-movements", "--kind", "churn").out
    assert linked("transactions", "--figure", "failed", "--currency", "eur").out
    with Client(api.url, ADMIN_KEY) as client:
        found = client.business("test", since=today(), until=today(), bucket="week")
        assert (found.period, len(found.currencies[0].buckets)) == (None, 1)
        (only,) = client.mrr_movements.all("test", kind="new", since=today(), until=today())
        assert only.mrr == 2000
        (paying,) = client.subscriptions.all("test", paying=True, currency="eur")
        assert paying.mrr == 2000
        assert list(client.subscriptions.all("test", paying=False)) == []
        assert list(client.transactions.all("test", figure="failed")) == []
        assert list(client.customers.all("test", since=datetime.now(UTC))) == []
