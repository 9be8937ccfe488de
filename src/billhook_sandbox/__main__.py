"""`billhook sandbox`: starts a sandbox and prints its URL, or controls a running one."""

import argparse
import os
import signal
import socket
import sys
import threading
from pathlib import Path

import uvicorn

from billhook_sandbox import commands
from billhook_sandbox.app import create_sandbox
from billhook_sandbox.connection_abort import AbortableProtocol
from billhook_sandbox.local_access import is_loopback
from billhook_sandbox.options import Options


def main() -> None:
    argv = sys.argv[1:]
    # A command may follow the URL of the sandbox.
    position = 2 if argv[:1] == ["--url"] else 0
    if argv[position : position + 1] and argv[position] in commands.COMMANDS:
        sys.exit(commands.run(argv))
    serve(parse_arguments(argv))


def serve(given: argparse.Namespace) -> None:
    if not given.allow_remote and not is_loopback(given.host):
        sys.exit(
            f"billhook sandbox: {given.host} is reachable from other machines, and anyone who can "
            "reach the sandbox can use it. Pass --allow-remote to allow that."
        )
    if given.until_stdin_closes:
        threading.Thread(target=stop_when_stdin_closes, daemon=True).start()
    options = Options(
        data=given.data,
        allow_live=given.allow_live,
        public_url=given.public_url,
        allow_remote=given.allow_remote,
        begin_ago=given.begin_ago,
    )
    listener = listen(given.host, given.port)
    host, port = listener.getsockname()[:2]
    url_host = f"[{host}]" if ":" in host else host
    config = uvicorn.Config(
        create_sandbox(options),
        http=AbortableProtocol,
        log_level="warning",
        access_log=False,
        # Responses carry the sandbox's own date.
        date_header=False,
        server_header=False,
        # Clients keep connections open between tests; closing one first would fail their next call.
        timeout_keep_alive=120,
        timeout_graceful_shutdown=2,
    )
    # The socket is already listening, so callers can connect as soon as they read this line.
    print(f"billhook sandbox: http://{url_host}:{port}", flush=True)
    uvicorn.Server(config).run(sockets=[listener])


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="billhook sandbox",
        description="Stripe's API on your machine, for development and tests. No real money.",
        epilog="To control a running sandbox: billhook sandbox COMMAND, where COMMAND is one of "
        f"{', '.join(commands.COMMANDS)}. Each has --help.",
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=12111, help="0 picks a free port")
    parser.add_argument("--data", type=Path, help="SQLite file to keep all data in")
    parser.add_argument("--public-url", help="URL of the hosted pages, if behind a proxy")
    parser.add_argument("--allow-live", action="store_true", help="accept sk_live_ keys")
    parser.add_argument(
        "--begin-ago",
        metavar="TIME",
        type=commands.duration,
        default=0,
        help="how far in the past the clock of a new sandbox begins, such as 365d",
    )
    parser.add_argument(
        "--until-stdin-closes", action="store_true", help="stop when the parent process ends"
    )
    parser.add_argument(
        "--allow-remote", action="store_true", help="accept connections from other machines"
    )
    return parser.parse_args(argv)


def stop_when_stdin_closes() -> None:
    """Stops when the parent process ends, even by SIGKILL: its end of the pipe closes."""
    while sys.stdin.buffer.read(4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        sys.exit(f"billhook sandbox: cannot listen on {host}:{port}: {error.strerror}")
    listener.listen(1024)
    return listener


if __name__ == "__main__":
    main()
