"""The dashboard in Chromium: a new user's way, every page and action, and what another site can't
do. With BILLHOOK_SCREENSHOTS=docs/images it takes the pictures for
docs/reference/screenshots.md."""

from __future__ import annotations

import json
import os
import re
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Literal

import httpx
import pytest
import stripe
from playwright.sync_api import Browser, Page, Route, expect
from watching import watched

from api import Api, connect, serving
from browser_data import a_month_of_business
from http_tokens import ADMIN_KEY, ANONYMOUS_KEY
from stripe_events import event

pytestmark = pytest.mark.browser

KEY = "sk_test_browser_1"
AXE = Path(__file__).parent / "node_modules/axe-core/axe.min.js"
SECTIONS = {
    "Overview": "",
    "Catalog": "/catalog",
    "Customers": "/customers",
    "Subscriptions": "/subscriptions",
    "Transactions": "/transactions",
    "Invoices": "/invoices",
    "Disputes": "/disputes",
    "Webhook events": "/events",
    "Settings": "/settings",
    "API keys": "/keys",
    "Audit log": "/audit-log",
}
PICTURED = {
    *SECTIONS, "A customer", "A payment", "An event", "A product", "A subscription", "An invoice",
    "A dispute", "A search",
}  # fmt: skip
SCREENSHOTS = "BILLHOOK_SCREENSHOTS"
"""The environment variable that names the folder for pictures."""
LARGEST = 250_000
"""Bytes that a page may ship, with all that it asks for."""


@pytest.fixture
def desk(browser: Browser) -> Iterator[Page]:
    """A wide window in Berlin."""
    wide = {"width": 1280, "height": 860}
    with watched(browser, viewport=wide, timezone_id="Europe/Berlin", locale="en-GB") as page:
        yield page


def sign_in(page: Page, url: str) -> None:
    page.goto(f"{url}/dashboard")
    page.get_by_label("Admin key or token").fill(ADMIN_KEY)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    page.wait_for_load_state()  # its scripts have run


def open_section(page: Page, name: str) -> None:
    page.get_by_role("navigation", name="Payments").get_by_role("link", name=name).click()
    expect(page.get_by_role("heading", level=1)).to_contain_text(name)


@pytest.fixture
def busy(database_url: str, sandbox: str) -> Iterator[Api]:
    """Billhook after a month of business."""
    connect(database_url, sandbox, KEY)
    with serving(database_url, sandbox) as api:
        for each in api.books.apply(*a_month_of_business()):
            assert not isinstance(each, Exception), each
        yield api


