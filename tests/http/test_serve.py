"""`billhook serve` as a process: whose word it takes for how a client came, and what it prints."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

import process
from cli import Billhook, billhook
from http_tokens import ADMIN_KEY, JWT_SECRET
from waiting import until

__all__ = ["billhook"]


def environment(**settings: str) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/"),
        "JWT_SECRET": JWT_SECRET,
        "BILLHOOK_RECOVERY": "false",
        **settings,
    }


@contextmanager
def serving(folder: Path, *options: str, **settings: str) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "billhook.cli", "serve", "--port", str(port), *options],
        env=environment(ACCESS_API_KEY=ADMIN_KEY, **settings),
        cwd=folder,
    )
    url = f"http://127.0.0.1:{port}"
    try:

        def is_ready() -> bool:
            assert process.poll() is None
            try:
                return httpx.get(f"{url}/health").is_success
            except httpx.HTTPError:
                return False

        until(is_ready, "the server is ready", 60)
        yield url
    finally:
        process.terminate()
        process.wait(20)


def test_workers_do_not_outlive_the_server_that_started_them(
    database_url: str, sandbox: str, tmp_path: Path
) -> None:
    with process.serving(database_url, sandbox, tmp_path, "--workers", "2") as server:
        server.kill()
        until(server.is_gone, "the workers are gone", 30)


def test_a_server_may_open_as_many_files_as_the_system_allows(
    database_url: str, sandbox: str, tmp_path: Path
) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, before[1]))  # systemd's, for example
    try:
        with process.serving(database_url, sandbox, tmp_path) as server:
            assert server.open_files() == (before[1], before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_worker_that_dies_is_replaced_and_logged(
    database_url: str, sandbox: str, tmp_path: Path
) -> None:
    with process.serving(database_url, sandbox, tmp_path, "--workers", "2") as server:
        until(lambda: server.log.read_text().count("Application startup complete") == 2)
        killed, other = server.workers()
        os.kill(killed, signal.SIGKILL)
        # At once, or after a minute: the supervisor may just be waiting for its response.
        until(lambda: len({*server.workers()} - {killed, other}) == 1, seconds=120)
        lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    assert f"Child process [{killed}] died" in [line["event"] for line in lines]


@pytest.mark.full
def test_workers_start_on_a_slow_machine(database_url: str, sandbox: str, tmp_path: Path) -> None:
    # What takes a second here takes longer on a tenth of a CPU; uvicorn waits for five.
    (tmp_path / "sitecustomize.py").write_text(
        "import sys, time\nif any('spawn_main' in each for each in sys.orig_argv): time.sleep(7)\n"
    )
    slow = {"PYTHONPATH": str(tmp_path)}
    with process.serving(database_url, sandbox, tmp_path, "--workers", "2", **slow) as server:
        assert "died" not in server.log.read_text()


@pytest.mark.parametrize(
    ("trusted", "is_secure"),
    [
        ({}, False),
        ({"FORWARDED_ALLOW_IPS": "*"}, False),  # uvicorn's own name for it
        ({"BILLHOOK_TRUSTED_PROXIES": "10.0.0.0/8"}, False),
        ({"BILLHOOK_TRUSTED_PROXIES": "10.0.0.7, 127.0.0.0/8"}, True),
    ],
)
@pytest.mark.sampled(2)
def test_a_forwarded_scheme_is_believed_only_from_a_configured_proxy(
    database_url: str, tmp_path: Path, trusted: dict[str, str], is_secure: bool
) -> None:
    with serving(tmp_path, DATABASE_URL=database_url, **trusted) as url:
        answer = httpx.post(
            f"{url}/dashboard/sign-in",
            data={"credential": ADMIN_KEY},
            headers={"x-forwarded-proto": "https"},
            timeout=60,
        )
    assert answer.status_code == 303
    assert ("; secure" in answer.headers["set-cookie"].lower()) == is_secure


def test_migrate_names_what_it_leaves_out_of_the_address(
    billhook: Billhook, monkeypatch: pytest.MonkeyPatch, database_url: str
) -> None:
    monkeypatch.setenv("JWT_SECRET", JWT_SECRET)
    monkeypatch.setenv("DATABASE_URL", f"{database_url}&pgbouncer=true&channel_binding=require")
    ran = billhook("migrate")
    assert (ran.code, ran.out) == (0, "The database is up to date.\n")
    assert [line.split(" is ignored")[0] for line in ran.err.splitlines()] == [
        "DATABASE_URL: The parameter pgbouncer",
        "DATABASE_URL: The parameter channel_binding",
    ]


def test_a_port_in_use_is_said_to_be_another_processs(
    billhook: Billhook, monkeypatch: pytest.MonkeyPatch, database_url: str
) -> None:
    monkeypatch.setenv("JWT_SECRET", JWT_SECRET)
    monkeypatch.setenv("DATABASE_URL", database_url)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ran = billhook("serve", "--port", str(port))
    assert ran.code == 1
    said = f"Another process, perhaps an earlier Billhook, uses 127.0.0.1, port {port}."
    assert said in ran.err
    assert ran.err.index("Stop") < ran.err.index("HOST and PORT")


PASSWORDS = ["hun/ter2", "hun@ter2", "hun#ter2", "hun?ter2", "hun%zzter2", "hun%2Fter2", "hun[ter2"]
PLACES = ["127.0.0.1:9/shop", "127.0.0.1:99999/shop", "127.0.0.1:x/shop", "no where/shop"]


@pytest.mark.sampled(5)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("command", ["migrate", "serve", "doctor"])
def test_a_database_that_cannot_be_reached_is_said_without_the_password(
    billhook: Billhook, monkeypatch: pytest.MonkeyPatch, command: str, place: str
) -> None:
    for name, value in {"STRIPE_API_BASE": "http://127.0.0.1:9", "PORT": "0"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("JWT_SECRET", JWT_SECRET)
    for password in PASSWORDS:
        dsn = f"postgresql+asyncpg://app:{password}@{place}?pgbouncer=true"
        monkeypatch.setenv("DATABASE_URL", dsn)
        ran = billhook(command)
        assert ran.code in (1, 2)
        assert "Traceback" not in ran.out + ran.err
        assert "ter2" not in ran.out + ran.err
        assert "DATABASE_URL" in ran.out + ran.err
