"""The catalog: changed at Stripe, shown at once (contract section 3.2)."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from api import Api

CATALOG = "/test/catalog"


def make_product(api: Api, **more: Any) -> Any:
    answer = api.admin("POST", f"{CATALOG}/products", {"name": "Tea", **more})
    assert answer.status_code == 201, answer.text
    return answer.json()["product"]


def make_price(api: Api, product_id: str, **more: Any) -> Any:
    body = {"productId": product_id, "currency": "EUR", "unitAmount": 1500, **more}
    answer = api.admin("POST", f"{CATALOG}/prices", body)
    assert answer.status_code == 201, answer.text
    return answer.json()["price"]


def test_a_product_is_made_changed_and_deleted(api: Api) -> None:
    made = make_product(api, name="  Tea ", description="Green", metadata={"sku": "t-1"})
    assert {**made, "productId": "", "syncedAt": ""} == {
        "environment": "test",
        "productId": "",
        "name": "Tea",
        "description": "Green",
        "active": True,
        "defaultPriceId": None,
        "metadata": {"sku": "t-1"},
        "syncedAt": "",
    }
    path = f"{CATALOG}/products/{made['productId']}"
    changed = api.admin("PATCH", path, {"description": None, "active": False}).json()["product"]
    assert (changed["name"], changed["description"], changed["active"]) == ("Tea", None, False)
    shown = api.admin("GET", path).json()
    assert (still(shown["product"]), shown["prices"]) == (still(changed), [])
    assert api.admin("DELETE", path).json() == {"productId": made["productId"], "deleted": True}
    gone = api.admin("GET", path)
    assert (gone.status_code, gone.json()["error"]) == (404, "PAYMENT_PRODUCT_NOT_FOUND")


def test_something_new_may_say_null_of_what_it_lacks(api: Api) -> None:
    made = make_product(api, description=None)
    assert made["description"] is None
    assert make_price(api, made["productId"], lookupKey=None)["lookupKey"] is None


def test_a_price_is_made_changed_and_archived(api: Api) -> None:
    product = make_product(api)["productId"]
    made = make_price(
        api,
        product,
        lookupKey="monthly",
        recurring={"interval": "month", "intervalCount": 3},
        taxBehavior="exclusive",
    )
    assert {**made, "priceId": "", "syncedAt": ""} == {
        "environment": "test",
        "priceId": "",
        "productId": product,
        "active": True,
        "currency": "eur",
        "unitAmount": 1500,
        "unitAmountDecimal": "1500",
        "type": "recurring",
        "lookupKey": "monthly",
        "billingScheme": "per_unit",
        "taxBehavior": "exclusive",
        "recurringInterval": "month",
        "recurringIntervalCount": 3,
        "metadata": {},
        "syncedAt": "",
    }
    path = f"{CATALOG}/prices/{made['priceId']}"
    changed = api.admin("PATCH", path, {"metadata": {"a": "b"}, "lookupKey": None}).json()["price"]
    assert (changed["metadata"], changed["lookupKey"]) == ({"a": "b"}, None)
    archived = api.admin("DELETE", path).json()
    assert archived == {"price": {**archived["price"], "active": False}, "archived": True}
    assert api.admin("GET", path).json()["price"]["active"] is False


def test_prices_can_be_listed_by_product(api: Api) -> None:
    tea, coffee = make_product(api)["productId"], make_product(api, name="Coffee")["productId"]
    of_tea = make_price(api, tea)
    make_price(api, coffee)
    answer = api.admin("GET", f"{CATALOG}/prices?productId=%20{tea}%20").json()
    assert [still(each) for each in answer["prices"]] == [still(of_tea)]
    whole = api.admin("GET", CATALOG).json()
    assert [each["name"] for each in whole["products"]] == ["Coffee", "Tea"]
    assert [each["productId"] for each in whole["prices"]] == sorted([tea, coffee])
    (price,) = api.admin("GET", f"{CATALOG}/products/{tea}").json()["prices"]
    assert still(price) == still(of_tea)


@pytest.mark.parametrize("key", ["tea-1", "čaj ☕ 1", "two\nlines"])
def test_an_idempotency_key_makes_one_product(api: Api, key: str) -> None:
    first = make_product(api, idempotencyKey=key)
    assert make_product(api, idempotencyKey=key)["productId"] == first["productId"]


def still(found: dict[str, Any]) -> dict[str, Any]:
    """Without the moment of the last look."""
    return {name: value for name, value in found.items() if name != "syncedAt"}


def told(api: Api, kind: str, object_id: str) -> None:
    """Deliver what Stripe tells of an object, in the second in which it happened."""
    events = api.stripe.v1.events.list({"type": kind, "limit": 100}).data
    for each in events:
        if each.data.object["id"] == object_id:
            assert api.deliver(each.to_dict()).status_code == 200


def test_a_change_in_the_second_of_its_events_is_shown(api: Api) -> None:
    made = make_product(api)["productId"]
    path = f"{CATALOG}/products/{made}"
    told(api, "product.created", made)
    for name in ("Green tea", "Black tea"):
        assert api.admin("PATCH", path, {"name": name}).json()["product"]["name"] == name
        assert api.admin("GET", path).json()["product"]["name"] == name
        told(api, "product.updated", made)
        assert api.admin("GET", path).json()["product"]["name"] == name
    assert api.admin("DELETE", path).json()["deleted"] is True
    assert api.admin("GET", path).status_code == 404
    told(api, "product.updated", made)
    assert api.admin("GET", path).status_code == 404


def test_a_repeated_creation_undoes_no_change_and_no_deletion(api: Api) -> None:
    made = make_product(api, idempotencyKey="once")["productId"]
    path = f"{CATALOG}/products/{made}"
    api.admin("PATCH", path, {"name": "Green tea"})
    make_product(api, idempotencyKey="once")
    assert api.admin("GET", path).json()["product"]["name"] == "Green tea"
    api.admin("DELETE", path)
    make_product(api, idempotencyKey="once")
    assert api.admin("GET", path).status_code == 404


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PATCH", "/products/prod_none"),
        ("DELETE", "/products/prod_none"),
        ("PATCH", "/prices/price_none"),
        ("DELETE", "/prices/price_none"),
    ],
)
def test_what_stripe_does_not_know_is_stripes_404(shared_api: Api, method: str, path: str) -> None:
    body = {"active": False} if method == "PATCH" else None
    answer = shared_api.admin(method, f"{CATALOG}{path}", body)
    assert (answer.status_code, answer.json()["error"]) == (404, "UPSTREAM_FAILURE")


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/products/prod_none", "PAYMENT_PRODUCT_NOT_FOUND"),
        ("/prices/price_none", "PAYMENT_PRICE_NOT_FOUND"),
        ("/products/..%2F..%2Faccount", "PAYMENT_PRODUCT_NOT_FOUND"),
    ],
)
def test_what_the_mirror_does_not_have_is_a_404(shared_api: Api, path: str, code: str) -> None:
    answer = shared_api.admin("GET", f"{CATALOG}{path}")
    assert (answer.status_code, answer.json()["error"]) == (404, code)


@pytest.mark.parametrize(
    ("method", "path", "body", "problem"),
    [
        ("POST", "/products", {}, "name: is required"),
        ("POST", "/products", {"name": " "}, "name: "),
        ("POST", "/products", {"name": "x", "price": 1}, "price: is not a known field"),
        ("POST", "/products", {"name": "x", "description": "d" * 5001}, "description: "),
        ("POST", "/products", {"name": "x", "metadata": {"a": 1}}, "metadata.a: must be a string"),
        ("POST", "/products", {"name": "x", "active": None}, "active: "),
        ("PATCH", "/products/p", {}, "body: must have at least one field"),
        ("PATCH", "/products/p", {"idempotencyKey": "x"}, "idempotencyKey: is not a known field"),
        ("PATCH", "/prices/p", {}, "body: must have at least one field"),
        ("PATCH", "/prices/p", {"unitAmount": 5}, "unitAmount: is not a known field"),
        ("POST", "/prices", {"productId": "p", "currency": "euro", "unitAmount": 1}, "currency: "),
        (
            "POST",
            "/prices",
            {"productId": "p", "currency": "eur", "unitAmount": -1},
            "unitAmount: ",
        ),
        (
            "POST",
            "/prices",
            {"productId": "p", "currency": "eur", "unitAmount": 1.5},
            "unitAmount: ",
        ),
        ("POST", "/prices", {"currency": "eur", "unitAmount": 1}, "productId: is required"),
        (
            "POST",
            "/prices",
            {
                "productId": "p",
                "currency": "eur",
                "unitAmount": 1,
                "recurring": {"interval": "hour", "every": 1},
            },
            "recurring.every: is not a known field",
        ),
        ("GET", "/prices?product=x", None, "product: is not a known field"),
        ("POST", "/prices", {"productId": "p", "currency": "$$$", "unitAmount": 1}, "currency: "),
        ("GET", "/products?limit=1", None, "limit: is not a known field"),
        ("GET", "/products/%00", None, "product_id: must have"),
        ("DELETE", "/prices/price_1?force=1", None, "force: is not a known field"),
    ],
)
def test_bad_input_is_named(api: Api, method: str, path: str, body: Any, problem: str) -> None:
    answer: httpx.Response = api.admin(method, f"{CATALOG}{path}", body)
    assert (answer.status_code, answer.json()["error"]) == (400, "INVALID_INPUT")
    assert problem in answer.json()["message"]


def test_without_a_key_a_change_says_what_to_do(api: Api) -> None:
    answer = api.admin("POST", "/live/catalog/products", {"name": "Tea"})
    assert (answer.status_code, answer.json()["error"]) == (400, "PAYMENT_CONFIG_INVALID")
    assert "config set" in answer.json()["nextActions"]
