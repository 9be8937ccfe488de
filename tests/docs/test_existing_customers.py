"""docs/how-to/existing-customers.md: customers of the time before get their subjects, by metadata
in Stripe or by assignments."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import stripe

import shell
from api import STRIPE_KEY, Api, opened
from billhook.mirror import assignments
from http_tokens import ADMIN_KEY, USER, token
from pages import block

PAGE = "docs/how-to/existing-customers.md"
PORTAL = "/api/payments/stripe/test/customer-portal-sessions"


def in_test_mode(text: str) -> str:
    """A block for the environment that the tests have."""
    assert "'live'" in text or "live " in text
    return text.replace("'live'", "'test'").replace("--environment live", "--environment test")


def customer(api: Api, *, subscribed: bool) -> str:
    """A customer with a card, from before Billhook."""
    made = api.stripe.v1.customers.create({"email": "before@example.com"})
    card = api.stripe.v1.payment_methods.attach("pm_card_visa", {"customer": made.id})
    default = {"default_payment_method": card.id}
    api.stripe.v1.customers.update(made.id, {"invoice_settings": default})
    if subscribed:
        product = api.stripe.v1.products.create({"name": "Plan"})
        price = api.stripe.v1.prices.create(
            {
                "product": product.id,
                "currency": "eur",
                "unit_amount": 900,
                "recurring": {"interval": "month"},
            }
        )
        of_team = {"customer": made.id, "items": [{"price": price.id}], "metadata": {"plan": "pro"}}
        api.stripe.v1.subscriptions.create(of_team)
    return str(made.id)


def sync(api: Api) -> None:
    assert api.admin("POST", "/test/sync").status_code == 200


def mapped(api: Api) -> dict[str, tuple[str, str]]:
    """But for those that another test has mapped at Stripe."""
    rows = api.books.rows("SELECT * FROM payments.customer_mappings WHERE subject_id <> 't_42'")
    return {row["provider_customer_id"]: (row["subject_type"], row["subject_id"]) for row in rows}


def subscriptions_of(api: Api, customer: str) -> list[dict[str, Any]]:
    return api.books.rows(
        "SELECT subject_id, metadata ->> 'plan' AS plan FROM payments.stripe_subscriptions"
        f" WHERE customer_id = '{customer}'"
    )


def unknown(api: Api) -> set[str]:
    rows = api.books.rows(in_test_mode(block(PAGE, "sql", "s.subject_id IS NULL")))
    return {row["customer_id"] for row in rows}


def rebuild(api: Api, folder: Path) -> None:
    given = {"BILLHOOK_URL": api.url, "BILLHOOK_API_KEY": ADMIN_KEY}
    shell.run(in_test_mode(block(PAGE, "sh", "billhook rebuild")), folder, given)


def test_metadata_at_stripe_maps_a_subscriber(
    api: Api, sandbox: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = customer(api, subscribed=True)
    sync(api)
    assert before in unknown(api)
    script = block(PAGE, "python", "insforge_subject_type")
    for text, ours in (
        ('os.environ["STRIPE_SECRET_KEY"]', f'KEY, base_addresses={{"api": {sandbox!r}}}'),
        ("cus_123", before),
    ):
        assert text in script
        script = script.replace(text, ours)
    exec(script, {"KEY": STRIPE_KEY, "os": os, "stripe": stripe})
    told = [
        each
        for each in api.stripe.v1.events.list({"limit": 100}).data
        if each.type == "customer.subscription.updated" and before in str(each)
    ]
    assert api.deliver(json.loads(str(told[0]))).status_code == 200
    (row,) = api.books.rows("SELECT * FROM payments.customer_mappings")
    assert (row["provider_customer_id"], row["subject_id"]) == (before, "t_42")
    assert subscriptions_of(api, before) == [{"subject_id": "t_42", "plan": "pro"}]
    assert before not in unknown(api)


def test_assignments_in_sql_map_customers(api: Api, tmp_path: Path) -> None:
    subscriber, buyer = customer(api, subscribed=True), customer(api, subscribed=False)
    sync(api)
    api.books.execute(f"""
        CREATE TABLE accounts (team_id text, stripe_customer_id text);
        INSERT INTO accounts VALUES ('t_1', '{subscriber}'), ('{USER}', '{buyer}')""")
    api.books.execute(in_test_mode(block(PAGE, "sql", "INSERT INTO payments.customer_assignments")))
    api.books.run(lambda database: assignments.apply_due(database, "test"))
    assert mapped(api) == {subscriber: ("team", "t_1"), buyer: ("team", USER)}
    assert subscriptions_of(api, subscriber) == [{"subject_id": "t_1", "plan": "pro"}]
    assert subscriber not in unknown(api)
    # The existing customer is used.
    subject = {"type": "team", "id": USER}
    assert api.post(PORTAL, {"subject": subject}, token()).status_code == 201
    product = api.stripe.v1.products.create({"name": "Mug"})
    price = api.stripe.v1.prices.create(
        {"product": product.id, "currency": "eur", "unit_amount": 1500}
    )
    order = {
        "mode": "payment",
        "lineItems": [{"priceId": price.id}],
        "successUrl": "https://your.app/done",
        "cancelUrl": "https://your.app/cart",
        "subject": subject,
    }
    assert opened(api.checkout(order, token()))["customerId"] == buyer
    # Withdrawn.
    withdraw = in_test_mode(block(PAGE, "sql", "DELETE FROM")).replace("cus_123", buyer)
    api.books.execute(withdraw)
    rebuild(api, tmp_path)
    assert mapped(api) == {subscriber: ("team", "t_1")}
    assert api.post(PORTAL, {"subject": subject}, token()).status_code == 404


def test_the_commands_map_customers(api: Api, tmp_path: Path) -> None:
    host = f"{uuid4().hex}.example"
    emails = [f"{name}@{host}" for name in ("by-email", "by-id", "by-metadata")]
    made = [api.stripe.v1.customers.create({"email": each}).id for each in emails]
    api.stripe.v1.customers.update(made[2], {"metadata": {"app_user_id": "u_3"}})
    sync(api)
    (tmp_path / "users.csv").write_text(f"email,subject_id\n{emails[0]},u_1\n")
    (tmp_path / "customers.csv").write_text(
        f"customer_id,subject_type,subject_id\n{made[1]},user,u_2\n"
    )
    given = {"BILLHOOK_URL": api.url, "BILLHOOK_API_KEY": ADMIN_KEY}
    shell.run(block(PAGE, "sh", "customers map"), tmp_path, given)
    assert mapped(api) == {made[1]: ("user", "u_2"), made[2]: ("user", "u_3")}
    first, *_ = block(PAGE, "sh", "customers map").splitlines()
    shell.run(first.replace("--dry-run", "--yes"), tmp_path, given)
    assert mapped(api)[made[0]] == ("user", "u_1")


def test_a_row_that_is_inserted_among_the_mappings_is_lost(api: Api, tmp_path: Path) -> None:
    """Which is why the page says where to write instead."""
    buyer = customer(api, subscribed=False)
    sync(api)
    api.books.execute(f"""
        INSERT INTO payments.customer_mappings
            (provider, environment, subject_type, subject_id, provider_customer_id)
        VALUES ('stripe', 'test', 'team', 't_1', '{buyer}')""")
    rebuild(api, tmp_path)
    assert mapped(api) == {}
