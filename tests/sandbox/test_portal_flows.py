"""Deep links into the customer portal."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import stripe

from sandbox.shop import Shop, web

HOME = {"return_url": "https://shop.example/account"}
THANKS = "https://shop.example/changed"
REDIRECT = {"type": "redirect", "redirect": {"return_url": THANKS}}


class Subscriber:
    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        paid = shop.paid("subscription")
        self.customer, self.id = paid["customer"], paid["subscription"]

    def get(self) -> Any:
        return self.shop.get(f"/v1/subscriptions/{self.id}")

    def item(self) -> str:
        return str(self.get()["items"]["data"][0]["id"])

    def link(self, type_: str, after: Any = None, **details: Any) -> Any:
        flow: dict[str, Any] = {"type": type_}
        if type_ != "payment_method_update":
            flow[type_] = {"subscription": self.id, **details}
        if after:
            flow["after_completion"] = after
        given = {"customer": self.customer, "flow_data": flow, **HOME}
        return self.shop.v1.billing_portal.sessions.create(given)


@pytest.fixture
def subscriber(shop: Shop) -> Subscriber:
    return Subscriber(shop)


def submit(url: str, **form: str) -> httpx.Response:
    return web.post(url, data=form)


def test_a_link_to_cancel_shows_only_that_and_redirects(subscriber: Subscriber) -> None:
    session = subscriber.link("subscription_cancel", REDIRECT)
    flow = session.flow.to_dict()
    assert flow["subscription_cancel"] == {"retention": None, "subscription": subscriber.id}
    assert flow["after_completion"]["redirect"] == {"return_url": THANKS}
    page = web.get(session.url).text
    assert "You can use it until" in page
    assert "Invoice history" not in page
    assert submit(session.url, action="add_card").headers["location"].startswith("/p/session")
    assert not subscriber.get()["cancel_at_period_end"], "another action than the flow's"
    assert submit(session.url, action="cancel").headers["location"] == THANKS
    assert subscriber.get()["cancel_at_period_end"]
    again = submit(session.url, action="cancel")
    assert again.headers["location"] == THANKS


def test_a_link_to_update_the_payment_method_confirms_it(
    shop: Shop, subscriber: Subscriber
) -> None:
    message = {"hosted_confirmation": {"custom_message": "Thanks, Ada."}}
    session = subscriber.link("payment_method_update", {"type": "hosted_confirmation", **message})
    card = {"number": "5555555555554444", "expiry": "12/34", "cvc": "123", "name": "Ada"}
    wrong = submit(session.url, action="add_card", **{**card, "cvc": "1"})
    assert "security code" in wrong.text
    assert "Thanks, Ada." in submit(session.url, action="add_card", **card).text
    assert "Thanks, Ada." in web.get(session.url).text
    method = subscriber.get()["default_payment_method"]
    assert shop.get(f"/v1/payment_methods/{method}")["card"]["brand"] == "mastercard"


def test_a_link_to_update_the_plan_ends_on_the_portals_home_page(
    shop: Shop, subscriber: Subscriber
) -> None:
    price = shop.price(4900, interval="month")
    session = subscriber.link("subscription_update")
    assert session.flow.after_completion.type == "portal_homepage"
    assert "$49.00" in web.get(session.url).text
    submit(session.url, action="change", price=price)
    assert subscriber.get()["items"]["data"][0]["price"]["id"] == price
    assert "Invoice history" in web.get(session.url).text


def test_a_link_to_confirm_an_update_makes_exactly_that_update(
    shop: Shop, subscriber: Subscriber
) -> None:
    coupon = shop.v1.coupons.create({"percent_off": 10, "duration": "forever"}).id
    price = shop.price(4900, interval="month")
    items = [{"id": subscriber.item(), "price": price, "quantity": 2}]
    session = subscriber.link(
        "subscription_update_confirm", REDIRECT, items=items, discounts=[{"coupon": coupon}]
    )
    assert "$98.00" in web.get(session.url).text
    assert submit(session.url, action="confirm").headers["location"] == THANKS
    found = subscriber.get()
    item = found["items"]["data"][0]
    assert (item["price"]["id"], item["quantity"], len(found["discounts"])) == (price, 2, 1)


def test_a_change_in_a_flow_is_previewed(shop: Shop, subscriber: Subscriber) -> None:
    price = shop.price(4900, interval="month")
    items = [{"id": subscriber.item(), "price": price, "quantity": 1}]
    confirming = web.get(subscriber.link("subscription_update_confirm", items=items).url).text
    assert "Your next invoice on" in confirming
    choosing = subscriber.link("subscription_update", REDIRECT)
    answers = {"action": "preview", "subscription": subscriber.id, "price": price}
    page = web.post(choosing.url, data=answers).text
    assert "Your next invoice on" in page
    assert 'value="change"' in page
    assert subscriber.get()["items"]["data"][0]["price"]["id"] != price
    assert submit(choosing.url, action="change", price=price).headers["location"] == THANKS
    assert subscriber.get()["items"]["data"][0]["price"]["id"] == price


def test_a_flow_that_could_not_be_completed_is_refused(shop: Shop, subscriber: Subscriber) -> None:
    item = subscriber.item()
    same = [{"id": item, "quantity": 1}]
    with pytest.raises(stripe.InvalidRequestError, match="already has this price and quantity"):
        subscriber.link("subscription_update_confirm", items=same)
    with pytest.raises(stripe.InvalidRequestError, match="No such subscription item"):
        subscriber.link("subscription_update_confirm", items=[{"id": "si_gone"}])
    other = Subscriber(shop)
    with pytest.raises(stripe.InvalidRequestError, match="belongs to another customer"):
        subscriber.link("subscription_cancel", subscription=other.id)
    with pytest.raises(stripe.InvalidRequestError, match=r"after_completion\]\[redirect"):
        subscriber.link("subscription_cancel", {"type": "redirect"})
    shop.v1.subscriptions.update(subscriber.id, {"cancel_at_period_end": True})
    with pytest.raises(stripe.InvalidRequestError, match="already set to be canceled"):
        subscriber.link("subscription_cancel")


def test_a_flow_needs_its_feature_in_the_configuration(shop: Shop, subscriber: Subscriber) -> None:
    features = {"subscription_cancel": {"enabled": False}}
    configuration = shop.v1.billing_portal.configurations.create({"features": features}).id
    flow = {"type": "subscription_cancel", "subscription_cancel": {"subscription": subscriber.id}}
    given = {"customer": subscriber.customer, "configuration": configuration, "flow_data": flow}
    with pytest.raises(stripe.InvalidRequestError, match="feature in the portal configuration"):
        shop.v1.billing_portal.sessions.create(given)
