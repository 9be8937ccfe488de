"""PgBouncer in transaction mode before a test's cluster, with few sessions, so that they are shared
as they would be in earnest."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from billhook.postgres.embedded import SUPERUSER, EmbeddedPostgres
from waiting import until

SESSIONS = 6


@dataclass(frozen=True)
class Pooler:
    """A running PgBouncer."""

    port: int
    process: subprocess.Popen[bytes]

    def dsn(self, database: str) -> str:
        return f"postgresql://{SUPERUSER}@127.0.0.1:{self.port}/{database}"

    def suspend(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)


def running(postgres: EmbeddedPostgres, sessions: int = SESSIONS) -> AbstractContextManager[Pooler]:
    """PgBouncer before all databases of `postgres`, each with at most `sessions` sessions."""

    def configuration(folder: Path, port: int, users: Path) -> str:
        return f"""
            [databases]
            * = host={postgres.socket} user={SUPERUSER}
            [pgbouncer]
            listen_addr = 127.0.0.1
            listen_port = {port}
            unix_socket_dir =
            auth_type = trust
            auth_file = {users}
            pool_mode = transaction
            default_pool_size = {sessions}
            max_client_conn = 1000
            server_login_retry = 1
            logfile = {folder / "log"}
            """.replace("            ", "")

    return started(postgres, configuration)


@contextmanager
def started(
    postgres: EmbeddedPostgres, configuration: Callable[[Path, int, Path], str]
) -> Iterator[Pooler]:
    """PgBouncer with a configuration, which is made from a folder, a port and the file of users.

    Where the program is absent, the test is skipped; never in CI.
    """
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        assert not os.environ.get("CI"), "CI needs the Debian package pgbouncer"
        pytest.skip("needs the Debian package pgbouncer")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="billhook-pooler-") as name:
        folder = Path(name)
        users = folder / "users"
        users.write_text(f'"{SUPERUSER}" ""\n')
        ini = folder / "pgbouncer.ini"
        ini.write_text(configuration(folder, port, users))
        as_root = os.geteuid() == 0
        if as_root:  # PgBouncer refuses to be root: it works as whoever PostgreSQL works as
            shutil.chown(folder, postgres.data.owner())
        process = subprocess.Popen(
            [program, "-q", *(["-u", postgres.data.owner()] if as_root else []), ini],
            stderr=subprocess.DEVNULL,
        )
        try:
            until(lambda: _answers(port, process), "PgBouncer answers", 60)
            yield Pooler(port, process)
        finally:
            process.kill()
            process.wait()


def _answers(port: int, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, "PgBouncer did not start"
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True
