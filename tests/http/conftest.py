"""`api` and `shared_api`: the whole of Billhook, running; and those who use it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from api import Api, api, price, shared_api
from cli import Billhook, billhook
from http_tokens import ADMIN_KEY
from selling import shop
from visitor import Visitor

__all__ = ["api", "billhook", "price", "shared_api", "shop"]


@pytest.fixture
def linked(api: Api, monkeypatch: pytest.MonkeyPatch, billhook: Billhook) -> Billhook:
    """The command line of someone who set both variables."""
    monkeypatch.setenv("BILLHOOK_URL", api.url)
    monkeypatch.setenv("BILLHOOK_API_KEY", ADMIN_KEY)
    return billhook


@pytest.fixture
def visitor(api: Api) -> Iterator[Visitor]:
    """Somebody who is signed in to the dashboard."""
    found = Visitor(api.url)
    found.sign_in()
    yield found
    found.http.close()
