"""Tests that exist elsewhere, to be collected once more by a module here."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).parent


_FIXTURE = type(pytest.fixture(lambda: None))


def again(path: str, *tests: str) -> dict[str, Any]:
    """The named tests and test classes of `tests/<path>.py`, or all, with the fixtures defined
    there. Nothing else: a helper of one module would hide another module's fixture of that name."""
    name = f"hostile_{path.replace('/', '_')}"
    spec = spec_from_file_location(name, TESTS / f"{path}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = module_from_spec(spec)
    spec.loader.exec_module(module)
    found = vars(module)
    wanted = tests or [key for key in found if key.startswith(("test_", "Test"))]
    missing = set(wanted) - found.keys()
    assert not missing, f"{path} has no {missing}"
    fixtures = {key: value for key, value in found.items() if isinstance(value, _FIXTURE)}
    return fixtures | {key: found[key] for key in wanted}
