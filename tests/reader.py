"""A reader of the tutorials: writes the files that a page shows, runs its commands in order, and
pays on the hosted page where a command says "Pay here"."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from pages import Block, all_blocks

_NAMED = re.compile(r"^(?:#|--|//|<!--) ([\w.-]+\.(?:py|sql|js|html))\b[^\n]*\n")
_SERVERS = ("billhook dev", "uvicorn")
_PORT = "8000"
"""Where the pages' shop listens; here it is a free port."""


class Reader:
    """Somebody who follows pages in a folder of their own.

    Attributes:
        said: what the last command printed.
        log: what the servers print.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said = ""
        self.log = folder.parent / f"{folder.name}.log"
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self._port = str(probe.getsockname()[1])
        self.shop = f"http://127.0.0.1:{self._port}"
        # A reader activates a virtual environment in this folder.
        activate = folder / ".venv/bin/activate"
        activate.parent.mkdir(parents=True)
        activate.write_text(f'export PATH="{Path(sys.executable).parent}:$PATH"\n')
        self._environment = {"PATH": os.environ["PATH"], "HOME": str(folder)}
        self._servers: dict[str, subprocess.Popen[bytes]] = {}

    def follow(self, page: str) -> None:
        """Do what each block of the page says, in order."""
        for block in all_blocks(page):
            text = block.text.replace(_PORT, self._port)
            if named := _NAMED.match(text):
                (self.folder / named[1]).write_text(text)
            elif block.language == "diff":
                self.edit(text)
            elif block.language == "sh" and text.startswith(_SERVERS):
                self.serve(text.strip())
            elif block.language == "sh" and not block.reason:
                self.run(text)
            elif block.language == "text":
                assert text.strip() in self.said, f"{page} shows:\n{text}\nbut it was:\n{self.said}"
            else:
                assert block.reason, _unknown(block)

    def edit(self, change: str) -> None:
        """Add the lines marked with `+` to the one file that has the others."""
        lines = change.splitlines(keepends=True)
        old = "".join(line[1:] for line in lines if not line.startswith("+"))
        new = "".join(line[1:] for line in lines)
        (file,) = (each for each in self.folder.glob("*.py") if old in each.read_text())
        file.write_text(file.read_text().replace(old, new))

    def serve(self, command: str) -> None:
        """Start a server, instead of the one of the same program; return when it is ready."""
        program = command.split()[0]
        if program in self._servers:
            _stop(self._servers.pop(program))
        if program == "billhook":
            command += " --port 0 --sandbox-port 0"
        with self.log.open("ab") as log:
            self._servers[program] = subprocess.Popen(
                ["bash", "-c", f". .venv/bin/activate; exec {command}"],
                cwd=self.folder,
                env=self._environment,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + 120
        while not self._is_ready(program):
            assert self._servers[program].poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)

    def _is_ready(self, program: str) -> bool:
        if program == "billhook":
            return (self.folder / ".billhook/env").exists()
        try:
            return httpx.get(f"{self.shop}/openapi.json").status_code == 200
        except httpx.TransportError:
            return False

    def run(self, script: str) -> None:
        """Run a block as in one shell that stays open: its variables are kept."""
        left = self.folder / "left-environment"
        with subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", f"set -a\n{script}\nenv -0 > '{left}'"],
            cwd=self.folder,
            env={**self._environment, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as shell:
            patience = threading.Timer(120, shell.kill)
            patience.start()
            self.said = ""
            try:
                for line in shell.stdout or ():
                    self.said += line
                    if found := re.match(r"Pay here: (\S+)", line):
                        pay(found[1])
            except BaseException:
                shell.kill()
                raise
            finally:
                patience.cancel()
        assert shell.returncode == 0, f"{script}\n{self.said}\n{self.log.read_text()}"
        pairs = left.read_text().rstrip("\0").split("\0")
        found = dict(pair.split("=", 1) for pair in pairs)
        self._environment = {name: found[name] for name in found.keys() - {"_", "SHLVL", "PWD"}}

    def stop(self) -> None:
        """Press Ctrl-C in the terminals, the last one first."""
        for process in reversed(self._servers.values()):
            _stop(process)


def pay(url: str) -> None:
    """Fill in the hosted page and press its button."""
    buyer = {"email": "buyer@example.com", "name": "Test Buyer", "country": "DE"}
    card = {"number": "4242 4242 4242 4242", "expiry": "12 / 34", "cvc": "123"}
    paid = httpx.post(url, data={**buyer, **card, "postal_code": "10115"})
    assert paid.is_redirect, paid.text


@contextmanager
def reading() -> Iterator[Reader]:
    # Not pytest's folder: for root, PostgreSQL runs as another user, whom each start of pytest
    # locks out of it.
    with tempfile.TemporaryDirectory(prefix="billhook-reader-") as folder:
        reader = Reader(Path(folder) / "teashop")
        try:
            yield reader
        finally:
            reader.stop()


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGINT)
    process.wait(60)


def _unknown(block: Block) -> str:
    return f"{block.page}: nobody knows what to do with this block:\n{block.text}"
