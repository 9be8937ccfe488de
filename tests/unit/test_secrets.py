"""How secrets are encrypted: what can be read, by whom, and what an attacker can do with a row."""

from __future__ import annotations

import base64
import os
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from billhook.access.secrets import Cipher, StoredSecret, mask
from billhook.errors import SecretUnreadable

NAME = "STRIPE_TEST_SECRET_KEY"
VALUE = "sk_test_51PlantedSecretValue"


def insforge(value: str, key: str) -> str:
    nonce = os.urandom(16)
    sealed = AESGCM(sha256(key.encode()).digest()).encrypt(nonce, value.encode(), None)
    return f"{nonce.hex()}:{sealed[-16:].hex()}:{sealed[:-16].hex()}"


@given(st.text(min_size=0, max_size=300))
def test_what_was_encrypted_can_be_read_again(value: str) -> None:
    cipher = Cipher("key")
    assert cipher.decrypt(NAME, cipher.encrypt(NAME, value)) == value


def test_the_ciphertext_tells_its_version_and_key_and_nothing_else() -> None:
    cipher = Cipher("key")
    first, second = cipher.encrypt(NAME, VALUE), cipher.encrypt(NAME, VALUE)
    version, key_id, sealed = first.split(".")
    assert (version, key_id) == ("bh1", cipher.key_id)
    assert first != second
    assert VALUE.encode() not in base64.urlsafe_b64decode(sealed + "==")


def test_a_key_added_later_still_reads_what_the_earlier_one_wrote() -> None:
    earlier = Cipher("jwt secret")
    written = earlier.encrypt(NAME, VALUE)
    now = Cipher("encryption key", "jwt secret")
    assert now.decrypt(NAME, written) == VALUE
    assert not now.is_current(NAME, written)
    assert now.is_current(NAME, now.encrypt(NAME, VALUE))


def test_a_secret_cannot_be_passed_off_as_another() -> None:
    cipher = Cipher("key")
    with pytest.raises(SecretUnreadable):
        cipher.decrypt("STRIPE_LIVE_SECRET_KEY", cipher.encrypt(NAME, VALUE))


def test_an_unknown_key_is_named_with_the_secret_but_never_the_value() -> None:
    written = Cipher("another key").encrypt(NAME, VALUE)
    with pytest.raises(SecretUnreadable, match=NAME) as refused:
        Cipher("key").decrypt(NAME, written)
    told = f"{refused.value.message} {refused.value.next_actions}"
    assert "ENCRYPTION_KEY" in told
    assert VALUE not in told
    assert written not in told


@pytest.mark.parametrize(
    "garbage",
    [
        "",
        "x",
        "bh1.",
        "bh1..",
        "a:b:c",
        "bh1.{id}.",
        "bh1.{id}.%%%",
        "bh1.{id}.AAAA",
        "bh2.{id}.AAAA",
    ],
)
def test_garbage_is_refused_and_named(garbage: str) -> None:
    cipher = Cipher("key")
    with pytest.raises(SecretUnreadable, match=NAME):
        cipher.decrypt(NAME, garbage.format(id=cipher.key_id))


@given(st.integers(0, 60), st.integers(1, 255))
def test_a_changed_byte_is_noticed(position: int, change: int) -> None:
    cipher = Cipher("key")
    prefix, key_id, sealed = cipher.encrypt(NAME, VALUE).split(".")
    raw = bytearray(base64.urlsafe_b64decode(sealed + "=" * (-len(sealed) % 4)))
    raw[position % len(raw)] ^= change
    tampered = f"{prefix}.{key_id}.{base64.urlsafe_b64encode(raw).decode().rstrip('=')}"
    with pytest.raises(SecretUnreadable):
        cipher.decrypt(NAME, tampered)


@pytest.mark.parametrize("key", ["encryption key", "jwt secret"])
def test_insforges_format_is_read_with_either_key(key: str) -> None:
    cipher = Cipher("encryption key", "jwt secret")
    assert cipher.decrypt(NAME, insforge(VALUE, key)) == VALUE
    assert cipher.decrypt(NAME, insforge(VALUE, key).upper()) == VALUE
    assert cipher.decrypt(NAME, insforge("", key)) == ""


def test_insforges_secret_under_a_foreign_key_is_refused_and_named() -> None:
    with pytest.raises(SecretUnreadable, match=NAME):
        Cipher("key").decrypt(NAME, insforge(VALUE, "foreign"))


def test_a_stored_secret_does_not_print_its_value() -> None:
    assert VALUE not in repr(StoredSecret(NAME, VALUE, None))


@pytest.mark.parametrize(
    ("secret", "shown"),
    [
        ("sk_test_51PlantedSecretabcd", "sk_test_****abcd"),
        ("rk_live_51PlantedSecretabcd", "rk_live_****abcd"),
        ("ik_0123456789abcdef", "ik_****cdef"),
        ("whsec_0123456789abcdef", "whsec_****cdef"),
        ("sk_test_short", "sk_test_****"),
        ("0123456789abcdef", "****cdef"),
        ("", "****"),
    ],
)
def test_a_masked_key_can_be_recognised_but_not_used(secret: str, shown: str) -> None:
    assert mask(secret) == shown
