"""`metering`: an app with usage, and the worker that sends it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from api import Api, api, shared_api
from books import Books
from cli import billhook
from metering import Metering
from sandboxes import running_sandbox

__all__ = ["Api", "api", "billhook", "shared_api"]


@pytest.fixture(scope="session")
def sandbox() -> Iterator[str]:
    """A Stripe sandbox whose clock nobody advances: Stripe takes usage of the past 35 days."""
    with running_sandbox() as url:
        yield url


@pytest.fixture
def books(database_url: str) -> Books:
    return Books(database_url)


@pytest.fixture
def metering(database_url: str, sandbox: str) -> Metering:
    return Metering(database_url, sandbox)


@pytest.fixture
def faulty(database_url: str) -> Iterator[Metering]:
    """The same with a Stripe of its own, whose faults concern no other test."""
    with running_sandbox() as sandbox:
        yield Metering(database_url, sandbox)
