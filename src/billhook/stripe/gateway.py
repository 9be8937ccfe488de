"""Requests to Stripe: the official client, its errors as the contract's, responses as raw dicts.

No database connection may be held around any of these.
"""

from __future__ import annotations

import asyncio
import math
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Literal, TypeAlias
from urllib.request import getproxies, proxy_bypass

import aiohttp
import stripe
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from billhook.errors import (
    BillhookError,
    PaymentConfigInvalid,
    PaymentMethodDeclined,
    RateLimited,
    UpstreamFailure,
)
from billhook.metrics import Metrics, timed
from billhook.redact import redact
from billhook.settings import STRIPE_API_BASE, Environment
from billhook.stripe.decoding import decode, storable
from billhook.stripe.governor import Governor

StripeObject: TypeAlias = dict[str, Any]
KeyOf: TypeAlias = Callable[[Environment], Awaitable[str | None]]

TIMEOUT = 20.0
"""Seconds for a call with all its retries: InsForge's client gives up after 30."""

# Three attempts and the pauses between them: an unreachable Stripe is reported within 10 s.
_ATTEMPT_TIMEOUT = aiohttp.ClientTimeout(sock_connect=2.0, sock_read=9.0)
_RETRIES = 2  # the SDK's: of lost connections, 409, 5xx; each under the same idempotency key
_LIST_ATTEMPTS = 5  # for a page that Stripe temporarily rejects
_AGAIN = (
    "Try again with the same idempotencyKey, if there is one: nothing is done twice. If it "
    "persists, check https://status.stripe.com and this server's outgoing connections."
)
_RUBBISH = "Stripe's response could not be understood."
_RUBBISH_ACTIONS = (
    "Something between this server and Stripe, such as a proxy, may have responded instead: "
    "check the connection, and STRIPE_API_BASE if it is set. Then try again."
)
_REJECTED = frozenset((400, 402, 404))
_METER_EVENTS = "/v1/billing/meter_events"
_CONNECTIONS = 300  # at once: 200 for meter events, and some for live traffic
_DROP = frozenset({"idempotency_key", "api_key", "base", "stripe_account", "stripe_version"})


@dataclass(frozen=True, slots=True)
class Refusal:
    """Stripe's error, for callers that must distinguish cases.

    Attributes:
        replayed: Stripe repeats its response to the first request with this idempotency key.
    """

    status: int | None
    type: str | None
    code: str | None
    param: str | None
    replayed: bool


@dataclass(frozen=True, slots=True)
class Fetched:
    """An object or a page of a list, and the time of its state.

    Attributes:
        at: epoch seconds of Stripe's clock (its `Date` header). The duration of a read request is
            subtracted; the state after a write is as of the response.
        replayed: Stripe repeats its response to the first request with this idempotency key.
    """

    data: StripeObject
    at: int
    replayed: bool = False


class _Headers(CIMultiDict[str]):
    """A response's headers, and its unparsed body."""

    def __init__(self, headers: CIMultiDictProxy[str], body: bytes) -> None:
        super().__init__(headers)
        self.body = body


class _HTTPClient(stripe.HTTPClient):
    """How the SDK reaches Stripe: over aiohttp, whose parser is written in C.

    Unlike the SDK's own clients, it hides the body of a successful response from the SDK, which
    would parse it into ordered dicts with the standard library, follows no redirects (the key must
    not be sent elsewhere), and uses the proxies from the environment.
    """

    name = "aiohttp"

    def __init__(self, api_base: str) -> None:
        super().__init__()
        self._session: aiohttp.ClientSession | None = None
        self._via = _proxy_to(api_base)

    async def request_async(
        self, method: str, url: str, headers: Mapping[str, str], post_data: Any = None
    ) -> tuple[bytes, int, Mapping[str, str]]:
        if self._session is None:
            trusted = ssl.create_default_context(cafile=stripe.ca_bundle_path)
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=trusted, limit=_CONNECTIONS),
                timeout=_ATTEMPT_TIMEOUT,
            )
        try:
            async with self._session.request(
                method,
                URL(url, encoded=True),  # already encoded: an id stays one segment
                headers=headers,
                data=post_data,
                proxy=self._via,
                allow_redirects=False,
            ) as response:
                body = await response.read()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            lost = stripe.APIConnectionError(str(error), should_retry=True)  # type: ignore[no-untyped-call]
            raise lost from error
        if 200 <= response.status < 300:
            return b"{}", response.status, _Headers(response.headers, body)
        return body, response.status, response.headers

    def sleep_async(self, secs: float) -> Awaitable[None]:
        return asyncio.sleep(secs)

    async def close_async(self) -> None:
        if self._session is not None:
            await self._session.close()


