"""Redaction: secrets are removed from log lines, Stripe's error messages and stored reasons.

The text may come from a stranger, so redaction takes linear time: a pattern consumes everything
that it looks at, whether or not there is anything to hide in it, and no character is read again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from string import ascii_letters, digits
from urllib.parse import quote

_STRUCK = "****"

# A key begins after anything but a letter or a digit, unless that ends an escape of JSON or a URL.
_START = r"(?:(?<![A-Za-z0-9])|(?<=\\[bfnrt])|(?<=\\u[0-9a-f]{4})|(?<=%[0-9A-Fa-f]{2}))"
# Stripe's keys and signing secrets, our own keys, JWTs (also cut ones), and passwords by name.
# No pattern takes a quote or a backslash: a line of JSON stays one.
_TOKENS = re.compile(
    _START + r"(?:(?P<stripe>[sr]k_(?:test|live)_)[A-Za-z0-9_]{4,}"
    r"|(?P<ours>whsec_|ik_|anon_)[A-Za-z0-9_+/=-]{12,}"
    r"|(?P<jwt>eyJ)[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*){0,2}"
    r"|(?P<password>(?i:password|passwd|pwd)=)(?:'[^'\"\\]*|[^\s&\"'\\]+))"
)
# In a database's address everything up to the last @ may be the password: people forget to
# escape it. In other addresses it ends where the next part of the URL begins.
_ADDRESSES = re.compile(
    r"\b(?P<database>postgres(?:ql)?(?:\+[a-z0-9]{1,20})?://[^\s:/@\"'\\]*:)"
    r"(?P<rest>[^\s\"'\\]*)"
    r"|(?P<url>://[^\s:/?#@\"'\\]*:)[^\s/?#@\"'\\]*(?=@)",
    re.IGNORECASE,
)
_PORT = re.compile(r"\d{1,5}(?![^/?,;)])")

LONGEST = 10_000
"""Characters of a message that are kept."""
_LONGEST_KEY = 512
_KEY_CHARACTERS = f"{ascii_letters}{digits}_+/=.-"


def redact(text: str) -> str:
    """`text` without anything that looks like a secret; its kind stays readable. A text longer than
    any message is cut first."""
    return _redact(shorten(text))


def shorten(text: str, longest: int = LONGEST) -> str:
    """The beginning of a text that is too long. It never ends within a key: half of one would not
    be recognized."""
    if len(text) <= longest:
        return text
    kept = max(longest - _LONGEST_KEY, 0)
    return f"{text[:kept]}{text[kept:longest].rstrip(_KEY_CHARACTERS)} …"


def _redact(text: str) -> str:
    return _ADDRESSES.sub(_redact_address, _TOKENS.sub(_redact_token, text))


def _redact_token(match: re.Match[str]) -> str:
    return f"{match[match.lastgroup or 0]}{_STRUCK}"


def _redact_address(match: re.Match[str]) -> str:
    if match["url"] is not None:
        return f"{match['url']}{_STRUCK}"
    _, at, host = match["rest"].rpartition("@")
    if not at and _PORT.match(match["rest"]):
        return match[0]  # a host and its port
    return f"{match['database']}{_STRUCK}{at}{host if at else ''}"


class Redactor:
    """Removes known secrets, however they are escaped, and everything that looks like one."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        # Longest first: a secret inside another one must not leave a rest behind. Very short ones
        # would remove half of every line; settings refuse those that matter.
        known = {form for secret in secrets if len(secret) >= 8 for form in _forms(secret)}
        self._known = sorted(known, key=len, reverse=True)

    def __call__(self, text: str) -> str:
        for secret in self._known:
            text = text.replace(secret, _STRUCK)
        return _redact(text)


def _forms(secret: str) -> Iterator[str]:
    """How a secret may be written: as it is, in a URL, in a traceback, in a line of JSON."""
    for written in (secret, quote(secret), quote(secret, safe=""), repr(secret)[1:-1]):
        yield written
        yield json.dumps(written)[1:-1]
        yield json.dumps(written, ensure_ascii=False)[1:-1]


def mask(secret: str) -> str:
    """A secret as people may see it: `sk_test_****abcd` (contract section 5, "Set a key")."""
    prefix = re.match(r"(?:[a-z]+_)?(?:test_|live_)?", secret)
    shown = prefix[0] if prefix else ""
    rest = secret[len(shown) :]
    # Four of a short rest would give most of it away.
    return f"{shown}{_STRUCK}{rest[-4:] if len(rest) >= 12 else ''}"
