"""Everything that shows a subscription says when it ends, and whether its payments are paused."""

from __future__ import annotations

from typing import Any

from api import Api
from cli import Billhook
from stripe_events import T0, customer, event, subscription
from visitor import Visitor

# As Stripe's portal does it with flexible billing.
ENDING = {"cancel_at": T0 + 2_592_000, "cancel_at_period_end": False, "canceled_at": T0 + 20}
PAUSED = {"pause_collection": {"behavior": "void", "resumes_at": T0 + 2_592_000}}
END, END_OF_PEOPLE = "2026-06-27", "27 Jun 2026"


def show(api: Api, **fields: Any) -> None:
    answer = api.deliver(event("customer.subscription.updated", subscription(**fields)))
    assert answer.status_code == 200, answer.text


def test_the_api_says_when_a_subscription_ends(api: Api) -> None:
    show(api, **ENDING)
    (found,) = api.admin("GET", "/test/subscriptions").json()["subscriptions"]
    assert found["cancelAtPeriodEnd"] is False
    assert found["endsAt"] == found["cancelAt"] == f"{END}T20:26:40.000Z"
    assert found["pauseCollection"] is None


def test_the_api_says_that_collection_is_paused(api: Api) -> None:
    show(api, **PAUSED)
    (found,) = api.admin("GET", "/test/subscriptions").json()["subscriptions"]
    assert found["pauseCollection"] == {
        "behavior": "void",
        "resumesAt": f"{END}T20:26:40.000Z",
    }


def test_the_command_line_says_when_a_subscription_renews_or_ends(
    api: Api, linked: Billhook
) -> None:
    show(api)
    header, row = linked("subscriptions").out.splitlines()
    assert "renews" in header
    assert "ends" not in header
    assert END in row

    show(api, **ENDING)
    header, row = linked("subscriptions").out.splitlines()
    assert "ends" in header
    assert "renews" not in header
    assert END in row


def test_the_command_line_says_that_collection_is_paused(api: Api, linked: Billhook) -> None:
    show(api, **PAUSED)
    assert f"active, collection paused until {END}" in linked("subscriptions").out


def test_the_dashboard_says_when_a_subscription_ends(api: Api, visitor: Visitor) -> None:
    show(api, **ENDING)
    assert f"canceling Ends {END_OF_PEOPLE}" in visitor.text("/test/subscriptions")
    show(api, status="canceled", **ENDING, ended_at=T0 + 60)
    assert "canceled Ended 28 May 2026" in visitor.text("/test/subscriptions")


def test_the_dashboard_says_that_collection_is_paused(api: Api, visitor: Visitor) -> None:
    show(api, **PAUSED)
    assert f"collection paused Paused until {END_OF_PEOPLE}" in visitor.text("/test/subscriptions")


def test_the_dashboard_names_the_customer_of_a_subscription(api: Api, visitor: Visitor) -> None:
    show(api)
    assert "cus_1" in visitor.text("/test/subscriptions")
    told = event("customer.created", customer("cus_1", email="ada@example.com"))
    assert api.deliver(told).is_success
    page = visitor.text("/test/subscriptions")
    assert "ada@example.com" in page
    assert "cus_1" not in page


def test_the_documented_answer_has_both(api: Api) -> None:
    schema = api.http.get("/openapi.json").json()["components"]["schemas"]["Subscription"]
    assert {"endsAt", "pauseCollection"} <= set(schema["properties"])
