"""One request to a page, and the ways to respond to it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlencode

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from billhook.access.permissions import READ, KeyRole, Need, need_of
from billhook.dashboard.links import StripeLinks, page_of
from billhook.dashboard.rendering import Templates
from billhook.dashboard.sessions import Notice, Session, Sessions
from billhook.errors import BillhookError, InvalidInput, NotFound
from billhook.models import Query, problems
from billhook.paths import decoded, requested
from billhook.services import Services
from billhook.settings import ENVIRONMENTS, STRIPE_API_BASE, Environment

Q = TypeVar("Q", bound=Query)

_SECRET = {"credential", "secret_key"}
_FIRST_PAGE = {"startingAfter": None, "endingBefore": None}
_NO_FILTERS = {*_FIRST_PAGE, "order", "limit"}
_LABELS = {"search": "Search", "since": "From", "until": "Before", "deadLetter": "Dead letter"}


@dataclass(frozen=True, slots=True)
class Filter:
    """A filter of a list, and the list without it."""

    name: str
    value: str
    without: str


@dataclass(frozen=True, slots=True)
class Preset:
    """A set of filters that is often wanted."""

    name: str
    href: str
    is_chosen: bool


def _label(name: str) -> str:
    """`subjectType` as people read it."""
    return _LABELS.get(name) or re.sub(r"([A-Z])", r" \1", name).lower().capitalize()


class Visit:
    """A request, and everything that a page needs to respond to it."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.says: Notice | None = self.session.notice if self.session else None
        """The notice of the last action, if the page shows it."""
        self.failure: BillhookError | None = None
        """Why the action failed, if no exception says so."""
        self.made: Mapping[str, object] | None = None
        """What the action created, for the audit log."""

    @property
    def services(self) -> Services:
        services: Services = self.request.app.state.services
        return services

    @property
    def sessions(self) -> Sessions:
        sessions: Sessions = self.request.app.state.sessions
        return sessions

    @property
    def work(self) -> set[asyncio.Task[Any]]:
        """What runs in the background on this server."""
        found: set[asyncio.Task[Any]] = self.request.app.state.work
        return found

    @property
    def session(self) -> Session | None:
        """The session; None on the sign-in page."""
        session: Session | None = getattr(self.request.state, "session", None)
        return session

    @property
    def environment(self) -> Environment:
        """The environment in the path, even if the page does not exist; else `test`."""
        scope = self.request.scope
        first = scope["path"].removeprefix(scope["root_path"]).split("/")[1:2]
        return "live" if first == ["live"] else "test"

    def may(self, role: KeyRole) -> bool:
        """Whether the signed-in administrator has this role in this environment."""
        return self.session is not None and self.session.grant.may(Need(role), self.environment)

    @property
    def sees_both(self) -> bool:
        """Whether the signed-in administrator has access to test and live mode."""
        return self.session is not None and self.session.grant.may(READ, None)

    @property
    def links(self) -> StripeLinks:
        """Links to Stripe's Dashboard, if the server uses Stripe itself."""
        real = self.services.settings.stripe_api_base == STRIPE_API_BASE
        return StripeLinks(self.environment if real else None)

    def page_of(self, object_id: str | None) -> str | None:
        """The page of a Stripe object, if it has one here."""
        page = page_of(object_id)
        return self.path(page) if page else None

    @property
    def filters(self) -> list[Filter]:
        """The filters of the list in the query string."""
        given = self.request.query_params
        return [
            Filter(_label(name), value, self.link(**{name: None, **_FIRST_PAGE}))
            for name, value in given.items()
            if value and name not in _NO_FILTERS
        ]

    def presets(self, *presets: tuple[str, dict[str, str]]) -> list[Preset]:
        """Links that replace the filters of a list: name, and parameters."""
        given = {
            name: value
            for name, value in self.request.query_params.items()
            if value and name not in _FIRST_PAGE
        }
        path = self.path_here
        return [
            Preset(name, f"{path}?{urlencode(wanted)}" if wanted else path, given == wanted)
            for name, wanted in presets
        ]

    @property
    def here(self) -> str:
        """The path of this page within its environment."""
        return self.path_here.removeprefix(self.path(""))

    @property
    def path_here(self) -> str:
        """The path of this page."""
        return f"{self.root}{requested(self.request.scope)}"

    def path(self, path: str) -> str:
        """The full path of, for example, `/customers` in this environment."""
        return f"{self.root}/{self.environment}{path}"

    @property
    def root(self) -> str:
        """Where the dashboard is mounted."""
        root: str = self.request.scope["root_path"]
        return root

    def field(self, name: str) -> str:
        """A field of the form that was sent, without surrounding space; empty if absent."""
        values = self.fields(name)
        return values[0].strip() if values else ""

    def fields(self, name: str) -> list[str]:
        """Every value of a field that may be given several times."""
        form: dict[str, list[str]] = self.request.state.form
        return form.get(name, [])

    def query(self, model: type[Q], *, of_days: bool = False, **fixed: Any) -> Q:
        """The query string as `model`; empty parameters, which forms send, count as absent.

        Args:
            of_days: whether `since` and `until` are days, not times.

        Raises:
            InvalidInput: a parameter that does not fit.
        """
        given = {name: value.strip() for name, value in self.request.query_params.items()}
        wanted: dict[str, Any] = {name: value for name, value in given.items() if value} | fixed
        for name in set() if of_days else {"since", "until"} & wanted.keys():
            if len(wanted[name]) == len("2026-05-12"):  # a day, as a form sends it
                wanted[name] += "T00:00:00Z"
        try:
            return model.model_validate(wanted)
        except ValidationError as error:
            found = error.errors(include_url=False, include_input=False)
            raise InvalidInput(problems(found)) from None

    def link(self, **changes: str | None) -> str:
        """The URL of this page with other parameters; None and "" remove one."""
        given: dict[str, str | None] = {**self.request.query_params, **changes}
        kept = {name: value for name, value in given.items() if value}
        return f"{self.path_here}?{urlencode(kept)}" if kept else self.path_here

    def render(self, template: str, **values: object) -> str:
        """A rendered template."""
        templates: Templates = self.request.app.state.templates
        return templates.render(template, visit=self, **values)

    def show(self, template: str, status: int = 200, **values: object) -> Response:
        """A page or a part of one. With an `error`, the action has failed."""
        if isinstance(error := values.get("error"), BillhookError):
            self.failure = error
        return HTMLResponse(self.render(template, **values), status)

    def error(self, error: BillhookError) -> Response:
        """The page for an error: a sentence and the next step. The form can be sent again from
        there: no input is lost except secrets."""
        self.says = None
        headers: Mapping[str, str] = {"retry-after": "5"} if error.status == 503 else {}
        body = self.render("error.html", error=error, again=self._again(error))
        return HTMLResponse(body, error.status, dict(headers))

    def _again(self, error: BillhookError) -> dict[str, list[str]]:
        """The fields of a form whose failure was not caused by its input."""
        form: dict[str, list[str]] = getattr(self.request.state, "form", {})
        if error.status < 500 or self.session is None or _SECRET & form.keys():
            return {}
        return form

    async def go(self, path: str, done: str | None = None) -> Response:
        """Redirect to a page of this environment, which shows `done` at the top."""
        if done is not None and self.session is not None:
            await self.sessions.note(self.session, Notice(kind="done", text=done))
        return RedirectResponse(self.path(path), 303)

    async def back(self, path: str, error: BillhookError) -> Response:
        """Redirect to a page of this environment, which shows the error at the top."""
        self.failure = error
        if self.session is not None:
            notice = Notice(kind="error", text=error.message, next_actions=error.next_actions)
            await self.sessions.note(self.session, notice)
        return RedirectResponse(self.path(path), 303)


