"""The credentials of the HTTP tests."""

from __future__ import annotations

import hashlib
import hmac
import time
from typing import Any

import jwt

JWT_SECRET = "the JWT secret of the tests, long enough"
SIGNING_SECRET = "whsec_of_the_tests"
ADMIN_KEY = "ik_" + "a" * 48
ANONYMOUS_KEY = "anon_" + "b" * 48
USER = "11111111-1111-4111-8111-111111111111"


def token(sub: str | None = USER, *, secret: str = JWT_SECRET, **claims: Any) -> str:
    body = {"role": "authenticated", "exp": int(time.time()) + 600, **claims}
    return jwt.encode(body | ({"sub": sub} if sub else {}), secret, algorithm="HS256")


def signature(body: bytes, *, secret: str = SIGNING_SECRET, at: float | None = None) -> str:
    stamp = int(at if at is not None else time.time())
    digest = hmac.new(secret.encode(), f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={stamp},v1={digest}"