def test_a_new_user_does_it_all_in_the_browser(
    database_url: str, sandbox: str, desk: Page, browser: Browser
) -> None:
    """Signs in, sets a key, sees endpoint and sync finish, makes a product, watches a purchase
    arrive, and sees its refund nest."""
    with serving(database_url, sandbox, reachable=True, recovery=True) as api:
        sign_in(desk, api.url)
        desk.get_by_role("link", name="Set a key").click()
        desk.get_by_label("Secret key").fill(KEY)
        desk.get_by_role("button", name="Set key").click()
        expect(desk.get_by_text("The key was saved")).to_be_visible()
        expect(desk.get_by_text(f"{api.url}/api/webhooks/stripe/test")).to_be_visible()
        expect(desk.locator("#sync-state .state")).to_have_text("succeeded")
        desk.get_by_role("button", name="Check and repair").click()
        expect(desk.get_by_role("status").first).to_contain_text("is set up")

        open_section(desk, "Catalog")
        desk.get_by_role("link", name="New product").click()
        desk.get_by_label("Name").fill("Teapot")
        desk.get_by_role("button", name="Create product").click()
        desk.get_by_label("Amount").fill("24.50")
        desk.get_by_label("Currency").fill("eur")
        desk.get_by_role("button", name="Create price").click()
        expect(desk.get_by_role("cell", name="24.50 EUR")).to_be_visible()
        price = desk.get_by_role("button", name=re.compile("Copy price_")).get_attribute(
            "data-copy"
        )

        open_section(desk, "Webhook events")
        expect(desk.locator("[data-live-state]")).to_have_text("Live")
        made = httpx.post(
            f"{api.url}/api/payments/stripe/test/checkout-sessions",
            headers={"authorization": f"Bearer {ANONYMOUS_KEY}"},
            json={
                "mode": "payment",
                "lineItems": [{"priceId": price}],
                "successUrl": f"{api.url}/docs",
                "cancelUrl": f"{api.url}/docs",
            },
            timeout=60,
        ).json()["checkoutSession"]
        shop = browser.new_context()
        buyer = shop.new_page()
        buyer.goto(made["url"])
        buyer.fill("#email", "buyer@example.com")
        buyer.fill("#cardNumber", "4242424242424242")
        buyer.fill("#cardExpiry", "12 / 34")
        buyer.fill("#cardCvc", "123")
        buyer.fill("#billingName", "Test Buyer")
        buyer.fill("#billingPostalCode", "10115")
        buyer.get_by_test_id("hosted-payment-submit-button").click()
        buyer.wait_for_url("**/docs")
        shop.close()
        # Nobody touches the page: it is told.
        arrived = desk.get_by_role("row").filter(has_text="checkout.session.completed")
        expect(arrived).to_contain_text("processed")

        open_section(desk, "Transactions")
        row = desk.locator("tr.row")
        expect(row).to_contain_text("24.50 EUR")
        expect(row).to_contain_text("succeeded")
        row.get_by_role("link").first.click()
        expect(desk.get_by_text("No refunds.")).to_be_visible()
        intent = desk.get_by_role("button", name=re.compile("Copy pi_")).first
        reference = intent.get_attribute("data-copy")
        httpx.post(
            f"{sandbox}/v1/refunds",
            auth=(KEY, ""),
            data={"payment_intent": reference or "", "amount": "1000"},
            timeout=60,
        ).raise_for_status()
        open_section(desk, "Webhook events")
        expect(desk.get_by_role("row").filter(has_text="refund.created")).to_contain_text(
            "processed"
        )
        open_section(desk, "Transactions")
        expect(desk.locator("tr.row")).to_contain_text("partially refunded")
        expect(desk.locator("tr.nested")).to_contain_text("−10.00 EUR")
        open_section(desk, "Overview")
        expect(desk.locator(".figure").first).to_contain_text("24.50 EUR")

        desk.get_by_role("button", name="Sign out").click()
        desk.goto(f"{api.url}/dashboard/test/transactions")
        expect(desk.get_by_role("heading", name="Sign in")).to_be_visible()


@pytest.mark.parametrize("look", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 768, 1024, 1440])
@pytest.mark.sampled(4)
def test_every_page_is_fit_for_everyone(
    browser: Browser, busy: Api, look: Literal["light", "dark"], width: int
) -> None:
    """axe finds nothing, nothing is cut off at the side, no page is heavy."""
    found: dict[str, list[str]] = {}
    with watched(
        browser,
        viewport={"width": width, "height": 860},
        color_scheme=look,
        reduced_motion="reduce",
    ) as page:
        walk(page, busy, look, width, found)
    assert {name: rules for name, rules in found.items() if rules} == {}


