"""`billhook sandbox`: starts the sandbox and says where it is, or controls a running one."""

import argparse
import ipaddress
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
from billhook_sandbox.options import Options


def main() -> None:
    words = sys.argv[1:]
    # A command may follow the address of the sandbox that it is for.
    position = 2 if words[:1] == ["--url"] else 0
    if words[position : position + 1] and words[position] in commands.COMMANDS:
        sys.exit(commands.run(words))
    serve(arguments(words))


def serve(asked: argparse.Namespace) -> None:
    if not asked.allow_remote and not is_loopback(asked.host):
        sys.exit(
            f"billhook sandbox: {asked.host} can be reached from outside, and anyone who reaches "
            "the sandbox can use it. Pass --allow-remote if that is what you want."
        )
    if asked.until_stdin_closes:
        threading.Thread(target=end_with_stdin, daemon=True).start()
    options = Options(data=asked.data, allow_live=asked.allow_live, public_url=asked.public_url)
    listener = listen(asked.host, asked.port)
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    config = uvicorn.Config(
        create_sandbox(options),
        http=AbortableProtocol,
        log_level="warning",
        access_log=False,
        # Answers carry the sandbox's own date.
        date_header=False,
        server_header=False,
        # Clients keep connections open between tests; closing first would fail their next call.
        timeout_keep_alive=120,
        timeout_graceful_shutdown=2,
    )
    # The socket listens already: whoever reads this line can connect.
    print(f"billhook sandbox: http://{shown}:{port}", flush=True)
    uvicorn.Server(config).run(sockets=[listener])


def arguments(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="billhook sandbox",
        description="Stripe's API on your machine, for development and tests. No real money.",
        epilog="To a running sandbox: billhook sandbox COMMAND, with one of "
        f"{', '.join(commands.COMMANDS)}. Each has --help.",
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=12111, help="0 picks a free one")
    parser.add_argument("--data", type=Path, help="SQLite file that keeps everything")
    parser.add_argument("--public-url", help="address of the hosted pages, behind a proxy")
    parser.add_argument("--allow-live", action="store_true", help="accept sk_live_ keys")
    parser.add_argument(
        "--until-stdin-closes", action="store_true", help="end when whoever started it is gone"
    )
    parser.add_argument("--allow-remote", action="store_true", help="listen beyond this machine")
    return parser.parse_args(words)


def end_with_stdin() -> None:
    """A parent that was killed closes its end of the pipe, on every platform."""
    while sys.stdin.buffer.read(4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        sys.exit(f"billhook sandbox: can't listen on {host}:{port}: {error.strerror}")
    listener.listen(1024)
    return listener


if __name__ == "__main__":
    main()
