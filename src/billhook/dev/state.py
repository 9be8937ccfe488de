"""The folder in which `billhook dev` stores everything, and the keys in it."""

from __future__ import annotations

import os
import secrets
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import IO, Literal, Self, TypeAlias, get_args

import orjson

from billhook.errors import BillhookError

_HISTORY = "history.json"

Stage: TypeAlias = Literal["sandbox", "mirror", "done"]
"""The next stage of filling a history, or that it is complete."""


@dataclass(frozen=True, slots=True)
class Keys:
    """Made once and kept: tokens and stored secrets stay valid from run to run."""

    jwt_secret: str
    encryption_key: str
    admin_key: str
    anonymous_key: str
    stripe_key: str = "sk_test_billhook_sandbox"


class State:
    """The folder, locked by one process at a time; the lock ends with the process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.expanduser().resolve()
        self._lock: IO[str] | None = None

    def __enter__(self) -> Self:
        try:
            self.folder.mkdir(mode=0o711, parents=True, exist_ok=True)
            self._lock = (self.folder / "lock").open("a+")
        except OSError as error:
            raise BillhookError(f"Cannot keep state in {self.folder}: {error.strerror}.") from error
        if not _held(self._lock):
            self._lock.seek(0)
            where = self._lock.read().strip()
            raise BillhookError(
                f"Billhook is already running in {self.folder}{f', at {where}' if where else ''}.",
                next_actions="Stop it first, or choose another folder: billhook dev --state …",
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._lock is not None:
            self._lock.close()

    def announce(self, address: str) -> None:
        """Store the URL for a second `billhook dev` to report."""
        if self._lock is not None:
            self._lock.seek(0)
            self._lock.truncate()
            self._lock.write(address)
            self._lock.flush()

    def keys(self) -> Keys:
        """The keys of this folder, created if there are none."""
        known = self._read("keys.json")
        made = Keys(
            jwt_secret=secrets.token_hex(32),
            encryption_key=secrets.token_hex(32),
            admin_key=f"ik_{secrets.token_hex(24)}",
            anonymous_key=f"anon_{secrets.token_hex(24)}",
        )
        keys = Keys(**{**asdict(made), **_only(known, Keys)})
        if asdict(keys) != known:
            self._write("keys.json", orjson.dumps(asdict(keys), option=orjson.OPT_INDENT_2))
        return keys

    def write_environment(self, variables: Mapping[str, str]) -> None:
        """`env`: for a shell to read, so that commands reach this run."""
        lines = (f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())
        self._write("env", "".join(lines).encode())

    def history_stage(self) -> Stage | None:
        """How far the history of this folder is filled; None if it has none."""
        stage = self._read(_HISTORY).get("stage")
        return next((each for each in get_args(Stage) if each == stage), None)

    def write_history_stage(self, stage: Stage | None) -> None:
        """Store it."""
        if stage is None:
            (self.folder / _HISTORY).unlink(missing_ok=True)
        else:
            self._write(_HISTORY, orjson.dumps({"stage": stage}))

    def remove_environment(self) -> None:
        """Remove `env`: the server that commands would call has stopped."""
        (self.folder / "env").unlink(missing_ok=True)

    def _read(self, name: str) -> dict[str, str]:
        try:
            found = orjson.loads((self.folder / name).read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, orjson.JSONDecodeError) as error:
            raise BillhookError(
                f"{self.folder / name} cannot be read: {error}",
                next_actions=f"Fix it, or delete {self.folder} to start over.",
            ) from error
        return found if isinstance(found, dict) else {}

    def _write(self, name: str, content: bytes) -> None:
        """Write atomically, readable only by the owner."""
        unfinished = self.folder / f"{name}.new"
        handle = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(handle, "wb") as file:
            file.write(content)
        unfinished.replace(self.folder / name)


def _only(found: dict[str, str], kind: type) -> dict[str, str]:
    """The values for the fields of `kind`; a newer or older Billhook may have written others."""
    return {f.name: found[f.name] for f in fields(kind) if isinstance(found.get(f.name), str)}


def _held(lock: IO[str]) -> bool:
    try:
        import fcntl
    except ImportError:  # Windows
        return True
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
