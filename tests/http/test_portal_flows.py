"""Deep links into the customer portal: one action, of one subscription, then back to the app."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from api import Api
from http_tokens import ADMIN_KEY, USER, token
from subscribers import MINE, OTHER, Subscriber, price, subscribe

PORTAL = "/api/payments/stripe/test/customer-portal-sessions"
TABLE = "payments.stripe_customer_portal_sessions"
POLICIES = f"""
    ALTER TABLE {TABLE} ENABLE ROW LEVEL SECURITY;
    CREATE POLICY own ON {TABLE} TO authenticated
        USING (subject_type = 'user' AND subject_id = auth.jwt() ->> 'sub');
"""


@pytest.fixture
def mine(api: Api) -> Subscriber:
    api.books.execute(POLICIES)
    return subscribe(api, price(api, 3000), quantity=3)


def opened(api: Api, sender: str | None = None, **flow: Any) -> httpx.Response:
    return api.post(PORTAL, {"subject": MINE, "flowData": flow}, sender or token())


def page(answer: httpx.Response) -> str:
    """The address of the portal of a response that must have one."""
    assert answer.status_code == 201, answer.text
    return str(answer.json()["customerPortalSession"]["url"])


def stored(api: Api) -> list[dict[str, Any]]:
    return api.books.rows(f"SELECT * FROM {TABLE} ORDER BY created_at")


def test_a_subscription_is_canceled_on_its_page_and_the_browser_returns(
    api: Api, mine: Subscriber
) -> None:
    done = {"type": "redirect", "returnUrl": "https://app.example/billing?canceled"}
    flow = {"type": "subscription_cancel", "subscriptionId": mine.id, "afterCompletion": done}
    url = page(opened(api, **flow))
    (row,) = stored(api)
    assert (row["status"], row["flow_data"]) == ("created", flow)
    submitted = httpx.post(url, data={"action": "cancel"}, timeout=60)
    assert submitted.headers["location"] == "https://app.example/billing?canceled"
    assert mine.at_stripe()["cancel_at_period_end"] is True


def test_a_change_is_confirmed_on_its_page(api: Api, mine: Subscriber) -> None:
    dear = price(api, 9000, lookup_key="portal_plan")
    flow = {
        "type": "subscription_update_confirm",
        "subscriptionId": mine.id,
        "items": [{"lookupKey": "portal_plan"}],
        "afterCompletion": {"type": "hosted_confirmation", "message": "Enjoy!"},
    }
    url = page(opened(api, **flow))
    (row,) = stored(api)
    assert row["flow_data"]["items"] == [{"lookupKey": "portal_plan", "priceId": dear}]
    submitted = httpx.post(url, data={"action": "confirm"}, timeout=60, follow_redirects=True)
    assert "Enjoy!" in submitted.text
    item = mine.item()
    assert (item["price"]["id"], item["quantity"]) == (dear, 3)


@pytest.mark.parametrize("items", [[{"quantity": 9}], [{"quantity": 9, "subscriptionItemId": "?"}]])
def test_a_quantity_is_confirmed(api: Api, mine: Subscriber, items: list[dict[str, Any]]) -> None:
    for item in items:
        if "subscriptionItemId" in item:
            item["subscriptionItemId"] = mine.item()["id"]
    confirm = {"type": "subscription_update_confirm", "subscriptionId": mine.id, "items": items}
    url = page(opened(api, **confirm))
    httpx.post(url, data={"action": "confirm"}, timeout=60)
    assert mine.item()["quantity"] == 9


@pytest.mark.parametrize("kind", ["payment_method_update", "subscription_update"])
def test_the_other_pages_open(api: Api, mine: Subscriber, kind: str) -> None:
    of = {} if kind == "payment_method_update" else {"subscriptionId": mine.id}
    assert httpx.get(page(opened(api, type=kind, **of)), timeout=60).status_code == 200
    (row,) = stored(api)
    assert row["flow_data"] == {"type": kind, **of}


def test_without_a_flow_nothing_is_different(api: Api, mine: Subscriber) -> None:
    plain = api.post(PORTAL, {"subject": MINE}, token()).json()["customerPortalSession"]
    linked = opened(api, type="payment_method_update").json()["customerPortalSession"]
    assert plain.keys() == linked.keys()
    assert "flowData" not in plain
    first, second = stored(api)
    assert (first["flow_data"], second["flow_data"]) == (None, {"type": "payment_method_update"})


def test_only_subscriptions_of_the_subjects_customer_are_linked(api: Api, mine: Subscriber) -> None:
    theirs = subscribe(api, price(api), subject={"type": "user", "id": OTHER})
    for subscription in (theirs.id, "sub_nowhere"):
        for kind in ("subscription_cancel", "subscription_update", "subscription_update_confirm"):
            items = {"items": [{"quantity": 2}]} if kind.endswith("confirm") else {}
            refused = opened(api, type=kind, subscriptionId=subscription, **items)
            assert (refused.status_code, refused.json()["error"]) == (404, "PAYMENT_NOT_FOUND")
    rows = stored(api)
    assert {row["status"] for row in rows} == {"failed"}
    assert {row["last_error"] for row in rows} == {
        f"The subject's customer has no subscription {each} in the test environment."
        for each in (theirs.id, "sub_nowhere")
    }
    # A backend opens it for its own user only.
    as_other = {"claims": {"sub": OTHER}}
    body = {
        "subject": MINE,
        "flowData": {"type": "subscription_cancel", "subscriptionId": mine.id},
        "actAs": as_other,
    }
    assert api.post(PORTAL, body, ADMIN_KEY).status_code == 403
    body["actAs"] = {"claims": {"sub": USER}}
    assert api.post(PORTAL, body, ADMIN_KEY).status_code == 201


def test_policies_look_at_the_flow(api: Api, mine: Subscriber) -> None:
    api.books.execute(f"""
        CREATE POLICY only_cards ON {TABLE} AS RESTRICTIVE FOR INSERT TO authenticated
            WITH CHECK (flow_data ->> 'type' = 'payment_method_update')""")
    assert opened(api, type="payment_method_update").status_code == 201
    cancel = {"type": "subscription_cancel", "subscriptionId": mine.id}
    for refused in (opened(api, **cancel), api.post(PORTAL, {"subject": MINE}, token())):
        assert (refused.status_code, refused.json()["error"]) == (403, "AUTH_UNAUTHORIZED")


def test_what_stripe_refuses_is_told(api: Api, mine: Subscriber) -> None:
    mine.changed("cancel", ADMIN_KEY)
    refused = opened(api, type="subscription_cancel", subscriptionId=mine.id)
    assert (refused.status_code, refused.json()["error"]) == (400, "UPSTREAM_FAILURE")
    assert "already set to be canceled" in refused.json()["message"]
    unknown = opened(
        api,
        type="subscription_update_confirm",
        subscriptionId=mine.id,
        items=[{"lookupKey": "nobody_has_this"}],
    )
    assert unknown.status_code == 400
    assert unknown.json()["message"].startswith("flowData.items.0.lookupKey: no active price")


OF = {"subscriptionId": "sub_1"}
ITEMS = {"items": [{"quantity": 2}]}


@pytest.mark.parametrize(
    ("flow", "problem"),
    [
        ({}, "flowData.type: is required"),
        ({"type": "subscription_pause", **OF}, "flowData.type: must be"),
        ({"type": "subscription_cancel"}, "flowData.subscriptionId: is required"),
        ({"type": "payment_method_update", **OF}, "flowData.subscriptionId: is required"),
        ({"type": "subscription_update_confirm", **OF}, "flowData.items: is required"),
        ({"type": "subscription_update", **OF, **ITEMS}, "flowData.items: is required"),
        (
            {"type": "subscription_update_confirm", **OF, "items": [{"quantity": 1}] * 2},
            "flowData.items: ",
        ),
        ({"type": "subscription_update_confirm", **OF, "items": [{}]}, "flowData.items.0: "),
        (
            {"type": "payment_method_update", "afterCompletion": {"type": "redirect"}},
            "flowData.afterCompletion.returnUrl: is required",
        ),
        (
            {
                "type": "payment_method_update",
                "afterCompletion": {"type": "redirect", "returnUrl": "javascript:alert(1)"},
            },
            "flowData.afterCompletion.returnUrl: must not be",
        ),
        (
            {
                "type": "payment_method_update",
                "afterCompletion": {"type": "portal_homepage", "message": "Thanks"},
            },
            "flowData.afterCompletion.message: ",
        ),
        ({"type": "payment_method_update", "locale": "de"}, "flowData.locale: is not a known"),
        (None, "flowData: must not be null"),
    ],
)
def test_what_makes_no_sense_is_refused(shared_api: Api, flow: Any, problem: str) -> None:
    refused = shared_api.post(PORTAL, {"subject": MINE, "flowData": flow}, token())
    assert (refused.status_code, refused.json()["error"]) == (400, "INVALID_INPUT")
    assert refused.json()["message"].startswith(problem)