def walk(page: Page, busy: Api, look: str, width: int, found: dict[str, list[str]]) -> None:
    """Look at every page."""
    shipped: list[int] = []
    page.on("requestfinished", lambda asked: shipped.append(_bytes(asked.response().all_headers())))
    page.goto(f"{busy.url}/dashboard/sign-in")
    found["sign-in"] = violations(page)
    picture(page, "sign-in", look, width)
    sign_in(page, busy.url)
    deeper = {
        "A customer": "/customers/cus_0",
        "A payment": "/transactions/pi_refunded",
        "A refund": "/transactions/pi_refunded/refund",
        "A subscription": "/subscriptions/sub_0",
        "A cancellation": "/subscriptions/sub_0/cancel",
        "A change": "/subscriptions/sub_0/change",
        "A subject": "/customers/cus_0/subject",
        "An invoice": "/invoices/in_1",
        "A dispute": "/disputes/dp_1",
        "A search": "/search?q=ada",
        "An event": f"/events/{busy.books.rows(_ANY_EVENT)[0]['id']}",
        "A product": "/catalog/prod_mug",
        "A new product": "/new-product",
        "Settings of the mirror": "/settings/mirror",
        "Settings of policies": "/settings/policies",
        "Nothing": "/planets",
        "Movements of MRR": "/mrr-movements",
        "Nothing found": "/transactions?search=nobody@example.com",
    }
    for name, path in (SECTIONS | deeper).items():
        shipped.clear()
        page.goto(f"{busy.url}/dashboard/test{path}")
        page.evaluate("document.querySelectorAll('main details').forEach(d => { d.open = true; })")
        found[name] = violations(page)
        across = page.evaluate("document.documentElement.scrollWidth")
        assert across <= width, (name, across)
        split = page.evaluate(LETTERS)
        assert split == [], (name, split)
        assert 0 < sum(shipped) < LARGEST, (name, sum(shipped))
        if name in PICTURED and os.environ.get(SCREENSHOTS):
            page.goto(f"{busy.url}/dashboard/test{path}")
            picture(page, name.lower().replace(" ", "-"), look, width)
    page.goto(f"{busy.url}/dashboard/live")
    found["live"] = violations(page)
    picture(page, "live", look, width)


LETTERS = """
[...document.querySelectorAll("main code, main a, main td")]
  .filter((each) => each.offsetWidth > 0 && each.offsetWidth < 24 && each.offsetHeight > 60)
  .map((each) => each.outerHTML.slice(0, 100))
"""
"""What is so narrow that it breaks into one letter a line."""
_ANY_EVENT = "SELECT provider_event_id AS id FROM payments.webhook_events ORDER BY id LIMIT 1"


def _bytes(headers: dict[str, str]) -> int:
    return int(headers.get("content-length", 0))


def violations(page: Page) -> list[str]:
    """What axe finds, with the elements."""
    if not AXE.exists():
        if os.environ.get("CI"):
            pytest.fail("axe-core is missing: npm ci --prefix tests/browser")
        pytest.skip("needs axe-core: npm ci --prefix tests/browser")
    page.evaluate(AXE.read_text("utf-8"))
    result = page.evaluate("axe.run()")
    return [
        f"{rule['id']}: {node['html'][:200]}"
        for rule in result["violations"]
        for node in rule["nodes"]
    ]


def picture(page: Page, name: str, look: str, width: int) -> None:
    """A picture for the documentation: on a wide screen in both colors, and on a phone."""
    kind = {1440: look, 390: "narrow" if look == "light" else None}.get(width)
    folder = os.environ.get(SCREENSHOTS)
    if folder and kind:
        page.wait_for_load_state("load")
        page.screenshot(path=str(Path(folder) / f"{name}-{kind}.png"))


