"""docs/how-to/workers-and-pooler.md: two workers behind a PgBouncer with that configuration."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

import shell
from api import STRIPE_KEY, connect
from billhook.postgres.embedded import EmbeddedPostgres
from books import Books
from http_tokens import JWT_SECRET, signature
from pages import block
from pooler import started
from process import serving
from stripe_events import event, payload, session

PAGE = "docs/how-to/workers-and-pooler.md"
EVENTS = 60


@pytest.fixture
def pooled(postgres: EmbeddedPostgres, direct_database_url: str) -> Iterator[str]:
    """The database behind the page's PgBouncer; only addresses and users are the tests' own."""
    name = urlsplit(direct_database_url).path.removeprefix("/")

    def configuration(_folder: Path, port: int, users: Path) -> str:
        told = block(PAGE, "ini", "pool_mode = transaction")
        for old, new in (
            (
                "app = host=127.0.0.1 port=5432 dbname=app",
                f"app = host={postgres.socket} dbname={name}",
            ),
            ("listen_port = 6432", f"listen_port = {port}\nunix_socket_dir ="),
            ("auth_type = scram-sha-256", "auth_type = trust"),
            ("/etc/pgbouncer/userlist.txt", str(users)),
        ):
            assert told.count(old) == 1, old
            told = told.replace(old, new)
        return told

    with started(postgres, configuration) as pooler:
        yield pooler.dsn("app")


def test_two_workers_apply_each_event_once(
    pooled: str, direct_database_url: str, sandbox: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("server")
    connect(direct_database_url, sandbox, STRIPE_KEY)
    settings = {"DATABASE_URL": pooled, "JWT_SECRET": JWT_SECRET, "STRIPE_API_BASE": sandbox}
    ran = shell.run("billhook migrate\nbillhook doctor", folder, settings)
    assert "0 broken" in ran.out
    with serving(pooled, sandbox, folder, "--workers", "2") as server:

        def deliver(n: int) -> str:
            paid = session(f"cs_{n}", payment_intent=f"pi_{n}", customer=f"cus_{n % 7}")
            body = payload(event("checkout.session.completed", paid, at=n, id=f"evt_{n}"))
            headers = {"stripe-signature": signature(body) or ""}
            answer = httpx.post(
                f"{server.url}/api/webhooks/stripe/test", content=body, headers=headers, timeout=60
            )
            return str(answer.json().get("event", {}).get("processingStatus", answer.text))

        with ThreadPoolExecutor(12) as threads:
            answers = list(threads.map(deliver, [*range(EVENTS)] * 2))
    assert set(answers) == {"processed"}
    books = Books(direct_database_url)
    counts = books.row("""
        SELECT (SELECT count(*) FROM payments.webhook_events WHERE attempt_count = 1) AS events,
            (SELECT count(*) FROM payments.transactions) AS payments""")
    assert counts == {"events": EVENTS, "payments": EVENTS}
