"""Stripe's signature: who may deliver events."""

from __future__ import annotations

import hmac
from hashlib import sha256

import pytest
import stripe
from hypothesis import given
from hypothesis import strategies as st

from billhook.errors import BillhookError, InvalidInput, Unauthorized
from billhook.stripe import signature
from billhook.stripe.signature import SignatureMismatch

SECRET = "whsec_of_the_tests"
NOW = 1_780_000_000
BODY = b'{"id": "evt_1"}'


def sign(body: bytes = BODY, secret: str = SECRET, at: int = NOW) -> str:
    return hmac.new(secret.encode(), b"%d." % at + body, sha256).hexdigest()


def header(**more: str) -> str:
    parts = {"t": str(NOW), "v1": sign(), **more}
    return ",".join(f"{scheme}={value}" for scheme, value in parts.items())


def verify(body: bytes, given: str | None, secrets: list[str], now: int) -> None:
    signature.verify(body, signature.parse(given, now), secrets)


def test_stripes_own_library_signs_what_we_accept() -> None:
    made = stripe.WebhookSignature.generate_signature_header(BODY.decode(), SECRET, NOW)
    verify(BODY, made, [SECRET], NOW)


def test_any_of_several_secrets_and_signatures_will_do_while_one_is_rolled() -> None:
    rolled = f"t={NOW},v1={sign(secret='whsec_new')},v1={sign()},v0=whatever"
    verify(BODY, rolled, ["whsec_other", SECRET], NOW)
    verify(BODY, rolled, ["whsec_new"], NOW)


@pytest.mark.parametrize("away", [-300, 300])
def test_a_signature_counts_for_five_minutes(away: int) -> None:
    verify(BODY, header(), [SECRET], NOW + away)


@pytest.mark.parametrize("away", [-301, 301, 10**9])
def test_an_old_or_future_signature_is_refused_with_what_to_do(away: int) -> None:
    with pytest.raises(InvalidInput, match="timestamp") as refused:
        verify(BODY, header(), [SECRET], NOW + away)
    assert refused.value.next_actions


@pytest.mark.parametrize("absent", [None, ""])
def test_no_header_is_unauthorized(absent: str | None) -> None:
    with pytest.raises(Unauthorized) as refused:
        verify(BODY, absent, [SECRET], NOW)
    assert (refused.value.status, refused.value.code) == (401, "AUTH_UNAUTHORIZED")
    assert refused.value.next_actions


@pytest.mark.parametrize(
    "malformed",
    [
        "nonsense",
        "t=,v1=a",
        f"t={NOW}",
        "v1=abc",
        "t=now,v1=a",
        "t=１７８,v1=a",
        "t=" + "9" * 40 + ",v1=a",
        "=,=",
    ],
)
def test_a_malformed_header_is_refused(malformed: str) -> None:
    with pytest.raises(InvalidInput, match="malformed"):
        verify(BODY, malformed, [SECRET], NOW)


@pytest.mark.parametrize(
    ("body", "given_header", "secrets"),
    [
        (BODY + b" ", header(), [SECRET]),
        (BODY, header(), ["whsec_other"]),
        (BODY, header(), []),
        (BODY, header(v1=sign()[:-1]), [SECRET]),
        (BODY, header(v1="ü"), [SECRET]),
        (BODY, header().replace("v1", "v0"), [SECRET]),
        (BODY, header(t=str(NOW + 1)), [SECRET]),
    ],
)
def test_what_was_not_signed_with_our_secret_is_refused(
    body: bytes, given_header: str, secrets: list[str]
) -> None:
    with pytest.raises(InvalidInput) as refused:
        verify(body, given_header, secrets, NOW)
    assert refused.value.status == 400
    assert SECRET not in refused.value.message


def test_a_mismatch_can_be_told_from_a_malformed_header() -> None:
    with pytest.raises(SignatureMismatch):
        verify(BODY, header(), ["whsec_other"], NOW)


@given(st.text(), st.binary())
def test_no_header_whatsoever_gets_through_or_crashes(text: str, body: bytes) -> None:
    with pytest.raises(BillhookError):
        verify(body, text, [SECRET], NOW)