def test_lists_are_searched_filtered_sorted_and_paged(desk: Page, busy: Api) -> None:
    sign_in(desk, busy.url)
    open_section(desk, "Customers")
    desk.get_by_placeholder("Start of a name").fill("ada l")
    desk.keyboard.press("Enter")
    expect(desk.locator("tr.row")).to_have_count(1)
    desk.locator("tr.row td.amount").first.click()  # anywhere on the row
    expect(desk.get_by_role("heading", name="Ada Lovelace")).to_be_visible()
    expect(desk.get_by_role("heading", name="Subscriptions")).to_be_visible()

    open_section(desk, "Transactions")
    expect(desk.get_by_role("link", name="Next")).to_be_visible()  # it stands below the rows
    first = desk.locator("tr.row").first
    newest = first.inner_text()
    desk.get_by_role("link", name="Next").click()
    expect(first).not_to_have_text(newest, use_inner_text=True)
    desk.get_by_role("link", name="Previous").click()
    expect(first).to_have_text(newest, use_inner_text=True)
    desk.locator(".tools").get_by_label("Status").select_option("failed")  # applies at once
    desk.wait_for_url("**status=failed**")
    expect(desk.locator("tr.row")).not_to_have_count(0)
    expect(desk.locator("tr.row .state").filter(has_not_text="failed")).to_have_count(0)
    expect(desk.get_by_role("link", name="Status: failed")).to_be_visible()
    desk.get_by_role("link", name="All", exact=True).click()
    desk.wait_for_url("**/transactions")
    expect(desk.locator(".tools").get_by_label("Status")).to_have_value("")
    desk.get_by_role("link", name="Amount").click()
    desk.wait_for_url("**order=largest")
    expect(desk.locator("tr.row").first).to_contain_text("120.00")
    with desk.expect_download() as export:
        desk.get_by_role("link", name="Export as CSV").click()
    assert export.value.suggested_filename == "transactions-test.csv"

    open_section(desk, "Catalog")
    desk.get_by_text("Coffee mug", exact=True).click()
    expect(desk.get_by_text("price_mug", exact=True)).to_be_visible()


def test_times_are_the_viewers_and_utc_on_hover(desk: Page, busy: Api) -> None:
    sign_in(desk, busy.url)
    desk.goto(f"{busy.url}/dashboard/test/transactions/pi_fixed")
    created = desk.locator("dd time").first
    expect(created).to_have_text("15 Nov 2026, 13:30")
    expect(created).to_have_attribute("title", "2026-11-15 12:30:00 UTC")


FRAMES = """
window.painted = new Set();
(function look() {
  for (const time of document.querySelectorAll("time")) window.painted.add(time.textContent);
  requestAnimationFrame(look);
})();
"""
"""Notes the times of every frame that is painted."""


def test_no_time_is_painted_in_utc_first(desk: Page, busy: Api) -> None:
    sign_in(desk, busy.url)
    desk.add_init_script(FRAMES)
    # A slow script shows what a fast one hides.
    late: list[Route] = []
    desk.route("**/dashboard.js", lambda route: late.append(route))
    desk.goto(f"{busy.url}/dashboard/test/transactions/pi_fixed", wait_until="commit")
    expect(desk.locator("main time").first).to_be_visible()
    desk.wait_for_function("window.painted.size > 0")
    painted = desk.evaluate("[...window.painted]")
    assert "15 Nov 2026, 13:30" in painted
    assert not [text for text in painted if "UTC" in text]
    late[0].continue_()


def test_an_id_is_copied(browser: Browser, busy: Api) -> None:
    allowed = ["clipboard-read", "clipboard-write"]
    with watched(browser, permissions=allowed) as page:
        sign_in(page, busy.url)
        page.goto(f"{busy.url}/dashboard/test/transactions/pi_fixed")
        page.get_by_role("button", name="Copy pi_fixed").first.click()
        expect(page.get_by_text("Copied")).to_be_visible()
        assert page.evaluate("navigator.clipboard.readText()") == "pi_fixed"


