"""Striking out secrets: in log lines, in Stripe's error messages, in stored reasons (design I7)."""

from __future__ import annotations

import re
from collections.abc import Iterable

# Stripe's keys and signing secrets, our own keys, JWTs, and the password in a connection string.
_SHAPES = re.compile(
    r"\b(?P<stripe>(?:sk|rk)_(?:test|live)_)[A-Za-z0-9_]{4,}"
    r"|\b(?P<ours>whsec_|ik_|anon_)[A-Za-z0-9_+/=-]{12,}"
    r"|\b(?P<jwt>eyJ)[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*"
    r"|(?P<dsn>postgres(?:ql)?://[^\s:/@\"']*:)[^\s@\"']+(?=@)"
)
_STRUCK = "****"


def redact(text: str) -> str:
    """`text` with everything that looks like a secret struck out; its kind stays readable."""
    return _SHAPES.sub(_strike, text)


def _strike(match: re.Match[str]) -> str:
    return f"{match[match.lastgroup or 0]}{_STRUCK}"


class Redactor:
    """Strikes out known secrets literally, and everything that looks like one."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        # Longest first, so that a secret inside another one does not leave a rest behind. Very
        # short ones would strike out half of every line; settings refuse those that matter.
        known = sorted({s for s in secrets if len(s) >= 8}, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, known))) if known else None

    def __call__(self, text: str) -> str:
        if self._known is not None:
            text = self._known.sub(_STRUCK, text)
        return redact(text)


def mask(secret: str) -> str:
    """A secret as people may see it: `sk_test_****abcd` (contract section 5, "Set a key")."""
    prefix = re.match(r"(?:[a-z]+_)?(?:test_|live_)?", secret)
    shown = prefix[0] if prefix else ""
    rest = secret[len(shown) :]
    # Four of a short rest would give most of it away.
    return f"{shown}{_STRUCK}{rest[-4:] if len(rest) >= 12 else ''}"
