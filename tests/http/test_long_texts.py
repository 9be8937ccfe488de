"""Texts as long as Stripe allows, in characters that do not compress: processed, stored whole, and
listed in order."""

from __future__ import annotations

import random
from typing import Any
from urllib.parse import quote

import pytest

from api import Api
from http_tokens import token
from stripe_events import (
    charge,
    customer,
    event,
    invoice,
    payment_intent,
    price,
    product,
    refund,
    session,
    subscription,
)

_random = random.Random(13)


def incompressible(length: int) -> str:
    """Characters of four bytes each, in no order."""
    return "".join(chr(_random.randrange(0x20000, 0x2A6D6)) for _ in range(length))


NAME, METADATA, ID = 5000, 500, 255


def processed(api: Api, kind: str, stripe_object: dict[str, Any], **more: Any) -> None:
    answer = api.deliver(event(kind, stripe_object, **more))
    assert answer.status_code == 200, (kind, answer.text)
    assert answer.json()["event"]["processingStatus"] == "processed"


def row(api: Api, table: str) -> dict[str, Any]:
    return api.books.row(f"SELECT * FROM payments.{table}")


def test_a_catalog_of_the_longest_texts_is_stored_whole(api: Api) -> None:
    product_id, price_id = incompressible(ID), incompressible(ID)
    name, description, key = incompressible(NAME), incompressible(40_000), incompressible(200)
    metadata = {incompressible(40): incompressible(METADATA) for _ in range(50)}
    long_product = product(
        product_id,
        name=name,
        description=description,
        metadata=metadata,
        default_price=price_id,
        statement_descriptor=incompressible(NAME),
    )
    processed(api, "product.created", long_product)
    long_price = price(price_id, product=product_id, lookup_key=key, metadata=metadata)
    processed(api, "price.created", {**long_price, "nickname": incompressible(NAME)})

    stored = row(api, "stripe_products")
    assert (stored["product_id"], stored["name"]) == (product_id, name)
    assert (stored["description"], stored["metadata"]) == (description, metadata)
    assert row(api, "stripe_prices")["lookup_key"] == key
    assert api.admin("GET", "/test/catalog").json()["products"][0]["name"] == name
    found = api.admin("GET", f"/test/catalog/products/{quote(product_id, safe='')}").json()
    assert found["product"]["productId"] == product_id
    assert [each["priceId"] for each in found["prices"]] == [price_id]
    for kind, gone in (("price", price_id), ("product", product_id)):
        processed(api, f"{kind}.deleted", {"id": gone, "object": kind, "deleted": True}, at=9)


@pytest.mark.parametrize("email_length", [512, NAME])
def test_a_customer_of_the_longest_texts_is_stored_whole(api: Api, email_length: int) -> None:
    email = incompressible(email_length - 12) + "@example.com"
    name, phone = incompressible(NAME), incompressible(NAME)
    customer_id = incompressible(ID)
    processed(api, "customer.created", customer(customer_id, email=email, name=name, phone=phone))
    stored = row(api, "customers")
    assert (stored["email"], stored["name"], stored["phone"]) == (email, name, phone)
    for order in ("name", "newest", "oldest"):
        listed = api.admin("GET", "/test/customers", params={"order": order}).json()["customers"]
        assert [each["email"] for each in listed] == [email]
    found = api.admin("GET", "/test/customers", params={"search": email[:150]}).json()
    assert [each["providerCustomerId"] for each in found["customers"]] == [customer_id]
    processed(api, "customer.deleted", customer(customer_id, email=email), at=9)


@pytest.mark.parametrize("type_length", [4, 100, METADATA])
def test_a_subject_of_the_longest_texts_is_stored_whole_wherever_it_is_named(
    api: Api, type_length: int
) -> None:
    kind, name = incompressible(type_length), incompressible(METADATA)
    metadata = {"insforge_subject_type": kind, "insforge_subject_id": name}
    bought = metadata | {"insforge_checkout_mode": "payment"}
    email, words = incompressible(NAME), incompressible(NAME)
    processed(api, "customer.subscription.created", subscription(metadata=metadata))
    processed(
        api,
        "checkout.session.completed",
        session(metadata=bought, customer_details={"email": email}),
    )
    processed(
        api,
        "payment_intent.succeeded",
        payment_intent(metadata=bought, receipt_email=email, description=words, customer=None),
    )
    details = {"subscription_details": {"subscription": "sub_1", "metadata": metadata}}
    processed(
        api,
        "invoice.paid",
        invoice(parent=details, customer_email=email, description=words, number=words),
    )
    processed(api, "refund.created", refund(description=words))
    processed(api, "charge.refunded", charge(amount_refunded=500))

    params = {"subjectType": kind, "subjectId": name}
    found = api.admin("GET", "/test/transactions", params=params).json()["transactions"]
    assert {each["type"] for each in found} == {
        "one_time_payment",
        "subscription_invoice",
        "refund",
    }
    assert all((each["subjectType"], each["subjectId"]) == (kind, name) for each in found)
    (shown,) = api.admin("GET", "/test/subscriptions", params=params).json()["subscriptions"]
    assert (shown["subjectType"], shown["subjectId"]) == (kind, name)
    mapped = api.books.rows("SELECT subject_id FROM payments.customer_mappings")
    assert mapped == ([] if type_length == METADATA else [{"subject_id": name}])


