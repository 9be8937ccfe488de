"""The `Stripe-Signature` header, and signing secrets (stripe-facts 34, 36)."""

import hashlib
import hmac
from collections.abc import Sequence

from billhook_sandbox.store import DataSet, Json


def signature_header(secrets: Sequence[str], body: bytes, timestamp: int, livemode: bool) -> str:
    """One `v1` per valid secret. Test mode adds a `v0`, which receivers must ignore."""
    signed = f"{timestamp}.".encode() + body
    schemes = [f"v1={digest(secret.encode(), signed)}" for secret in secrets]
    if not livemode:
        schemes.append(f"v0={digest(b'v0', signed)}")
    return ",".join([f"t={timestamp}", *schemes])


def digest(key: bytes, signed: bytes) -> str:
    return hmac.new(key, signed, hashlib.sha256).hexdigest()


def valid_secrets(data: DataSet, endpoint: str) -> list[str]:
    """The current secret, then rolled secrets that have not expired."""
    stored = data.need("_signing_secret", endpoint)
    rolled = stored.get("rolled", ())
    now = data.clock.exact()
    return [stored["secret"], *(each["secret"] for each in rolled if each["expires_at"] > now)]


def roll_secret(data: DataSet, endpoint: Json, overlap_seconds: float) -> str:
    """A new secret; the old one stays valid for `overlap_seconds`, so that receivers can switch."""
    stored = data.need("_signing_secret", endpoint["id"])
    expires_at = data.clock.exact() + overlap_seconds
    rolled = [{"secret": stored["secret"], "expires_at": expires_at}, *stored.get("rolled", ())]
    secret = data.ids.signing_secret()
    data.put({**stored, "secret": secret, "rolled": rolled})
    return secret
