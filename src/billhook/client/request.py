"""Requests and responses without any I/O: what both clients share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from urllib.parse import parse_qs, urlsplit

import httpx
from pydantic import ValidationError

from billhook.client.errors import ApiError, UnexpectedAnswer, Unreachable
from billhook.models import ErrorBody, WireModel
from billhook.paths import encoded

M = TypeVar("M", bound=WireModel)
T = TypeVar("T")

PASSING = frozenset({502, 503, 504})
"""Statuses of temporary failures."""

_LONGEST_PAUSE = 10.0
_NO_BILLHOOK = "Check that this is the URL of a Billhook server, without /api."


@dataclass(frozen=True, slots=True)
class Call(Generic[M]):
    """One request.

    Attributes:
        path: below the server's address; see `path`.
        repeatable: idempotent, so it may be retried.
        slow: it may take as long as reading all objects from Stripe.
    """

    method: str
    path: str
    answer: type[M]
    query: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | None = field(default=None, repr=False)
    repeatable: bool = False
    slow: bool = False


@dataclass(frozen=True, slots=True)
class Answer(Generic[M]):
    """A success, and the cursor of the next page."""

    model: M
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A page of a list.

    Attributes:
        next_cursor: pass it as `starting_after` to get the next page; None on the last.
    """

    items: list[T]
    next_cursor: str | None


def path(*steps: str) -> str:
    """The path of a route of `/api/payments/stripe`.

    Raises:
        ValueError: a segment is empty, and would lead to another route.
    """
    for step in steps:
        if not step.strip():
            raise ValueError(f"not an id: {step!r}")
    return "/".join(["/api/payments/stripe", *map(encoded, steps)])


def address(base_url: str) -> str:
    """`base_url` without a trailing slash.

    Raises:
        ValueError: it is not the URL of a server.
    """
    parts = urlsplit(base_url.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("the address must look like https://pay.example")
    return base_url.strip().rstrip("/").removesuffix("/api")


def headers(credential: str, version: str, application: str | None = None) -> dict[str, str]:
    """The headers of every request.

    Args:
        application: the name of the program that uses the client.

    Raises:
        ValueError: `credential` is malformed; it is not quoted.
    """
    credential = credential.strip()
    if not credential or not credential.isascii() or not credential.isprintable():
        raise ValueError("the key or token is empty, or contains invalid characters")
    return {
        "authorization": f"Bearer {credential}",
        "accept": "application/json",
        "user-agent": " ".join(
            f"{name}/{version}" for name in (application, "billhook-python") if name
        ),
    }


def read(call: Call[M], response: httpx.Response) -> Answer[M]:
    """The response to `call`.

    Raises:
        ApiError: the server's own error.
        UnexpectedAnswer: it is not a response of Billhook.
    """
    if not response.is_success:
        raise _error(response)
    try:
        return Answer(call.answer.model_validate_json(response.content), _next_cursor(response))
    except ValidationError as error:
        raise UnexpectedAnswer(
            f"{_place(response)} responded in an unknown format.",
            status=response.status_code,
            next_actions=_NO_BILLHOOK,
        ) from error


def may_repeat(call: Call[M], failure: httpx.Response | httpx.RequestError) -> bool:
    """Whether it is safe and useful to send `call` again."""
    if isinstance(failure, httpx.Response):
        return call.repeatable and failure.status_code in PASSING
    if isinstance(failure, httpx.ConnectError | httpx.ConnectTimeout):
        return True  # it was never sent
    # After a timeout, a second request would not be faster.
    return call.repeatable and not isinstance(failure, httpx.TimeoutException)


def pause(attempt: int, failure: httpx.Response | httpx.RequestError, chance: float) -> float:
    """Seconds to wait after the `attempt`-th failure, the first being 1.

    Args:
        chance: a random number from 0 to 1, so that many clients don't retry at the same moment.
    """
    backoff = 0.25 * 2.0 ** (attempt - 1) * (0.5 + chance)
    asked = failure.headers.get("retry-after", "") if isinstance(failure, httpx.Response) else ""
    wanted = float(asked) if asked.isascii() and asked.isdecimal() else 0.0
    return min(max(backoff, wanted), _LONGEST_PAUSE)


def unreachable(base_url: str, error: httpx.RequestError) -> Unreachable:
    """Why there was no response."""
    if isinstance(error, httpx.TimeoutException):
        reason = "it did not respond in time"
    else:
        reason = str(error) or type(error).__name__
    return Unreachable(
        f"Billhook at {base_url} could not be reached: {reason}.",
        next_actions="Check that the URL is correct and `billhook serve` is running there.",
    )


def _error(response: httpx.Response) -> ApiError:
    try:
        body = ErrorBody.model_validate_json(response.content)
    except ValidationError:
        return _foreign(response)
    error = ApiError(
        body.message,
        status=response.status_code,
        code=body.error,
        next_actions=body.next_actions,
        existing=body.existing.known() if body.existing else None,
    )
    error.decline_code = body.decline_code
    return error


def _foreign(response: httpx.Response) -> UnexpectedAnswer:
    message = f"{_place(response)} returned {response.status_code}, but not in Billhook's format."
    next_actions = _NO_BILLHOOK
    if response.is_redirect:
        target = urlsplit(response.headers.get("location", ""))
        message = f"{_place(response)} redirects elsewhere ({response.status_code})."
        if target.netloc:
            next_actions = f"Use the URL that it redirects to: {target.scheme}://{target.netloc}"
    elif response.status_code in PASSING:
        next_actions = "Billhook seems to be down behind its proxy; see its log."
    return UnexpectedAnswer(message, status=response.status_code, next_actions=next_actions)


def _place(response: httpx.Response) -> str:
    url = response.request.url
    return f"{url.scheme}://{url.netloc.decode('ascii')}{url.path}"


def _next_cursor(response: httpx.Response) -> str | None:
    """The cursor in the `Link: <…>; rel="next"` header.

    Only the cursor is used, never the URL: the key must not be sent anywhere else, and a proxy may
    serve Billhook with a prefix that it does not know.
    """
    url = response.links.get("next", {}).get("url", "")
    return next(iter(parse_qs(urlsplit(url).query).get("startingAfter", [])), None)
