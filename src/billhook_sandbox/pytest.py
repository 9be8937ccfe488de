"""Fixtures for apps that test their own billing: `sandbox`, `client` and `clock`.

Enable them with `pytest_plugins = ["billhook_sandbox.pytest"]` in the top-level `conftest.py`. One
sandbox process serves all tests of a run (or of a pytest-xdist worker); it is reset for each test.
"""

from collections.abc import Iterator

import pytest
import stripe

from billhook_sandbox.testing import Clock, Sandbox, running_sandbox


@pytest.fixture(scope="session")
def sandbox_process() -> Iterator[Sandbox]:
    """The process behind `sandbox`, not reset between tests."""
    with running_sandbox() as running:
        yield running


@pytest.fixture
def sandbox(sandbox_process: Sandbox) -> Sandbox:
    """An empty Stripe sandbox at `sandbox.url`, whose key is `sandbox.key`."""
    sandbox_process.reset()
    return sandbox_process


@pytest.fixture
def client(sandbox: Sandbox) -> stripe.StripeClient:
    """Stripe's own SDK, connected to the sandbox; also `sandbox.client`."""
    return sandbox.client


@pytest.fixture
def clock(sandbox: Sandbox) -> Clock:
    """The sandbox's clock, to advance time; also `sandbox.clock`."""
    return sandbox.clock
