"""`billhook` as it is typed, in this process."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import orjson
import pytest
from structlog.testing import capture_logs

from billhook.cli import main


@dataclass(frozen=True)
class Ran:
    """What a command left: exit code, standard output, standard error."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return orjson.loads(self.out)

    @property
    def error(self) -> Any:
        return orjson.loads(self.err)


Billhook: TypeAlias = Callable[..., Ran]
_VARIABLES = ("BILLHOOK_URL", "BILLHOOK_API_KEY", "ACCESS_API_KEY", "DATABASE_URL", "JWT_SECRET")


@pytest.fixture
def billhook(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Iterator[Billhook]:
    """Runs a command in a folder of its own, where nobody can be asked."""
    for name in _VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, stdin: str = "") -> Ran:
        monkeypatch.setattr(sys, "argv", ["billhook", *arguments])
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        code = ended.value.code
        return Ran(code if isinstance(code, int) else 0, out, err)

    # The server of a test runs in this process and logs to the same standard output.
    with capture_logs():
        yield run
