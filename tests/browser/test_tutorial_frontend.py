"""docs/tutorial/javascript.md: in a browser, the reader's shop sells tea and a subscription."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from clients_of_node import HERE, require_node
from reader import reading

SECONDS = 20_000


def pay(page: Page) -> None:
    page.fill("#email", "buyer@example.com")
    page.fill("#cardNumber", "4242424242424242")
    page.fill("#cardExpiry", "12 / 34")
    page.fill("#cardCvc", "123")
    page.fill("#billingName", "Test Buyer")
    page.get_by_test_id("hosted-payment-submit-button").click()


@pytest.mark.browser
@pytest.mark.node
@pytest.mark.full
def test_the_frontend_of_the_tutorial_sells(page: Page) -> None:
    require_node()
    with reading() as reader:
        (reader.folder / "node_modules").symlink_to(HERE / "node_modules")
        reader.follow("docs/tutorial/fastapi-app.md")
        reader.follow("docs/tutorial/fastapi-teams.md")
        reader.follow("docs/tutorial/javascript.md")

        page.goto(reader.shop)
        page.get_by_label("Email").fill("browser@example.com")
        page.get_by_label("Password").fill("only for this test")
        page.get_by_role("button", name="Sign up").click()
        page.get_by_role("button", name="Buy two packs").click()
        pay(page)
        expect(page.locator("#order")).to_have_text("Your order is paid.", timeout=SECONDS)

        page.get_by_role("button", name="Subscribe a new team").click()
        pay(page)
        expect(page.locator("#team")).to_have_text("Ten teas to try this month", timeout=SECONDS)
        page.get_by_role("button", name="Manage the subscription").click()
        expect(page.get_by_test_id("subscription")).to_contain_text("Team plan")
        page.get_by_test_id("return").click()
        expect(page.locator("#team")).to_have_text("Ten teas to try this month", timeout=SECONDS)
        expect(page.locator("#error")).to_be_empty()
