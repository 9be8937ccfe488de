"""PostgreSQL goes away and comes back; a secret is planted and looked for; bodies without end."""

from __future__ import annotations

import io
import logging
import re
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
import uvicorn
from pydantic import SecretStr

from billhook.app import create_app
from billhook.logs import configure
from billhook.postgres.embedded import UNSAFE_BUT_FAST, start
from billhook.settings import Settings
from books import Books
from http_tokens import ADMIN_KEY, ANONYMOUS_KEY, JWT_SECRET, SIGNING_SECRET, signature, token
from stripe_events import customer, event, payload

CHECKOUT = "/api/payments/stripe/test/checkout-sessions"
ORDER = {
    "mode": "payment",
    "lineItems": [{"priceId": "price_none"}],
    "successUrl": "https://shop.example/done",
    "cancelUrl": "https://shop.example/cart",
}


@contextmanager
def running(dsn: str, stripe_url: str) -> Iterator[httpx.Client]:
    settings = Settings(
        database_url=SecretStr(dsn),
        jwt_secret=SecretStr(JWT_SECRET),
        access_api_key=SecretStr(ADMIN_KEY),
        access_anon_key=SecretStr(ANONYMOUS_KEY),
        stripe_test_secret_key=SecretStr("sk_test_of_the_tests"),
        stripe_test_webhook_secret=SecretStr(SIGNING_SECRET),
        stripe_api_base=stripe_url,
        _env_file=None,
    )
    with serving(settings) as http:
        yield http


@contextmanager
def serving(settings: Settings) -> Iterator[httpx.Client]:
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(create_app(settings), log_config=None))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with httpx.Client(base_url=address, timeout=30) as http:
        http.get("/health").raise_for_status()
        yield http
    server.should_exit = True
    thread.join(10)


def deliver(http: httpx.Client) -> httpx.Response:
    body = payload(event("customer.created", customer()))
    return http.post(
        "/api/webhooks/stripe/test", content=body, headers={"stripe-signature": signature(body)}
    )


def checkout(http: httpx.Client) -> httpx.Response:
    return http.post(
        CHECKOUT,
        json=ORDER,
        headers={"authorization": f"Bearer {token()}"},
    )


def test_without_postgresql_everything_is_503_and_recovers_by_itself(sandbox: str) -> None:
    with tempfile.TemporaryDirectory(prefix="billhook-outage-") as folder:
        place = Path(folder) / "postgres"
        server = start(place, settings=UNSAFE_BUT_FAST)
        try:
            with running(server.create_database("outage"), sandbox) as http:
                assert deliver(http).status_code == 200
                server.stop()
                for answer in (http.get("/health"), deliver(http), checkout(http)):
                    assert (answer.status_code, answer.json()["statusCode"]) == (503, 503)
                    assert answer.headers["retry-after"]
                    assert "Traceback" not in answer.text
                server = start(place, settings=UNSAFE_BUT_FAST)
                assert http.get("/health").status_code == 200
                assert deliver(http).status_code == 200
                assert checkout(http).json()["error"] == "UPSTREAM_FAILURE"
        finally:
            server.stop()


PLANTED = {
    "stripe_test_secret_key": "sk_test_PlantedStripeKey0001",
    "stripe_test_webhook_secret": "whsec_PlantedSigningSecret0002",
    "access_api_key": "ik_PlantedAdminKey0000000003",
    "access_anon_key": "anon_PlantedAnonymousKey00004",
    "jwt_secret": "PlantedJwtSecret0005 long enough for the tests",
    "encryption_key": "PlantedEncryptionKey0006 of the tests",
}