def test_a_checkout_and_a_portal_take_the_longest_subject(api: Api) -> None:
    made = api.stripe.v1.products.create({"name": "Tea"})
    cost = api.stripe.v1.prices.create({"product": made.id, "currency": "eur", "unit_amount": 900})
    subject = {"type": incompressible(100), "id": incompressible(255)}
    answer = api.checkout(
        {
            "mode": "payment",
            "lineItems": [{"priceId": cost.id}],
            "successUrl": "https://shop.test/" + "x" * 2000,
            "cancelUrl": "https://shop.test",
            "subject": subject,
            "idempotencyKey": incompressible(200),
        },
        token(),
    )
    assert answer.status_code == 201, answer.text
    assert row(api, "stripe_checkout_sessions")["subject_id"] == subject["id"]
    portal = api.post(
        "/api/payments/stripe/test/customer-portal-sessions", {"subject": subject}, token()
    )
    assert portal.status_code == 404  # nobody pays for it yet; the row is there
    assert row(api, "stripe_customer_portal_sessions")["subject_id"] == subject["id"]


def test_pages_of_customers_with_long_names_show_each_once_in_both_directions(api: Api) -> None:
    begin = incompressible(300)
    names = [begin + incompressible(4) for _ in range(9)] + ["Ada", "Bob", incompressible(NAME)]
    for number, name in enumerate(names):
        processed(api, "customer.created", customer(f"cus_{number:02d}", email=None, name=name))
    whole = api.admin("GET", "/test/customers").json()["customers"]
    ids = [each["providerCustomerId"] for each in whole]
    assert sorted(ids) == [f"cus_{number:02d}" for number in range(len(names))]
    assert [each for each in ids if each < "cus_09"] == sorted(ids)[:9]

    forth, answer = [], api.admin("GET", "/test/customers", params={"limit": 2})
    while True:
        forth += [each["providerCustomerId"] for each in answer.json()["customers"]]
        if "next" not in answer.links:
            break
        answer = _follow(api, answer, "next")
    assert forth == ids
    back: list[str] = []
    while "prev" in answer.links:
        answer = _follow(api, answer, "prev")
        back = [each["providerCustomerId"] for each in answer.json()["customers"]] + back
    assert back == ids[: len(back)]
    assert len(back) >= len(ids) - 2


def _follow(api: Api, answer: Any, name: str) -> Any:
    return api.http.get(answer.links[name]["url"], headers=answer.request.headers)


@pytest.mark.parametrize("length", [1800, 2600, 5000])
def test_an_object_with_an_id_that_no_index_holds_is_not_mirrored_and_holds_up_nothing(
    api: Api, length: int
) -> None:
    beyond = incompressible(length // 4 + 1)
    assert len(beyond.encode()) > length
    for kind, of in (("product", product), ("price", price), ("customer", customer)):
        for change in ("created", "updated", "deleted"):
            answer = api.deliver(event(f"{kind}.{change}", of(beyond)))
            assert answer.status_code == 200, answer.text
            assert answer.json()["event"]["processingStatus"] == "ignored"
    processed(api, "product.created", product(default_price=beyond))
    processed(api, "price.created", price(product=beyond))
    item = {"id": "si_1", "price": {"id": beyond, "product": beyond}}
    processed(api, "customer.subscription.created", subscription(items={"data": [item]}))
    processed(api, "payment_intent.succeeded", payment_intent(customer=beyond))
    assert row(api, "stripe_products")["default_price_id"] is None
    assert row(api, "stripe_prices")["product_id"] is None
    assert row(api, "stripe_subscription_items")["price_id"] is None
    assert row(api, "transactions")["provider_customer_id"] is None


def test_an_event_of_an_object_with_an_id_beyond_all_limits_is_recorded(api: Api) -> None:
    answer = api.deliver(event("thing.created", {"id": incompressible(NAME), "object": "thing"}))
    assert answer.status_code == 200, answer.text
    assert answer.json()["event"]["processingStatus"] == "ignored"
