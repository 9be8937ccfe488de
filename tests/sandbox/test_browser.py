"""The hosted pages in a browser, in light and dark mode, on a desktop and a phone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from sandbox.referees.tools import missing
from sandbox.shop import Shop

pytestmark = pytest.mark.browser

AXE = Path(__file__).parents[1] / "browser/node_modules/axe-core/axe.min.js"
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]


@pytest.fixture(scope="module")  # Playwright holds the thread's event loop while it lives
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        missing("Chromium", "apt-get install chromium")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield launched
        launched.close()


@pytest.fixture(params=["light-1200", "dark-390"])
def page(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    """Any violation of the pages' own content security policy fails the test."""
    scheme, width = request.param.split("-")
    context = browser.new_context(
        color_scheme=scheme, viewport={"width": int(width), "height": 844}
    )
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    yield page
    context.close()
    assert wrong == []


def fits(page: Page) -> None:
    expect(page.get_by_test_id("sandbox-banner")).to_contain_text("No real money")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def accessible(page: Page) -> None:
    """axe-core finds no violation."""
    if not AXE.exists():
        missing("axe-core", "npm ci --prefix tests/browser")
    page.wait_for_load_state()
    page.evaluate(AXE.read_text("utf-8"))
    found = page.evaluate("axe.run()")["violations"]
    assert [(rule["id"], node["html"][:200]) for rule in found for node in rule["nodes"]] == []


def fill_card(page: Page, number: str = "4242 4242 4242 4242") -> None:
    for field, value in {"cardNumber": number, "cardExpiry": "12 / 34", "cardCvc": "123"}.items():
        page.locator(f"#{field}").fill(value)
    page.locator("#billingName").fill("Ada Lovelace")


def test_a_payment_is_declined_then_authenticated_and_paid(page: Page, shop: Shop) -> None:
    thanks = "<title>Thanks</title><link rel='icon' href='data:,'>"
    page.route(
        "https://shop.example/**", lambda r: r.fulfill(body=thanks, content_type="text/html")
    )
    session = shop.session()
    page.goto(str(session.url))
    fits(page)
    page.get_by_text("Test cards").click()
    accessible(page)
    page.locator("#email").fill("ada@example.com")
    fill_card(page, "4000 0000 0000 0002")
    page.get_by_test_id("hosted-payment-submit-button").click()
    expect(page.get_by_role("alert")).to_have_text("Your card was declined.")
    accessible(page)
    fill_card(page, "4000 0027 6000 3184")
    page.get_by_test_id("hosted-payment-submit-button").click()
    expect(page.get_by_test_id("authenticate-confirm")).to_be_visible()
    fits(page)
    accessible(page)
    page.get_by_test_id("authenticate-confirm").click()
    page.wait_for_url("https://shop.example/thanks?session=*")
    assert shop.v1.checkout.sessions.retrieve(session.id).payment_status == "paid"


def test_the_form_helps_with_the_card(page: Page, shop: Shop) -> None:
    page.goto(str(shop.session().url))
    number, expiry = page.locator("#cardNumber"), page.locator("#cardExpiry")
    for typed, shown, brand in (
        ("4242424242424242", "4242 4242 4242 4242", "Visa"),
        ("2223003122003222", "2223 0031 2200 3222", "Mastercard"),
        ("378282246310005", "3782 822463 10005", "American Express"),
        ("6011111111111117", "6011 1111 1111 1117", "Discover"),
    ):
        number.fill("")
        number.press_sequentially(typed)
        expect(number).to_have_value(shown)
        expect(page.get_by_role("status")).to_have_text(brand)
    number.press("Home")
    number.press("Delete")
    expect(number).to_have_value("0111 1111 1111 117")
    number.press_sequentially("6")
    expect(number).to_have_value("6011 1111 1111 1117")
    for typed, shown in (("327", "03 / 27"), ("1227", "12 / 27"), ("3/2027", "03 / 27")):
        expiry.fill("")
        expiry.press_sequentially(typed)
        expect(expiry).to_have_value(shown)
    for shown in ("03 / 2", "03", "0", ""):
        expiry.press("Backspace")
        expect(expiry).to_have_value(shown)


