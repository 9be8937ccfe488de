"""docs/how-to/deploy.md: its secrets are strong enough, and `doctor` runs on the server."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

import shell
from api import STRIPE_KEY, connect
from billhook.settings import load_settings
from http_tokens import JWT_SECRET
from pages import blocks

PAGE = "docs/how-to/deploy.md"


def pairs(lines: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in lines.splitlines())


def test_the_secrets_are_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings, compose, *_ = blocks(PAGE, "sh")
    shell.run(settings, tmp_path, {})
    assert (tmp_path / "billhook.env").stat().st_mode & 0o777 == 0o600
    load_settings(**pairs((tmp_path / "billhook.env").read_text()))

    shell.run(compose, tmp_path, {})
    written = pairs((tmp_path / ".env").read_text())
    assert (tmp_path / ".env").stat().st_mode & 0o777 == 0o600
    # What compose.yaml makes of them; Billhook reads the file, too, if it starts in this folder.
    password = written["BILLHOOK_DATABASE_PASSWORD"]
    load_settings(DATABASE_URL=f"postgresql://billhook:{password}@database:5432/app")


@pytest.mark.full
def test_doctor_runs_on_the_server(database_url: str, sandbox: str, tmp_path: Path) -> None:
    connect(database_url, sandbox, STRIPE_KEY)
    *_, load, create_key, check = blocks(PAGE, "sh")
    given = {
        "DATABASE_URL": database_url,
        "JWT_SECRET": JWT_SECRET,
        "STRIPE_API_BASE": sandbox,
    }
    lines = "".join(f"{name}={shlex.quote(value)}\n" for name, value in given.items())
    (tmp_path / "billhook.env").write_text(lines)
    assert shell.run(load + create_key, tmp_path, {}).out.startswith("ik_")
    assert "0 broken" in shell.run(load + check, tmp_path, {}).out
