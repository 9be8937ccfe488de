"""stripe-node's types: the same API version as ours, and errors are detected.

`conftest.py` above checks all objects of the suite when the shared sandbox stops.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import stripe

from sandbox.referees import typescript
from sandbox.shop import Shop

pytestmark = [pytest.mark.node, pytest.mark.usefixtures("node")]


def test_node_and_python_use_the_same_version() -> None:
    assert typescript.api_version() == stripe.api_version


@pytest.fixture
def charge(shop: Shop) -> Any:
    intent = shop.paid()["payment_intent"]
    return shop.get(f"/v1/charges?payment_intent={intent}")["data"][0]


def test_a_valid_object_passes(charge: Any, tmp_path: Path) -> None:
    assert typescript.complaints([charge], tmp_path) == []


@pytest.mark.parametrize("harm", ["absent", "null", "unknown", "number"])
@pytest.mark.sampled(4)
def test_the_type_checker_reports_an_invalid_object(charge: Any, tmp_path: Path, harm: str) -> None:
    harmed = copy.deepcopy(charge)
    if harm == "absent":
        del harmed["failure_code"]  # nullable, but never left out
    elif harm == "null":
        harmed["refunds"] = {"object": "list", "data": None, "has_more": False, "url": "/"}
    elif harm == "unknown":
        harmed["surprise"] = 1
    else:
        harmed["status"] = 5
    assert len(typescript.complaints([harmed], tmp_path)) == 1