def test_failed_events_are_seen_live_and_replayed(desk: Page, busy: Api) -> None:
    busy.books.execute("""
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE 'no shelf for this'; END $$;
        CREATE TRIGGER refuse AFTER UPDATE ON payments.webhook_events FOR EACH ROW
        WHEN (NEW.processing_status = 'processed') EXECUTE FUNCTION refuse()""")
    sign_in(desk, busy.url)
    open_section(desk, "Webhook events")
    busy.books.apply(*a_month_of_business(days=1, prefix="late"))
    failing = desk.locator("tr.row").filter(has_text="no shelf for this")
    expect(failing.first).to_contain_text("failed")
    desk.goto(f"{busy.url}/dashboard/test/events?status=failed")
    failing.first.get_by_role("link").first.click()
    expect(desk.locator(".notice.bad")).to_contain_text("no shelf for this")
    expect(desk.get_by_role("heading", name="Payload")).to_be_visible()
    desk.get_by_role("button", name="Replay").click()
    expect(desk.get_by_role("alert")).to_contain_text("no shelf for this")
    busy.books.execute("DROP TRIGGER refuse ON payments.webhook_events")
    desk.get_by_role("button", name="Replay").click()
    expect(desk.get_by_role("status")).to_contain_text("Replayed: the event is processed.")
    busy.books.execute("""
        CREATE TABLE fired (event text);
        CREATE FUNCTION fire() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN INSERT INTO fired VALUES (NEW.provider_event_id); RETURN NULL; END $$;
        CREATE TRIGGER fire AFTER UPDATE ON payments.webhook_events FOR EACH ROW
        WHEN (NEW.processing_status = 'processed') EXECUTE FUNCTION fire()""")
    desk.get_by_role("link", name="Send to triggers again").click()
    asked = desk.get_by_role("dialog", name="Send to triggers again")
    expect(asked).to_contain_text("may be fulfilled twice")
    with desk.expect_navigation():  # the page says the same already
        asked.get_by_role("button", name="Send again").click()
    expect(desk.get_by_role("status")).to_contain_text("Replayed: the event is processed.")
    assert len(busy.books.rows("SELECT * FROM fired")) == 1

    desk.goto(f"{busy.url}/dashboard/test/events?status=failed")
    desk.get_by_label("Select all").check()
    desk.locator("tr.row").first.get_by_role("checkbox").uncheck()
    desk.get_by_role("button", name="Replay selected").click()
    expect(desk.get_by_role("status").first).to_contain_text("replayed.")
    busy.books.execute("UPDATE billhook.event_retries SET next_at = 'infinity'")
    desk.get_by_role("link", name="Dead letters", exact=True).click()
    expect(desk.locator("tr.row")).to_have_count(1)
    desk.get_by_role("button", name="Replay all failed").click()
    expect(desk.get_by_role("status").first).to_contain_text("1 event replayed.")
    assert (
        busy.books.rows("SELECT * FROM payments.webhook_events WHERE processing_status = 'failed'")
        == []
    )


def test_keys_are_made_and_revoked(desk: Page, busy: Api) -> None:
    sign_in(desk, busy.url)
    open_section(desk, "API keys")
    desk.get_by_label("Kind").select_option("admin")
    desk.get_by_label("Name").fill("the night shift")
    desk.get_by_role("button", name="Create key").click()
    key = desk.get_by_test_id("new-key").inner_text()
    assert key.startswith("ik_")
    row = desk.get_by_role("row").filter(has_text="the night shift")
    row.get_by_text("Revoke …").click()
    row.get_by_role("button", name="Revoke").click()
    expect(desk.get_by_role("status")).to_contain_text("was revoked")
    refused = httpx.get(
        f"{busy.url}/api/payments/stripe/status",
        headers={"authorization": f"Bearer {key}"},
        timeout=60,
    )
    assert refused.status_code == 401


