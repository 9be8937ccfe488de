"""Tests that exist elsewhere, to be collected once more by a module here."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parent


def again(path: str, *tests: str) -> dict[str, Any]:
    """The named tests of `tests/<path>.py`, or all, with everything that they stand on."""
    name = f"hostile_{path.replace('/', '_')}"
    spec = spec_from_file_location(name, TESTS / f"{path}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = module_from_spec(spec)
    spec.loader.exec_module(module)
    found = {key: value for key, value in vars(module).items() if not key.startswith("__")}
    missing = set(tests) - found.keys()
    assert not missing, f"{path} has no {missing}"
    return {
        key: value
        for key, value in found.items()
        if not (tests and key.lower().startswith("test_")) or key in tests
    }
