"""Public keys of an identity provider (Supabase, Auth0, …), from its JWKS address."""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx
import jwt
import orjson
import structlog

from billhook.errors import SigningKeysUnavailable

# The supported values of a key's `alg`: the algorithm that the key is pinned to, and its key type.
_ALGORITHMS = {
    "RS256": ("RS256", "RSA"),
    "ES256": ("ES256", "EC"),
    "EdDSA": ("EdDSA", "OKP"),
    "Ed25519": ("EdDSA", "OKP"),  # RFC 9864's name for EdDSA with this curve
}
_MAX_BYTES = 1_000_000

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class KeySet:
    """The content of a JWKS document.

    Attributes:
        keys: the keys that can verify tokens, each pinned to one algorithm.
        unusable: the other signing keys, as `key id (algorithm)`.
    """

    keys: dict[str | None, jwt.PyJWK] = field(default_factory=dict)
    unusable: tuple[str, ...] = ()


FETCH_ERRORS = (httpx.HTTPError, httpx.InvalidURL, ValueError)
"""What `Jwks.fetch` raises."""


class Jwks:
    """The provider's keys, kept for a bounded time.

    Args:
        url: the URL of the JWKS.
        lifetime: seconds after which the keys are fetched again; if that fails, they stay in
            use until they are `last_resort` seconds old, so that a short outage of the provider
            does not sign users out.
        min_interval: minimum seconds between two fetches, however many unknown key ids arrive.
            A new key of the provider works after that at the latest.
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
        self._unusable: tuple[str, ...] = ()
        self._fetched_at = float("-inf")
        self._tried_at = float("-inf")
        self._fetching = asyncio.Lock()

    async def close(self) -> None:
        """Close the connection to the provider."""
        await self._http.aclose()

    async def find(self, key_id: str | None) -> jwt.PyJWK | None:
        """The key with that id; None if the provider has no such key.

        A token without a key id is verified with the only key, if there is just one.

        Raises:
            SigningKeysUnavailable: there are no keys to verify with.
        """
        if self._must_fetch(key_id):
            async with self._fetching:
                if self._must_fetch(key_id):
                    await self._fetch()
        if self._clock() - self._fetched_at > self._last_resort:
            raise SigningKeysUnavailable(
                "The identity provider's signing keys could not be fetched.",
                next_actions="Try again in a few seconds; if it persists, check BILLHOOK_JWKS_URL.",
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

    async def fetch(self) -> KeySet:
        """Fetch the document, ignoring the cache. Raises one of `FETCH_ERRORS`."""
        return _read(await self._download())

    async def _fetch(self) -> None:
        try:
            found = await self.fetch()
        except FETCH_ERRORS as error:
            _log.warning("the JWKS cannot be fetched", url=self._url, reason=repr(error))
        else:
            if found.unusable and found.unusable != self._unusable:
                _log.warning(
                    "the JWKS has keys that Billhook cannot use: it takes RS256, ES256 and EdDSA",
                    url=self._url,
                    unusable=found.unusable,
                    usable=len(found.keys),
                )
            elif not found.keys:
                _log.warning("the JWKS has no key for signatures", url=self._url)
            self._keys, self._unusable = found.keys, found.unusable
            self._fetched_at = self._clock()
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


def for_algorithm(key: jwt.PyJWK, algorithm: object) -> jwt.PyJWK | None:
    """`key`, to verify a token with `algorithm`; None if that is not the key's algorithm."""
    if algorithm == key.algorithm_name:
        return key
    if algorithm == "Ed25519" and key.algorithm_name == "EdDSA":
        by_its_new_name = copy.copy(key)
        by_its_new_name.algorithm_name = "Ed25519"
        return by_its_new_name
    return None


def _read(body: bytes) -> KeySet:
    """The signing keys of a JWKS document.

    Raises:
        ValueError: it is not one.
    """
    document = orjson.loads(body)
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise ValueError("not a JWKS document: it has no list of keys")
    keys: dict[str | None, jwt.PyJWK] = {}
    unusable = []
    for entry in entries:
        if not isinstance(entry, dict) or entry.get("use", "sig") != "sig":
            continue
        kid = entry.get("kid")
        kid = kid if isinstance(kid, str) else None
        key = _key(entry)
        if key is None:
            unusable.append(f"{kid} ({entry.get('alg') or entry.get('crv') or entry.get('kty')})")
        else:
            keys[kid] = key
    return KeySet(keys, tuple(unusable))


def _key(entry: dict[str, object]) -> jwt.PyJWK | None:
    named = entry.get("alg") or _default_algorithm(entry)
    algorithm, kind = _ALGORITHMS.get(str(named), (None, None))
    if algorithm is None or entry.get("kty") != kind:
        return None
    if algorithm == "EdDSA" and entry.get("crv") != "Ed25519":
        return None
    try:
        return jwt.PyJWK(entry, algorithm=algorithm)
    except (jwt.PyJWTError, ValueError, TypeError):
        return None  # the error quotes the key


def _default_algorithm(entry: dict[str, object]) -> str | None:
    if entry.get("kty") == "RSA":
        return "RS256"
    return {"P-256": "ES256", "Ed25519": "EdDSA"}.get(str(entry.get("crv")))
