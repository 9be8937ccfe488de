"""The shell blocks of a page, run in bash as a reader would type them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Ran:
    """What a script left: its output, and the variables that it exported."""

    out: str
    environment: dict[str, str]


def run(
    script: str, folder: Path, environment: Mapping[str, str], *programs: Path, fails: bool = False
) -> Ran:
    """Run a script in a folder, with `billhook` and `programs` on the PATH and no other settings.

    Args:
        fails: whether the script is expected to fail.
    """
    left = folder / "left-environment"
    path = ":".join([str(Path(sys.executable).parent), *map(str, programs), os.environ["PATH"]])
    ran = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", f"{script}\nenv -0 > '{left}'"],
        cwd=folder,
        env={"PATH": path, "HOME": str(folder), **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (ran.returncode != 0) is fails, ran.stdout + ran.stderr
    pairs = [] if fails else left.read_text().rstrip("\0").split("\0")
    found = dict(pair.split("=", 1) for pair in pairs)
    ours = {name: found[name] for name in found.keys() - {"PATH", "HOME", "PWD", "SHLVL", "_"}}
    return Ran(ran.stdout + ran.stderr, ours)
