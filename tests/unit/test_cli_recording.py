"""Who the audit log names for a command."""

from __future__ import annotations

import getpass
import os

import pytest

from billhook.cli import recording


def test_a_user_without_a_name_is_recorded_with_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container with `-u 1234`."""

    def nameless() -> str:
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.setattr(getpass, "getuser", nameless)
    assert recording._user() == f"uid {os.getuid()}"
