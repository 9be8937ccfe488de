"""The wheel and the source distribution: built, checked, installed where nothing else is, and used.

What builds them is in the group `release`: `make .venv/release.stamp`, as .ci/run does.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import zipfile
from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest

import billhook
from pages import ROOT

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(
        find_spec("twine") is None and "CI" not in os.environ, reason="make .venv/release.stamp"
    ),
]


def run(*command: str | Path, folder: Path = ROOT, **more: str) -> str:
    """What a command prints, without the settings of this environment."""
    kept = ("PATH", "HOME", "LANG")
    pip = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    ran = subprocess.run(
        list(map(str, command)),
        cwd=folder,
        env=environment | pip | more,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT)
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (found,) = built.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of an environment that has the wheel with its extra `dev`, and no clone near."""
    folder = tmp_path_factory.mktemp("empty") / "venv"
    run(sys.executable, "-m", "venv", folder)
    pip = (folder / "bin" / "pip", "--quiet", "--disable-pip-version-check", "install")
    run(*pip, "--require-hashes", "--no-deps", "-r", ROOT / "requirements.lock")
    # Offline: what it needs must be there already, or the metadata asks for too much.
    run(*pip, "--no-index", f"{wheel}[dev]")
    return folder / "bin"


def test_both_have_the_version_and_pass_the_checks_of_the_index(built: Path) -> None:
    version = billhook.__version__
    assert sorted(each.name for each in built.iterdir()) == [
        f"billhook-{version}-py3-none-any.whl",
        f"billhook-{version}.tar.gz",
    ]
    run(sys.executable, "-m", "twine", "check", "--strict", *built.iterdir())


def test_the_wheel_has_every_file_of_the_packages_and_no_other(wheel: Path) -> None:
    tracked = run("git", "ls-files", "src").split()
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert held == {name.removeprefix("src/") for name in tracked}


def test_a_type_checker_reads_its_types(installed: Path, tmp_path: Path) -> None:
    code = "from billhook import Client\nClient('https://pay.example', 'ik_1').status().nothing"
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--python-executable", installed / "python", "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert 'has no attribute "nothing"' in checked.stdout, checked.stdout + checked.stderr


def test_dev_runs_everything_without_a_clone(installed: Path, tmp_path: Path) -> None:
    assert run(installed / "billhook", "--version", folder=tmp_path).strip() == billhook.__version__
    environment = tmp_path / ".billhook" / "env"
    log = tmp_path / "dev.log"
    with log.open("wb") as file:
        dev = subprocess.Popen(
            [installed / "billhook", "dev", "--port", "0", "--sandbox-port", "0"],
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
            stdout=file,
            stderr=file,
        )
    try:
        deadline = time.monotonic() + 120
        while not environment.exists():
            assert dev.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        script = '. .billhook/env; billhook doctor >&2; printf %s "$BILLHOOK_URL"'
        path = f"{installed}:{os.environ['PATH']}"
        url = run("bash", "-euc", script, folder=tmp_path, PATH=path)
        for page in ("/health", "/demo/", "/dashboard", "/docs"):
            assert httpx.get(url + page, follow_redirects=True).is_success, page
    finally:
        dev.send_signal(signal.SIGINT)
        dev.wait(60)
    assert "All data is kept" in log.read_text()
