"""Fixtures for apps that test their own billing: `sandbox`, `client` and `clock`.

Opt in with `pytest_plugins = ["billhook_sandbox.pytest"]` in the top `conftest.py`. One process
serves all tests of a run (of a worker, with pytest-xdist); each test finds it empty.
"""

from collections.abc import Iterator

import pytest
import stripe

from billhook_sandbox.testing import Clock, Sandbox, running_sandbox


@pytest.fixture(scope="session")
def sandbox_process() -> Iterator[Sandbox]:
    """The process behind `sandbox`, with whatever tests before left in it."""
    with running_sandbox() as found:
        yield found


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
    """The sandbox's time, to be advanced; also `sandbox.clock`."""
    return sandbox.clock
