"""`GET …/overview` and `billhook overview`. The figures themselves: tests/database."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from api import Api
from billhook import Client
from cli import Billhook, billhook
from http_tokens import ADMIN_KEY, token

__all__ = ["billhook"]


@pytest.fixture
def moved(api: Api) -> Api:
    api.books.execute("""
        INSERT INTO payments.transactions (
            provider, environment, type, status, amount, currency, paid_at, failed_at)
        VALUES ('stripe', 'test', 'one_time_payment', 'succeeded', 1500, 'eur', now(), NULL),
            ('stripe', 'test', 'failed_payment', 'failed', 900, 'eur', NULL, now());
        INSERT INTO payments.stripe_subscriptions (
            environment, subscription_id, customer_id, status)
        VALUES ('test', 'sub_1', 'cus_1', 'past_due')
    """)
    return api


def test_the_overview_is_a_row_for_each_day(moved: Api) -> None:
    answer = moved.admin("GET", "/test/overview")
    assert answer.status_code == 200
    found = answer.json()["overview"]
    until = date.fromisoformat(found["until"])
    assert found["since"] == str(until - timedelta(days=29))
    (euros,) = found["currencies"]
    assert euros["currency"] == "eur"
    expected = {"payments": 1500, "refunds": 0, "succeeded": 1, "refunded": 0, "failed": 1}
    expected |= {"lost": 0, "disputesLost": 0}
    assert euros["total"] == expected
    assert euros["previous"] == dict.fromkeys(expected, 0)
    assert [each["day"] for each in euros["days"]] == [
        str(until - timedelta(days=before)) for before in reversed(range(30))
    ]
    assert sum(each["payments"] for each in euros["days"]) == 1500
    assert found["subscriptions"] == {"past_due": 1}
    nothing = moved.admin("GET", "/live/overview?days=366").json()["overview"]
    assert (nothing["currencies"], nothing["subscriptions"]) == ([], {})


@pytest.mark.parametrize(
    "query", ["days=0", "days=367", "days=x", "days=", "days=1&days=2", "day=1"]
)
def test_what_is_not_a_number_of_days_is_refused(api: Api, query: str) -> None:
    answer = api.admin("GET", f"/test/overview?{query}")
    assert answer.status_code == 400
    assert answer.json()["error"] == "INVALID_INPUT"


def test_only_admins_see_it(api: Api) -> None:
    path = "/api/payments/stripe/test/overview"
    assert api.http.get(path).status_code == 401
    answer = api.http.get(path, headers={"Authorization": f"Bearer {token()}"})
    assert answer.status_code == 403


def test_the_command_line_and_the_client_show_it(
    moved: Api, monkeypatch: pytest.MonkeyPatch, billhook: Billhook
) -> None:
    monkeypatch.setenv("BILLHOOK_URL", moved.url)
    monkeypatch.setenv("BILLHOOK_API_KEY", ADMIN_KEY)
    shown = billhook("overview", "--days", "2").out.splitlines()
    assert "15.00 EUR" in shown[1]
    assert "previous period" in shown[2]
    assert shown[-1] == "Subscriptions: past_due 1"
    with Client(moved.url, ADMIN_KEY) as client:
        asked = client.overview("test", days=2)
    (euros,) = asked.currencies
    assert (euros.total.payments, len(euros.days)) == (1500, 2)
    told = billhook("overview", "--days", "2", "--json").json["overview"]
    assert told["currencies"][0]["total"]["payments"] == 1500
    assert "No payments" in billhook("overview", "-e", "live").out
