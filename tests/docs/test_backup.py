"""docs/how-to/backup.md: what happened after the backup is there again after the restore."""

from __future__ import annotations

import time
from pathlib import Path

import httpx
import pytest
import stripe

import shell
from api import STRIPE_KEY
from billhook.postgres.embedded import EmbeddedPostgres
from http_tokens import ADMIN_KEY, JWT_SECRET
from pages import blocks
from process import serving

PAGE = "docs/how-to/backup.md"
SETTINGS = {
    "STRIPE_TEST_SECRET_KEY": STRIPE_KEY,
    "BILLHOOK_RECOVERY": "true",
    "BILLHOOK_PULL_SECONDS": "0.2",
}


def buy(client: stripe.StripeClient, sandbox: str) -> None:
    price = client.v1.prices.create(
        {"currency": "eur", "unit_amount": 1500, "product_data": {"name": "Tea"}}
    )
    session = client.v1.checkout.sessions.create(
        {
            "mode": "payment",
            "success_url": "https://shop.example/done",
            "line_items": [{"price": price.id, "quantity": 1}],
        }
    )
    paid = {"session": session.id, "payment_method": "pm_card_visa"}
    httpx.post(f"{sandbox}/_sandbox/pay", json=paid, timeout=60).raise_for_status()


def paid(url: str) -> int:
    answer = httpx.get(
        f"{url}/api/payments/stripe/test/transactions", headers={"x-api-key": ADMIN_KEY}
    )
    return len(answer.raise_for_status().json()["transactions"])


def wait_for(url: str, payments: int) -> None:
    deadline = time.monotonic() + 60
    while paid(url) != payments:
        assert time.monotonic() < deadline, f"{paid(url)} of {payments} payments"
        time.sleep(0.1)


@pytest.mark.full
def test_a_restored_database_catches_up(
    postgres: EmbeddedPostgres, direct_database_url: str, sandbox: str, tmp_path: Path
) -> None:
    client = stripe.StripeClient(STRIPE_KEY, base_addresses={"api": sandbox})
    back_up, restore, check = blocks(PAGE, "sh")
    restored = postgres.dsn("restored")
    addresses = {
        "ADMIN_DATABASE_URL": direct_database_url,
        "RESTORED_DATABASE_URL": restored,
    }
    (tmp_path / "before").mkdir()
    with serving(direct_database_url, sandbox, tmp_path / "before", **SETTINGS) as server:
        buy(client, sandbox)
        wait_for(server.url, 1)
        shell.run(back_up, tmp_path, addresses, postgres.bin)
        buy(client, sandbox)
        wait_for(server.url, 2)
    try:
        shell.run(restore, tmp_path, addresses, postgres.bin)
        with serving(restored, sandbox, tmp_path, **SETTINGS) as server:
            wait_for(server.url, 2)
            # Checked from elsewhere, so through the API.
            at = {"BILLHOOK_URL": server.url, "BILLHOOK_API_KEY": ADMIN_KEY}
            ran = shell.run(check, tmp_path, at | {"STRIPE_API_BASE": sandbox})
            assert "0 broken" in ran.out
    finally:
        drop = 'dropdb --force --if-exists --maintenance-db "$ADMIN_DATABASE_URL" restored'
        shell.run(drop, tmp_path, addresses, postgres.bin)
    assert JWT_SECRET not in ran.out
