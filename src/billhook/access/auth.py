"""Authentication: a credential becomes a `Caller` (contract section 2).

The form of a credential decides how it is checked, and nothing ever falls back to a weaker kind: an
expired user token is an error, not an anonymous visitor.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal, cast

import jwt
from starlette.requests import HTTPConnection

from billhook.access.api_keys import ApiKeys, hash_of
from billhook.access.jwks import Jwks, for_algorithm
from billhook.access.permissions import Grant
from billhook.errors import (
    Forbidden,
    InvalidApiKey,
    InvalidCredentials,
    InvalidInput,
    Unauthorized,
)
from billhook.models import ActAs
from billhook.postgres import ROLES, Role
from billhook.settings import Settings
from billhook.storable import UNSTORABLE

_ADMIN_KEY = "ik_"
_ANONYMOUS_KEY = "anon_"
_MOST_LEVELS = 64
_UNSTORABLE = (
    "has a claim that PostgreSQL cannot store: a NUL character, a lone surrogate, an infinite "
    "number, or nesting that is too deep"
)


@dataclass(frozen=True, slots=True)
class Caller:
    """The caller of a request.

    Attributes:
        kind: `admin` (an API key or a `project_admin` token on an admin route), `user` or
            `anonymous`.
        role: the PostgreSQL role for work done as this caller; None for an API key, which has no
            user context.
        user_id: the token's subject; None for anonymous callers and API keys.
        email: the token's email, if any.
        claims: the value of `request.jwt.claims`: all claims of the token, with the effective
            `role`, and `sub` only if authenticated.
        expires_at: when the token expires, if it does.
        grant: what an administrator may do; None for everyone else.
    """

    kind: Literal["admin", "user", "anonymous"]
    role: Role | None
    user_id: str | None = None
    email: str | None = None
    claims: Mapping[str, Any] = field(default_factory=dict)
    expires_at: datetime | None = None
    grant: Grant | None = None

    @property
    def database_role(self) -> Role:
        """The role for work done as this caller.

        Raises:
            InvalidCredentials: an API key has no user context.
        """
        if self.role is None:
            raise _not_a_user()
        return self.role


@dataclass(frozen=True, slots=True)
class Credential:
    """A credential of a request, classified by its form."""

    kind: Literal["api_key", "anonymous_key", "token"]
    value: str = field(repr=False)


def credential_of(headers: Mapping[str, str]) -> Credential | None:
    """The request's credential, or None.

    `Authorization: Bearer …` carries all kinds. An API key may be in `x-api-key` instead, and then
    takes precedence over a bearer token that is not an API key, as with InsForge.
    """
    scheme, _, value = headers.get("authorization", "").partition(" ")
    bearer = credential(value) if scheme.lower() == "bearer" else None
    if bearer is not None and bearer.kind == "api_key":
        return bearer
    if api_key := headers.get("x-api-key", "").strip():
        return Credential("api_key", api_key)
    return bearer


def credential(text: str) -> Credential | None:
    """`text` as a credential, or None if it is empty."""
    value = text.strip()
    if value.startswith(_ADMIN_KEY):
        return Credential("api_key", value)
    if value.startswith(_ANONYMOUS_KEY):
        return Credential("anonymous_key", value)
    return Credential("token", value) if value else None


class Auth:
    """Checks credentials. Key lookups are cached briefly, see `ApiKeys`."""

    def __init__(self, settings: Settings, api_keys: ApiKeys, jwks: Jwks | None) -> None:
        self._secret = settings.jwt_secret.get_secret_value()
        self._audiences = settings.jwt_audiences
        self._issuer = settings.jwt_issuer
        self._api_keys = api_keys
        self._jwks = jwks

    async def user(self, request: HTTPConnection) -> Caller:
        """The user or anonymous visitor behind a request to a user route.

        Raises:
            InvalidCredentials: no credential, a bad anonymous key, or a valid API key.
            InvalidApiKey: an API key that is not ours.
            Unauthorized: a token that is invalid, expired, or has no subject or an unknown role.
            SigningKeysUnavailable: the identity provider's keys cannot be fetched.
            DatabaseUnavailable: a key cannot be looked up.
        """
        credential = credential_of(request.headers)
        if credential is None:
            raise _missing()
        if credential.kind == "api_key":
            await self._grant_of_api_key(credential)
            raise _not_a_user()
        if credential.kind == "anonymous_key":
            if not await self._api_keys.is_valid("anonymous", credential.value):
                raise InvalidCredentials(
                    "The anonymous key is not valid.",
                    next_actions="Use the current key: `billhook keys list` shows their endings.",
                )
            return _anonymous()
        return _caller(await self._claims(credential.value))

    async def user_or_admin_key(self, request: HTTPConnection) -> Caller:
        """As `user`; an API key is an administrator, who must say for whom they act: `acting_as`.

        Raises as `user`.
        """
        credential = credential_of(request.headers)
        if credential is not None and credential.kind == "api_key":
            return Caller("admin", None, grant=await self._grant_of_api_key(credential))
        return await self.user(request)

    async def admin(self, request: HTTPConnection) -> Caller:
        """The administrator behind a request to an admin route.

        Raises:
            InvalidCredentials: no credential.
            InvalidApiKey: an API key that is not ours.
            Unauthorized: an anonymous key, or a token as in `user`.
            Forbidden: a valid token whose role is not `project_admin`.
            SigningKeysUnavailable, DatabaseUnavailable: as in `user`.
        """
        return await self.administrator(credential_of(request.headers))

    async def administrator(self, credential: Credential | None) -> Caller:
        """The administrator behind a credential. Raises as `admin`."""
        if credential is None:
            raise _missing()
        if credential.kind == "anonymous_key":
            raise Unauthorized("Anonymous keys cannot access admin routes.")
        if credential.kind == "api_key":
            return Caller("admin", None, grant=await self._grant_of_api_key(credential))
        caller = _caller(await self._claims(credential.value))
        if caller.role != "project_admin":
            raise Forbidden(
                "This route requires an admin key or a token with the role project_admin."
            )
        return replace(caller, kind="admin")

    async def _grant_of_api_key(self, credential: Credential) -> Grant:
        found = await self._api_keys.grant("admin", hash_of(credential.value))
        if found is None:
            raise InvalidApiKey("The API key is not valid.")
        return found

    async def _claims(self, token: str) -> dict[str, Any]:
        """The verified claims of a token.

        Each key has its algorithm; the token's header only selects the key.
        """
        try:
            header = jwt.get_unverified_header(token)
            if header.get("alg") == "HS256":
                return self._decode(token, self._secret, "HS256")
            found = await self._jwks.find(header.get("kid")) if self._jwks else None
            key = for_algorithm(found, header.get("alg")) if found else None
            if key is None:
                raise Unauthorized("The token was signed with a key that is not accepted.")
            return self._decode(
                token, key, key.algorithm_name, audiences=self._audiences, issuer=self._issuer
            )
        except jwt.ExpiredSignatureError:
            raise Unauthorized("The token has expired.", next_actions="Sign in again.") from None
        except jwt.InvalidAudienceError:
            raise Unauthorized(
                "The token was issued for another application (aud).",
                next_actions="Sign in to this application; its operator sets "
                "BILLHOOK_JWT_AUDIENCE.",
            ) from None
        except jwt.InvalidIssuerError:
            raise Unauthorized(
                "The token was issued by another issuer (iss).",
                next_actions="Sign in to this application; its operator sets BILLHOOK_JWT_ISSUER.",
            ) from None
        except jwt.InvalidSignatureError:
            raise Unauthorized(
                "The token's signature is not valid.",
                next_actions="Sign in again; the token must be signed with JWT_SECRET or a key of "
                "the identity provider.",
            ) from None
        except (jwt.PyJWTError, ValueError, TypeError, ArithmeticError, RecursionError):
            raise Unauthorized("The token is not valid.", next_actions="Sign in again.") from None

    @staticmethod
    def _decode(
        token: str,
        key: str | jwt.PyJWK,
        algorithm: str,
        *,
        audiences: tuple[str, ...] | None = None,
        issuer: str | None = None,
    ) -> dict[str, Any]:
        return jwt.decode(
            token,
            key,
            algorithms=[algorithm],
            audience=audiences,
            issuer=issuer,
            # Rejecting tokens "issued in the future" would fail on servers whose clock is a second
            # behind, without any benefit: nbf and exp are what counts.
            options={
                "verify_aud": audiences is not None,
                "verify_iat": False,
                "verify_sub": False,
                "verify_jti": False,
            },
        )


def is_administrator(sender: Caller) -> bool:
    """Whether a request to a user route was sent with an API key, or with a token of the role
    `project_admin`."""
    return sender.kind == "admin" or sender.role == "project_admin"


def user_behind(sender: Caller, act_as: ActAs | None) -> Caller | None:
    """The user for whom a request is made; None if an administrator makes it, for which no policies
    apply.

    Raises:
        InvalidCredentials: a guest.
        Forbidden: only an API key may act for somebody else.
        InvalidInput: PostgreSQL cannot store the claims.
    """
    if act_as is None and is_administrator(sender):
        return None
    return signed_in(acting_as(sender, act_as))


def signed_in(caller: Caller) -> Caller:
    """`caller`, who must not be anonymous.

    Raises:
        InvalidCredentials: it is.
    """
    if caller.kind == "anonymous":
        raise InvalidCredentials(
            "This route needs a signed-in user.",
            next_actions="Sign in and send the user's token.",
        )
    return caller


def acting_as(caller: Caller, act_as: ActAs | None) -> Caller:
    """The caller on whose behalf a request is carried out
    (docs/decisions/0016-acting-for-a-user.md).

    Args:
        caller: who sent the request.
        act_as: for whom an API key sends it.

    Raises:
        Forbidden: only an API key may act for somebody else.
        InvalidCredentials: an API key has no user context of its own.
        InvalidInput: PostgreSQL cannot store the claims.
    """
    if act_as is None:
        if caller.kind == "admin":
            raise _not_a_user()
        return caller
    if caller.kind != "admin":
        raise Forbidden(
            "Only an admin key may act for somebody else (actAs).",
            next_actions="Leave out actAs to act as the caller, or send an admin key (ik_…) from "
            "your backend.",
        )
    if act_as.role == "anon":
        return _anonymous()
    try:
        return _caller({**act_as.claims, "role": act_as.role})
    except Unauthorized:
        raise InvalidInput(f"actAs.claims: {_UNSTORABLE}") from None


def _anonymous() -> Caller:
    return Caller("anonymous", "anon", claims={"role": "anon"})


def _caller(claims: Mapping[str, Any]) -> Caller:
    """The caller that verified claims describe."""
    if not _is_storable(claims):
        # If the claim were dropped, policies would not see what was signed.
        raise Unauthorized(
            f"The token {_UNSTORABLE}.",
            next_actions="Issue the token without it.",
        )
    subject, role, email = claims.get("sub"), claims.get("role"), claims.get("email")
    if not isinstance(subject, str) or subject == "":
        raise Unauthorized("The token has no subject (sub).", next_actions="Sign in again.")
    role = "authenticated" if role is None else role
    if not isinstance(role, str) or role not in ROLES:
        raise Unauthorized(
            "The token's role is not one of anon, authenticated, project_admin.",
        )
    passed_on = {**claims, "role": role}
    if role != "authenticated":
        del passed_on["sub"]
    if not isinstance(email, str) or email == "":
        email = None
        passed_on.pop("email", None)
    expires_at = _moment(claims.get("exp"))
    if role == "anon":
        return Caller("anonymous", "anon", None, email, passed_on, expires_at)
    grant = Grant(email or subject) if role == "project_admin" else None
    return Caller("user", cast(Role, role), subject, email, passed_on, expires_at, grant)


def _is_storable(value: object, levels: int = _MOST_LEVELS) -> bool:
    """Whether PostgreSQL's jsonb can store a claim: no NUL character, no lone surrogate, no number
    out of range, and no unreasonably deep nesting."""
    if isinstance(value, str):
        return UNSTORABLE.search(value) is None
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return levels > 0 and all(
            _is_storable(key) and _is_storable(each, levels - 1) for key, each in value.items()
        )
    if isinstance(value, list):
        return levels > 0 and all(_is_storable(each, levels - 1) for each in value)
    return True


def _moment(epoch: object) -> datetime | None:
    """The time of a verified claim; None if it is out of range."""
    if not isinstance(epoch, int | float | str):
        return None
    try:
        return datetime.fromtimestamp(float(epoch), UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _missing() -> InvalidCredentials:
    return InvalidCredentials(
        "The request has no credentials.",
        next_actions="Send `Authorization: Bearer <token>`: a user token, an anonymous key "
        "(anon_…) or an API key (ik_…), as the route needs.",
    )


def _not_a_user() -> InvalidCredentials:
    return InvalidCredentials(
        "An API key has no user context: this route needs a user token or an anonymous key.",
        next_actions="Send the signed-in user's token, or the anonymous key for guests. With an "
        "admin key, say in actAs for whom the session is.",
    )