def test_no_secret_is_in_any_answer_log_line_or_row(database_url: str, sandbox: str) -> None:
    lines = io.StringIO()
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    secrets: dict[str, Any] = {name: SecretStr(value) for name, value in PLANTED.items()}
    settings = Settings(
        database_url=SecretStr(database_url),
        stripe_api_base=sandbox,
        log_level="debug",
        import_history=False,  # its requests would use up the fault
        _env_file=None,
        **secrets,
    )
    configure(settings, lines)
    bearer = token(secret=PLANTED["jwt_secret"])
    said = []
    try:
        with serving(settings) as http:
            for credential in (bearer, bearer + "x", *PLANTED.values()):
                headers = {"authorization": f"Bearer {credential}"}
                said.append(http.post(CHECKOUT, json=ORDER, headers=headers).text)
            # Were Stripe ever so careless as to quote our key:
            careless = {"error": {"message": f"No, {PLANTED['stripe_test_secret_key']}!"}}
            fault = {"status": 503, "path_prefix": "/v1/checkout", "times": 3, "body": careless}
            httpx.post(f"{sandbox}/_sandbox/fault", json=fault, timeout=60).raise_for_status()
            headers = {"authorization": f"Bearer {bearer}"}
            failed = http.post(CHECKOUT, json=ORDER, headers=headers)
            assert (failed.status_code, failed.json()["message"]) == (503, "No, sk_test_****!")
            revoked = {"key": PLANTED["stripe_test_secret_key"]}
            httpx.post(
                f"{sandbox}/_sandbox/revoke_key", json=revoked, timeout=60
            ).raise_for_status()
            headers = {"authorization": f"Bearer {bearer}"}
            refused = http.post(CHECKOUT, json=ORDER, headers=headers)
            assert (refused.status_code, refused.json()["error"]) == (401, "PAYMENT_CONFIG_INVALID")
            said.append(refused.text)
            body = payload(event("customer.created", customer()))
            for secret in (PLANTED["stripe_test_webhook_secret"], "whsec_wrong"):
                header = {"stripe-signature": signature(body, secret=secret)}
                said.append(
                    http.post("/api/webhooks/stripe/test", content=body, headers=header).text
                )
            said += [http.get(path).text for path in ("/health", "/docs", "/openapi.json")]
    finally:
        root.handlers, root.level = handlers, level
        structlog.reset_defaults()
    for table in ("system.secrets", "billhook.api_keys", "payments.stripe_checkout_sessions"):
        said.append(str(Books(database_url).rows(f"SELECT t::text FROM {table} t")))
    said.append(lines.getvalue())
    assert "Planted" not in "".join(said)
    assert bearer not in "".join(said)
    assert "No, sk_test_****!" in lines.getvalue()


def test_connections_that_the_server_cut_are_replaced(api: Any) -> None:
    for _ in range(3):
        api.books.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        statuses = [deliver(api.http).status_code for _ in range(2)]
        assert statuses[-1] == 200
        assert set(statuses) <= {200, 503}


@pytest.mark.parametrize(
    ("path", "size", "status"),
    [
        ("/api/webhooks/stripe/test", 4_999_999, 400),
        ("/api/webhooks/stripe/test", 5_000_000, 413),
        ("/api/webhooks/stripe/test", 20_000_000, 413),
        ("/api/payments/stripe/test/checkout-sessions", 999_999, 400),
        ("/api/payments/stripe/test/checkout-sessions", 1_000_000, 413),
        ("/api/payments/stripe/test/customer-portal-sessions", 3_000_000, 413),
    ],
)
@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.sampled(2)
def test_a_body_is_read_up_to_its_limit_whether_its_size_is_announced_or_not(
    api: Any, path: str, size: int, status: int, announced: bool
) -> None:
    body = b"x" * size

    def chunks() -> Iterator[bytes]:
        stream = io.BytesIO(body)
        while chunk := stream.read(65_536):
            yield chunk

    answer = api.http.post(
        path,
        content=body if announced else chunks(),
        headers={
            "authorization": f"Bearer {token()}",
            "stripe-signature": f"t={int(time.time())},v1=wrong",
        },
    )
    assert (answer.status_code, answer.json()["error"]) == (status, "INVALID_INPUT")


def test_the_page_that_describes_the_api_loads_nothing_from_other_hosts(api: Any) -> None:
    page = api.http.get("/docs")
    for name in re.findall(r'(?:src|href)="([^"]+)"', page.text):
        assert name == "data:," or api.http.get(f"/{name}").is_success, name
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert api.http.get("/docs/README.md").status_code == 400
    assert api.http.get("/redoc").status_code == 404


def test_every_error_answer_is_described_in_our_own_shape(api: Any) -> None:
    document = api.http.get("/openapi.json").json()
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert operation.get("summary"), path
            assert "422" not in operation["responses"]
            for status, response in operation["responses"].items():
                if int(status) >= 400:
                    content = response["content"]["application/json"]
                    assert content["schema"]["$ref"].endswith("/ErrorBody")
                    assert content["example"]["statusCode"] == int(status)


def test_a_browser_may_read_every_error(api: Any) -> None:
    for path in ("/api/nothing", "/api/payments/stripe/test/checkout-sessions"):
        answer = api.http.post(path, headers={"origin": "https://shop.example"})
        assert answer.headers["access-control-allow-origin"] == "https://shop.example"
        assert answer.headers["access-control-allow-credentials"] == "true"


def test_a_method_that_a_path_does_not_take_is_told_all_that_it_takes(api: Any) -> None:
    answer = api.http.request("PATCH", "/api/payments/stripe/test/config")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "DELETE, PUT"