def _proxy_to(address: str) -> str | None:
    """The proxy from the environment for a URL. Looked up once: aiohttp itself would search the
    environment, and the disk for a .netrc, at each request."""
    to = URL(address)
    return None if proxy_bypass(to.host or "") else getproxies().get(to.scheme)


def details_of(error: BaseException) -> StripeObject:
    """The fields of Stripe's own error, for an error raised by a `Gateway`; else none."""
    cause = error.__cause__
    body = cause.json_body if isinstance(cause, stripe.StripeError) else None
    details = body.get("error") if isinstance(body, dict) else None
    return details if isinstance(details, dict) else {}


def refusal_of(error: BaseException) -> Refusal | None:
    """Stripe's own error, for an error raised by a `Gateway`; else None."""
    cause = error.__cause__
    if not isinstance(cause, stripe.StripeError):
        return None
    details = details_of(error)
    return Refusal(
        status=cause.http_status,
        type=details.get("type"),
        code=details.get("code"),
        param=details.get("param"),
        replayed=_is_replayed(cause.headers or {}),
    )


def is_rejected(error: BaseException) -> bool:
    """Whether Stripe has rejected a request: it has done nothing under its idempotency key, and
    never will.

    All other errors say nothing about an earlier attempt whose response was lost, not even about
    one that the SDK made in the same call: a rate limit, a key that is no longer valid, a page of
    a proxy.
    """
    said = refusal_of(error)
    return (
        said is not None
        and said.status in _REJECTED
        and said.type is not None
        and said.type != "idempotency_error"
    )


def is_stored_failure(error: BaseException) -> bool:
    """Whether Stripe failed, and repeats that under the idempotency key: the request is over. It
    may have been executed (stripe-facts 37)."""
    said = refusal_of(error)
    return said is not None and said.replayed and said.status is not None and said.status >= 500


def never_sent(error: BaseException) -> bool:
    """Whether a request to Stripe failed before anything was sent: there was no connection."""
    cause = error.__cause__
    return isinstance(cause, stripe.APIConnectionError) and isinstance(
        cause.__cause__, aiohttp.ClientConnectorError
    )


