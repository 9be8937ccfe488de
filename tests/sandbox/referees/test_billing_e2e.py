"""The scenarios of `billing-e2e` (PyPI): renewals, failures, plan changes, cancellation, on test
clocks. They are written for Stripe and assert what Stripe does."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox.referees.tools import missing
from sandbox.shop import Shop

SCENARIOS = (
    "cancel-at-period-end",
    "failed-renewal",
    "plan-change",
    "renewal",
    "signup-card-problems",
)

# Starts the installed command with the sandbox's URL, for which it has no option.
START = """
import os, stripe
stripe.DEFAULT_API_BASE = os.environ["SANDBOX_URL"]
from billing_e2e.cli import main
main()
"""


@pytest.fixture
def installed() -> None:
    if importlib.util.find_spec("billing_e2e") is None:
        missing("billing-e2e", "pip install --no-deps -r tests/sandbox/referees/requirements.txt")


def run(shop: Shop, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", START, *words],
        cwd=folder,
        env=os.environ | {"SANDBOX_URL": shop.sandbox.url, "STRIPE_TEST_KEY": shop.key},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_scenario_passes(shop: Shop, tmp_path: Path, scenario: str) -> None:
    # Letters and digits only: it checks that the key looks like Stripe's.
    shop = Shop(shop.sandbox, shop.key.replace("_shop", "_e2e"))
    assert run(shop, tmp_path, "init").returncode == 0
    assert {path.stem for path in (tmp_path / "scenarios").iterdir()} == set(SCENARIOS)
    prices = {
        "price_your_monthly_plan": shop.price(1500, interval="month"),
        "price_a_more_expensive_monthly_plan": shop.price(4900, interval="month"),
    }
    config = tmp_path / "billing-e2e.yml"
    text = config.read_text()
    for placeholder, price in prices.items():
        text = text.replace(placeholder, price)
    config.write_text(text)
    done = run(shop, tmp_path, "run", f"scenarios/{scenario}.yml")
    assert done.returncode == 0, done.stdout + done.stderr
