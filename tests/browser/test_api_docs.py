"""The page of the API at /docs in Chromium."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from api import serving
from http_tokens import ADMIN_KEY

pytestmark = pytest.mark.browser


def test_a_route_is_tried_out_with_the_admin_key(
    page: Page, database_url: str, sandbox: str
) -> None:
    with serving(database_url, sandbox) as api:
        page.goto(f"{api.url}/docs")
        page.get_by_role("button", name="Authorize").click()
        page.get_by_role("textbox", name="auth-bearer-value").fill(ADMIN_KEY)
        page.get_by_role("button", name="Apply credentials").first.click()
        page.get_by_role("button", name="Close").first.click()
        path = page.locator('[data-path="/api/payments/stripe/{environment}/customers"]')
        route = page.locator(".opblock", has=path)
        route.locator(".opblock-summary-control").click()
        route.get_by_role("combobox").first.select_option("test")
        route.get_by_role("button", name="Execute").click()
        answer = route.locator(".live-responses-table tbody tr")
        expect(answer.locator(".response-col_status")).to_contain_text("200")
        expect(answer).to_contain_text('"customers"')
