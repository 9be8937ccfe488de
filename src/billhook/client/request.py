"""Requests and answers without any I/O: what both clients share."""

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
"""Statuses that are likely to be gone the next time."""

_LONGEST_PAUSE = 10.0
_NO_BILLHOOK = "Is this the address of a Billhook? It is what comes before /api."


@dataclass(frozen=True, slots=True)
class Call(Generic[M]):
    """One request.

    Attributes:
        path: below the server's address; see `path`.
        repeatable: doing it twice does no more than doing it once, so it may be tried again.
        slow: it may take as long as Stripe takes for all objects.
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
    """A success, and where the next page of the list begins."""

    model: M
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A page of a list.

    Attributes:
        next_cursor: give it as `starting_after` for the next page; None on the last.
    """

    items: list[T]
    next_cursor: str | None


def path(*steps: str) -> str:
    """The path of a route of `/api/payments/stripe`.

    Raises:
        ValueError: a step is empty, and would name another route.
    """
    for step in steps:
        if not step.strip():
            raise ValueError(f"not an id: {step!r}")
    return "/".join(["/api/payments/stripe", *map(encoded, steps)])


def address(base_url: str) -> str:
    """`base_url` as paths are put behind it.

    Raises:
        ValueError: it is no address of a server.
    """
    parts = urlsplit(base_url.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("the address must look like https://pay.example")
    return base_url.strip().rstrip("/").removesuffix("/api")


def headers(credential: str, version: str) -> dict[str, str]:
    """What every request carries.

    Raises:
        ValueError: `credential` can be none; it is not quoted.
    """
    credential = credential.strip()
    if not credential or not credential.isascii() or not credential.isprintable():
        raise ValueError("the key or token is empty, or has characters that none has")
    return {
        "authorization": f"Bearer {credential}",
        "accept": "application/json",
        "user-agent": f"billhook-python/{version}",
    }


def read(call: Call[M], response: httpx.Response) -> Answer[M]:
    """The answer to `call`.

    Raises:
        ApiError: the server's own error.
        UnexpectedAnswer: it is none of Billhook's.
    """
    if not response.is_success:
        raise _error(response)
    try:
        return Answer(call.answer.model_validate_json(response.content), _next_cursor(response))
    except ValidationError as error:
        raise UnexpectedAnswer(
            f"{_place(response)} answered in a form that this client does not know.",
            status=response.status_code,
            next_actions=_NO_BILLHOOK,
        ) from error


def may_repeat(call: Call[M], failure: httpx.Response | httpx.RequestError) -> bool:
    """Whether it is safe, and of use, to send `call` again."""
    if isinstance(failure, httpx.Response):
        return call.repeatable and failure.status_code in PASSING
    if isinstance(failure, httpx.ConnectError | httpx.ConnectTimeout):
        return True  # it was never sent
    # Who was too slow to answer would not be faster for being asked twice.
    return call.repeatable and not isinstance(failure, httpx.TimeoutException)


def pause(attempt: int, failure: httpx.Response | httpx.RequestError, chance: float) -> float:
    """Seconds to wait after the `attempt`-th failure, the first being 1.

    Args:
        chance: 0 to 1, at random: many clients shall not come back at the same moment.
    """
    backoff = 0.25 * 2.0 ** (attempt - 1) * (0.5 + chance)
    asked = failure.headers.get("retry-after", "") if isinstance(failure, httpx.Response) else ""
    wanted = float(asked) if asked.isascii() and asked.isdecimal() else 0.0
    return min(max(backoff, wanted), _LONGEST_PAUSE)


def unreachable(base_url: str, error: httpx.RequestError) -> Unreachable:
    """Why no answer came."""
    if isinstance(error, httpx.TimeoutException):
        reason = "it did not answer in time"
    else:
        reason = str(error) or type(error).__name__
    return Unreachable(
        f"Billhook at {base_url} could not be reached: {reason}.",
        next_actions="Is the address right, and is `billhook serve` running there?",
    )


def _error(response: httpx.Response) -> ApiError:
    try:
        body = ErrorBody.model_validate_json(response.content)
    except ValidationError:
        return _foreign(response)
    return ApiError(
        body.message,
        status=response.status_code,
        code=body.error,
        next_actions=body.next_actions,
    )


def _foreign(response: httpx.Response) -> UnexpectedAnswer:
    message = f"{_place(response)} answered {response.status_code}, and not in Billhook's form."
    next_actions = _NO_BILLHOOK
    if response.is_redirect:
        target = urlsplit(response.headers.get("location", ""))
        message = f"{_place(response)} sends us elsewhere ({response.status_code})."
        if target.netloc:
            next_actions = f"Give the address that it leads to: {target.scheme}://{target.netloc}"
    elif response.status_code in PASSING:
        next_actions = "Billhook seems to be down behind its proxy; its log says why."
    return UnexpectedAnswer(message, status=response.status_code, next_actions=next_actions)


def _place(response: httpx.Response) -> str:
    url = response.request.url
    return f"{url.scheme}://{url.netloc.decode('ascii')}{url.path}"


def _next_cursor(response: httpx.Response) -> str | None:
    """The cursor in the `Link: <…>; rel="next"` header.

    Only the cursor is taken from it, never the address: the key goes to no other place than the
    one that it was given for, and a proxy may serve Billhook under a prefix it does not know of.
    """
    url = response.links.get("next", {}).get("url", "")
    return next(iter(parse_qs(urlsplit(url).query).get("startingAfter", [])), None)
