"""Checks of the settings."""

from __future__ import annotations

from collections.abc import AsyncIterator

from billhook.access.api_keys import ApiKeys
from billhook.access.jwks import FETCH_ERRORS, Jwks
from billhook.access.secrets import SecretStore
from billhook.doctor.finding import Finding, State
from billhook.settings import ANY_AUDIENCE, Settings


def ineffective(notice: str) -> Finding:
    """A setting that has no effect."""
    return Finding(check="settings", state="warning", message=notice)


async def jwks(settings: Settings, url: str) -> Finding:
    """Whether tokens of the identity provider can be verified, and which tokens are accepted."""
    keys = Jwks(url)
    try:
        found = await keys.fetch()
    except FETCH_ERRORS as error:
        return _jwks(
            "broken",
            f"The JWKS at {url} cannot be fetched ({type(error).__name__}), so no token of the "
            "identity provider is accepted.",
            "Open the URL from this machine, and check BILLHOOK_JWKS_URL.",
        )
    finally:
        await keys.close()
    unusable = f"; unusable: {', '.join(found.unusable)}" if found.unusable else ""
    if not found.keys:
        return _jwks(
            "broken",
            f"The JWKS at {url} has no usable keys{unusable}.",
            "Configure the identity provider to sign with RS256, ES256 or EdDSA (Ed25519).",
        )
    count = len(found.keys)
    usable = f"The JWKS has {count} usable key{'' if count == 1 else 's'}{unusable}"
    if settings.jwt_audience == ANY_AUDIENCE:
        issuer = f" of {settings.jwt_issuer}" if settings.jwt_issuer else ""
        return _jwks(
            "warning",
            f"{usable}. Tokens that it signs for any application{issuer} are accepted, with any "
            "role in them.",
            "If the identity provider serves other applications too, set BILLHOOK_JWT_AUDIENCE to "
            "the audience (aud) of this one.",
        )
    return _jwks("warning" if unusable else "ok", f"{usable}.")


def _jwks(state: State, message: str, next_actions: str | None = None) -> Finding:
    return Finding(check="jwks", state=state, message=message, next_actions=next_actions)


async def adopted_keys(keys: ApiKeys) -> AsyncIterator[Finding]:
    """InsForge's keys that are easy to guess, such as those of its `.env.example`."""
    for name in await keys.guessable():
        yield Finding(
            check="api keys",
            state="warning",
            message=f"InsForge's stored key {name} is easy to guess. Billhook does not accept it, "
            "but InsForge does.",
            next_actions="Replace it in InsForge, or create one for Billhook alone: "
            "billhook keys create --help",
        )


async def encryption(secrets: SecretStore, settings: Settings) -> Finding:
    """Whether all stored secrets can be read, and whether a previous key is still needed."""
    examined = await secrets.examine()
    if examined.unreadable:
        return _encryption(
            "broken",
            f"Stored secrets cannot be read: {', '.join(examined.unreadable)}.",
            "Set ENCRYPTION_KEY_PREVIOUS to the key that they were encrypted with and restart "
            "Billhook, or set the secrets again.",
        )
    if examined.earlier:
        return _encryption(
            "warning",
            f"{examined.earlier} stored secrets are encrypted with a previous key.",
            "Restart Billhook: at startup it encrypts them with the current key.",
        )
    if settings.previous_encryption_key is not None:
        return _encryption(
            "warning",
            "All stored secrets are encrypted with the current key.",
            "ENCRYPTION_KEY_PREVIOUS is no longer needed: remove it.",
        )
    return _encryption("ok", "All stored secrets can be read.")


def _encryption(state: State, message: str, next_actions: str | None = None) -> Finding:
    return Finding(check="encryption", state=state, message=message, next_actions=next_actions)
