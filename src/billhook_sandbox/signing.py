"""The `Stripe-Signature` of a delivery, and the secrets that sign it (stripe-facts 34, 36)."""

import hashlib
import hmac
from collections.abc import Sequence

from billhook_sandbox.store import DataSet, Json


def signature_header(secrets: Sequence[str], body: bytes, moment: int, livemode: bool) -> str:
    """One `v1` per valid secret; test mode carries a `v0` besides, which receivers must ignore."""
    signed = f"{moment}.".encode() + body
    schemes = [f"v1={digest(secret.encode(), signed)}" for secret in secrets]
    if not livemode:
        schemes.append(f"v0={digest(b'v0', signed)}")
    return ",".join([f"t={moment}", *schemes])


def digest(key: bytes, signed: bytes) -> str:
    return hmac.new(key, signed, hashlib.sha256).hexdigest()


def valid_secrets(data: DataSet, endpoint: str) -> list[str]:
    """The newest first; a rolled one signs on until it expires."""
    known = data.need("_signing_secret", endpoint)
    old = known.get("rolled", ())
    return [known["secret"], *(o["secret"] for o in old if o["expires_at"] > data.clock.exact())]


def roll_secret(data: DataSet, endpoint: Json, overlap_seconds: float) -> str:
    """A new secret; the old one stays valid for a while, so that a receiver can change over."""
    known = data.need("_signing_secret", endpoint["id"])
    until = data.clock.exact() + overlap_seconds
    rolled = [{"secret": known["secret"], "expires_at": until}, *known.get("rolled", ())]
    secret = data.ids.signing_secret()
    data.put({**known, "secret": secret, "rolled": rolled})
    return secret