Handler = Callable[[Visit], Awaitable[Response]]


def page(handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    """A page handler as a Starlette endpoint. A notice is shown once."""

    async def answer(request: Request) -> Response:
        visit = Visit(request)
        request.path_params.update(
            (name, decoded(value))
            for name, value in request.path_params.items()
            if isinstance(value, str)
        )
        wanted = request.path_params.get("environment")
        if (wanted is not None and wanted not in ENVIRONMENTS) or not _are_ids(request.path_params):
            raise NotFound("There is no such page.", next_actions="Choose one from the menu.")
        need = need_of(handler, request.method)
        if visit.session is not None and wanted is not None:
            visit.session.grant.require(need, None if need.of_both else visit.environment)
        response = await (_recorded(visit, need, handler) if need.action else handler(visit))
        shown = isinstance(response, HTMLResponse) and is_for_people(request)
        if shown and visit.session is not None and visit.says is not None:
            await visit.sessions.said(visit.session, visit.says)
        return response

    return answer


async def _recorded(visit: Visit, need: Need, handler: Handler) -> Response:
    """Run a handler, with an entry in the audit log."""
    assert visit.session is not None
    request = visit.request
    form: dict[str, list[str]] = request.state.form
    async with visit.services.audit_log.recorded(
        need,
        visit.session.grant,
        None if need.of_both else visit.environment,
        via="dashboard",
        address=request.client.host if request.client else None,
        parameters=request.path_params,
    ) as change:
        change.request = {
            name: values[0] if len(values) == 1 else values
            for name, values in form.items()
            if name != "csrf"
        }
        response = await handler(visit)
        change.error = visit.failure
        change.result = visit.made
    return response


def _are_ids(parameters: Mapping[str, object]) -> bool:
    """Whether the path contains a possible id."""
    return all(
        0 < len(value.strip()) <= 255 and "\0" not in value
        for value in parameters.values()
        if isinstance(value, str)
    )


def is_for_people(request: Request) -> bool:
    """Whether this is a page request of the browser, not one of the page's script."""
    wanted = request.headers.get("accept", "*/*").split(",")
    return any(each.partition(";")[0].strip() in ("text/html", "*/*") for each in wanted)


def cookie_name(request: Request) -> str:
    """Browsers send cookies to all ports of a host: two servers on one host need two names."""
    port = request.url.port
    return f"billhook_{port}" if port else "billhook"
