"""An identity provider: it publishes its public keys, and signs tokens with the private ones."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
import orjson
from cryptography.hazmat.primitives.asymmetric import ec, ed25519


class Provider:
    """An identity provider: a real HTTP server with a JWKS that tests can change."""

    def __init__(self) -> None:
        self.keys: list[dict[str, Any]] = []
        self.fetches = 0
        self.broken = False
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider.fetches += 1
                body = b"<html>" if provider.broken else orjson.dumps({"keys": provider.keys})
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.origin = f"http://127.0.0.1:{self.server.server_port}"
        self.url = f"{self.origin}/jwks.json"  # every other path has the same keys
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def add(self, private: Any, kid: str | None, **more: Any) -> None:
        algorithm: Any = jwt.algorithms.RSAAlgorithm
        if isinstance(private, ec.EllipticCurvePrivateKey):
            algorithm = jwt.algorithms.ECAlgorithm
        elif isinstance(private, ed25519.Ed25519PrivateKey):
            algorithm = jwt.algorithms.OKPAlgorithm
        entry = orjson.loads(algorithm.to_jwk(private.public_key()))
        entry.pop("key_ops", None)
        self.keys.append(entry | ({"kid": kid} if kid else {}) | more)


@contextmanager
def providing() -> Iterator[Provider]:
    provider = Provider()
    try:
        yield provider
    finally:
        provider.server.shutdown()
        provider.server.server_close()


class Issuer:
    """An issuer of tokens with one key, which its provider publishes.

    Args:
        algorithm: ES256 or RS256.
        claims: those of every token.
    """

    def __init__(self, provider: Provider, private: Any, algorithm: str, **claims: Any) -> None:
        self._private, self._algorithm, self._claims = private, algorithm, claims
        self._kid = f"key-{len(provider.keys)}"
        provider.add(private, self._kid, alg=algorithm, use="sig")

    def token(self, **claims: Any) -> str:
        """A token that is valid for a minute. A claim that is None is left out."""
        body = {"exp": int(time.time()) + 60, **self._claims, **claims}
        body = {name: value for name, value in body.items() if value is not None}
        headers = {"kid": self._kid}
        return jwt.encode(body, self._private, algorithm=self._algorithm, headers=headers)
