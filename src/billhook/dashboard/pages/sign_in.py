"""Signing in and out."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.responses import RedirectResponse, Response

from billhook.access.auth import Credential, credential
from billhook.dashboard.visit import Visit, cookie_name
from billhook.errors import BillhookError, InvalidApiKey, InvalidInput, Unauthorized
from billhook.redact import mask


async def ask(visit: Visit) -> Response:
    """The form; a visitor who is signed in is redirected."""
    if visit.session is not None:
        return RedirectResponse(_next(visit, visit.request.query_params.get("next")), 303)
    wanted = visit.request.query_params.get("next", "")
    return visit.show("sign_in.html", next=wanted, error=None)


async def submit(visit: Visit) -> Response:
    """Open a session with an admin key or a `project_admin` token."""
    try:
        given = _readable(credential(visit.field("credential")))
        token = await visit.sessions.open(given, f"admin key {mask(given.value)}")
    except BillhookError as error:
        if error.status >= 500:
            raise
        return visit.show(
            "sign_in.html", error.status, next=visit.field("next"), error=_for_people(error)
        )
    response = RedirectResponse(_next(visit, visit.field("next")), 303)
    response.set_cookie(
        cookie_name(visit.request),
        token,
        path=visit.root,
        secure=_is_secure(visit),
        httponly=True,
        samesite="lax",
    )
    return response


def _is_secure(visit: Visit) -> bool:
    """Whether the browser uses HTTPS, as far as known behind a proxy."""
    public = urlsplit(visit.services.settings.reachable_url or "")
    by_public_name = public.netloc == visit.request.headers.get("host")
    return visit.request.url.scheme == "https" or (public.scheme == "https" and by_public_name)


async def leave(visit: Visit) -> Response:
    """End the session."""
    if visit.session is not None:
        await visit.sessions.close(visit.session)
    response = RedirectResponse(f"{visit.root}/sign-in", 303)
    response.delete_cookie(cookie_name(visit.request), path=visit.root)
    return response


def _readable(given: Credential | None) -> Credential:
    if given is None:
        raise InvalidInput("Paste an admin key or a token.")
    return given


def _for_people(error: BillhookError) -> BillhookError:
    """The API's errors mention headers, but here a credential was pasted."""
    if isinstance(error, InvalidApiKey):
        error.next_actions = (
            "Paste a valid admin key (ik_…). `billhook keys create --admin` creates a new one."
        )
    elif isinstance(error, Unauthorized):
        error.next_actions = "Paste an admin key (ik_…) or a fresh token of an administrator."
    return error


def _next(visit: Visit, wanted: str | None) -> str:
    """The page to redirect to, which is always one of the dashboard's."""
    if wanted is None or not wanted.startswith("/"):
        return f"{visit.root}/"
    path = wanted.partition("?")[0].replace("\\", "/")
    leads_out = ".." in (step.lower().replace("%2e", ".") for step in path.split("/"))
    return f"{visit.root}/" if leads_out else f"{visit.root}{wanted}"
