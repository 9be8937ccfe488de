"""Commands next to a `billhook dev` find it, and never combine it with another server."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import jwt
import pytest

from api import Api
from billhook.dev.state import State
from billhook_sandbox.commands import default_url
from cli import Billhook
from http_tokens import ADMIN_KEY, JWT_SECRET

USER = "11111111-1111-4111-8111-111111111111"
ELSEWHERE = "http://127.0.0.1:9"
NOT_OURS = "postgresql://nobody@127.0.0.1:9/deployed"

Write = Callable[[], None]


@pytest.fixture
def running(tmp_path: Path) -> Iterator[ExitStack]:
    """What `billhook dev` holds while it runs."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def write(api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, running: ExitStack) -> Write:
    """Writes what `billhook dev` does, for the server of the test."""
    for name in ("ENCRYPTION_KEY", "STRIPE_API_BASE", "BILLHOOK_PUBLIC_URL"):
        monkeypatch.delenv(name, raising=False)

    def run() -> None:
        state = running.enter_context(State(tmp_path / ".billhook"))
        state.write_environment(
            {
                "DATABASE_URL": api.books.dsn,
                "JWT_SECRET": JWT_SECRET,
                "BILLHOOK_API_KEY": ADMIN_KEY,
                "STRIPE_API_BASE": api.stripe_url,
                "BILLHOOK_URL": api.url,
            }
        )

    return run


def test_all_commands_find_the_run_of_their_folder(
    api: Api, billhook: Billhook, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert billhook("status").code == 2
    write()
    below = tmp_path / "src" / "app"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert billhook("status", "--json").json == api.admin("GET", "/status").json()
    assert billhook("status", "--url", f"{api.url}/").code == 0
    token = billhook("token", "--sub", USER).out.strip()
    assert jwt.decode(token, JWT_SECRET, algorithms=["HS256"])["sub"] == USER
    made = billhook("keys", "create", "--anonymous", "--name", "of the run")
    assert made.code == 0
    assert "of the run" in billhook("keys", "list").out
    report = {each["check"]: each["state"] for each in billhook("doctor", "--json").json["checks"]}
    assert (report["database"], report["server"], report["admin key"]) == ("ok", "ok", "ok")
    assert default_url() == api.stripe_url


@pytest.mark.parametrize(
    "setting",
    [
        f"DATABASE_URL={NOT_OURS}",
        f"ACCESS_API_KEY=ik_{'8f3a91c7' * 4}",
        f"BILLHOOK_API_KEY=ik_{'8f3a91c7' * 4}",
        f"JWT_SECRET={'4b7e0d52' * 8}",
        "STRIPE_LIVE_SECRET_KEY=sk_live_51deployed",
        "BILLHOOK_PUBLIC_URL=https://pay.example",
    ],
)
@pytest.mark.parametrize("place", ["environment", ".env"])
def test_a_run_is_not_used_where_a_deployment_is_configured(
    billhook: Billhook,
    write: Write,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    setting: str,
    place: str,
) -> None:
    write()
    if place == ".env":
        (tmp_path / ".env").write_text(setting)
    else:
        monkeypatch.setenv(*setting.split("=", 1))
    refused = billhook("status")
    assert refused.code == 2
    assert "No server is configured" in refused.err
    assert billhook("keys", "list").code != 0, "not the run's database"


def test_explicit_settings_win(
    billhook: Billhook, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write()
    elsewhere = billhook("status", "--url", ELSEWHERE)
    assert elsewhere.code == 2
    assert f"There is no admin key for {ELSEWHERE}" in elsewhere.err, "the run's key stays here"
    doctor = billhook("doctor", "--url", ELSEWHERE)
    assert "Nothing to check" in doctor.err, "not the run's database with another URL"
    link = tmp_path / ".billhook" / "link.json"
    link.write_text(f'{{"url": "{ELSEWHERE}", "apiKey": "{ADMIN_KEY}"}}')
    link.chmod(0o600)
    assert f"{ELSEWHERE} could not be reached" in billhook("status").err
    assert "DATABASE_URL is not set" in billhook("keys", "list").err
    link.unlink()
    monkeypatch.setenv("PORT", "8123")  # says nothing about which server
    assert billhook("status").code == 0


def test_a_run_that_was_killed_is_not_followed(
    billhook: Billhook, write: Write, running: ExitStack, tmp_path: Path
) -> None:
    write()
    assert billhook("status").code == 0
    env = (tmp_path / ".billhook" / "env").read_text()
    running.close()
    (tmp_path / ".billhook" / "env").write_text(env)
    (tmp_path / ".billhook" / "env").chmod(0o600)
    assert "No server is configured" in billhook("status").err


def test_a_file_that_others_could_have_written_is_refused(
    billhook: Billhook, write: Write, tmp_path: Path
) -> None:
    write()
    (tmp_path / ".billhook" / "env").chmod(0o644)
    refused = billhook("status")
    assert refused.code == 2
    assert "chmod 600" in refused.err


def test_the_sandbox_of_a_shell_is_its_own(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    usual = default_url()
    monkeypatch.setenv("STRIPE_API_BASE", f"{ELSEWHERE}/")
    assert default_url() == ELSEWHERE
    monkeypatch.setenv("STRIPE_API_BASE", "https://api.stripe.com")
    write()
    assert default_url() == usual, "Stripe itself is no sandbox"
    monkeypatch.setenv("STRIPE_API_BASE", "")
    odd = tmp_path / ".billhook" / "env"
    odd.write_text(f"export STRIPE_API_BASE={shlex.quote('http://127.0.0.1:7/it is')}\n")
    assert default_url() == "http://127.0.0.1:7/it is"
