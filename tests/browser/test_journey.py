"""A customer's journey through the demo shop, on real parts: buy, pay, fulfilled."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.browser

GOOD = "4242424242424242"
DECLINED = "4000000000000002"
SECONDS = 20_000


def be(page: Page, who: str) -> None:
    page.get_by_role("button", name=who, exact=True).click()
    expect(page.get_by_role("button", name=who, exact=True)).to_have_attribute(
        "aria-pressed", "true"
    )


def pay(page: Page, card: str) -> None:
    """Fill in the hosted page and press its button."""
    if not page.locator("#email").input_value():
        page.fill("#email", "buyer@example.com")
    page.fill("#cardNumber", card)
    page.fill("#cardExpiry", "12 / 34")
    page.fill("#cardCvc", "123")
    page.fill("#billingName", "Ada Lovelace")
    if page.locator("#billingPostalCode").count():
        page.fill("#billingPostalCode", "10115")
    page.get_by_test_id("hosted-payment-submit-button").click()


def test_a_guest_buys_a_mug_and_the_trigger_marks_the_order_paid(page: Page, shop: str) -> None:
    page.goto(shop)
    page.get_by_test_id("buy-mug").click()
    expect(page.get_by_test_id("total")).to_contain_text("14.50")
    pay(page, GOOD)
    expect(page.get_by_test_id("order-status")).to_have_text("paid", timeout=SECONDS)
    page.get_by_role("link", name="All orders").click()
    expect(page.locator("tbody .status")).to_have_text("paid")


def test_a_declined_card_says_so_and_another_card_still_pays(page: Page, shop: str) -> None:
    page.goto(shop)
    be(page, "Team owner")
    page.get_by_test_id("buy-tshirt").click()
    pay(page, DECLINED)
    expect(page.get_by_test_id("error")).to_contain_text("declined")
    pay(page, GOOD)
    expect(page.get_by_test_id("order-status")).to_have_text("paid", timeout=SECONDS)


def test_a_cancelled_checkout_leaves_the_order_unpaid_and_payable(page: Page, shop: str) -> None:
    page.goto(f"{shop}?currency=jpy")
    page.get_by_test_id("buy-poster").click()
    page.get_by_test_id("cancel").click()
    expect(page.get_by_test_id("order-status")).to_have_text("pending")
    page.get_by_test_id("pay").click()
    expect(page.get_by_test_id("total")).to_contain_text("2,600")
    pay(page, GOOD)
    expect(page.get_by_test_id("order-status")).to_have_text("paid", timeout=SECONDS)


def test_only_the_owner_can_subscribe_the_team(page: Page, shop: str) -> None:
    page.goto(f"{shop}team")
    be(page, "Team member")
    page.get_by_test_id("subscribe").click()
    expect(page.get_by_role("alert")).to_contain_text("not yours to bill")
    be(page, "Team owner")
    page.get_by_test_id("subscribe").click()
    pay(page, GOOD)
    expect(page.get_by_test_id("team-status")).to_have_text("active", timeout=SECONDS)
    page.get_by_test_id("portal").click()
    expect(page.get_by_test_id("subscription")).to_be_visible()
