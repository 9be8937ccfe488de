"""`billhook token`: a user token for development, signed with `JWT_SECRET`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated

import typer

from billhook.cli.dev_run import server_settings
from billhook.cli.duration import parse_duration


def token(
    sub: Annotated[str, typer.Option(help="The user's id; auth.uid() needs a UUID.")],
    email: Annotated[str | None, typer.Option(help="The user's email address.")] = None,
    role: Annotated[
        str, typer.Option(help="anon, authenticated or project_admin.")
    ] = "authenticated",
    claims: Annotated[
        str | None,
        typer.Option(
            help='Additional claims for your policies as JSON, such as \'{"org_id": "org_7"}\'.'
        ),
    ] = None,
    expires: Annotated[str, typer.Option(help="Lifetime, such as 15m, 1h or 30d.")] = "1h",
) -> None:
    """Print a token for testing, like those that your app's sign-in issues to its users."""
    from billhook.postgres import ROLES

    if role not in ROLES:
        raise typer.BadParameter(f"must be one of {', '.join(sorted(ROLES))}", param_hint="--role")
    lifetime = parse_duration(expires)
    more = _parsed(claims)
    # Only the secret is needed: a token can be created without a database.
    settings = server_settings(DATABASE_URL="postgresql:///unused")
    secret = settings.jwt_secret.get_secret_value()
    print(mint(secret, sub, email, role, lifetime.total_seconds(), more=more))


def _parsed(claims: str | None) -> dict[str, object]:
    try:
        found = json.loads(claims or "{}")
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise typer.BadParameter("must be a JSON object", param_hint="--claims")
    return found


def mint(
    secret: str,
    sub: str,
    email: str | None,
    role: str,
    lifetime: float,
    now: float | None = None,
    more: Mapping[str, object] | None = None,
) -> str:
    """An HS256 token.

    Args:
        lifetime: seconds until it expires.
        now: Unix time; the clock's when None.
        more: other claims; the other arguments take precedence.
    """
    import jwt

    issued = int(now if now is not None else datetime.now(UTC).timestamp())
    claims: dict[str, object] = {**(more or {}), "sub": sub, "role": role, "iat": issued}
    claims["exp"] = issued + int(lifetime)
    if email is not None:
        claims["email"] = email
    return jwt.encode(claims, secret, algorithm="HS256")
