"""What deploy/, Dockerfile and compose.yaml hold: each file passes its own checker, and works."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from billhook.postgres.embedded import SUPERUSER, UNSAFE_BUT_FAST, start
from billhook.settings import Settings, load_settings
from http_tokens import JWT_SECRET
from pages import ROOT
from process import serving

SETTINGS = {str(field.alias) for field in Settings.model_fields.values()}


def program(name: str) -> str:
    """The path of a program. Where it is absent, the test is skipped; never in CI."""
    found = shutil.which(name, path=f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin")
    if found is None:
        assert not os.environ.get("CI"), f"CI needs {name}"
        pytest.skip(f"needs {name}")
    return found


def passes(*command: str | Path, **variables: str) -> str:
    ran = subprocess.run(
        list(map(str, command)),
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout + ran.stderr


@pytest.mark.full
def test_the_dockerfile_passes_its_linter() -> None:
    passes(program("hadolint"), ROOT / "Dockerfile")


def test_the_image_gets_every_file_that_it_copies() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    copied = [
        name
        for line in lines
        if line.startswith("COPY ") and "--from" not in line
        for name in line.split()[1:-1]
    ]
    allowed = (ROOT / ".dockerignore").read_text().splitlines()
    assert copied
    for name in copied:
        assert (ROOT / name).exists(), name
        assert f"!{name}" in allowed, name


@pytest.fixture
def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
    return found


def test_compose_sets_only_what_billhook_reads(compose: dict[str, Any]) -> None:
    assert set(compose["services"]["billhook"]["environment"]) <= SETTINGS


def test_compose_passes_every_setting_on(compose: dict[str, Any]) -> None:
    passed = compose["services"]["billhook"]["environment"]
    of_the_container = {"HOST", "PORT"}
    not_for_deployments = {"STRIPE_API_BASE", "API_BASE_URL"}
    assert set(passed) == SETTINGS - of_the_container - not_for_deployments
    for name in set(passed) - {"DATABASE_URL", "JWT_SECRET", "ENCRYPTION_KEY"}:
        assert passed[name] == f"${{{name}:-}}"


def test_empty_settings_of_compose_are_not_set(compose: dict[str, Any]) -> None:
    names = set(compose["services"]["billhook"]["environment"])
    needed = {"DATABASE_URL": "postgresql:///app", "JWT_SECRET": JWT_SECRET}
    empty = dict.fromkeys(names - needed.keys(), "")
    assert load_settings(**needed, **empty) == load_settings(**needed)


def test_compose_needs_the_secrets_and_nothing_else(compose: dict[str, Any]) -> None:
    text = (ROOT / "compose.yaml").read_text()
    needed = {part.split("}")[0].split(":?")[0] for part in text.split("${")[1:] if ":?" in part}
    assert {"JWT_SECRET", "ENCRYPTION_KEY", "POSTGRES_PASSWORD"} <= needed
    assert compose["services"]["billhook"]["read_only"]
    assert compose["services"]["billhook"]["ports"] == ["127.0.0.1:7130:7130"]  # behind a proxy


@pytest.mark.full
def test_a_server_runs_with_the_roles_of_compose(sandbox: str, tmp_path: Path) -> None:
    password = "it's a/p@ss word"
    # A cluster of its own: roles belong to all databases of one.
    with tempfile.TemporaryDirectory(prefix="billhook-roles-") as folder:
        server = start(Path(folder) / "postgres", settings=UNSAFE_BUT_FAST)
        try:
            administrators = server.create_database("app")
            passes(
                server.bin / "psql",
                *("-X", "-q", "-f", ROOT / "deploy/roles.sql", administrators),
                BILLHOOK_DATABASE_PASSWORD=password,
            )
            address = administrators.replace(f"{SUPERUSER}@", f"billhook:{password}@")
            with serving(address, sandbox, tmp_path, "--workers", "2") as running:
                assert httpx.get(f"{running.url}/health").is_success
                assert "superuser" not in running.log.read_text()
        finally:
            server.stop()


@pytest.mark.full
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / "billhook.service"
    text = (ROOT / "deploy/billhook.service").read_text()
    # systemd looks whether the program exists.
    unit.write_text(text.replace("/opt/billhook/bin/billhook", "/bin/true"))
    assert "billhook.service" not in passes(program("systemd-analyze"), "verify", unit)


@pytest.mark.full
def test_caddy_accepts_its_configuration() -> None:
    configuration = ROOT / "deploy/Caddyfile"
    passes(program("caddy"), "validate", "--adapter", "caddyfile", "--config", configuration)
