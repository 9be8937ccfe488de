"""The customer portal, requested without a browser: cards, invoices, plans, configurations."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest

from sandbox.shop import Shop, web

CARD = {
    "action": "add_card",
    "number": "5555 5555 5555 4444",
    "expiry": "12 / 34",
    "cvc": "123",
    "name": "Ada Lovelace",
}


class Portal:
    """A portal session of a subscriber."""

    def __init__(self, shop: Shop, **session: Any) -> None:
        self.shop = shop
        self.paid = shop.paid("subscription")
        given = {"customer": self.paid["customer"], **session}
        self.url = shop.v1.billing_portal.sessions.create(given).url

    def subscription(self) -> Any:
        return self.shop.get(f"/v1/subscriptions/{self.paid['subscription']}")

    def page(self) -> str:
        return web.get(self.url).text

    def submit(self, **form: str) -> httpx.Response:
        form = {"subscription": self.paid["subscription"], **form}
        return web.post(self.url, data=form, follow_redirects=True)


@pytest.fixture
def portal(shop: Shop) -> Portal:
    return Portal(shop)


def test_invoices_are_listed(shop: Shop, portal: Portal) -> None:
    shop.sandbox.control("renew", subscription=portal.paid["subscription"])
    page = portal.page()
    assert page.count('data-testid="invoice"') == 2
    numbers = [invoice.number for invoice in shop.v1.invoices.list().data]
    assert len(numbers) == 2
    assert [number in page for number in numbers] == [True, True]
    assert "$15.00" in page


def test_a_new_card_becomes_the_default(shop: Shop, portal: Portal) -> None:
    assert "Visa" in portal.page()
    page = portal.submit(**CARD).text
    assert "Mastercard" in page
    method = portal.subscription()["default_payment_method"]
    assert shop.get(f"/v1/payment_methods/{method}")["card"]["last4"] == "4444"
    customer = shop.get(f"/v1/customers/{portal.paid['customer']}")
    assert customer["invoice_settings"]["default_payment_method"] == method
    assert shop.types("payment_method.attached", "customer.updated")[-2:] == [
        "payment_method.attached",
        "customer.updated",
    ]
    renewed = shop.sandbox.control("renew", subscription=portal.paid["subscription"])
    assert renewed["status"] == "active"


def test_a_sample_card_is_filled_into_a_form_that_stays_open(portal: Portal) -> None:
    assert '<details data-testid="new-card">' in portal.page()
    page = portal.submit(test_number="3782 822463 10005").text
    assert '<details data-testid="new-card" open>' in page
    assert 'value="3782 822463 10005"' in page


def test_a_card_that_is_not_the_default_can_be_made_default_or_removed(
    shop: Shop, portal: Portal
) -> None:
    first = portal.subscription()["default_payment_method"]
    portal.submit(action="remove_card", card=first)
    assert shop.get(f"/v1/payment_methods/{first}")["customer"], "it is in use"
    portal.submit(**CARD)
    portal.submit(action="use_card", card=first)
    assert portal.subscription()["default_payment_method"] == first
    portal.submit(**CARD)
    portal.submit(action="remove_card", card=first)
    assert shop.get(f"/v1/payment_methods/{first}")["customer"] is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"number": "4242 4242 4242 4241"}, "card number is incorrect"),
        ({"expiry": "soon"}, "expiration date"),
        ({"name": ""}, "Enter the name"),
    ],
)
def test_an_error_in_a_card_is_shown(portal: Portal, changes: dict[str, str], message: str) -> None:
    before = portal.subscription()["default_payment_method"]
    page = portal.submit(**{**CARD, **changes}).text
    assert message in page
    assert 'role="alert"' in page
    assert portal.subscription()["default_payment_method"] == before


def test_the_plan_is_changed_to_one_that_is_offered(shop: Shop, portal: Portal) -> None:
    dearer = shop.price(4900, interval="month")
    euros = shop.price(4900, currency="eur", interval="month")
    once = shop.price(4900)
    page = portal.page()
    assert dearer in page
    assert euros not in page
    assert once not in page
    portal.submit(action="change", price=dearer)
    assert portal.subscription()["items"]["data"][0]["price"]["id"] == dearer
    assert "customer.subscription.updated" in shop.types()
    assert "Select one of the plans" in portal.submit(action="change", price=euros).text


def test_a_change_of_plan_is_previewed_before_it_is_confirmed(shop: Shop) -> None:
    dearer = shop.price(4900, interval="month")
    for behavior, shown in (("none", "Your next invoice on"), ("always_invoice", "Due today")):
        update = {
            "enabled": True,
            "default_allowed_updates": ["price"],
            "proration_behavior": behavior,
            "products": [{"product": shop.v1.prices.retrieve(dearer).product, "prices": [dearer]}],
        }
        portal = configured(shop, subscription_update=update)
        before = portal.subscription()
        page = portal.submit(action="preview", price=dearer).text
        assert shown in page
        assert "$49.00" in page
        assert ("-$15.00" in page) == (behavior == "always_invoice"), "the unused time"
        assert portal.subscription() == before
        refused = portal.submit(action="preview", price="price_other").text
        assert "Select one of the plans" in refused


def test_an_invoice_is_downloaded_by_its_customer_only(shop: Shop, portal: Portal) -> None:
    (path,) = re.findall(r'href="(/p/session/[^"]+\.pdf)"', portal.page())
    answer = web.get(f"{shop.sandbox.url}{path}")
    assert answer.headers["content-type"] == "application/pdf"
    number = shop.v1.invoices.list().data[0].number
    assert f'filename="Invoice-{number}.pdf"' in answer.headers["content-disposition"]
    text = b" ".join(re.findall(rb"\((.*?)\) Tj", answer.content)).decode("cp1252")
    for part in (number, "1 × Tea", "Subtotal $15.00", "Amount paid $15.00", "Sandbox Buyer"):
        assert part in text
    (positions,) = re.findall(rb"startxref\n(\d+)", answer.content)
    assert answer.content[int(positions) :].startswith(b"xref"), "viewers find the objects by it"
    other = Portal(shop)
    stolen = path.replace(portal.url.rpartition("/")[2], other.url.rpartition("/")[2])
    assert web.get(f"{shop.sandbox.url}{stolen}").status_code == 404


def configured(shop: Shop, **features: Any) -> Portal:
    made = shop.v1.billing_portal.configurations.create({"features": features})
    return Portal(shop, configuration=made.id)


def test_disabled_features_are_neither_shown_nor_allowed(shop: Shop) -> None:
    portal = configured(
        shop, invoice_history={"enabled": False}, subscription_cancel={"enabled": False}
    )
    shop.price(4900, interval="month")
    page = portal.page()
    for part in ("invoice", "plans", "payment-methods", "cancel"):
        assert f'data-testid="{part}"' not in page
    before = portal.subscription()
    for form in (CARD, {"action": "cancel"}, {"action": "change", "price": "price_any"}):
        portal.submit(**form)
    assert portal.subscription() == before


def test_the_configuration_limits_the_plans_and_cancels_immediately(shop: Shop) -> None:
    offered, other = shop.price(2900, interval="month"), shop.price(3900, interval="month")
    product = shop.v1.prices.retrieve(offered).product
    portal = configured(
        shop,
        subscription_cancel={"enabled": True, "mode": "immediately"},
        subscription_update={
            "enabled": True,
            "default_allowed_updates": ["price"],
            "products": [{"product": product, "prices": [offered]}],
        },
    )
    page = portal.page()
    assert offered in page
    assert other not in page
    assert "Cancel subscription immediately" in page
    assert "Canceled on" in portal.submit(action="cancel").text
    assert portal.subscription()["status"] == "canceled"


def test_names_are_escaped_in_the_portal(shop: Shop, portal: Portal) -> None:
    shop.v1.customers.update(portal.paid["customer"], {"name": "<script>alert(1)</script>"})
    assert "<script>" not in portal.page()
