"""The signature on Stripe's webhooks, checked without building SDK objects (stripe-facts 34)."""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256

from billhook.errors import InvalidInput, Unauthorized

TOLERANCE = 300
"""Seconds that a signature may differ from the local clock, as in Stripe's own libraries."""

_LONGEST_HEADER = 4_000  # characters: Stripe sends a signature for each of at most a few secrets


class SignatureMismatch(InvalidInput):
    """400: well-formed and recent, but signed with none of the known secrets."""


@dataclass(frozen=True, slots=True)
class SignatureHeader:
    """A `Stripe-Signature` header: when it was signed (Unix seconds), and the v1 signatures."""

    timestamp: int
    signatures: tuple[str, ...]


def parse(header: str | None, now: float, tolerance: int = TOLERANCE) -> SignatureHeader:
    """Read a `Stripe-Signature` header and check its age: everything that can be checked without
    the body. Schemes other than v1 are ignored.

    Args:
        now: Unix time in seconds.
        tolerance: seconds.

    Raises:
        Unauthorized: there is no header (contract section 3.1).
        InvalidInput: it is malformed, too old, or from the future.
    """
    if not header:
        raise Unauthorized(
            "The request has no stripe-signature header.",
            next_actions="Only Stripe may call this URL. Register it as a webhook endpoint in "
            "your Stripe account; to test it, use `stripe trigger` or the sandbox.",
        )
    timestamp: int | None = None
    signatures: list[str] = []
    for item in header[:_LONGEST_HEADER].split(","):
        scheme, _, value = item.strip().partition("=")
        # isdecimal() alone would accept digits of other alphabets, and numbers of any length.
        if scheme == "t" and value.isascii() and value.isdecimal() and len(value) <= 12:
            timestamp = int(value)
        elif scheme == "v1" and value.isascii():
            signatures.append(value)
    if timestamp is None or not signatures or len(header) > _LONGEST_HEADER:
        raise InvalidInput(
            "The stripe-signature header is malformed: it needs t=<unix time>,v1=<signature>.",
            next_actions="If there is a proxy in front of Billhook, it must not change the header.",
        )
    if abs(now - timestamp) > tolerance:
        raise InvalidInput(
            f"The webhook signature's timestamp is more than {tolerance} seconds away from now.",
            next_actions="Stripe signs each retry again, so wait for the next one; if all are "
            "rejected, correct this server's clock.",
        )
    return SignatureHeader(timestamp, tuple(signatures))


def verify(payload: bytes, header: SignatureHeader, secrets: Iterable[str]) -> list[str]:
    """Check that `payload` was signed with one of `secrets`. Returns those that it was signed with.

    Args:
        payload: the body, byte for byte as received.
        header: it contains several signatures while a secret is rolled.
        secrets: every secret that is valid now.

    Raises:
        SignatureMismatch: none of the secrets fits.
    """
    signed = b"%d." % header.timestamp + payload
    # No early exit: the duration must not reveal which secret or signature was close.
    used = []
    for secret in secrets:
        expected = hmac.new(secret.encode(), signed, sha256).hexdigest()
        matches = False
        for signature in header.signatures:
            matches |= hmac.compare_digest(expected, signature)
        if matches:
            used.append(secret)
    if not used:
        raise SignatureMismatch(
            "The webhook signature does not match any known signing secret.",
            next_actions="Compare the endpoint's signing secret (whsec_…) in your Stripe account "
            "with the one set here, and make sure that nothing changes the body in transit.",
        )
    return used
