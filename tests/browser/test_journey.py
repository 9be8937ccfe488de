"""A customer's journey through the demo shop, on real parts: buy, pay, fulfilled."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.browser

GOOD = "4242424242424242"
DECLINED = "4000000000000002"
SEPA_FAILS = "AT861904300235473202"
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
    page.fill("#billingName", "Test Buyer")
    page.fill("#billingPostalCode", "10115")
    page.get_by_test_id("hosted-payment-submit-button").click()


def expect_status(page: Page, status: str) -> None:
    expect(page.get_by_test_id("order-status")).to_have_text(status, timeout=SECONDS)


def test_a_guest_buys_two_mugs_and_the_trigger_marks_the_order_paid(page: Page, shop: str) -> None:
    page.goto(shop)
    form = page.get_by_role("form", name="Coffee mug")
    form.get_by_label("Quantity").fill("2")
    form.get_by_role("button", name="Buy").click()
    expect(page.get_by_test_id("total")).to_contain_text("29.00")
    expect(page.get_by_test_id("merchant")).to_have_text("Demo shop")
    item = page.get_by_test_id("line-item")
    expect(item).to_contain_text("Holds 330 ml. Dishwasher safe. $14.50 each")
    # It loads when it is in view; `decode` waits for that, and fails without an image.
    item.locator("img").evaluate("image => image.decode()")
    pay(page, GOOD)
    expect_status(page, "paid")
    expect(page.get_by_role("heading", name="Thank you!")).to_be_visible()
    page.get_by_role("link", name="All orders").click()
    expect(page.get_by_test_id("order")).to_have_count(1)
    expect(page.get_by_test_id("order")).to_contain_text("Coffee mug × 2")
    expect_status(page, "paid")


def test_the_shop_leads_from_an_order_to_its_payment_in_the_dashboard(
    page: Page, shop: str, state_folder: Path
) -> None:
    page.goto(shop)
    page.get_by_test_id("buy-mug").click()
    pay(page, GOOD)
    expect_status(page, "paid")
    link = page.get_by_test_id("dashboard-payment")
    session = str(link.get_attribute("href")).rpartition("/")[2]
    link.click()
    variables = shlex.split((state_folder / "env").read_text())
    (key,) = (each for each in variables if each.startswith("BILLHOOK_API_KEY="))
    page.get_by_label("Admin key or token").fill(key.partition("=")[2])
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("main")).to_contain_text("14.50")
    expect(page.get_by_role("main")).to_contain_text(session)


def test_a_declined_card_says_so_and_another_card_still_pays(page: Page, shop: str) -> None:
    page.goto(shop)
    be(page, "Team owner")
    page.get_by_test_id("buy-tshirt").click()
    pay(page, DECLINED)
    expect(page.get_by_test_id("error")).to_contain_text("declined")
    hosted = page.url
    page.goto(f"{shop}orders")
    expect_status(page, "not paid yet")
    page.goto(hosted)
    pay(page, GOOD)
    expect_status(page, "paid")


def test_a_cancelled_checkout_leaves_the_order_unpaid_and_payable(page: Page, shop: str) -> None:
    page.goto(f"{shop}?currency=jpy")
    page.get_by_test_id("buy-poster").click()
    page.get_by_test_id("cancel").click()
    expect_status(page, "not paid yet")
    page.get_by_test_id("pay").click()
    expect(page.get_by_test_id("total")).to_contain_text("2,600")
    pay(page, GOOD)
    expect_status(page, "paid")


def test_one_order_has_one_checkout_however_often_it_is_asked_for(page: Page, shop: str) -> None:
    page.goto(shop)
    be(page, "Team member")
    page.get_by_test_id("buy-poster").click()
    expect(page.get_by_test_id("total")).to_be_visible()
    first = page.url
    page.get_by_test_id("cancel").click()
    page.get_by_test_id("pay").click()
    page.wait_for_url(first)


def test_orders_of_others_stay_hidden(page: Page, shop: str) -> None:
    page.goto(shop)
    page.get_by_test_id("buy-mug").click()
    page.get_by_test_id("cancel").click()
    expect_status(page, "not paid yet")
    be(page, "Team member")
    expect(page.get_by_role("heading", name="Order not found")).to_be_visible()


@pytest.mark.full
def test_a_debit_that_fails_later_ends_in_failed_and_can_be_tried_again(
    page: Page, shop: str
) -> None:
    page.goto(f"{shop}?currency=eur")
    be(page, "Team owner")
    page.goto(f"{shop}?currency=eur")
    page.get_by_test_id("buy-poster").click()
    page.check("#method-sepa_debit")
    page.fill("#iban", SEPA_FAILS)
    page.fill("#billingName", "Test Buyer")
    page.get_by_test_id("hosted-payment-submit-button").click()
    expect_status(page, "payment failed")
    page.get_by_test_id("pay").click()
    pay(page, GOOD)
    expect_status(page, "paid")


def test_only_the_owner_can_subscribe_the_team(page: Page, shop: str) -> None:
    page.goto(f"{shop}team")
    page.get_by_test_id("subscribe").click()
    expect(page.get_by_role("alert")).to_contain_text("Only an owner of the team")
    be(page, "Team member")
    page.get_by_test_id("subscribe").click()
    expect(page.get_by_role("alert")).to_contain_text("Only an owner of the team")
    be(page, "Team owner")
    page.get_by_test_id("subscribe").click()
    pay(page, GOOD)
    expect(page.get_by_test_id("team-status")).to_have_text("active", timeout=SECONDS)
    page.get_by_test_id("portal").click()
    page.get_by_test_id("subscription").get_by_test_id("cancel").click()
    page.get_by_test_id("return").click()
    expect(page.get_by_text("Ends on")).to_be_visible(timeout=SECONDS)
    be(page, "Team member")
    page.get_by_test_id("portal").click()
    expect(page.get_by_role("alert")).to_contain_text("Only an owner of the team")
