"""How much of all that they could try the tests try: `make test` a sample in minutes, `.ci/run` all
that a change needs, `make nightly` what takes hours.

HYPOTHESIS_PROFILE names the depth. Without it, it is `ci` where CI is set, else `default`.
"""

from __future__ import annotations

import os
from collections import defaultdict
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, settings

T = TypeVar("T")

DEPTH = os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "default")


def by_depth(default: T, ci: T, nightly: T) -> T:
    """What fits the depth of this run."""
    return {"default": default, "ci": ci, "nightly": nightly}[DEPTH]


def load_profile() -> None:
    """Tell Hypothesis. Except in `make test`, each run has other examples: conftest.py draws the
    seed, and prints it after a failure."""
    settings.register_profile(
        DEPTH,
        max_examples=by_depth(100, 100, 2000),
        deadline=None,
        derandomize=DEPTH == "default",
        print_blob=True,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
    settings.load_profile(DEPTH)


def sampled(items: list[pytest.Item]) -> tuple[list[pytest.Item], list[pytest.Item]]:
    """Of the tests found, those to run at this depth, and the others: see the markers `full` and
    `sampled` in pyproject.toml."""
    kept: list[pytest.Item] = []
    left: list[pytest.Item] = []
    cases: dict[str, int] = defaultdict(int)
    for item in items:
        every = 1
        if marker := item.get_closest_marker("sampled"):
            every = marker.args[0]
        function = item.nodeid.partition("[")[0]
        first = cases[function] % every == 0
        cases[function] += 1
        runs = DEPTH != "default" or (first and not item.get_closest_marker("full"))
        (kept if runs else left).append(item)
    return kept, left
