"""`billhook sandbox COMMAND` with a running sandbox; seed and dump."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import stripe

from billhook_sandbox.commands import run
from sandbox.conftest import Launch
from sandbox.shop import Receiver, Sandbox, Shop

COMMAND = [sys.executable, "-m", "billhook.cli", "sandbox"]


class Told(NamedTuple):
    status: int
    stdout: str
    stderr: str


class Tell:
    """Runs a command without starting a process."""

    def __init__(self, url: str, capture: pytest.CaptureFixture[str]) -> None:
        self.url = url
        self.capture = capture

    def __call__(self, *words: str) -> Told:
        self.capture.readouterr()
        try:
            status = run([*words, "--url", self.url])
        except SystemExit as ended:
            status = int(str(ended.code))
        return Told(status, *self.capture.readouterr())

    def obeyed(self, *words: str) -> Any:
        done = self(*words)
        assert done.status == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture
def tell(sandbox: Sandbox, capsys: pytest.CaptureFixture[str]) -> Tell:
    return Tell(sandbox.url, capsys)


def test_a_command_reaches_a_running_sandbox(sandbox: Sandbox) -> None:
    command = [*COMMAND, "health", "--url", sandbox.url]
    asked = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert json.loads(asked.stdout)["status"] == "ok"


def test_time_is_advanced_and_a_session_is_paid(tell: Tell, shop: Shop) -> None:
    before = tell.obeyed("health")["now"]
    assert tell.obeyed("advance", "2h")["now"] - before >= 7200
    session = shop.session()
    assert tell.obeyed("pay", session.id)["payment_status"] == "paid"
    assert shop.v1.checkout.sessions.retrieve(session.id).status == "complete"


def test_faults_keys_and_outcomes_are_set(tell: Tell, shop: Shop) -> None:
    tell.obeyed("fault", "--status", "503", "--path", "/v1/prices", "--times", "1")
    assert shop.raw("GET", "/v1/prices").status_code == 503
    assert shop.raw("GET", "/v1/prices").status_code == 200
    restricted = shop.key.replace("sk_", "rk_")
    tell.obeyed("restrict-key", restricted, "prices=none")
    assert Shop(shop.sandbox, restricted).raw("GET", "/v1/prices").status_code == 403
    tell.obeyed("revoke-key", f"{shop.key}_1")
    assert Shop(shop.sandbox, f"{shop.key}_1").raw("GET", "/v1/prices").status_code == 401
    tell.obeyed("outcome", "pm_card_chargeDeclined", "--key", shop.key)
    refused = tell("pay", shop.session().id)
    assert (refused.status, refused.stderr) == (
        1,
        "billhook sandbox: Your card was declined.\n",
    )


def test_a_signing_secret_is_rolled(tell: Tell, shop: Shop, receiver: Receiver) -> None:
    given = {"url": receiver.url, "enabled_events": ["customer.created"]}
    endpoint = shop.v1.webhook_endpoints.create(given)
    rolled = tell.obeyed("roll-secret", endpoint.id, "--overlap", "0")
    assert rolled["endpoint"] == endpoint.id
    shop.v1.customers.create({"name": "Ada"})
    delivery = receiver.wait_for(1)[0]
    assert stripe.Webhook.construct_event(delivery.body, delivery.signature, rolled["secret"])
    with pytest.raises(stripe.SignatureVerificationError):
        stripe.Webhook.construct_event(delivery.body, delivery.signature, str(endpoint.secret))


def test_latency_versions_deliveries_and_reset_are_controlled(
    launch: Launch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, found = launch()
    tell = Tell(found.url, capsys)
    shop = Shop(found, "sk_test_sandbox")
    tell.obeyed("delivery", "--order", "shuffled", "--drop", "0.5", "--seed", "3")
    tell.obeyed("latency", "0.01", "--path", "/v1/events")
    tell.obeyed("extra-keys", "on")
    assert tell.obeyed("account", "--name", "Acme")["name"] == "Acme"
    assert shop.get("/v1/account")["business_profile"]["name"] == "Acme"
    tell.obeyed("api-version", "2024-06-20")
    shop.v1.customers.create({"name": "Ada"})
    assert shop.events()[0]["api_version"] == "2024-06-20"
    assert shop.events()[0]["sandbox_unknown_flag"] is True
    subscription = shop.paid("subscription")["subscription"]
    assert tell.obeyed("renew", subscription, "--failed")["status"] == "past_due"
    assert tell.obeyed("settle")["waiting"] == 0
    assert tell.obeyed("stats")["data_sets"][0]["objects"]["customer"] == 2
    tell.obeyed("reset")
    assert tell.obeyed("stats")["data_sets"] == []


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["pay", "cs_test_gone"], "No such checkout.session: 'cs_test_gone'"),
        (["seed"], "at least one count"),
        (["fault"], "A fault needs"),
        (["restrict-key", "rk_test_a", "customers"], "write access as"),
        (["advance", "soon"], "a time such as"),
        (["dump", "--key", "nonsense"], "must be an API key"),
    ],
)
def test_an_invalid_command_is_reported_in_one_line(
    tell: Tell, words: list[str], says: str
) -> None:
    refused = tell(*words)
    assert refused.status != 0
    assert says in refused.stderr.splitlines()[-1]
    assert "Traceback" not in refused.stderr


def test_a_missing_sandbox_is_reported_in_one_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    refused = Tell("http://127.0.0.1:1", capsys)("stats")
    assert refused.status == 1
    assert refused.stderr.startswith("billhook sandbox: no sandbox is running at")
    assert refused.stderr.count("\n") == 1


def test_help_lists_the_commands() -> None:
    shown = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True, timeout=60)
    assert shown.returncode == 0
    assert "roll-secret" in shown.stdout


def test_seeded_objects_are_in_order_and_refer_to_each_other(tell: Tell, shop: Shop) -> None:
    amounts = {"products": 30, "prices": 40, "customers": 250, "subscriptions": 20, "payments": 15}
    words = [word for kind, count in amounts.items() for word in (f"--{kind}", str(count))]
    done = tell.obeyed("seed", *words, "--key", shop.key)
    # Customers have a method, subscriptions an item, payments a charge and a transaction.
    assert done["objects"] == 30 + 40 + 2 * 250 + 2 * 20 + 3 * 15
    customers = list(shop.v1.customers.list({"limit": 100}).auto_paging_iter())
    assert len(customers) == len({customer.id for customer in customers}) == 250
    assert all(newer.created >= older.created for newer, older in pairwise(customers))
    assert len(list(shop.v1.products.list({"limit": 100}).auto_paging_iter())) == 30
    subscription = shop.v1.subscriptions.list({"expand": ["data.customer"]}).data[0]
    assert subscription.status == "active"
    assert subscription["items"].data[0].price.id.startswith("price_")
    assert subscription["items"].data[0].current_period_end > subscription.created
    intent = shop.v1.payment_intents.list({"expand": ["data.latest_charge"]}).data[0]
    assert intent.latest_charge.payment_intent == intent.id
    assert shop.types() == []


def test_a_seeded_subscription_can_be_renewed(shop: Shop) -> None:
    shop.sandbox.control("seed", key=shop.key, subscriptions=1)
    subscription = shop.v1.subscriptions.list().data[0]
    renewed = shop.sandbox.control("renew", subscription=subscription.id)
    item = subscription["items"].data[0]
    assert renewed["items"]["data"][0]["current_period_start"] == item.current_period_end


def test_what_was_seeded_is_saved(tmp_path: Path, launch: Launch) -> None:
    data = str(tmp_path / "sandbox.sqlite")
    process, found = launch("--data", data)
    done = found.control("seed", products=1000, customers=20000)
    assert done["objects"] == 21000
    assert done["per_second"] > 0
    process.kill()
    process.wait(10)
    _, again = launch("--data", data)
    assert again.stats()["data_sets"][0]["objects"] == {"customer": 20000, "product": 1000}


def test_a_dump_has_every_object_and_no_secret(tell: Tell, shop: Shop, receiver: Receiver) -> None:
    given = {"url": receiver.url, "enabled_events": ["*"]}
    secret = shop.v1.webhook_endpoints.create(given).secret
    shop.paid("subscription")
    dumped = tell("dump", "--key", shop.key)
    found = [json.loads(line) for line in dumped.stdout.splitlines()]
    counts: dict[str, int] = {}
    for line in found:
        assert (line["account"], line["livemode"]) == (shop.key.split("_")[2], False)
        kind = line["object"]["object"]
        counts[kind] = counts.get(kind, 0) + 1
    assert counts == {k: n for k, n in shop.stats()["objects"].items() if n}
    assert str(secret) not in dumped.stdout