def test_products_are_edited_and_archived(database_url: str, sandbox: str, desk: Page) -> None:
    with serving(database_url, sandbox) as api:
        sign_in(desk, api.url)
        desk.goto(f"{api.url}/dashboard/test/settings")
        desk.get_by_label("Secret key").fill("sk_test_edits_1")
        desk.get_by_role("button", name="Set key").click()
        expect(desk.get_by_text("The key was saved")).to_be_visible()
        desk.goto(f"{api.url}/dashboard/test/new-product")
        desk.get_by_label("Name").fill("Saucer")
        desk.get_by_label("Metadata").fill("no equals sign")
        desk.get_by_role("button", name="Create product").click()
        expect(desk.get_by_role("alert")).to_contain_text("does not look like key=value")
        expect(desk.get_by_label("Name")).to_have_value("Saucer")  # nothing is lost
        desk.get_by_label("Metadata").fill("kind=small")
        desk.get_by_role("button", name="Create product").click()
        product = desk.get_by_role("region", name="Product")
        product.get_by_label("Name").fill("Small saucer")
        product.get_by_role("button", name="Save").click()
        expect(desk.get_by_role("heading", level=1)).to_contain_text("Small saucer")
        desk.get_by_label("Amount").fill("3")
        desk.get_by_label("Currency").fill("jpy")
        desk.get_by_label("Billing period").select_option("monthly")
        desk.get_by_role("button", name="Create price").click()
        expect(desk.get_by_role("cell", name="3 JPY per month")).to_be_visible()
        desk.get_by_label("Lookup key of").fill("saucer")
        desk.get_by_role("row").get_by_role("button", name="Save").click()
        expect(desk.get_by_role("status").first).to_contain_text("was saved")
        expect(desk.get_by_label("Lookup key of")).to_have_value("saucer")
        desk.get_by_role("button", name="Archive price_").click()
        expect(desk.get_by_role("button", name="Activate price_")).to_be_visible()
        desk.get_by_role("button", name="Archive product").click()
        expect(desk.get_by_role("heading", level=1)).to_contain_text("archived")
        desk.get_by_role("button", name="Activate product").click()
        expect(desk.get_by_role("heading", level=1)).to_contain_text("active")
        open_section(desk, "Settings")
        desk.get_by_role("button", name="Sync now").click()
        expect(desk.locator("#sync-state .state")).to_have_text("succeeded")
        desk.get_by_role("link", name="Mirror").click()
        desk.get_by_role("button", name="Verify a sample now").click()
        expect(desk.get_by_role("cell", name="stripe_products")).to_be_visible()
        desk.get_by_role("link", name="Connection").click()
        desk.get_by_text("Remove key …").click()
        desk.get_by_role("button", name="Remove the test key").click()
        expect(desk.get_by_role("status").first).to_contain_text("The key was removed")


def test_a_payment_found_by_email_is_refunded_where_one_stands(
    database_url: str, sandbox: str, desk: Page
) -> None:
    """Four clicks: the search is opened with a key."""
    key = "sk_test_refunds_in_the_browser_1"
    connect(database_url, sandbox, key)
    client = stripe.StripeClient(key, base_addresses={"api": sandbox})
    customer = client.v1.customers.create({"name": "Ada", "email": "ada@refund.test"})
    method = client.v1.payment_methods.attach("pm_card_visa", {"customer": customer.id})
    intent = client.v1.payment_intents.create(
        {"amount": 4900, "currency": "eur", "customer": customer.id, "confirm": True,
         "payment_method": method.id, "off_session": True, "description": "Two T-shirts"}
    )  # fmt: skip
    with serving(database_url, sandbox) as api:
        api.books.apply(
            event("customer.created", customer.to_dict(), at=5),
            event("payment_intent.succeeded", intent.to_dict(), at=10),
        )
        sign_in(desk, api.url)
        desk.keyboard.press("/")
        expect(desk.get_by_role("searchbox", name="Search everything")).to_be_focused()
        desk.keyboard.type("ada@refund.test")
        desk.keyboard.press("Enter")
        desk.get_by_role("link", name="Two T-shirts").click()
        desk.get_by_role("link", name="Refund", exact=True).click()
        asked = desk.get_by_role("dialog")
        expect(asked).to_contain_text("49.00 EUR goes back to Ada")
        asked.get_by_label("Refund another amount").fill("10")
        asked.get_by_role("button", name="Update").click()
        expect(asked).to_contain_text("10.00 EUR of 49.00 EUR")
        asked.get_by_label("Refund another amount").fill("50")
        asked.get_by_role("button", name="Update").click()
        expect(asked.get_by_role("alert")).to_be_visible()  # more than there is
        asked.get_by_label("Refund another amount").fill("49")
        asked.get_by_role("button", name="Update").click()
        asked.get_by_role("button", name="Refund 49.00 EUR").click()
        expect(desk.get_by_role("status").first).to_contain_text("49.00 EUR was refunded")
        expect(desk.get_by_role("heading", level=1)).to_contain_text("refunded")
    assert client.v1.refunds.list({"payment_intent": intent.id}).data[0].amount == 4900


