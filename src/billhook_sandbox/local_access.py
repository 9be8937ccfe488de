"""Rejects requests from other websites in a browser on this machine. A page can send requests to
any address, and its own hostname may resolve to 127.0.0.1 (DNS rebinding). `Host` is the name that
the browser called, and `Origin` the website that sends a POST.
"""

import ipaddress
from urllib.parse import urlsplit

import orjson
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from billhook_sandbox.errors import StripeError
from billhook_sandbox.options import Options


class LocalAccess:
    """The middleware: requests to names other than this machine's, and from other websites, get a
    403."""

    def __init__(self, app: ASGIApp, options: Options) -> None:
        self.app = app
        self.any_host = options.allow_remote or options.public_url is not None
        self.public_url = urlsplit(options.public_url or "")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (problem := self.problem(Headers(scope=scope))):
            error = StripeError(problem, status=403)
            response = Response(orjson.dumps(error.body("")), 403, media_type="application/json")
            await response(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def problem(self, headers: Headers) -> str | None:
        host, origin = headers.get("host", ""), headers.get("origin")
        if not self.any_host and not is_loopback(host_of(f"//{host}")):
            return (
                f"The sandbox was called as {host}. Call it as localhost or 127.0.0.1, or start it "
                "with --allow-remote or --public-url."
            )
        if origin is None or is_loopback(host_of(origin)):
            return None
        # The scheme may differ behind a proxy. `null` is some other website, without its name.
        if origin.partition(":")[2] in (f"//{host}", f"//{self.public_url.netloc}"):
            return None
        return "The sandbox cannot be used from another website."


def host_of(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
