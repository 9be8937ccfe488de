"""Ports: opened before anything starts, so that no other program can take them."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Iterator
from dataclasses import dataclass

from billhook.errors import BillhookError

HOST = "127.0.0.1"
_TRIES = 20


@dataclass(frozen=True, slots=True)
class Listener:
    """A listening socket: clients wait until it is served.

    Attributes:
        instead_of: the usual port, if that was taken.
    """

    socket: socket.socket
    host: str
    port: int
    instead_of: int | None

    @property
    def address(self) -> str:
        return f"http://{self.host}:{self.port}"


@contextlib.contextmanager
def listen(wanted: int | None, usual: int) -> Iterator[Listener]:
    """Listen on `wanted`; if that is None, on `usual` or the next free port.

    Raises:
        BillhookError: `wanted`, or everything near `usual`, is taken.
    """
    ports = range(usual, usual + _TRIES) if wanted is None else [wanted]
    for port in ports:
        found = _listen(port)
        if found is not None:
            with found:
                got = found.getsockname()[1]
                yield Listener(found, HOST, got, usual if wanted is None and got != usual else None)
            return
    taken = f"Port {wanted}" if wanted is not None else f"Each port from {usual} to {ports[-1]}"
    raise BillhookError(
        f"{taken} is in use by another program.",
        next_actions="Stop that program, or choose another port: billhook dev --help",
    )


def _listen(port: int) -> socket.socket | None:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen(1024)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            return None
        raise BillhookError(f"Cannot listen on port {port}: {error.strerror}.") from error
    return listener
