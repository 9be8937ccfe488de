"""Sign-in sessions, stored in PostgreSQL.

A session is a random cookie; only its hash is stored. It ends after twelve hours, with the token or
the admin key that opened it, or when its owner signs out.
"""

from __future__ import annotations

import hmac
import secrets as random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Literal

from billhook.access.api_keys import ApiKeys, hash_of
from billhook.access.auth import Auth, Caller, Credential
from billhook.access.permissions import Grant
from billhook.models import WireModel
from billhook.postgres import Database
from billhook.settings import Settings

LIFETIME = timedelta(hours=12)

_OPEN = """
INSERT INTO billhook.dashboard_sessions (token_hash, key_hash, who, expires_at)
VALUES ($1, $2, $3, $4)
"""
_SWEEP = "DELETE FROM billhook.dashboard_sessions WHERE expires_at < now()"
_FIND = """
SELECT who, key_hash, expires_at, notice FROM billhook.dashboard_sessions
WHERE token_hash = $1 AND expires_at > now()
"""
_NOTE = "UPDATE billhook.dashboard_sessions SET notice = $2 WHERE token_hash = $1"
_SAID = """
UPDATE billhook.dashboard_sessions SET notice = NULL WHERE token_hash = $1 AND notice = $2
"""
_CLOSE = "DELETE FROM billhook.dashboard_sessions WHERE token_hash = $1"


class Notice(WireModel):
    """The result of the last action, which the next page shows at the top."""

    kind: Literal["done", "error"]
    text: str
    next_actions: str | None = None


@dataclass(frozen=True, slots=True)
class Session:
    """A signed-in administrator.

    Attributes:
        who: the name to show: the masked key, or the token's email or subject.
        grant: what they may do.
        csrf: the token of each form, so that no other site can send it.
        notice: see `Notice`; it is shown once.
    """

    token_hash: bytes
    who: str
    grant: Grant
    csrf: str
    expires_at: datetime
    notice: Notice | None = None


class Sessions:
    """Opens, finds and closes sessions."""

    def __init__(
        self, database: Database, auth: Auth, api_keys: ApiKeys, settings: Settings
    ) -> None:
        self._database = database
        # Changing the secret that tokens are signed with ends all sessions.
        self._secret = settings.jwt_secret.get_secret_value().encode()
        self._auth = auth
        self._api_keys = api_keys

    async def open(self, credential: Credential | None, who: str) -> str:
        """Sign in with an admin key or a `project_admin` token.

        Args:
            who: the name to show if the credential does not contain one.

        Returns:
            The cookie's value.

        Raises:
            BillhookError: 401 or 403, as on the API's admin routes.
        """
        caller = await self._auth.administrator(credential)
        assert credential is not None
        token = random.token_urlsafe(32)
        is_key = credential.kind == "api_key"
        async with self._database.as_service() as connection:
            await connection.execute(_SWEEP)
            await connection.execute(
                _OPEN,
                self._hash(token),
                hash_of(credential.value) if is_key else None,
                caller.email or caller.user_id or who,
                _ends(caller),
            )
        return token

    async def find(self, token: str | None) -> Session | None:
        """The session of a cookie, while it lasts."""
        if not token:
            return None
        async with self._database.connection() as connection:
            row = await connection.fetchrow(_FIND, self._hash(token))
        if row is None:
            return None
        grant: Grant | None = Grant(row["who"])
        if row["key_hash"] is not None:
            grant = await self._api_keys.grant("admin", row["key_hash"])
        if grant is None:
            return None
        return Session(
            token_hash=self._hash(token),
            who=row["who"],
            grant=grant,
            csrf=_csrf(token),
            expires_at=row["expires_at"],
            notice=Notice.model_validate(row["notice"]) if row["notice"] else None,
        )

    async def note(self, session: Session, notice: Notice) -> None:
        """Show `notice` on the next page."""
        await self._database.execute(_NOTE, session.token_hash, notice.model_dump(by_alias=True))

    async def said(self, session: Session, notice: Notice) -> None:
        """Remove a notice that was shown, unless another one has replaced it."""
        await self._database.execute(_SAID, session.token_hash, notice.model_dump(by_alias=True))

    async def close(self, session: Session) -> None:
        """Sign out."""
        await self._database.execute(_CLOSE, session.token_hash)

    def _hash(self, token: str) -> bytes:
        return hmac.new(self._secret, token.encode(), sha256).digest()


def _ends(caller: Caller) -> datetime:
    latest = datetime.now(UTC) + LIFETIME
    return min(latest, caller.expires_at) if caller.expires_at else latest


def _csrf(token: str) -> str:
    """Derived from the cookie, which no other site can read."""
    return hmac.new(token.encode(), b"csrf", sha256).hexdigest()
