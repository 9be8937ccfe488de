"""The protection of every page: headers, the session, and the CSRF check of forms.

It is one middleware around all routes, so that no page can omit it.
"""

from __future__ import annotations

import hmac
from urllib.parse import parse_qsl, quote, urlsplit

import structlog
from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from billhook.dashboard.sessions import Session, Sessions
from billhook.dashboard.visit import Visit, cookie_name, is_for_people
from billhook.errors import BillhookError, Forbidden, InvalidInput
from billhook.paths import requested
from billhook.services import Services

log = structlog.get_logger(__name__)

SIGN_IN = "/sign-in"
_STATIC = "/static/"
_FORM_LIMIT = 200_000  # bytes
_MOST_FIELDS = 1_000

_HEADERS = {
    # Nothing from other hosts, nothing inline, no framing.
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "font-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    # Not `no-referrer`: browsers then send forms with the origin `null`.
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


class Guard:
    """The middleware. It sets `request.state.session` for signed-in visitors, and
    `request.state.form` for the forms that they send."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"].removeprefix(scope["root_path"])
        request = Request(scope, receive)
        started = False

        async def with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                headers.update(_HEADERS)
                # Pages contain personal data and must not be cached. Static files are revalidated,
                # so that an upgrade takes effect.
                headers["cache-control"] = "no-cache" if path.startswith(_STATIC) else "no-store"
            await send(message)

        try:
            stopped = None if path.startswith(_STATIC) else await self._stop(request, path)
            await (stopped or self._app)(scope, receive, with_headers)
        except ClientDisconnect:
            return  # the client is gone
        except Exception as error:
            if started:
                raise
            response = self._failed(request, error)
            await response(scope, receive, with_headers)

    async def _stop(self, request: Request, path: str) -> Response | None:
        """The response for visitors without a session."""
        services: Services = request.app.state.services
        sessions: Sessions = request.app.state.sessions
        session = await sessions.find(request.cookies.get(cookie_name(request)))
        request.state.session = session
        if session is not None or path == SIGN_IN:
            if request.method not in ("GET", "HEAD"):
                async with services.bodies.read(request, _FORM_LIMIT) as body:
                    request.state.form = _form(body)
                _require_own_form(request, session, services.settings.reachable_url)
            return None
        # Nothing that they send is read.
        if request.method == "GET" and is_for_people(request):
            query = f"?{request.url.query}" if request.url.query else ""
            here = requested(request.scope)
            wanted = f"?next={quote(here + query)}" if path not in ("", "/") else ""
            return RedirectResponse(f"{request.scope['root_path']}{SIGN_IN}{wanted}", 303)
        # Forms, and requests of the page's script, must not be redirected.
        error = Forbidden("Your session has ended.", next_actions="Sign in again.", status=401)
        return self._failed(request, error)

    def _failed(self, request: Request, error: Exception) -> Response:
        if isinstance(error, BillhookError):
            if error.status >= 500:
                log.warning("page failed", path=request.url.path, reason=error.message)
            return Visit(request).error(error)
        log.exception("unexpected error", method=request.method, path=request.url.path)
        unknown = BillhookError(
            "An unexpected error occurred.",
            next_actions="The error was logged. Try again; if it persists, check Billhook's log.",
        )
        return Visit(request).error(unknown)


def _form(body: bytes) -> dict[str, list[str]]:
    """The fields of a form.

    Raises:
        InvalidInput: not a form, or text that PostgreSQL cannot store.
    """
    found: dict[str, list[str]] = {}
    try:
        text = body.decode()
        pairs = parse_qsl(
            text, keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS
        )
    except ValueError:
        raise InvalidInput("The form could not be read.") from None
    for name, value in pairs:
        if "\0" in value:
            raise InvalidInput(f"{name}: must not contain NUL characters")
        found.setdefault(name, []).append(value)
    return found


def _require_own_form(request: Request, session: Session | None, public_url: str | None) -> None:
    """Refuse cross-site request forgery. The cookie is SameSite=Lax as well, but to a browser,
    other ports of this host and other hosts of this domain are the same site."""
    fetched = request.headers.get("sec-fetch-site")
    if fetched is not None:
        # The browser itself compares the origins, so a proxy that changes the host does not matter.
        ours = fetched in ("same-origin", "none")
    else:
        own = {request.headers.get("host", "")}
        if public_url is not None:
            own.add(urlsplit(public_url).netloc)
        origin = request.headers.get("origin")
        ours = origin is None or origin.partition("://")[2] in own
    if session is not None:
        token = (request.state.form.get("csrf") or [""])[0]
        ours = ours and hmac.compare_digest(token.encode(), session.csrf.encode())
    if not ours:
        raise Forbidden(
            "This form was not sent by the dashboard, or belongs to an earlier session.",
            next_actions="Go back, reload the page and try again. A proxy must pass on the "
            "browser's `Host` header.",
        )
