"""The `billhook dev` of this folder, which commands use where nothing else is configured.

It writes its URL, its keys and its server's settings to `.billhook/env`, in this folder or one
above it, for as long as it runs. They are used only as a whole, and only if neither the environment
nor `.env` nor `billhook link` configures a server: settings of a deployment are never combined with
those of a development run.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any

from pydantic import Field, create_model

from billhook.errors import SettingsError
from billhook.settings import FromEnvironment, Settings, load_settings

ENVIRONMENT = Path(".billhook") / "env"
LINK = Path(".billhook") / "link.json"

# They say how a server runs, and not which one it is.
_NEUTRAL = ("host", "port", "log_level")


def dev_run() -> dict[str, str] | None:
    """The variables of the `billhook dev` of this folder; None if there is none, or if another
    server is configured.

    Raises:
        SettingsError: its file cannot be read, or others could have written it.
    """
    path = find_upwards(ENVIRONMENT)
    if path is None or find_upwards(LINK) or _is_server_configured():
        return None
    refuse_foreign(path)
    if not _is_running(path.parent):
        return None  # the file outlasts a `kill -9`, and another program may have the port now
    try:
        words = shlex.split(path.read_text(), comments=True)
    except (OSError, ValueError):
        raise SettingsError(f"{path} cannot be read. Start `billhook dev` again.") from None
    pairs = (word.partition("=") for word in words if word != "export")
    return {name: value for name, _, value in pairs}


def _is_running(folder: Path) -> bool:
    """Whether a process holds the lock of the folder (`billhook.dev.state`)."""
    try:
        import fcntl
    except ImportError:  # Windows
        return True
    try:
        with (folder / "lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False


def _is_server_configured() -> bool:
    """Whether the environment or `.env` has a setting of a server, or says where one is."""
    names = {name: each.alias for name, each in Settings.model_fields.items()}
    names |= {"url": "BILLHOOK_URL", "api_key": "BILLHOOK_API_KEY"}
    fields: dict[str, Any] = {
        name: (str | None, Field(None, alias=alias))
        for name, alias in names.items()
        if name not in _NEUTRAL
    }
    configured = create_model("Configured", __base__=FromEnvironment, **fields)
    return bool(configured().model_fields_set)


def server_settings(**overrides: object) -> Settings:
    """The server's settings: those of the environment and `.env`, or of the `billhook dev` of this
    folder. Raises as `load_settings` does."""
    run = dev_run()
    if run is None:
        return load_settings(**overrides)
    known = {field.alias for field in Settings.model_fields.values()}
    given = {name: value for name, value in run.items() if name in known}
    return load_settings(_env_file=None, **{**given, **overrides})


def find_upwards(name: Path) -> Path | None:
    """The file `name` in this folder, or in the nearest one above it that has it."""
    here = Path.cwd()
    found = (each / name for each in (here, *here.parents))
    return next((each for each in found if each.is_file()), None)


def refuse_foreign(path: Path) -> None:
    """In a folder that others can write to, they could plant a file that leads to their own
    server.

    Raises:
        SettingsError: they could have.
    """
    state = path.stat()
    mine = not hasattr(os, "getuid") or state.st_uid == os.getuid()
    if not mine or (os.name == "posix" and state.st_mode & 0o077):
        raise SettingsError(
            f"{path} must be owned by you and not be accessible to others. If it is yours: "
            f"chmod 600 {path}"
        )
