"""`billhook dev --with-history`: a new folder gets a year of a small business, once."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import httpx
import pytest

from billhook.client import Client
from billhook.dev.filling import Filling
from billhook.dev.state import Stage, State
from waiting import until

WITHIN = 300.0  # seconds for a start, on a machine that many share


@contextmanager
def running(folder: Path, *more: str) -> Iterator[dict[str, str]]:
    """`billhook dev`; the variables of its `env`."""
    environment = folder / "env"
    environment.unlink(missing_ok=True)
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "billhook.cli", "dev", "--state", str(folder)),
            *("--port", "0", "--sandbox-port", "0", *more),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:

        def is_ready() -> bool:
            assert process.poll() is None, process.stderr and process.stderr.read().decode()
            return environment.exists()

        until(is_ready, "billhook dev starts", WITHIN)
        yield variables(environment)
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)


def variables(environment: Path) -> dict[str, str]:
    script = f". {environment} && env -0"
    told = subprocess.run(
        ["sh", "-c", script], capture_output=True, text=True, check=True, env={"PATH": os.defpath}
    )
    pairs = (line.partition("=") for line in told.stdout.split("\0") if line)
    return {name: value for name, _, value in pairs}


@pytest.mark.full
def test_a_new_folder_gets_a_year_of_a_small_business_once(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    with running(folder, "--with-history") as env:
        with Client(env["BILLHOOK_URL"], env["BILLHOOK_API_KEY"], timeout=120) as client:
            expect_a_believable_year(client)
        asyncio.run(expect_events_in_their_order(env["DATABASE_URL"]))
        expect_the_shop_to_sell(env["BILLHOOK_URL"])
        with Client(env["BILLHOOK_URL"], env["BILLHOOK_API_KEY"]) as client:
            customers = sum(1 for _ in client.customers.all("test"))
    began = time.monotonic()
    with (
        running(folder, "--with-history") as env,
        Client(env["BILLHOOK_URL"], env["BILLHOOK_API_KEY"]) as client,
    ):
        print(f"the second start took {time.monotonic() - began:.1f} s")
        assert sum(1 for _ in client.customers.all("test")) == customers
        assert client.events.page("test", status="failed").items == []


def expect_a_believable_year(client: Client) -> None:
    found = client.overview("test", days=365)
    usd = next(each for each in found.currencies if each.currency == "usd")
    months = Counter(each.day.strftime("%Y-%m") for each in usd.days if each.succeeded)
    assert len(months) >= 12, "payments in every month"
    assert sum(months.values()) > 100, "on many days"
    assert usd.total.failed > 0
    assert usd.total.refunded > 0
    assert len(found.currencies) > 1
    assert {"active", "past_due", "canceled"} <= found.subscriptions.keys()
    statuses = {each.status for each in client.mirrored("disputes").all("test")}
    assert {"won", "lost", "needs_response"} <= statuses
    assert client.verify("test").sound, "all of it is what Stripe has"


async def expect_events_in_their_order(database_url: str) -> None:
    """Each was received when it happened, and applied."""
    connection = await asyncpg.connect(database_url)
    try:
        rows = await connection.fetch(
            "SELECT received_at, processing_status, (payload ->> 'created')::bigint AS created "
            "FROM payments.webhook_events ORDER BY received_at"
        )
    finally:
        await connection.close()
    old = [row for row in rows if row["received_at"] < datetime.now(UTC) - timedelta(hours=1)]
    assert len(old) > 1000
    assert {row["processing_status"] for row in rows} <= {"processed", "ignored"}
    assert all(row["received_at"] == datetime.fromtimestamp(row["created"], UTC) for row in old)
    assert old[0]["received_at"] < datetime.now(UTC) - timedelta(days=360)


def expect_the_shop_to_sell(url: str) -> None:
    """An order of the demo shop, from its page to the trigger that marks it as paid."""
    with httpx.Client(base_url=url, timeout=60) as shop:
        wanted = {"product": "mug", "currency": "eur", "quantity": 1}
        order = shop.post("/demo/orders", json=wanted).json()
        token = shop.get("/demo/session").json()["token"]
        page = f"{url}/demo/orders/{order['orderId']}"
        checkout = shop.post(
            "/api/payments/stripe/test/checkout-sessions",
            headers={"Authorization": f"Bearer {token}"},
            json={
                "mode": "payment",
                "lineItems": [{"priceId": order["priceId"]}],
                "successUrl": page,
                "cancelUrl": page,
                "metadata": {"app": "demo-shop", "order_id": order["orderId"]},
            },
        )
        session = checkout.json()["checkoutSession"]
        sandbox = session["url"].partition("/c/")[0]
        paid = {"session": session["checkoutSessionId"]}
        httpx.post(f"{sandbox}/_sandbox/pay", json=paid, timeout=60).raise_for_status()
        status = f"/demo/orders/{order['orderId']}/status"
        until(lambda: shop.get(status).json()["status"] == "paid", "the order is paid", 60)


def test_a_history_that_was_killed_in_the_middle_begins_again(tmp_path: Path) -> None:
    data = tmp_path / "sandbox.sqlite"
    with State(tmp_path) as state:
        assert Filling(state, data, wanted=True).begin_ago > 0
        for name in ("sandbox.sqlite", "sandbox.sqlite-wal"):
            (tmp_path / name).write_text("half a year")
        assert Filling(state, data, wanted=True).begin_ago > 0
        assert not list(tmp_path.glob("sandbox.sqlite*"))
        data.write_text("half a year")
        assert Filling(state, data, wanted=False).begin_ago == 0
        assert not data.exists(), "its clock is in the past"
        assert state.history_stage() is None


@pytest.mark.parametrize("stage", [None, "mirror", "done"])
def test_a_folder_with_data_is_never_filled(tmp_path: Path, stage: Stage | None) -> None:
    data = tmp_path / "sandbox.sqlite"
    data.write_text("mine")
    with State(tmp_path) as state:
        state.write_history_stage(stage)
        assert Filling(state, data, wanted=True).begin_ago == 0
        assert state.history_stage() == stage
    assert data.read_text() == "mine"
