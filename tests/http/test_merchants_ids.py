"""Ids that merchants chose for products and prices: every way leads to them, percent-encoded."""

from __future__ import annotations

import re
from contextlib import suppress
from html import unescape
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import stripe

from api import STRIPE_KEY, Api
from billhook.client import Client
from cli import Billhook
from http_tokens import ADMIN_KEY
from stripe_events import event, price, product
from visitor import Visitor

PRODUCTS = [
    "shop/42 100%",
    "a/../b",
    "../status",
    "a//b/",
    "50%2F50",
    "what?ever#this",
    "ключ/鍵+&=;",
    "cat/status",
    "..",
    '"quoted" <b>',
]
PRICE = "Pro plan $699/month"

pytestmark = pytest.mark.sampled(4)


@pytest.fixture(params=PRODUCTS)
def product_id(request: pytest.FixtureRequest, api: Api) -> str:
    """A product of that id, with a price; the mirror has both, Stripe the product."""
    name: str = request.param
    v1 = stripe.StripeClient(STRIPE_KEY, base_addresses={"api": api.stripe_url}).v1
    with suppress(stripe.InvalidRequestError):  # the tests share a sandbox
        v1.products.create({"id": name, "name": "Typed"})
    shown: list[tuple[str, dict[str, Any]]] = [
        ("product.created", product(name, name="Typed", default_price=PRICE)),
        ("price.created", price(PRICE, product=name)),
        ("product.created", product("shop", name="Another")),
        ("product.created", product("cat", name="Another")),
    ]
    for kind, each in shown:
        assert api.deliver(event(kind, each)).is_success
    return name


def step(name: str) -> str:
    return quote(name, safe="").replace("..", "%2E%2E") if name == ".." else quote(name, safe="")


def test_the_api_reads_changes_and_refuses_by_such_ids(api: Api, product_id: str) -> None:
    path = f"/test/catalog/products/{step(product_id)}"
    found = api.admin("GET", path)
    assert found.status_code == 200, found.text
    assert found.json()["product"]["productId"] == product_id
    assert [each["priceId"] for each in found.json()["prices"]] == [PRICE]
    assert (
        api.admin("GET", f"/test/catalog/prices/{step(PRICE)}").json()["price"]["priceId"] == PRICE
    )
    changed = api.admin("PATCH", path, {"name": "Renamed"})
    assert changed.status_code == 200, changed.text
    assert api.admin("GET", path).json()["product"]["name"] == "Renamed"
    listed = api.admin("GET", "/test/catalog/prices", params={"productId": product_id}).json()
    assert [each["priceId"] for each in listed["prices"]] == [PRICE]
    # Stripe's own answer, which names the id that it was asked for.
    refused = api.admin("DELETE", f"/test/catalog/prices/{step(PRICE)}")
    assert refused.status_code == 404
    assert PRICE in refused.json()["message"]


def test_the_python_client_reaches_such_ids(api: Api, product_id: str) -> None:
    with Client(api.url, ADMIN_KEY) as client:
        found = client.products.get("test", product_id)
        assert found.product.product_id == product_id
        assert client.prices.get("test", PRICE).price_id == PRICE
        assert client.products.update("test", product_id, name="By client").name == "By client"


def test_the_command_line_reaches_such_ids(
    api: Api, product_id: str, billhook: Billhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BILLHOOK_URL", api.url)
    monkeypatch.setenv("BILLHOOK_API_KEY", ADMIN_KEY)
    shown = billhook("products", "get", product_id, "--json")
    assert shown.code == 0, shown.err
    assert shown.json["product"]["productId"] == product_id
    assert billhook("prices", "get", PRICE, "--json").json["price"]["priceId"] == PRICE
    renamed = billhook("products", "update", product_id, "--name", "By hand", "--json")
    assert renamed.json["product"]["name"] == "By hand"


def test_the_dashboard_leads_to_such_ids(api: Api, product_id: str, visitor: Visitor) -> None:
    page = visitor.read("/test/catalog")
    (link,) = [
        unescape(found)
        for found, name in re.findall(r'<a href="([^"]*)">Edit (\w+)</a>', page)
        if name == "Typed"
    ]
    assert link == f"/dashboard/test/catalog/{step(product_id)}"
    below = link.removeprefix("/dashboard")
    assert "Typed" in visitor.text(below)
    forms = {unescape(each) for each in re.findall(r'action="([^"]*)"', visitor.read(below))}
    assert f"{link}/prices/{step(PRICE)}" in forms
    for form, fields in (("", {"name": "Typed"}), ("/status", {"active": "false"})):
        sent = visitor.send(f"{below}{form}", **fields)
        assert sent.status_code == 303, sent.text
        assert sent.headers["location"] == link
    assert "archived" in visitor.text(below)
    shown = visitor.text(f"{below}?price={quote(PRICE, safe='')}")
    assert PRICE in shown


def test_whoever_signs_in_comes_back_to_the_page_of_such_an_id(api: Api, product_id: str) -> None:
    page = f"/dashboard/test/catalog/{step(product_id)}"
    with httpx.Client(base_url=api.url, timeout=60) as browser:
        turned = browser.get(page, headers={"accept": "text/html"})
        assert turned.status_code == 303
        wanted = httpx.URL(turned.headers["location"]).params["next"]
        answer = browser.post("/dashboard/sign-in", data={"credential": ADMIN_KEY, "next": wanted})
        # A browser takes `%2E%2E` for a way out of the dashboard, where nothing leads to.
        assert answer.headers["location"] == (page if product_id != ".." else "/dashboard/")


def test_an_id_that_nothing_has_is_named_in_the_404(api: Api) -> None:
    answer = api.admin("GET", "/test/catalog/products/no%2Fsuch%20%25")
    assert answer.status_code == 404
    assert answer.json()["error"] == "PAYMENT_PRODUCT_NOT_FOUND"
    assert "no/such %" in answer.json()["message"]
    nowhere = api.admin("GET", "/test/no%2Fsuch")
    assert "no%2Fsuch" in nowhere.json()["message"]


def test_spaces_around_an_id_are_part_of_it(api: Api, visitor: Visitor) -> None:
    for name in ("tea", " tea", "tea\t"):
        assert api.deliver(event("product.created", product(name, name=f"Tea {name!r}"))).is_success
        assert api.deliver(event("price.created", price(f"{name} ", product=name))).is_success
    for name in ("tea", " tea", "tea\t"):
        found = api.admin("GET", f"/test/catalog/products/{step(name)}").json()
        assert found["product"]["productId"] == name
        assert [each["priceId"] for each in found["prices"]] == [f"{name} "]
        shown = api.admin("GET", f"/test/catalog/prices/{step(f'{name} ')}").json()
        assert shown["price"]["productId"] == name
        page = f"/test/catalog/{step(name)}?price={step(f'{name} ')}"
        assert f"Tea {name!r}" in visitor.text(page)
    assert api.admin("GET", f"/test/catalog/products/{step('tea ')}").status_code == 404


def test_an_empty_id_is_no_route(api: Api) -> None:
    assert api.admin("GET", "/test/catalog/products/").status_code == 404
    assert api.admin("GET", "/test/catalog/products/%20").status_code == 400
