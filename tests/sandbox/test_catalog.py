"""Products and prices."""

from __future__ import annotations

import pytest
import stripe

from sandbox.shop import Shop


def test_a_product_is_created_read_changed_and_deleted(shop: Shop) -> None:
    product = shop.v1.products.create({"name": "Tea", "metadata": {"kind": "leaf"}})
    shop.v1.products.update(product.id, {"description": "Green", "metadata": {"year": "2026"}})
    found = shop.get(f"/v1/products/{product.id}")
    assert found["metadata"] == {"kind": "leaf", "year": "2026"}
    assert shop.v1.products.delete(product.id).deleted
    with pytest.raises(stripe.InvalidRequestError) as caught:
        shop.v1.products.retrieve(product.id)
    assert (caught.value.http_status, caught.value.code) == (404, "resource_missing")
    assert shop.types() == ["product.created", "product.updated", "product.deleted"]
    assert shop.events()[-1]["data"]["object"]["active"] is False


def test_fact_24_a_product_with_prices_cannot_be_deleted(shop: Shop) -> None:
    price = shop.v1.prices.retrieve(shop.price())
    with pytest.raises(stripe.InvalidRequestError, match="user-created prices"):
        shop.v1.products.delete(str(price.product))


def test_an_update_event_has_the_previous_metadata_values(shop: Shop) -> None:
    product = shop.v1.products.create({"name": "Tea", "metadata": {"kind": "leaf"}})
    shop.v1.products.update(product.id, {"metadata": {"kind": "", "year": "2026"}})
    previous = shop.events("product.updated")[0]["data"]["previous_attributes"]
    assert previous["metadata"] == {"kind": "leaf", "year": None}


def test_an_update_without_a_difference_emits_no_event(shop: Shop) -> None:
    product = shop.v1.products.create({"name": "Tea"})
    shop.v1.products.update(product.id, {"name": "Tea"})
    assert shop.types() == ["product.created"]


def test_archived_prices_are_listed_on_request_only(shop: Shop) -> None:
    kept, archived = shop.price(), shop.price()
    shop.v1.prices.update(archived, {"active": False})
    assert [price.id for price in shop.v1.prices.list().data] == [kept]
    assert [price.id for price in shop.v1.prices.list({"active": False}).data] == [archived]


def test_prices_are_found_by_product_lookup_key_and_type(shop: Shop) -> None:
    product = shop.v1.products.create({"name": "Tea"}).id
    common = {"product": product, "currency": "usd", "unit_amount": 900}
    once = shop.v1.prices.create({**common, "lookup_key": "once"}).id
    monthly = shop.v1.prices.create({**common, "recurring": {"interval": "month"}}).id
    shop.price()
    found = shop.v1.prices.list({"product": product}).data
    assert [price.id for price in found] == [monthly, once]
    assert shop.v1.prices.list({"lookup_keys": ["once"]}).data[0].id == once
    assert shop.v1.prices.list({"type": "recurring"}).data[0].id == monthly


def test_a_lookup_key_is_transferred_on_request_only(shop: Shop) -> None:
    first, second = shop.price(), shop.price()
    shop.v1.prices.update(first, {"lookup_key": "gold"})
    with pytest.raises(stripe.InvalidRequestError, match="already uses that lookup key"):
        shop.v1.prices.update(second, {"lookup_key": "gold"})
    shop.v1.prices.update(second, {"lookup_key": "gold", "transfer_lookup_key": True})
    assert shop.v1.prices.retrieve(first).lookup_key is None


def test_fact_28_fractions_of_a_cent_are_kept_exactly(shop: Shop) -> None:
    product = shop.v1.products.create({"name": "Tea"}).id
    answer = shop.raw(
        "POST", "/v1/prices", product=product, currency="usd", unit_amount_decimal="0.05"
    ).json()
    assert (answer["unit_amount"], answer["unit_amount_decimal"]) == (None, "0.05")


def test_a_deleted_customer_is_returned_as_deleted(shop: Shop) -> None:
    customer = shop.v1.customers.create({"email": "ada@example.com", "name": "Ada"})
    shop.v1.customers.delete(customer.id)
    answer = shop.raw("GET", f"/v1/customers/{customer.id}")
    assert answer.json() == {"id": customer.id, "object": "customer", "deleted": True}
    assert shop.get("/v1/customers")["data"] == []
    told = shop.events("customer.deleted")[0]["data"]["object"]
    assert told["email"] == "ada@example.com"
    assert "deleted" not in told


def test_a_customer_can_be_created_with_its_default_card(shop: Shop) -> None:
    card = {"payment_method": "pm_card_visa"}
    default = {"invoice_settings": {"default_payment_method": "pm_card_visa"}}
    customer = shop.v1.customers.create({**card, **default})
    (saved,) = shop.v1.customers.payment_methods.list(customer.id).data
    assert customer.invoice_settings.default_payment_method == saved.id
    with pytest.raises(stripe.InvalidRequestError, match="must be attached"):
        shop.v1.customers.create(default)


def test_customers_are_found_by_their_email_even_after_it_changed(shop: Shop) -> None:
    customer = shop.v1.customers.create({"email": "ada@example.com"})
    shop.v1.customers.create({"email": "bob@example.com"})
    assert len(shop.v1.customers.list({"email": "ada@example.com"}).data) == 1
    shop.v1.customers.update(customer.id, {"email": "lovelace@example.com"})
    assert shop.v1.customers.list({"email": "ada@example.com"}).data == []
    assert shop.v1.customers.list({"email": "lovelace@example.com"}).data[0].id == customer.id


def test_a_card_is_attached_listed_and_detached(shop: Shop) -> None:
    customer = shop.v1.customers.create({"email": "ada@example.com"}).id
    method = shop.v1.payment_methods.attach("pm_card_mastercard", {"customer": customer})
    assert method.card is not None
    assert method.card.last4 == "4444"
    assert shop.v1.payment_methods.list({"customer": customer}).data[0].id == method.id
    shop.v1.payment_methods.detach(method.id)
    assert shop.v1.payment_methods.list({"customer": customer}).data == []
    assert shop.types("payment_method") == ["payment_method.attached", "payment_method.detached"]
