"""Who has access, from a checkout at Stripe to the answer: for policies, in the API, in the clients
and at the command line."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from api import Api
from billhook import AsyncClient, Client
from cli import Billhook, billhook
from http_tokens import ADMIN_KEY, ANONYMOUS_KEY, token
from recovering import Station, verified
from stripe_events import entitlements, event, price, product, subject, subscription

__all__ = ["billhook"]

ACCESS = "/api/payments/stripe/access"
PRO = "subjectType=team&subjectId=t1&what=pro"


@pytest.fixture
def sold(api: Api) -> Api:
    """A team that has bought three seats of the product `pro`."""
    api.books.apply(
        event("product.created", product("prod_1", metadata={"lookup_key": "pro"})),
        event("price.created", price("price_1", lookup_key="monthly")),
        event("customer.subscription.created", subscription(metadata=subject())),
        event("entitlements.active_entitlement_summary.updated", entitlements("chat")),
    )
    return api


def has(station: Station, what: str, **grace: str) -> bool:
    more = f", grace => '{grace['grace']}'" if grace else ""
    query = f"SELECT payments.has_access('team', 't1', '{what}'{more}) AS it"
    return bool(station.books.row(query)["it"])


def test_a_subscription_at_stripe_gives_access_until_it_ends(
    database_url: str, sandbox: str
) -> None:
    station = Station(database_url, sandbox)
    v1 = station.stripe.v1
    feature = v1.entitlements.features.create({"lookup_key": "chat", "name": "Chat"}).id
    pro = v1.products.create({"name": "Pro", "metadata": {"lookup_key": "pro"}}).id
    v1.products.features.create(pro, {"entitlement_feature": feature})
    monthly: Any = {"interval": "month"}
    bought: Any = {"currency": "usd", "unit_amount": 900, "recurring": monthly, "product": pro}
    its_price = v1.prices.create(bought | {"lookup_key": f"monthly_{pro}"}).id
    card: Any = {"default_payment_method": "pm_card_visa"}
    who = v1.customers.create({"payment_method": "pm_card_visa", "invoice_settings": card}).id
    every = ("pro", pro, its_price, f"monthly_{pro}", "chat")

    def now(what: tuple[str, ...] = every, **grace: str) -> set[bool]:
        station.pull()
        station.control("advance", seconds=5)
        return {has(station, each, **grace) for each in what}

    assert now() == {False}
    given: Any = {"customer": who, "items": [{"price": its_price}], "metadata": subject()}
    made = v1.subscriptions.create(given | {"trial_period_days": 7}).id
    assert now() == {True}
    v1.subscriptions.update(made, {"trial_end": "now"})
    station.control("renew", subscription=made, outcome="failed")
    assert now(every[:4]) == {False}
    # Stripe's own entitlements end when Stripe says so.
    assert now(("chat",)) == {True}
    assert now(every[:4], grace="3 days") == {True}
    invoice = v1.invoices.list({"customer": who, "status": "open"}).data[0].id
    v1.invoices.pay(invoice)
    assert now() == {True}
    v1.subscriptions.cancel(made)
    assert now() == {False}


def test_entitlements_from_before_the_connection_come_with_a_sync(
    database_url: str, sandbox: str
) -> None:
    """And what no event has said is found by a verification."""
    station = Station(database_url, sandbox)
    v1 = station.stripe.v1
    feature = v1.entitlements.features.create({"lookup_key": "chat", "name": "Chat"}).id
    product_id = v1.products.create({"name": "Pro"}).id
    v1.products.features.create(product_id, {"entitlement_feature": feature})
    monthly: Any = {"interval": "month"}
    free: Any = {"currency": "usd", "unit_amount": 0, "recurring": monthly, "product": product_id}
    items: Any = [{"price": v1.prices.create(free).id}]
    who = v1.customers.create({}).id
    made = v1.subscriptions.create({"customer": who, "items": items, "metadata": subject()}).id
    station.control("advance", seconds=5)
    station.sync()
    assert has(station, "chat")
    v1.subscriptions.cancel(made)
    station.control("advance", seconds=5)
    assert has(station, "chat")
    found = verified(station)
    table = "payments.stripe_entitlement_summaries"
    drift = [each for each in found.drift if each.table == table]
    assert [(each.object_id, each.problem, each.fields) for each in drift] == [
        (who, "different", ["entitlements"])
    ]
    verified(station, repair=True)
    assert not has(station, "chat")
    assert verified(station).sound
    compared = {each.table: (each.objects, each.complete) for each in found.tables}
    assert compared[table] == (1, True)


def test_an_admin_asks_for_anyone(sold: Api) -> None:
    answer = sold.admin("GET", f"/access/check?{PRO}")
    assert answer.status_code == 200, answer.text
    found = answer.json()
    (shown,) = found.pop("subscriptions")
    assert found == {
        "environment": "test",
        "subjectType": "team",
        "subjectId": "t1",
        "what": "pro",
        "hasAccess": True,
        "quantity": 3,
        "features": ["chat"],
    }
    assert shown == {
        "subscriptionId": "sub_1",
        "subscriptionItemId": "si_sub_1",
        "customerId": "cus_1",
        "productId": "prod_1",
        "productName": "Tea",
        "productLookupKey": "pro",
        "priceId": "price_1",
        "lookupKey": "monthly",
        "quantity": 3,
        "status": "active",
        "isTrial": False,
        "inGrace": False,
        "until": "2026-06-27T20:26:40.000Z",
    }
    for query, expected in (
        ("subjectType=team&subjectId=t1&what=chat", (True, 0)),
        (f"{PRO}&environment=live", (False, None)),
        ("subjectType=user&subjectId=t1&what=pro", (False, None)),
    ):
        found = sold.admin("GET", f"/access/check?{query}").json()
        assert (found["hasAccess"], found["quantity"]) == expected, query


def test_only_admins_ask_and_change(sold: Api) -> None:
    for method, path in (("GET", ACCESS), ("PATCH", ACCESS), ("GET", f"{ACCESS}/check?{PRO}")):
        body = {"graceSeconds": 60} if method == "PATCH" else None
        for bearer, status in ((None, 401), (ANONYMOUS_KEY, 401), (token(), 403)):
            headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
            answer = sold.http.request(method, path, json=body, headers=headers)
            assert answer.status_code == status, (method, path, bearer)
        admin = {"Authorization": f"Bearer {token(role='project_admin')}"}
        assert sold.http.request(method, path, json=body, headers=admin).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "body", "problem"),
    [
        ("GET", "/access?x=1", None, "x"),
        ("GET", "/access/check?subjectType=team&what=pro", None, "subjectId"),
        ("GET", f"/access/check?{PRO}&environment=prod", None, "environment"),
        ("GET", f"/access/check?{PRO}&graceSeconds=-1", None, "graceSeconds"),
        ("GET", f"/access/check?{PRO}&grace=1", None, "grace"),
        ("PATCH", "/access", {}, "body"),
        ("PATCH", "/access", {"environment": "prod"}, "environment"),
        ("PATCH", "/access", {"environment": None}, "environment"),
        ("PATCH", "/access", {"graceSeconds": -1}, "graceSeconds"),
        ("PATCH", "/access", {"graceSeconds": 10**9}, "graceSeconds"),
        ("PATCH", "/access", {"grace": 1}, "grace"),
    ],
)
def test_what_is_wrong_is_named(sold: Api, method: str, path: str, body: Any, problem: str) -> None:
    answer = sold.admin(method, path, body)
    assert (answer.status_code, answer.json()["error"]) == (400, "INVALID_INPUT")
    assert problem in answer.json()["message"]


def test_the_clients_ask_and_change(sold: Api) -> None:
    with Client(sold.url, ADMIN_KEY) as client:
        assert client.access.settings().environment == "test"
        assert client.access.check("team", "t1", "pro").quantity == 3
        assert not client.access.check("team", "t1", "pro", environment="live").has_access
        (shown,) = client.mirrored("entitlements").page("test", customer="cus_1").items
        assert (shown.lookup_key, shown.feature_id) == ("chat", "feat_chat")

    async def change() -> None:
        async with AsyncClient(sold.url, ADMIN_KEY) as client:
            changed = await client.access.update_settings(environment="live", grace_seconds=60)
            assert (changed.environment, changed.grace_seconds) == ("live", 60)
            assert changed.is_chosen
            assert not (await client.access.check("team", "t1", "pro")).has_access
            assert await client.access.settings() == changed

    asyncio.run(change())


def test_the_command_asks_and_changes(
    sold: Api, billhook: Billhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BILLHOOK_URL", sold.url)
    monkeypatch.setenv("BILLHOOK_API_KEY", ADMIN_KEY)
    shown = "environment: test (until a live account is connected)\ngrace: 0:00:00\n"
    assert billhook("access", "show").out == shown
    found = billhook("access", "check", "team", "t1", "pro")
    assert (found.code, found.out.splitlines()[0]) == (0, "team t1 has pro (test).")
    assert "Features: chat" in found.out
    missing = billhook("access", "check", "team", "t1", "gold", "--json")
    assert (missing.code, missing.json["hasAccess"]) == (1, False)
    changed = billhook("access", "set", "--environment", "live", "--grace", "3d")
    assert changed.out == "environment: live (chosen)\ngrace: 3 days, 0:00:00\n"
    found = billhook("access", "check", "team", "t1", "pro")
    assert (found.code, found.out.splitlines()) == (
        1,
        [
            "team t1 does not have pro (live).",
            "No subscription gives it access to anything.",
        ],
    )
    assert billhook("access", "check", "team", "t1", "pro", "-e", "test").code == 0
    assert billhook("access", "set", "--grace", "0", "--json").json["graceSeconds"] == 0
    assert billhook("access", "set").code == 2
    assert billhook("access", "set", "--grace", "soon").code == 2
    table = billhook("entitlements", "list", "--lookup-key", "chat").out.splitlines()
    assert table[1].split() == ["ent_cus_1_chat", "cus_1", "chat", "feat_chat"]
    assert billhook("features", "list").out == "No features yet.\n"