def test_a_dialog_is_left_with_the_keyboard_and_nothing_happens(desk: Page, busy: Api) -> None:
    sign_in(desk, busy.url)
    desk.goto(f"{busy.url}/dashboard/test/subscriptions/sub_0")
    desk.get_by_role("link", name="Cancel", exact=True).press("Enter")
    asked = desk.get_by_role("dialog")
    expect(asked.get_by_role("button", name="Cancel subscription")).to_be_visible()
    desk.keyboard.press("Escape")
    expect(asked).to_be_hidden()
    expect(desk.get_by_role("heading", level=1)).not_to_contain_text("canceling")


def test_a_chart_says_what_is_under_the_pointer_and_is_drawn_without_scripts_too(
    browser: Browser, desk: Page, busy: Api
) -> None:
    sign_in(desk, busy.url)
    desk.goto(f"{busy.url}/dashboard/test?period=90d&bucket=month")
    chart = desk.locator("[data-chart]").first
    titles = json.loads(chart.get_attribute("data-chart") or "")["titles"]
    assert 3 <= len(titles) <= 5
    expect(chart.locator("canvas")).to_be_visible()
    expect(chart.locator("svg")).to_have_count(0)
    chart.locator(".u-over").hover()
    expect(chart.locator(".tip")).to_be_visible()
    assert chart.locator(".tip").inner_text() in titles
    desk.get_by_role("link", name="Week").click()
    expect(desk.get_by_role("link", name="Week")).to_have_attribute("aria-current", "true")
    assert len(json.loads(chart.get_attribute("data-chart") or "")["titles"]) >= 12

    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    sign_in(page, busy.url)
    expect(page.locator("[data-chart] svg").first).to_be_visible()
    context.close()


def test_columns_of_a_list_are_chosen_and_remembered(desk: Page, busy: Api) -> None:
    sign_in(desk, busy.url)
    open_section(desk, "Transactions")
    heads = desk.locator(".list thead th:visible")
    all_of_them = ["Payment", "Customer", "Paid with", "Status", "Date", "Amount"]
    expect(heads).to_have_text(all_of_them)
    desk.get_by_text("Columns").click()
    for name in ("Customer", "Status"):
        desk.locator(".columns").get_by_label(name).uncheck()
    desk.keyboard.press("Escape")
    expect(desk.locator(".columns")).not_to_have_attribute("open", "")
    left = ["Payment", "Paid with", "Date", "Amount"]
    expect(heads).to_have_text(left)
    for row in ("tr.row", "tr.nested"):
        cells = desk.locator(row).first.locator("td")
        spans = cells.evaluate_all("cells => cells.filter(c => c.offsetWidth).map(c => c.colSpan)")
        assert sum(spans) == len(left)
    refunded = desk.get_by_role("link", name="Refunded", exact=True)
    refunded.click()  # the list alone is loaded
    expect(refunded).to_have_attribute("aria-current", "true")
    expect(heads).to_have_text(left)
    desk.reload()
    expect(heads).to_have_text(left)
    desk.get_by_text("Columns").click()
    for name in ("Customer", "Status"):
        desk.locator(".columns").get_by_label(name).check()
    expect(heads).to_have_text(all_of_them)


def test_headers_of_a_list_stay_in_view(desk: Page, busy: Api) -> None:
    sign_in(desk, busy.url)
    desk.goto(f"{busy.url}/dashboard/test/transactions")
    header = desk.get_by_role("columnheader", name="Payment")
    desk.mouse.wheel(0, 1_500)
    desk.wait_for_function("scrollY > 500")
    box = header.bounding_box()
    assert box is not None
    assert 0 < box["y"] < 100


