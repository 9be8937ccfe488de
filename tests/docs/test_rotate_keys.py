"""docs/how-to/rotate-keys.md: each key is replaced as the page says, and everything goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import stripe

import shell
from billhook.settings import load_settings
from books import Books
from http_tokens import ADMIN_KEY, JWT_SECRET
from pages import block
from process import Process, serving
from waiting import until

PAGE = "docs/how-to/rotate-keys.md"
OLD_KEY, NEW_KEY = "sk_live_shopkeeper_1", "sk_live_shopkeeper_2"  # of one account
_HAS_ENDPOINT = """
    SELECT FROM payments.provider_connections
    WHERE environment = 'live' AND webhook_endpoint_id IS NOT NULL
"""
ENCRYPTION_KEY = "5b1f0c7be94a26834f9c1b7e5a2d4086"


@pytest.fixture
def settings(direct_database_url: str, sandbox: str) -> dict[str, str]:
    """What the operator's shell has on the server."""
    return {
        "DATABASE_URL": direct_database_url,
        "JWT_SECRET": JWT_SECRET,
        "STRIPE_API_BASE": sandbox,
        "ENCRYPTION_KEY": ENCRYPTION_KEY,
    }


@pytest.fixture
def server(settings: dict[str, str], sandbox: str, tmp_path: Path) -> Iterator[Process]:
    """A server that is connected to a live account."""
    (tmp_path / "server").mkdir()
    with serving(
        settings["DATABASE_URL"],
        sandbox,
        tmp_path / "server",
        ENCRYPTION_KEY=ENCRYPTION_KEY,
        STRIPE_LIVE_SECRET_KEY=OLD_KEY,
        BILLHOOK_PUBLIC_URL="http://127.0.0.1:9",
        BILLHOOK_RECOVERY="true",
    ) as running:
        books = Books(settings["DATABASE_URL"])
        until(lambda: books.rows(_HAS_ENDPOINT))
        yield running


def at(server: Process) -> dict[str, str]:
    return {"BILLHOOK_URL": server.url, "BILLHOOK_API_KEY": ADMIN_KEY}


def test_an_admin_key_is_replaced(settings: dict[str, str], tmp_path: Path) -> None:
    ran = shell.run("billhook keys create --admin --name old", tmp_path, settings)
    old = ran.out.strip()
    listed = shell.run("billhook keys list --json", tmp_path, settings).out
    key_id = listed.partition('"id":')[2].split('"')[1]
    script = block(PAGE, "sh", "billhook keys rotate")
    script = script.replace("3fa85f64-5717-4562-b3fc-2c963f66afa6", key_id)
    ran = shell.run(script, tmp_path, settings)
    assert old not in ran.out
    assert ran.out.strip().splitlines()[-1].startswith("ik_")
    listed = shell.run("billhook keys list", tmp_path, settings).out
    assert listed.count("valid until") == 1, "the old one"


@pytest.mark.full
def test_the_stripe_key_is_replaced(server: Process, tmp_path: Path) -> None:
    (tmp_path / "stripe-key.txt").write_text(NEW_KEY)
    script = block(PAGE, "sh", "config set")
    shell.run(script, tmp_path, at(server))
    assert not (tmp_path / "stripe-key.txt").exists()
    found = httpx.get(
        f"{server.url}/api/payments/stripe/config", headers={"x-api-key": ADMIN_KEY}
    ).json()
    (live,) = [each for each in found["keys"] if each["environment"] == "live"]
    assert live["value"].endswith(NEW_KEY[-4:])


@pytest.mark.full
def test_the_managed_endpoint_gets_a_new_secret(
    server: Process, sandbox: str, tmp_path: Path
) -> None:
    script = block(PAGE, "sh", "webhooks configure")
    shell.run(script, tmp_path, at(server))
    client = stripe.StripeClient(OLD_KEY, base_addresses={"api": sandbox})
    (before,) = client.v1.webhook_endpoints.list().data
    client.v1.webhook_endpoints.delete(before.id)
    ran = shell.run(script, tmp_path, at(server))
    (after,) = client.v1.webhook_endpoints.list().data
    assert after.id != before.id
    assert after.id in ran.out


def test_two_signing_secrets_are_accepted(tmp_path: Path) -> None:
    script = block(PAGE, "sh", "STRIPE_LIVE_WEBHOOK_SECRET")
    found = shell.run(script, tmp_path, {}).environment
    settings = load_settings(
        DATABASE_URL="postgresql:///app",
        JWT_SECRET=JWT_SECRET,
        STRIPE_LIVE_WEBHOOK_SECRET=found["STRIPE_LIVE_WEBHOOK_SECRET"],
    )
    assert len(settings.stripe_webhook_secrets("live")) == 2


@pytest.mark.full
def test_the_encryption_key_is_replaced(
    server: Process, settings: dict[str, str], sandbox: str, tmp_path: Path
) -> None:
    server.terminate()
    changed = shell.run(block(PAGE, "sh", "export ENCRYPTION_KEY="), tmp_path, settings).environment
    assert changed["ENCRYPTION_KEY_PREVIOUS"] == ENCRYPTION_KEY
    new = {name: changed[name] for name in ("ENCRYPTION_KEY", "ENCRYPTION_KEY_PREVIOUS")}
    (tmp_path / "again").mkdir()
    with serving(settings["DATABASE_URL"], sandbox, tmp_path / "again", **new):
        ran = shell.run(block(PAGE, "sh", "unset ENCRYPTION_KEY_PREVIOUS"), tmp_path, changed)
    assert "no longer needed" in ran.out
    assert "ENCRYPTION_KEY_PREVIOUS" not in ran.environment
    ran = shell.run("billhook doctor", tmp_path, ran.environment)
    assert "All stored secrets can be read." in ran.out