class Gateway:
    """One HTTP client for all calls of the process. Close it at shutdown.

    Args:
        key_of: returns the environment's current key, so a change applies from the next call.
        api_base: the base URL of Stripe's API.
        governor: limits the rate of list requests; None for no limit.
        metrics: where requests are timed.
    """

    def __init__(
        self,
        key_of: KeyOf,
        api_base: str = STRIPE_API_BASE,
        governor: Governor | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self._key_of = key_of
        self._governor = governor or Governor(0, {})
        self._metrics = metrics or Metrics()
        self._http = _HTTPClient(api_base)
        self._owners: dict[str, str] = {}
        # The SDK requires a key here; each call has its own.
        self._client = stripe.StripeClient(
            "unset",
            http_client=self._http,
            base_addresses={"api": api_base},
            stripe_version=stripe.api_version,
            max_network_retries=_RETRIES,
        )

    async def close(self) -> None:
        """Close the connections to Stripe."""
        await self._http.close_async()

    async def key(self, environment: Environment) -> str:
        """The environment's key.

        Raises:
            PaymentConfigInvalid: none is configured.
        """
        key = await self._key_of(environment)
        if key is None:
            name = f"STRIPE_{environment.upper()}_SECRET_KEY"
            raise PaymentConfigInvalid(
                f"No Stripe key is configured for the {environment} environment.",
                next_actions=f"Set it with `billhook config set --environment {environment}`, or "
                f"{name} before the start.",
            )
        return key

    async def post(
        self,
        environment: Environment,
        path: str,
        params: Mapping[str, Any],
        *,
        idempotency_key: str | None = None,
        key: str | None = None,
    ) -> Fetched:
        """`POST path`. Without an idempotency key, the SDK generates one for its own retries.

        Args:
            key: instead of the environment's, to check a new one.

        Raises:
            PaymentConfigInvalid: no key, or one that Stripe rejects (Stripe's status).
            PaymentMethodDeclined, RateLimited, UpstreamFailure: see contract section 1.
        """
        options = {"idempotency_key": idempotency_key} if idempotency_key else {}
        return await self._call("post", environment, path, params, options, key)

    async def get(
        self,
        environment: Environment,
        path: str,
        params: Mapping[str, Any] | None = None,
        *,
        key: str | None = None,
    ) -> Fetched:
        """`GET path`. Raises as `post` does."""
        return await self._call("get", environment, path, params or {}, {}, key)

    async def account(self, environment: Environment, *, key: str | None = None) -> Fetched:
        """The account of a key: an object with an `id`. Raises as `post` does."""
        found = await self.get(environment, "/v1/account", key=key)
        if found.data.get("object") != "account" or not isinstance(found.data.get("id"), str):
            raise UpstreamFailure(_RUBBISH, next_actions=_RUBBISH_ACTIONS)
        return found

    async def account_id(self, environment: Environment, key: str) -> str:
        """The id of a key's account, which never changes: it is requested once. Raises as
        `account`."""
        if key not in self._owners:
            self._owners[key] = str((await self.account(environment, key=key)).data["id"])
        return self._owners[key]

    async def delete(
        self,
        environment: Environment,
        path: str,
        params: Mapping[str, Any] | None = None,
        *,
        key: str | None = None,
    ) -> Fetched:
        """`DELETE path`. Raises as `post` does."""
        return await self._call("delete", environment, path, params or {}, {}, key)

    async def background(
        self,
        environment: Environment,
        list_name: str,
        path: str,
        params: Mapping[str, Any],
        *,
        key: str | None = None,
    ) -> Fetched:
        """`GET path` for a sync, when the governor allows. After a 429, up to four more times: the
        first after 0.5 s, each pause twice as long as the one before.

        Raises:
            RateLimited: still rate limited after several pauses. Else as `post` does.
        """
        for attempt in range(_LIST_ATTEMPTS):
            await self._governor.turn(environment, list_name)
            try:
                return await self._request("get", environment, path, params, {}, key)
            except RateLimited:
                self._governor.pause(environment, 0.5 * 2**attempt)
                if attempt == _LIST_ATTEMPTS - 1:
                    raise
        raise AssertionError("unreachable")

    async def meter_event(
        self, environment: Environment, params: Mapping[str, Any], *, key: str
    ) -> None:
        """Send a meter event, when the governor allows. It is tried once, so that its error says
        whether Stripe may have it. Raises as `post` does."""
        await self._governor.meter_event(environment)
        once = {"max_network_retries": 0}
        try:
            await self._request("post", environment, _METER_EVENTS, params, once, key)
        except RateLimited:
            self._governor.pause_usage(environment, 0.25)
            raise

    async def _call(
        self,
        method: Literal["get", "post", "delete"],
        environment: Environment,
        path: str,
        params: Mapping[str, Any],
        options: Mapping[str, str],
        key: str | None,
    ) -> Fetched:
        self._governor.live(environment)
        return await self._request(method, environment, path, params, options, key)

    async def _request(
        self,
        method: Literal["get", "post", "delete"],
        environment: Environment,
        path: str,
        params: Mapping[str, Any],
        options: Mapping[str, str | int],
        key: str | None,
    ) -> Fetched:
        if not _DROP.isdisjoint(params):
            raise ValueError("the SDK would take these parameters for its own options")
        options = {**options, "api_key": key or await self.key(environment)}
        began = time.monotonic()
        try:
            with timed(self._metrics.stripe_seconds, environment, method):
                async with asyncio.timeout(TIMEOUT):
                    answer = await self._client.raw_request_async(method, path, **params, **options)
        except stripe.StripeError as error:
            raise translate(error) from error
        except (AttributeError, TypeError) as error:
            # The SDK fails on JSON that is not in the format of Stripe's errors.
            raise UpstreamFailure(_RUBBISH, next_actions=_RUBBISH_ACTIONS) from error
        except TimeoutError as error:
            raise UpstreamFailure(
                f"Stripe did not respond within {TIMEOUT:.0f} seconds.",
                next_actions=_AGAIN,
            ) from error
        data = _parsed(answer.headers)
        age = math.ceil(time.monotonic() - began) if method == "get" else 0
        return Fetched(data, _date(answer.headers) - age, _is_replayed(answer.headers))


def _is_replayed(headers: Mapping[str, str]) -> bool:
    return headers.get("idempotent-replayed") == "true"


def _parsed(headers: Mapping[str, str]) -> StripeObject:
    """The object in a successful response, in a form that PostgreSQL can store."""
    try:
        data, _ = decode(headers.body if isinstance(headers, _Headers) else b"")
    except ValueError as error:
        raise UpstreamFailure(_RUBBISH, next_actions=_RUBBISH_ACTIONS) from error
    if not isinstance(data, dict):
        raise UpstreamFailure(_RUBBISH, next_actions=_RUBBISH_ACTIONS)
    return data


def _date(headers: Mapping[str, str]) -> int:
    """Stripe's clock, to the second. If a proxy removes the header, the local clock is used."""
    try:
        return int(parsedate_to_datetime(headers["date"]).timestamp())
    except (KeyError, ValueError):
        return int(time.time())


def translate(error: stripe.StripeError) -> BillhookError:
    """Stripe's error as the contract's (section 1), with Stripe's message and no secrets."""
    status = error.http_status
    message = redact(storable(error.user_message or "Stripe gave no reason."))
    if isinstance(error, stripe.RateLimitError):
        return RateLimited(
            message,
            next_actions="Wait a few seconds and send the same request again, with its "
            "idempotencyKey if it has one.",
        )
    if isinstance(error, stripe.AuthenticationError | stripe.PermissionError):
        return PaymentConfigInvalid(
            message,
            status=status,
            next_actions="Set a valid Stripe key with the permissions that the message names.",
        )
    if isinstance(error, stripe.CardError):
        return PaymentMethodDeclined(message, status=status)
    if isinstance(error, stripe.APIConnectionError):
        return UpstreamFailure(
            f"Stripe could not be reached ({type(error.__cause__).__name__})."
            if error.__cause__
            else "Stripe could not be reached.",
            next_actions=_AGAIN,
        )
    said = error.json_body if isinstance(error.json_body, dict) else {}
    failed = status if status is not None and status >= 400 else None
    if not isinstance(said.get("error"), dict):
        # A page of a proxy, or a redirect: its text is not Stripe's, so it is not passed on.
        return UpstreamFailure(_RUBBISH, status=failed, next_actions=_RUBBISH_ACTIONS)
    elsewhere = "Does it belong to the other environment, test or live?"
    return UpstreamFailure(
        message,
        status=failed,
        next_actions=elsewhere if error.code == "resource_missing" else None,
    )
