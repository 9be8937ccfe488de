"""Stripe's CLI runs its own fixtures: `stripe trigger EVENT`."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from sandbox.referees.tools import PACKAGES
from sandbox.shop import Receiver, Shop

pytestmark = [pytest.mark.sampled(6), pytest.mark.node, pytest.mark.usefixtures("node")]

EVENTS = (
    "billing_portal.configuration.created",
    "billing_portal.configuration.updated",
    "billing_portal.session.created",
    "checkout.session.completed",
    "checkout.session.expired",
    "coupon.created",
    "coupon.deleted",
    "coupon.updated",
    "customer.created",
    "customer.deleted",
    "customer.updated",
    "payment_intent.canceled",
    "payment_method.attached",
    "payment_method.detached",
    "payment_method.updated",
    "price.created",
    "price.updated",
    "product.created",
    "product.deleted",
    "product.updated",
    "setup_intent.requires_action",
)

# Its fixtures send parameters that the newest version rejects (stripe-facts 43).
DAHLIA, BASIL = "2026-08-26.dahlia", "2025-08-27.basil"
OLDER = {
    "balance.available": DAHLIA,
    "charge.captured": DAHLIA,
    "charge.dispute.closed": DAHLIA,
    "charge.dispute.created": DAHLIA,
    "charge.dispute.updated": DAHLIA,
    "charge.failed": DAHLIA,
    "charge.refund.updated": DAHLIA,
    "charge.refunded": DAHLIA,
    "charge.succeeded": DAHLIA,
    "checkout.session.async_payment_failed": DAHLIA,
    "checkout.session.async_payment_succeeded": DAHLIA,
    "payment_intent.amount_capturable_updated": DAHLIA,
    "payment_intent.created": DAHLIA,
    "payment_intent.payment_failed": DAHLIA,
    "payment_intent.processing": DAHLIA,
    "payment_intent.requires_action": DAHLIA,
    "payment_intent.succeeded": DAHLIA,
    "promotion_code.created": BASIL,
    "promotion_code.updated": BASIL,
    "setup_intent.canceled": DAHLIA,
    "setup_intent.created": DAHLIA,
    "setup_intent.setup_failed": DAHLIA,
    "setup_intent.succeeded": DAHLIA,
}


def trigger(shop: Shop, event: str, home: Path) -> subprocess.CompletedProcess[str]:
    # The CLI requires keys with at least twelve characters.
    words = ["--api-key", f"{shop.key}_of_the_stripe_cli", "--api-base", shop.sandbox.url]
    return subprocess.run(
        [PACKAGES / ".bin" / "stripe", "trigger", event, *words],
        env=os.environ | {"STRIPE_CLI_TELEMETRY_OPTOUT": "1", "HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=60,
    )


def seen(shop: Shop, receiver: Receiver, event: str, home: Path) -> None:
    given = {"url": receiver.url, "enabled_events": [event]}
    shop.v1.webhook_endpoints.create(given)
    done = trigger(shop, event, home)
    assert "Trigger succeeded" in done.stdout, done.stdout + done.stderr
    # What Stripe sends days later is sent here when time is advanced.
    shop.sandbox.control("settle")
    assert {delivery.event["type"] for delivery in receiver.wait_for(1)} == {event}


@pytest.mark.parametrize("event", EVENTS)
def test_a_triggered_event_reaches_the_webhook(
    shop: Shop, receiver: Receiver, tmp_path: Path, event: str
) -> None:
    seen(shop, receiver, event, tmp_path)


@pytest.mark.parametrize("event", OLDER)
def test_an_event_of_an_account_with_an_older_version_reaches_the_webhook(
    shop: Shop, receiver: Receiver, tmp_path: Path, event: str
) -> None:
    shop.sandbox.control("api_version", key=shop.key, version=OLDER[event])
    seen(shop, receiver, event, tmp_path)
