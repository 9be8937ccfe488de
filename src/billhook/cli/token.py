"""`billhook token`: a user token for development, signed with `JWT_SECRET`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

import typer

from billhook.cli.dev_run import server_settings
from billhook.cli.duration import parse_duration
from billhook.cli.output import note
from billhook.errors import BillhookError, SettingsError

_WITHOUT_DATABASE = {"DATABASE_URL": "postgresql:///unused"}
_PATIENCE = 3.0
"""Seconds for the database: without it, the warning is only less exact."""


def token(
    sub: Annotated[str, typer.Option(help="The user's id. For auth.uid(), it must be a UUID.")],
    email: Annotated[str | None, typer.Option(help="The user's email address.")] = None,
    role: Annotated[
        str, typer.Option(help="anon, authenticated or project_admin.")
    ] = "authenticated",
    claims: Annotated[
        str | None,
        typer.Option(
            help='Additional claims for your policies, as JSON, such as \'{"org_id": "org_7"}\'.'
        ),
    ] = None,
    expires: Annotated[str, typer.Option(help="Lifetime, such as 15m, 1h or 30d.")] = "1h",
) -> None:
    """Print a token for testing, like the tokens that your app issues to its users."""
    from billhook.postgres import ROLES

    if role not in ROLES:
        raise typer.BadParameter(f"must be one of {', '.join(sorted(ROLES))}", param_hint="--role")
    lifetime = parse_duration(expires)
    more = _parsed(claims)
    # Only the secret is needed: a token can be created without a database.
    settings = server_settings(**_WITHOUT_DATABASE)
    secret = settings.jwt_secret.get_secret_value()
    if role == "authenticated" and not _is_uuid(sub):
        _warn_where_a_uuid_is_needed(sub)
    print(mint(secret, sub, email, role, lifetime.total_seconds(), more=more))


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True


def _warn_where_a_uuid_is_needed(sub: str) -> None:
    """On standard error. Where the policies cannot be read, it says what to look for."""
    import asyncpg

    try:
        url = server_settings().database_url.get_secret_value()
        names = asyncio.run(_policies_that_need_uuids(url))
    except (SettingsError, BillhookError, OSError, asyncpg.PostgresError, TimeoutError):
        names = None
    if names is None:
        note(
            f"Warning: {sub} is not a UUID. Policies that use auth.uid() raise an error for such a "
            "user: compare with auth.jwt() ->> 'sub' instead."
        )
    elif names:
        note(
            f"Warning: {sub} is not a UUID, but these policies use auth.uid(), which raises an "
            f"error for it: {', '.join(names)}. Use a UUID, or compare with auth.jwt() ->> 'sub'."
        )


async def _policies_that_need_uuids(url: str) -> list[str]:
    from billhook.access.policies import policies_that_need_uuids
    from billhook.postgres import Database

    async with asyncio.timeout(_PATIENCE):
        database = Database(url, pool_size=1)
        await database.open()
        try:
            return await policies_that_need_uuids(database)
        finally:
            await database.close()


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
