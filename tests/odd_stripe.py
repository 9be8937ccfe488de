"""A Stripe whose texts contain what JSON allows and PostgreSQL does not, and whose answers a test
can change: a proxy in front of the sandbox."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx

NUL, HALF = "~nul~", "~half~"
"""Written into the sandbox; the proxy answers with the characters' JSON escapes instead."""
_ESCAPES = {NUL: r"\u0000", HALF: r"\ud83d"}

Change = Callable[[str, Any], None]


@contextmanager
def odd(sandbox: str, change: Change | None = None) -> Iterator[str]:
    """The address of such a Stripe.

    Args:
        change: called with the path and the decoded body of each answer, which it may change.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            kept = {
                name: value
                for name, value in self.headers.items()
                if name.lower() not in ("host", "content-length", "accept-encoding", "connection")
            }
            answer = httpx.request(
                self.command, f"{sandbox}{self.path}", content=body, headers=kept, timeout=30
            )
            content = answer.text
            if change is not None:
                decoded = answer.json()
                change(self.path.partition("?")[0], decoded)
                content = json.dumps(decoded)
            for marker, escape in _ESCAPES.items():
                content = content.replace(marker, escape)
            self.send_response_only(answer.status_code)
            for name in ("date", "content-type", "idempotent-replayed"):
                if name in answer.headers:
                    self.send_header(name, answer.headers[name])
            self.send_header("content-length", str(len(content.encode())))
            self.end_headers()
            self.wfile.write(content.encode())

        do_POST = do_DELETE = do_GET

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def with_odd_entries(path: str, answer: Any) -> None:
    """A `Change`: every list also has entries that are no objects, and events that are none."""
    listed = answer.get("data")
    if not isinstance(listed, list):
        return
    odd_ones: list[Any] = [None, "text", {"id": None}, {"object": "something"}]
    if path == "/v1/events" and listed:
        odd_ones.append({key: value for key, value in listed[0].items() if key != "type"})
        odd_ones.append(listed[0] | {"id": "evt_no_time", "created": "yesterday"})
    answer["data"] = odd_ones + listed
