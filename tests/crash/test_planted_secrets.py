"""A planted secret is found nowhere: a server of its own, the command line, processes, a dump."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from billhook.postgres.embedded import EmbeddedPostgres
from books import Books
from http_tokens import signature, token
from stripe_events import customer, event, payload

# The sandbox names an account after the part of its key before the second underscore.
STRIPE_KEY = "sk_test_secretsone_PlantedStripeKey0001"
OTHER_KEY = "sk_test_secretstwo_PlantedOtherKey0002"
LIVE_KEY = "sk_live_secretsone_PlantedLiveKey0003"
WEBHOOK_SECRET = "whsec_PlantedSigningSecret0004"
ADMIN_KEY = "ik_PlantedAdminKey0000000005"
JWT_SECRET = "PlantedJwtSecret0006 long enough for the tests"
PASSWORD = "PlantedPassword0007"
SETTINGS = {
    "STRIPE_TEST_SECRET_KEY": STRIPE_KEY,
    "STRIPE_TEST_WEBHOOK_SECRET": WEBHOOK_SECRET,
    "ACCESS_API_KEY": ADMIN_KEY,
    "ACCESS_ANON_KEY": "anon_PlantedAnonymousKey00008",
    "JWT_SECRET": JWT_SECRET,
    "ENCRYPTION_KEY": "PlantedEncryptionKey0009 of the tests",
    "BILLHOOK_LOG_LEVEL": "debug",
    "BILLHOOK_PULL_SECONDS": "0.5",
}
COMMANDS = (
    ["status"],
    ["status", "--json"],
    ["doctor"],
    ["doctor", "--json"],
    ["config", "show"],
    ["sync"],
    ["catalog"],
    ["customers"],
    ["events", "list"],
    ["keys", "list"],
    ["archive", "list"],
    ["events", "show", "evt_none"],
    ["products", "create", "--name", "Tea", "--json"],
)


class Operator:
    """`billhook serve` as an operator starts it, and all that is said from then on."""

    def __init__(self, dsn: str, stripe_url: str, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.folder = folder
        self.said: list[str] = []
        self.environment = {
            **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
            **SETTINGS,
            "DATABASE_URL": dsn.replace("postgres@", f"postgres:{PASSWORD}@"),
            "STRIPE_API_BASE": stripe_url,
            "BILLHOOK_URL": self.url,
            "BILLHOOK_API_KEY": ADMIN_KEY,
        }
        self.log = folder / "server.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "billhook.cli", "serve", "--port", str(port)],
                env=self.environment,
                cwd=folder,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + 120
        while not self.answers():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)

    def answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health").is_success
        except httpx.TransportError:
            return False

    def ask(self, method: str, path: str, bearer: str = ADMIN_KEY, **more: object) -> int:
        headers = {"authorization": f"Bearer {bearer}"}
        answer = httpx.request(  # type: ignore[call-overload]
            method, f"{self.url}{path}", **{"headers": headers, "timeout": 60, **more}
        )
        self.said += [answer.text, str(answer.headers)]
        return int(answer.status_code)

    def type(self, *arguments: str, stdin: str = "") -> None:
        ran = subprocess.run(
            [sys.executable, "-m", "billhook.cli", *arguments],
            env=self.environment,
            cwd=self.folder,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        self.said += [ran.stdout, ran.stderr]

    def processes(self) -> list[str]:
        found = []
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                found.append(entry.read_bytes().replace(b"\0", b" ").decode())
            except OSError:
                continue
        return found


@pytest.fixture
def operator(database_url: str, sandbox: str, tmp_path: Path) -> Iterator[Operator]:
    running = Operator(database_url, sandbox, tmp_path)
    yield running
    running.process.kill()
    running.process.wait()


@pytest.mark.full
def test_a_planted_secret_is_found_nowhere(
    operator: Operator, postgres: EmbeddedPostgres, database_url: str, sandbox: str
) -> None:
    for arguments in COMMANDS:
        operator.type(*arguments)
    # Another account's key, one that Stripe refuses, one of the wrong mode; then Stripe fails.
    operator.type("config", "set", stdin=OTHER_KEY)  # refused: it has to be confirmed
    operator.type("config", "set", "--yes", stdin=OTHER_KEY)
    operator.type("config", "set", "--environment", "live", stdin=LIVE_KEY)
    operator.type("config", "set", stdin=LIVE_KEY)
    said = operator.processes()
    admin = "/api/payments/stripe"
    for path in ("/status", "/config", "/test/catalog", "/test/webhook-events", "/test/mirror"):
        assert operator.ask("GET", f"{admin}{path}") == 200
    httpx.post(
        f"{sandbox}/_sandbox/revoke_key", json={"key": OTHER_KEY}, timeout=60
    ).raise_for_status()
    assert operator.ask("POST", f"{admin}/test/catalog/products", json={"name": "Tea"}) == 401
    careless = {"error": {"message": f"No, {OTHER_KEY}!", "type": "api_error"}}
    fault = {"status": 503, "times": 3, "path_prefix": "/v1/products", "body": careless}
    httpx.post(f"{sandbox}/_sandbox/fault", json=fault, timeout=60).raise_for_status()
    operator.ask("POST", f"{admin}/test/catalog/products", json={"name": "Tea"})
    operator.ask("PUT", f"{admin}/test/config", json={"secretKey": STRIPE_KEY})
    operator.ask("PUT", f"{admin}/test/config", json={"secretKey": [STRIPE_KEY]})
    for bearer in (token(secret=JWT_SECRET), JWT_SECRET, WEBHOOK_SECRET, STRIPE_KEY):
        operator.ask("GET", f"{admin}/status", bearer)
    body = payload(event("customer.created", customer()))
    for secret in (WEBHOOK_SECRET, "whsec_wrong"):
        header = {"stripe-signature": signature(body, secret=secret)}
        operator.ask("POST", "/api/webhooks/stripe/test", content=body, headers=header)
    # The database goes away under everybody.
    Books(database_url).execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    operator.ask("GET", f"{admin}/status")
    said += operator.processes()
    dump = subprocess.run(
        [postgres.bin / "pg_dump", database_url], capture_output=True, text=True, check=True
    ).stdout
    assert "value_ciphertext" in dump
    everything = [*operator.said, *said, operator.log.read_text(), dump]
    found = [line for text in everything for line in text.splitlines() if "Planted" in line]
    assert found == []
    assert any("sk_test_****" in text for text in everything)
