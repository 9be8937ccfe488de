"""Features of products, and what their subscribers are entitled to."""

from __future__ import annotations

from typing import Any

import pytest
import stripe

from sandbox.shop import Shop

SUMMARY = "entitlements.active_entitlement_summary.updated"


def feature(shop: Shop, key: str) -> str:
    return shop.v1.entitlements.features.create({"lookup_key": key, "name": key.title()}).id


def plan(shop: Shop, *features: str) -> tuple[str, str]:
    """A product with these features, and its monthly price."""
    product = shop.v1.products.create({"name": "Plan"}).id
    for each in features:
        shop.v1.products.features.create(product, {"entitlement_feature": each})
    monthly: Any = {"interval": "month"}
    price = shop.v1.prices.create(
        {"currency": "usd", "unit_amount": 900, "recurring": monthly, "product": product}
    )
    return product, price.id


def subscriber(shop: Shop) -> str:
    card: Any = {"default_payment_method": "pm_card_visa"}
    given: Any = {"payment_method": "pm_card_visa", "invoice_settings": card}
    return shop.v1.customers.create(given).id


def keys(shop: Shop, customer: str) -> list[str]:
    listed = shop.v1.entitlements.active_entitlements.list({"customer": customer})
    return [each.lookup_key for each in listed.data]


def summaries(shop: Shop) -> list[Any]:
    """The events, oldest first."""
    found = shop.get("/v1/events", type=SUMMARY, limit="100")["data"]
    return [each["data"] for each in reversed(found)]


def test_a_subscription_gives_the_features_of_its_products_and_its_end_takes_them(
    shop: Shop,
) -> None:
    chat, search = feature(shop, "chat"), feature(shop, "search")
    _, price = plan(shop, chat, search)
    customer = subscriber(shop)
    given: Any = {"customer": customer, "items": [{"price": price}]}
    first = shop.v1.subscriptions.create(given).id
    assert keys(shop, customer) == ["chat", "search"]
    second = shop.v1.subscriptions.create(given).id
    shop.v1.subscriptions.cancel(first)
    assert keys(shop, customer) == ["chat", "search"]
    shop.v1.subscriptions.cancel(second)
    assert keys(shop, customer) == []
    granted, taken = summaries(shop)
    assert granted["object"]["customer"] == customer
    assert "id" not in granted["object"]
    listed = granted["object"]["entitlements"]["data"]
    assert [each["feature"] for each in listed] == [chat, search]
    assert granted["previous_attributes"] == {"entitlements": {"data": []}}
    assert taken["object"]["entitlements"]["data"] == []
    assert taken["previous_attributes"] == {"entitlements": {"data": listed}}


def test_an_event_shows_the_first_ten_of_many_and_the_list_shows_all(shop: Shop) -> None:
    _, price = plan(shop, *(feature(shop, f"f{n}") for n in range(12)))
    customer = subscriber(shop)
    shop.v1.subscriptions.create({"customer": customer, "items": [{"price": price}]})
    (granted,) = summaries(shop)
    listed = granted["object"]["entitlements"]
    assert (len(listed["data"]), listed["has_more"]) == (10, True)
    every = shop.v1.entitlements.active_entitlements.list({"customer": customer, "limit": 5})
    assert len(list(every.auto_paging_iter())) == 12
    one = shop.v1.entitlements.active_entitlements.retrieve(
        listed["data"][0]["id"], {"expand": ["feature"]}
    )
    assert not isinstance(one.feature, str)
    assert one.feature.lookup_key == "f0"


def test_a_feature_added_later_comes_with_the_next_change_of_the_subscription(shop: Shop) -> None:
    product, price = plan(shop, feature(shop, "chat"))
    customer = subscriber(shop)
    given: Any = {"customer": customer, "items": [{"price": price}]}
    subscription = shop.v1.subscriptions.create(given).id
    added = feature(shop, "search")
    attached = shop.v1.products.features.create(product, {"entitlement_feature": added}).id
    assert keys(shop, customer) == ["chat"]
    shop.sandbox.control("renew", subscription=subscription)
    assert keys(shop, customer) == ["chat", "search"]
    shop.v1.products.features.delete(product, attached)
    assert len(shop.v1.products.features.list(product).data) == 1
    shop.sandbox.control("renew", subscription=subscription)
    assert keys(shop, customer) == ["chat"]


def test_a_customer_that_is_deleted_is_entitled_to_nothing(shop: Shop) -> None:
    _, price = plan(shop, feature(shop, "chat"))
    customer = subscriber(shop)
    shop.v1.subscriptions.create({"customer": customer, "items": [{"price": price}]})
    shop.v1.customers.delete(customer)
    assert keys(shop, customer) == []
    assert summaries(shop)[-1]["object"]["entitlements"]["data"] == []


def test_an_archived_feature_is_listed_apart_and_attached_to_nothing_new(shop: Shop) -> None:
    chat, search = feature(shop, "chat"), feature(shop, "search")
    features = shop.v1.entitlements.features
    assert features.update(chat, {"active": False, "name": "Chat"}).name == "Chat"
    assert [each.id for each in features.list().data] == [search]
    assert [each.id for each in features.list({"archived": True}).data] == [chat]
    assert features.list({"lookup_key": "search"}).data[0].id == search
    with pytest.raises(stripe.InvalidRequestError, match="Inactive features"):
        plan(shop, chat)


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"name": "Chat"}, "lookup_key"),
        ({"name": "Chat", "lookup_key": "taken"}, "lookup_key"),
        ({"name": "Chat", "lookup_key": "x" * 81}, "lookup_key"),
        ({"lookup_key": "chat"}, "name"),
    ],
)
def test_an_invalid_feature_is_rejected(shop: Shop, given: Any, param: str) -> None:
    feature(shop, "taken")
    with pytest.raises(stripe.InvalidRequestError) as caught:
        shop.v1.entitlements.features.create(given)
    assert caught.value.param == param


def test_what_does_not_exist_has_no_features(shop: Shop) -> None:
    with pytest.raises(stripe.InvalidRequestError, match="No such customer"):
        keys(shop, "cus_nobody")
    with pytest.raises(stripe.InvalidRequestError, match="No such product"):
        shop.v1.products.features.list("prod_nothing")
    product, _ = plan(shop)
    with pytest.raises(stripe.InvalidRequestError, match="No such product_feature"):
        shop.v1.products.features.delete(product, "prodft_nothing")
