"""Public keys of an identity provider (Supabase, Auth0, …), from its JWKS address."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import httpx
import jwt
import orjson
import structlog

from billhook.errors import SigningKeysUnavailable

_ALGORITHMS = {"RS256": "RSA", "ES256": "EC"}
_MAX_BYTES = 1_000_000

_log = structlog.get_logger(__name__)


class Jwks:
    """The provider's keys, kept for a bounded time.

    Args:
        url: where the JWKS is.
        lifetime: seconds after which the keys are fetched anew; when that fails they go on being
            used until they are `last_resort` seconds old, so that a short outage of the provider
            signs nobody out.
        min_interval: seconds between two fetches at the least, however many unknown key ids come
            along. A key the provider has just added therefore works after that at the latest.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        url: str,
        *,
        lifetime: float = 600.0,
        last_resort: float = 3600.0,
        min_interval: float = 15.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = url
        self._lifetime = lifetime
        self._last_resort = last_resort
        self._min_interval = min_interval
        self._clock = clock
        self._http = httpx.AsyncClient(timeout=5.0)
        self._keys: dict[str | None, jwt.PyJWK] = {}
        self._fetched_at = float("-inf")
        self._tried_at = float("-inf")
        self._fetching = asyncio.Lock()

    async def close(self) -> None:
        """Close the connection to the provider."""
        await self._http.aclose()

    async def find(self, key_id: str | None) -> jwt.PyJWK | None:
        """The key with that id; None when the provider has none such.

        A token without a key id is checked with the only key, if there is but one.

        Raises:
            SigningKeysUnavailable: there are no keys to judge by.
        """
        if self._must_fetch(key_id):
            async with self._fetching:
                if self._must_fetch(key_id):
                    await self._fetch()
        if self._clock() - self._fetched_at > self._last_resort:
            raise SigningKeysUnavailable(
                "The identity provider's signing keys cannot be fetched just now.",
                next_actions="Try again in a few seconds; if it lasts, check BILLHOOK_JWKS_URL.",
            )
        if key_id is None:
            return next(iter(self._keys.values())) if len(self._keys) == 1 else None
        return self._keys.get(key_id)

    def _must_fetch(self, key_id: str | None) -> bool:
        now = self._clock()
        if now - self._tried_at < self._min_interval:
            return False
        unknown = key_id is not None and key_id not in self._keys
        return unknown or now - self._fetched_at > self._lifetime

    async def _fetch(self) -> None:
        try:
            keys = _read(await self._download())
        except (httpx.HTTPError, ValueError, TypeError, jwt.PyJWTError) as error:
            _log.warning("the JWKS cannot be fetched", url=self._url, reason=repr(error))
        else:
            self._keys, self._fetched_at = keys, self._clock()
        self._tried_at = self._clock()

    async def _download(self) -> bytes:
        async with self._http.stream("GET", self._url) as response:
            response.raise_for_status()
            body = b""
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > _MAX_BYTES:
                    raise ValueError("the JWKS is larger than 1 MB")
        return body


def _read(body: bytes) -> dict[str | None, jwt.PyJWK]:
    """The signing keys of a JWKS document, each pinned to its one algorithm."""
    document = orjson.loads(body)
    keys: dict[str | None, jwt.PyJWK] = {}
    for entry in document.get("keys", ()) if isinstance(document, dict) else ():
        if not isinstance(entry, dict) or entry.get("use", "sig") != "sig":
            continue
        algorithm = entry.get("alg") or _default_algorithm(entry)
        if algorithm not in _ALGORITHMS or entry.get("kty") != _ALGORITHMS[algorithm]:
            continue
        try:
            keys[entry.get("kid")] = jwt.PyJWK(entry, algorithm=algorithm)
        except jwt.PyJWTError as error:
            _log.warning("a key of the JWKS is unusable", kid=entry.get("kid"), reason=repr(error))
    return keys


def _default_algorithm(entry: dict[str, object]) -> str | None:
    if entry.get("kty") == "RSA":
        return "RS256"
    return "ES256" if entry.get("kty") == "EC" and entry.get("crv") == "P-256" else None
