"""The catalog for pricing pages: off by default, without credentials, cacheable, and without
anything that is not for everyone."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from api import Api, serving
from billhook.reports import public_catalog
from stripe_events import event

PATH = "/api/payments/stripe/test/public-catalog"
ORIGIN = {"origin": "https://app.example"}


def product(name: str, **more: Any) -> dict[str, Any]:
    return {
        "id": f"prod_{name}",
        "object": "product",
        "name": name,
        "description": f"The {name}.",
        "active": True,
        "metadata": {"cost": "secret-cost"},
        **more,
    }


def price(name: str, of: str, amount: int, **more: Any) -> dict[str, Any]:
    return {
        "id": f"price_{name}",
        "object": "price",
        "product": f"prod_{of}",
        "active": True,
        "currency": "eur",
        "unit_amount": amount,
        "unit_amount_decimal": str(amount),
        "type": "one_time",
        "billing_scheme": "per_unit",
        "lookup_key": None,
        "recurring": None,
        "metadata": {"margin": "secret-margin"},
        **more,
    }


@pytest.fixture
def catalog(api: Api, sandbox: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A server with the public catalog on, and products that its mirror has."""
    monkeypatch.setattr(public_catalog, "_KEPT", 0.0)
    monthly = {"interval": "month", "interval_count": 1, "usage_type": "licensed"}
    for each in (
        product("tea", default_price="price_tea_b"),
        product("mug", active=False),
        product("coffee", default_price="price_coffee_old"),
        product("empty"),
        price("tea_a", "tea", 1500),
        price("tea_b", "tea", 1900, lookup_key="tea", type="recurring", recurring=monthly),
        price("tea_old", "tea", 900, active=False),
        price("mug", "mug", 700),
        price("coffee", "coffee", 500),
        price("coffee_old", "coffee", 400, active=False),
        price("empty", "empty", 1, active=False),
    ):
        assert api.deliver(event(f"{each['object']}.created", each)).is_success
    with serving(api.books.dsn, sandbox, public_catalog=True) as server:
        yield server


def test_it_is_off_unless_the_setting_says_so(api: Api) -> None:
    refused = api.http.get(PATH)
    assert (refused.status_code, refused.json()["error"]) == (404, "NOT_FOUND")
    assert "BILLHOOK_PUBLIC_CATALOG" in refused.json()["nextActions"]


def test_anyone_sees_what_is_for_sale_and_nothing_else(catalog: Api) -> None:
    seen = httpx.get(f"{catalog.url}{PATH}", headers=ORIGIN)
    assert seen.status_code == 200
    assert seen.headers["access-control-allow-origin"] == ORIGIN["origin"]
    coffee, tea = seen.json()["products"]
    assert (coffee["name"], tea["name"]) == ("coffee", "tea"), "active, with active prices"
    assert [each["priceId"] for each in tea["prices"]] == ["price_tea_b", "price_tea_a"]
    assert tea == {
        "productId": "prod_tea",
        "name": "tea",
        "description": "The tea.",
        "defaultPriceId": "price_tea_b",
        "prices": tea["prices"],
    }
    assert tea["prices"][0] == {
        "priceId": "price_tea_b",
        "currency": "eur",
        "unitAmount": 1900,
        "unitAmountDecimal": "1900",
        "type": "recurring",
        "lookupKey": "tea",
        "billingScheme": "per_unit",
        "taxBehavior": None,
        "recurringInterval": "month",
        "recurringIntervalCount": 1,
    }
    assert "secret" not in seen.text, "metadata may be internal"
    assert coffee["defaultPriceId"] is None, "the default price is not active"
    live = httpx.get(f"{catalog.url}{PATH.replace('test', 'live')}")
    assert live.json() == {"products": []}


def test_the_default_price_is_shown_however_many_prices_a_product_has(
    catalog: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(public_catalog, "_MOST_PRICES", 1)
    _, tea = httpx.get(f"{catalog.url}{PATH}").json()["products"]
    assert [each["priceId"] for each in tea["prices"]] == ["price_tea_b"]
    assert tea["defaultPriceId"] == "price_tea_b"


def test_caches_keep_it_and_ask_whether_it_changed(catalog: Api, api: Api) -> None:
    url = f"{catalog.url}{PATH}"
    first = httpx.get(url)
    tag = first.headers["etag"]
    assert first.headers["cache-control"] == "public, max-age=60"
    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        same = httpx.get(url, headers={"if-none-match": known})
        assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", tag)
        assert same.headers["cache-control"] == first.headers["cache-control"]
    renamed = event("product.updated", product("tea", description="Green."))
    assert api.deliver(renamed).is_success
    changed = httpx.get(url, headers={"if-none-match": tag})
    assert changed.status_code == 200
    assert changed.headers["etag"] != tag
    assert httpx.get(f"{url}?nonce=1").status_code == 400, "a query would pass every cache"


def test_requests_in_quick_succession_read_the_database_once(
    catalog: Api, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(public_catalog, "_KEPT", 3600.0)
    url = f"{catalog.url}{PATH}"
    first = httpx.get(url).json()
    assert api.deliver(event("product.deleted", product("tea"))).is_success
    assert httpx.get(url).json() == first
