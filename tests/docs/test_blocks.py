"""Every code block of README.md and docs/ is run by a test, or says why not."""

from __future__ import annotations

import json

import pytest

from pages import ROOT, all_blocks, all_pages

PROGRAMS = {"bash", "console", "js", "javascript", "py", "python", "sh", "sql", "ts"}

APP = ("tests/database/test_app_sql.py",)

RUN_BY = {
    "README.md": {"sh": "tests/unit/test_cli_docs.py", "sql": "tests/database/test_app_sql.py"},
    "docs/how-to/alerts.md": {"sh": "tests/docs/test_alerts.py"},
    "docs/how-to/backup.md": {"sh": "tests/docs/test_backup.py"},
    "docs/how-to/clerk-auth0.md": {
        "sh": "tests/docs/test_clerk_auth0.py",
        "sql": "tests/docs/test_clerk_auth0.py",
    },
    "docs/how-to/database-roles.md": {"sql": "tests/database/test_owner.py"},
    "docs/how-to/checkout-options.md": {"sql": "tests/docs/test_checkout_options_page.py"},
    "docs/how-to/offers.md": dict.fromkeys(
        ("python", "sh", "sql"), "tests/docs/test_offers_page.py"
    ),
    "docs/how-to/deploy.md": {"sh": "tests/docs/test_deploy_page.py"},
    "docs/how-to/existing-customers.md": {
        "python": "tests/docs/test_existing_customers.py",
        "sh": "tests/docs/test_existing_customers.py",
        "sql": "tests/docs/test_existing_customers.py",
    },
    "docs/how-to/fulfill-orders.md": {"sql": "tests/database/test_app_sql.py"},
    "docs/how-to/grant-access.md": dict.fromkeys(
        ("python", "sh", "sql"), "tests/docs/test_grant_access_page.py"
    ),
    "docs/how-to/insforge.md": {
        "sh": "tests/docs/test_insforge.py",
        "sql": "tests/docs/test_insforge.py",
    },
    "docs/how-to/manage-subscriptions.md": {
        "python": "tests/docs/test_manage_subscriptions_page.py",
        "sql": "tests/docs/test_manage_subscriptions_page.py",
    },
    "docs/how-to/move-to-billhook.md": {
        "python": "tests/docs/test_move_to_billhook.py",
        "sh": "tests/docs/test_move_to_billhook.py",
        "sql": "tests/docs/test_move_to_billhook.py",
    },
    "docs/how-to/invoices-and-cards.md": {
        "js": "tests/docs/test_invoices_and_cards_page.py",
        "sh": "tests/docs/test_invoices_and_cards_page.py",
        "sql": "tests/docs/test_invoices_and_cards_page.py",
    },
    "docs/how-to/more-events.md": {
        "sh": "tests/docs/test_more_events_page.py",
        "sql": "tests/docs/test_more_events_page.py",
    },
    "docs/how-to/people.md": {"sh": "tests/docs/test_people_page.py"},
    "docs/how-to/policies.md": {"sql": "tests/database/test_app_sql.py"},
    "docs/how-to/usage-billing.md": {
        "python": "tests/docs/test_usage_billing_page.py",
        "sh": "tests/docs/test_usage_billing_page.py",
        "sql": "tests/docs/test_usage_billing_page.py",
    },
    "docs/how-to/supabase.md": {
        "sh": "tests/docs/test_supabase.py",
        "sql": "tests/docs/test_supabase.py",
    },
    "docs/how-to/rotate-keys.md": {"sh": "tests/docs/test_rotate_keys.py"},
    "docs/how-to/server-checkout.md": {"python": "tests/http/test_acting_for_a_user.py"},
    "docs/how-to/test-your-app.md": {
        "python": "tests/docs/test_test_your_app.py",
        "sql": "tests/docs/test_test_your_app.py",
    },
    "docs/how-to/refunds-trials-coupons-tax.md": {
        "python": "tests/docs/test_refunds_trials_page.py",
        "sql": "tests/docs/test_refunds_trials_page.py",
    },
    "docs/how-to/refunds.md": dict.fromkeys(
        ("python", "sh", "sql"), "tests/docs/test_refunds_page.py"
    ),
    "docs/how-to/charge-later.md": dict.fromkeys(
        ("python", "sh", "sql"), "tests/docs/test_charge_later_page.py"
    ),
    "docs/how-to/run-code.md": {
        "python": "tests/docs/test_run_code_page.py",
        "sql": "tests/docs/test_run_code_page.py",
    },
    "docs/how-to/prevent-double-subscriptions.md": {
        "python": "tests/docs/test_double_subscriptions_page.py",
        "sql": "tests/docs/test_double_subscriptions_page.py",
    },
    "docs/how-to/orm.md": {
        "python": "tests/docs/test_orm_page.py",
        "sql": "tests/docs/test_orm_page.py",
    },
    "docs/how-to/upgrade.md": {
        "sh": "tests/docs/test_upgrade_page.py",
        "sql": "tests/docs/test_upgrade_page.py",
    },
    "docs/how-to/privacy.md": {"sql": "tests/docs/test_privacy_page.py"},
    "docs/explanation/business-figures.md": dict.fromkeys(
        ("sh", "sql"), "tests/docs/test_business_figures_page.py"
    ),
    "docs/explanation/history.md": {
        "sh": "tests/docs/test_history_page.py",
        "sql": "tests/docs/test_history_page.py",
    },
    "docs/explanation/security.md": {"sql": "tests/docs/test_security_page.py"},
    "docs/reference/cli.md": {"sh": "tests/unit/test_cli_docs.py"},
    "docs/reference/python.md": {"python": "tests/http/test_cli_library.py"},
    "docs/reference/tables.md": {"sql": "tests/database/test_app_sql.py"},
    "docs/reference/sandbox.md": {"python": "tests/sandbox/test_pytest_plugin.py"},
    "docs/tutorial/fastapi-app.md": dict.fromkeys(
        ("python", "sh", "sql"), "tests/docs/test_tutorial.py"
    ),
    "docs/tutorial/fastapi-teams.md": dict.fromkeys(
        ("python", "sh", "sql"), "tests/docs/test_tutorial.py"
    ),
    "docs/tutorial/fastapi-tests.md": dict.fromkeys(
        ("python", "sh"), "tests/docs/test_tutorial.py"
    ),
    "docs/tutorial/first-order.md": {"sh": "tests/docs/test_tutorial.py"},
    "docs/tutorial/javascript.md": dict.fromkeys(
        ("js", "python", "sh"), "tests/browser/test_tutorial_frontend.py"
    ),
}
"""Which test runs the blocks of a page, by language."""


@pytest.mark.parametrize("page", all_pages())
def test_each_block_is_run_or_says_why_not(page: str) -> None:
    idle = [
        each.text
        for each in all_blocks(page)
        if each.language in PROGRAMS
        and each.language not in RUN_BY.get(page, {})
        and not each.reason
    ]
    assert idle == []


def test_the_tests_that_run_them_name_their_page() -> None:
    for page, tests in RUN_BY.items():
        for test in tests.values():
            source = (ROOT / test).read_text()
            assert page in source or (page.rpartition("/")[2] in source and test in APP), test


@pytest.mark.parametrize("page", all_pages())
def test_json_can_be_parsed(page: str) -> None:
    for each in all_blocks(page):
        if each.language == "json":
            json.loads(each.text)
