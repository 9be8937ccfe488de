"""The formats of Stripe's keys, signing secrets and our own keys, and common mistakes. Values are
copied through files, dashboards and shells, and may be surrounded by line breaks, spaces, quotes or
a byte-order mark. No secret contains those, so they are removed. If the rest is not valid, it is
rejected, with a reason that never quotes it.
"""

from __future__ import annotations

import re
from typing import Literal

_INVISIBLE = "\ufeff\u200b\u200c\u200d\u2060"
_QUOTES = {'"': '"', "'": "'", "`": "`", "“": "”", "‘": "’"}

_VISIBLE_ASCII = re.compile(r"[!-~]+")  # a key is sent in a header
_SIGNING_SECRET = re.compile(r"whsec_[A-Za-z0-9+/=_-]+")
_SEPARATORS = re.compile(r"[\s,;]+")
_STRIPE_PREFIXES = ("sk_", "rk_", "pk_", "whsec_", "acct_")

_PLACEHOLDER = re.compile(
    r"change[-_ .]?(?:me|it|this|in)|your[-_ ].*(?:key|secret)|super[-_ ]?secret|reallyreally"
    r"|placeholder|example|password|string[-_ ]secret|at[-_ ]least|replace[-_ ](?:me|this|with)"
    r"|insert[-_ ]|256[-_ ]?bit|0123456789|123456789|abcdefgh|qwerty|asdfgh",
    re.IGNORECASE,
)
SHORTEST_SECRET = 32
"""Characters that JWT_SECRET and ENCRYPTION_KEY must have."""
SHORTEST_API_KEY = 16
"""Characters that ACCESS_API_KEY and ACCESS_ANON_KEY must have after their prefix."""
_FEWEST_DIFFERENT = 8


def trimmed(text: str) -> str:
    """`text` without white space, invisible characters and paired quotes around it."""
    while True:
        shorter = text.strip().strip(_INVISIBLE)
        if len(shorter) >= 2 and _QUOTES.get(shorter[0]) == shorter[-1]:
            shorter = shorter[1:-1]
        if shorter == text:
            return text
        text = shorter


def problem_of_stripe_key(environment: Literal["test", "live"], key: str) -> str | None:
    """Why `key` cannot be the secret or restricted key of `environment`: a phrase that begins with
    a verb ("is a publishable key …"); None if it can be."""
    other = "live" if environment == "test" else "test"
    if key.startswith("pk_"):
        return "is a publishable key (pk_…); Billhook needs a secret key"
    if key.startswith("whsec_"):
        return "is a webhook signing secret (whsec_…); Billhook needs a secret key"
    if key.startswith((f"sk_{other}_", f"rk_{other}_")):
        return f"is a {other} key, but the environment is {environment}"
    fits = key.startswith((f"sk_{environment}_", f"rk_{environment}_"))
    if not fits:
        return "is not a Stripe secret key"
    if not _VISIBLE_ASCII.fullmatch(key):
        return "contains white space or invalid characters"
    return None


def signing_secrets(text: str) -> tuple[str, ...]:
    """The signing secrets in a list that commas or white space separate.

    Raises:
        ValueError: one of them is not a signing secret. The reason does not quote it.
    """
    parts = tuple(dict.fromkeys(filter(None, map(trimmed, _SEPARATORS.split(text)))))
    for part in parts:
        if _SIGNING_SECRET.fullmatch(part):
            continue
        kind = next((prefix for prefix in _STRIPE_PREFIXES if part.startswith(prefix)), None)
        if kind == "whsec_":
            reason = "contains an incomplete or invalid signing secret"
        elif kind is not None:
            reason = f"contains a value that begins with {kind}, which is not a signing secret"
        else:
            reason = "contains a value that is not a signing secret"
        raise ValueError(
            f"{reason}; it needs the endpoint's signing secret (whsec_…), or several, separated "
            "by commas"
        )
    return parts


def weakness_of(secret: str) -> str | None:
    """Why a secret of JWT_SECRET's or ENCRYPTION_KEY's kind is too weak: a phrase that begins with
    a verb; None when it is not."""
    if len(secret) < SHORTEST_SECRET:
        return f"must have at least {SHORTEST_SECRET} characters"
    return why_guessable(secret)


def why_guessable(secret: str) -> str | None:
    """Why a secret of any length is easy to guess, as `weakness_of`. Of API keys, pass what follows
    the prefix."""
    # Random hexadecimal strings of half this length would have fewer distinct digits.
    if len(set(secret)) < min(_FEWEST_DIFFERENT, len(secret) // 4) or _repeats(secret):
        return "is repetitive, so it is easy to guess"
    if _PLACEHOLDER.search(secret):
        return "looks like a placeholder, so it is easy to guess"
    return None


def _repeats(key: str) -> bool:
    """Whether it is a short text repeated over and over, the last time possibly truncated."""
    return any(
        key == (key[:length] * (len(key) // length + 1))[: len(key)]
        for length in range(1, min(SHORTEST_SECRET, len(key)) // 2 + 1)
    )
