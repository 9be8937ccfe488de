"""Secrets stay in (design I7): what is struck out of log lines and messages."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import jwt
import orjson
import pytest
import structlog
from pydantic import SecretStr

from billhook import logs
from billhook.app import create_app
from billhook.redact import Redactor, redact
from billhook.settings import Settings

KEY = "51PlantedSecretValue0"
TOKEN = jwt.encode({"sub": "1"}, "x" * 40, algorithm="HS256")


@pytest.mark.parametrize(
    "secret",
    [
        f"sk_test_{KEY}",
        f"sk_test_shop_{KEY}",
        f"rk_live_{KEY}",
        f"whsec_{KEY}",
        f"ik_{KEY}",
        f"anon_{KEY}",
        TOKEN,
    ],
)
@pytest.mark.parametrize("text", ["{}", "key={}", '{{"key":"{}"}}', "Bearer {}, and more", "({})"])
def test_whatever_looks_like_a_secret_is_struck_out(secret: str, text: str) -> None:
    line = redact(text.format(secret))
    assert KEY not in line
    assert secret not in line
    assert "****" in line


def test_the_password_of_a_database_address_is_struck_out() -> None:
    line = redact("cannot reach postgresql://app:hunter2secret@db:5432/app")
    assert line == "cannot reach postgresql://app:****@db:5432/app"


@pytest.mark.parametrize(
    "harmless",
    [
        "No such price: 'price_1QxYz'",
        "cs_test_a1V64xl5tbXByIeTfkHwJYVlVzACh5wlClzbOX4FQ2",
        "role anon_key is unknown",
        "Invalid API Key provided: sk_test_****************cdef",
        "unlink_the_customer_mapping_now",
    ],
)
def test_what_is_no_secret_stays_readable(harmless: str) -> None:
    assert redact(harmless) == harmless


def test_known_secrets_are_struck_out_whatever_they_look_like() -> None:
    strike = Redactor(["correct horse", "correct horse battery", "short"])
    assert strike("the correct horse battery staple") == "the **** staple"
    assert strike("short") == "short"


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    stream = io.StringIO()
    settings = Settings(
        database_url=SecretStr("postgresql://app:hunter2secret@db/app"),
        jwt_secret=SecretStr("correct horse battery staple of the tests"),
        _env_file=None,
    )
    logs.configure(settings, stream)
    yield stream
    root.handlers, root.level = before, level
    structlog.reset_defaults()


def test_log_lines_are_json_without_secrets_wherever_they_hide(lines: io.StringIO) -> None:
    log = structlog.get_logger("test")
    log.info(f"message sk_test_{KEY}", value={"deep": [f"whsec_{KEY}"]}, dsn="x:hunter2secret@")
    try:
        raise ValueError(f"raised with ik_{KEY} and correct horse battery staple of the tests")
    except ValueError:
        log.exception("failed")
    logging.getLogger("uvicorn.error").warning("from a library: %s", TOKEN)
    written = lines.getvalue()
    assert [orjson.loads(line)["level"] for line in written.splitlines()] == [
        "info",
        "error",
        "warning",
    ]
    for secret in (KEY, TOKEN, "correct horse"):
        assert secret not in written


def test_a_traceback_shows_no_variables_in_an_application_that_configured_no_logging(
    capsys: pytest.CaptureFixture[str],
) -> None:
    structlog.reset_defaults()
    create_app(
        Settings(
            database_url=SecretStr("postgresql://localhost/x"),
            jwt_secret=SecretStr("y" * 40),
            _env_file=None,
        )
    )

    def fails(buyer: str) -> None:
        raise KeyError("a bug")

    try:
        fails(f"ada{2}@example.com")
    except KeyError:
        structlog.get_logger("test").exception("unexpected error")
    finally:
        structlog.reset_defaults()
    told = capsys.readouterr().out
    assert "a bug" in told
    assert "ada2@example.com" not in told
