"""The folder of `billhook dev`."""

from __future__ import annotations

import subprocess
from pathlib import Path

from billhook.dev.state import State


def test_a_shell_reads_what_commands_need_beside_a_run_and_nobody_else_can(tmp_path: Path) -> None:
    dsn = "postgresql://postgres@/billhook?host=/tmp/it's here&x=$HOME"
    with State(tmp_path) as state:
        state.write_environment({"DATABASE_URL": dsn})
    script = f". {tmp_path}/env && printenv DATABASE_URL"
    told = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    assert told.stdout == f"{dsn}\n"
    assert (tmp_path / "env").stat().st_mode & 0o777 == 0o600