def test_all_errors_are_shown_and_the_first_field_has_the_focus(page: Page, shop: Shop) -> None:
    page.goto(str(shop.session().url))
    page.get_by_test_id("hosted-payment-submit-button").click()
    expect(page.get_by_role("alert").get_by_role("link")).to_have_count(5)
    expect(page.locator("#email")).to_be_focused()
    expect(page.locator("#email")).to_have_accessible_description("Enter a valid email address.")
    fits(page)
    accessible(page)
    page.get_by_text("Test cards").click()
    page.get_by_role("button", name="4000 0000 0000 9995 Insufficient funds").click()
    expect(page.get_by_role("alert")).to_have_count(0)
    page.get_by_test_id("hosted-payment-submit-button").click()
    expect(page.get_by_role("alert")).to_contain_text("insufficient funds")
    expect(page.locator("#cardNumber")).to_be_focused()


def test_a_payment_is_sent_once_and_the_button_shows_that_it_is(page: Page, shop: Shop) -> None:
    page.goto(str(shop.session().url))
    page.get_by_text("Test cards").click()
    page.get_by_role("button", name="4242 4242 4242 4242").click()
    click_twice = """button => {
        let sent = 0;
        button.form.addEventListener("submit", (event) => {
            sent += event.defaultPrevented ? 0 : 1;
            event.preventDefault();
        });
        button.click();
        button.click();
        return sent;
    }"""
    button = page.get_by_test_id("hosted-payment-submit-button")
    assert button.evaluate(click_twice) == 1
    expect(button).to_have_attribute("aria-busy", "true")
    page.evaluate("dispatchEvent(new PageTransitionEvent('pageshow', {persisted: true}))")
    expect(button).not_to_have_attribute("aria-busy", "true")


def test_the_page_works_without_javascript(browser: Browser, shop: Shop) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    session = shop.session()
    page.goto(str(session.url))
    page.get_by_text("Test cards").click()
    page.get_by_role("button", name="4242 4242 4242 4242").click()
    expect(page.locator("#cardNumber")).to_have_value("4242 4242 4242 4242")
    page.route("https://shop.example/**", lambda r: r.fulfill(body="thanks"))
    page.get_by_test_id("hosted-payment-submit-button").click()
    page.wait_for_url("https://shop.example/thanks?session=*")
    context.close()
    assert shop.v1.checkout.sessions.retrieve(session.id).payment_status == "paid"


def test_a_subscriber_changes_card_and_plan_cancels_and_resumes(page: Page, shop: Shop) -> None:
    dearer = shop.price(4900, interval="month")
    paid = shop.paid("subscription")
    page.goto(shop.v1.billing_portal.sessions.create({"customer": paid["customer"]}).url)
    fits(page)
    page.get_by_test_id("new-card").get_by_text("Add payment method").click()
    fill_card(page, "5555 5555 5555 4444")
    page.get_by_test_id("add-card").click()
    expect(page.get_by_test_id("payment-method").first).to_contain_text("Mastercard")
    page.get_by_text("Update subscription").click()
    page.locator(f'input[value="{dearer}"]').check()
    fits(page)
    accessible(page)
    page.get_by_test_id("change-plan").click()
    expect(page.get_by_test_id("preview-total")).to_contain_text("$49.00")
    fits(page)
    accessible(page)
    page.get_by_test_id("confirm-change").click()
    expect(page.get_by_test_id("subscription")).to_contain_text("$49.00 per month")
    page.get_by_test_id("cancel").click()
    expect(page.get_by_test_id("state")).to_contain_text("will be canceled on")
    page.get_by_test_id("resume").click()
    expect(page.get_by_test_id("state")).to_contain_text("Your next billing date is")
    assert shop.get(f"/v1/subscriptions/{paid['subscription']}")["cancel_at_period_end"] is False
