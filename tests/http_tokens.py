"""The credentials of the HTTP tests."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from typing import Any

import jwt

JWT_SECRET = "the JWT secret of the tests, long enough"
SIGNING_SECRET = "whsec_of_the_tests"
ADMIN_KEY = "ik_" + hashlib.sha256(b"admin key").hexdigest()[:48]
ANONYMOUS_KEY = "anon_" + hashlib.sha256(b"anonymous key").hexdigest()[:48]
USER = "11111111-1111-4111-8111-111111111111"


def token(sub: str | None = USER, *, secret: str = JWT_SECRET, **claims: Any) -> str:
    """A user's token, valid for as long as the longest test run: parameters of tests hold some."""
    body = {"role": "authenticated", "exp": int(time.time()) + 24 * 3600, **claims}
    return jwt.encode(body | ({"sub": sub} if sub else {}), secret, algorithm="HS256")


def signature(body: bytes, *, secret: str = SIGNING_SECRET, at: float | None = None) -> str:
    stamp = int(at if at is not None else time.time())
    digest = hmac.new(secret.encode(), f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={stamp},v1={digest}"


def raw_token(payload: str, secret: str = JWT_SECRET) -> str:
    """A signed token with exactly this payload, also where no JSON library would write it."""
    parts = (b'{"alg":"HS256"}', payload.encode("utf-8", "surrogatepass"))
    signed = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    mac = hmac.new(secret.encode(), signed, "sha256").digest()
    return (signed + b"." + base64.urlsafe_b64encode(mac).rstrip(b"=")).decode()


ODD_CLAIMS = [
    r'"x": "a\u0000b"',
    r'"a\u0000b": 1',
    r'"x": "\ud800"',
    r'"\udfff": 1',
    r'"x": {"y": ["z", {"\ud800": 1}]}',
    '"x": "\ud800"',
    '"x": 1e999',
    '"x": -1e999',
    '"x": NaN',
    '"x": Infinity',
    f'"x": {"9" * 5000}',
    f'"x": {"[" * 100}{"]" * 100}',
    f'"x": {"[" * 50_000}{"]" * 50_000}',
    f'"x": {"{" + chr(34) + "a" + chr(34) + ":"}' * 200,
    r'"email": "a\u0000b@c.test"',
    r'"email": "\ud800@c.test"',
    r'"role": "\ud800"',
    '"exp": 1e999',
    '"exp": NaN',
    '"nbf": 1e999',
    '"aud": 1e999',
]