def test_live_cannot_be_mistaken_for_test(desk: Page, busy: Api) -> None:
    sign_in(desk, busy.url)
    ground = "getComputedStyle(document.querySelector('.top')).backgroundColor"
    test = desk.evaluate(ground)
    open_section(desk, "Customers")
    desk.get_by_role("navigation", name="Environment").get_by_role("link", name="Live").click()
    desk.wait_for_url("**/live/customers")
    expect(desk.locator("#mode")).to_contain_text("real money")
    assert desk.evaluate(ground) != test


def test_it_works_with_the_keyboard_alone(desk: Page, busy: Api) -> None:
    desk.goto(f"{busy.url}/dashboard")
    expect(desk.get_by_label("Admin key or token")).to_be_focused()
    desk.keyboard.type(ADMIN_KEY)
    desk.keyboard.press("Enter")
    expect(desk.get_by_role("heading", name="Overview")).to_be_visible()
    desk.keyboard.press("Tab")
    expect(desk.get_by_role("link", name="Skip to content")).to_be_focused()
    desk.keyboard.press("Enter")
    expect(desk.locator("main")).to_be_focused()


def test_pages_work_without_scripts(browser: Browser, busy: Api) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    sign_in(page, busy.url)
    open_section(page, "Transactions")
    page.get_by_label("Status").select_option("failed")
    page.get_by_role("button", name="Apply").click()
    expect(page.locator("tr.row .state").first).to_have_text("failed")
    expect(page.locator("tr.row time").first).to_contain_text("UTC")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    context.close()


EVIL = """
<!doctype html><title>Win a prize</title>
<form id="f" method="post" action="{url}/dashboard/test/settings/key/remove" target="hidden"></form>
<iframe name="hidden"></iframe>
<script>
  const loaded = (frame) => new Promise((done) => frame.addEventListener("load", done));
  const framed = (path) => {{
    const frame = document.createElement("iframe");
    frame.src = "{url}" + path;
    document.body.append(frame);
    return loaded(frame);
  }};
  const submitted = () => {{
    const answered = loaded(document.querySelector("[name=hidden]"));
    document.getElementById("f").submit();
    return answered;
  }};
  const send = (path, options) => fetch("{url}/dashboard" + path,
    {{ method: "POST", credentials: "include", ...options }}).then(() => "done", () => "refused");
  const read = () => fetch("{url}/dashboard/test/keys", {{ credentials: "include" }})
    .then(answer => answer.text(), () => "unreadable");
  window.attack = async () => [
    await read(),
    await send("/test/keys", {{ mode: "no-cors", body: new URLSearchParams({{ kind: "admin" }}) }}),
    await send("/test/settings/key/remove", {{ mode: "no-cors" }}),
    await send("/sign-out", {{ mode: "no-cors" }}),
    await send("/test/keys", {{ headers: {{ "x-csrf": "1" }} }}),
    (await submitted(), "submitted"),
    (await framed("/dashboard/test/settings"), "framed"),
  ];
</script>
"""


@pytest.fixture
def evil() -> Iterator[tuple[str, list[str]]]:
    """A page of somebody else's on this host, as the browser sees it the same site."""
    body: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write("".join(body).encode())

        def log_message(self, *_: object) -> None:
            pass

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", body
    server.shutdown()


def test_another_site_changes_and_reads_nothing(
    browser: Browser, busy: Api, evil: tuple[str, list[str]]
) -> None:
    address, body = evil
    body.append(EVIL.format(url=busy.url))
    context = browser.new_context()
    page = context.new_page()
    sign_in(page, busy.url)
    keys = busy.books.rows("SELECT * FROM billhook.api_keys")
    other = context.new_page()
    other.goto(address)
    read, *tried = other.evaluate("attack()")
    assert (read, len(tried)) == ("unreadable", 6)
    assert busy.books.rows("SELECT * FROM billhook.api_keys") == keys
    page.goto(f"{busy.url}/dashboard/test/settings")
    expect(page.get_by_text("connected").first).to_be_visible()  # signed in, and the key is there
    shown = [frame.content() for frame in other.frames[1:]]
    assert len(shown) == 2
    assert not [each for each in shown if "Settings" in each]  # in nobody's frame
    context.close()
