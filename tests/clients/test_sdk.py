"""InsForge's JavaScript SDK works against Billhook unchanged (contract §6)."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

import pytest

from clients_of_node import HERE, require_node
from http_tokens import ANONYMOUS_KEY, USER, token

POLICIES = """
    ALTER TABLE payments.stripe_checkout_sessions ENABLE ROW LEVEL SECURITY;
    CREATE POLICY own ON payments.stripe_checkout_sessions FOR ALL TO authenticated
        USING (subject_type = 'user' AND subject_id = auth.uid()::text)
        WITH CHECK (subject_type = 'user' AND subject_id = auth.uid()::text);
    CREATE POLICY guests ON payments.stripe_checkout_sessions FOR INSERT TO anon
        WITH CHECK (mode = 'payment' AND subject_id IS NULL);
"""


@pytest.mark.node
def test_the_javascript_sdk_works_unchanged(api: Any) -> None:
    require_node()
    product = api.stripe.v1.products.create({"name": "Mug"})
    price = {"product": product.id, "currency": "eur", "unit_amount": 1500}
    once = api.stripe.v1.prices.create(price)
    monthly = api.stripe.v1.prices.create({**price, "recurring": {"interval": "month"}})
    customer = api.stripe.v1.customers.create({"email": "a@b.example"})
    api.books.execute(
        POLICIES
        + f"""INSERT INTO payments.customer_mappings
            (provider, environment, subject_type, subject_id, provider_customer_id)
            VALUES ('stripe', 'test', 'user', '{USER}', '{customer.id}');"""
    )
    given = {
        "url": api.url,
        "anonymousKey": ANONYMOUS_KEY,
        "token": token(),
        "user": USER,
        "other": "22222222-2222-4222-8222-222222222222",
        "price": once.id,
        "monthly": monthly.id,
    }
    run = subprocess.run(
        ["node", "--test", "sdk.test.mjs"],
        cwd=HERE,
        env=os.environ | {"BILLHOOK_TEST": json.dumps(given)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "pass 9" in run.stdout, run.stdout
