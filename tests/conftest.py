"""What every test that touches SQL or Stripe stands on: a real PostgreSQL and a real sandbox.

One cluster and one migrated template database per test process; each test gets a copy of the
template, which takes milliseconds.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import certifi
import pytest
import stripe

import aside
import books
import depth
from billhook.postgres.embedded import UNSAFE_BUT_FAST, EmbeddedPostgres, start
from billhook.postgres.migrate import migrate
from pooler import Pooler, running
from sandboxes import running_sandbox

ROOM = 3 * 2**30
"""Bytes that all clusters of a run may need."""

_numbers = count()

depth.load_profile()


@pytest.hookimpl(tryfirst=True)  # before Hypothesis reads its option
def pytest_configure(config: pytest.Config) -> None:
    if depth.DEPTH != "default" and config.option.hypothesis_seed is None:
        config.option.hypothesis_seed = str(secrets.randbits(32))


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config
) -> None:
    if exitstatus and config.option.hypothesis_seed is not None:
        again = (
            f"HYPOTHESIS_PROFILE={depth.DEPTH} --hypothesis-seed={config.option.hypothesis_seed}"
        )
        terminalreporter.write_line(f"The same examples again: {again}")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is for a deeper run, but not what the command line names."""
    if any("::" in argument for argument in config.args):
        return
    items[:], left = depth.sampled(items)
    config.hook.pytest_deselected(items=left)


@pytest.fixture(scope="session", autouse=True)
def few_authorities(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Each HTTP client reads the certificates of all authorities, which takes longer than most
    tests. Nothing here speaks TLS with the world: one will do."""
    end = "-----END CERTIFICATE-----\n"
    first, *_ = Path(certifi.where()).read_text().partition(end)
    one = tmp_path_factory.mktemp("tls") / "authority.pem"
    one.write_text(first + end)
    os.environ["SSL_CERT_FILE"] = stripe.ca_bundle_path = str(one)


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    """A throw-away PostgreSQL cluster, in memory where there is room: creating a database there
    costs a tenth."""
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and shutil.disk_usage(memory).free > ROOM
    where = memory if roomy else None
    with tempfile.TemporaryDirectory(prefix="billhook-tests-", dir=where) as folder:
        server = start(Path(folder) / "postgres", settings=UNSAFE_BUT_FAST)
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture(scope="session")
def template(postgres: EmbeddedPostgres) -> str:
    """The name of a migrated database, to be copied."""
    dsn = postgres.create_database("migrated")
    aside.run(migrate(dsn))
    return "migrated"


@pytest.fixture(scope="session")
def pooler(postgres: EmbeddedPostgres) -> Iterator[Pooler]:
    """A PgBouncer in transaction mode before the cluster."""
    with running(postgres) as found:
        yield found


@pytest.fixture(scope="session")
def address(postgres: EmbeddedPostgres, request: pytest.FixtureRequest) -> Callable[[str], str]:
    """How tests reach a database: directly, or with BILLHOOK_TEST_POOLER=pgbouncer through it."""
    if os.environ.get("BILLHOOK_TEST_POOLER") != "pgbouncer":
        return postgres.dsn
    through: Pooler = request.getfixturevalue("pooler")
    return through.dsn


@pytest.fixture
def database_url(
    postgres: EmbeddedPostgres, template: str, address: Callable[[str], str]
) -> Iterator[str]:
    """The address of a fresh, migrated database."""
    with _copy(postgres, template) as name:
        yield address(name)


@pytest.fixture(scope="module")
def shared_database_url(
    postgres: EmbeddedPostgres, template: str, address: Callable[[str], str]
) -> Iterator[str]:
    """The same, for all tests of a module that leave it as it is."""
    with _copy(postgres, template) as name:
        yield address(name)


@contextmanager
def _copy(postgres: EmbeddedPostgres, template: str) -> Iterator[str]:
    name = f"test_{next(_numbers)}"
    copying = f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy"
    aside.run(_execute(postgres.dsn(), copying))
    yield name
    _drop(postgres, name)


def _drop(postgres: EmbeddedPostgres, name: str) -> None:
    books.close_all()
    aside.run(_execute(postgres.dsn(), f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture
def direct_database_url(postgres: EmbeddedPostgres, database_url: str) -> str:
    """The same for what concerns PostgreSQL's own sessions and users: never through a pooler."""
    return postgres.dsn(urlsplit(database_url).path.removeprefix("/"))


@pytest.fixture
def empty_database_url(postgres: EmbeddedPostgres, address: Callable[[str], str]) -> Iterator[str]:
    """The address of a fresh database that nothing was migrated into."""
    name = f"empty_{next(_numbers)}"
    aside.run(_execute(postgres.dsn(), f"CREATE DATABASE {name} STRATEGY file_copy"))
    yield address(name)
    _drop(postgres, name)


async def _execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn, statement_cache_size=0)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture(scope="session")
def sandbox() -> Iterator[str]:
    """The address of a Stripe sandbox process, whose clock anybody may move on."""
    with running_sandbox() as url:
        yield url
