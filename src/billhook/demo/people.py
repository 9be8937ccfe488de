"""The demo's simulated sign-in. A real app has its own users and its own sign-in; Billhook only
needs the resulting token, a JWT signed with the app's secret. In the demo, you can be one of two
users, or a guest.
"""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass

import jwt
from starlette.requests import Request
from starlette.responses import Response

TEAM_ID = "demo-team"
TEAM_NAME = "Demo team"

_PERSON_COOKIE = "demo_person"
_GUEST_COOKIE = "demo_guest"
_TOKEN_SECONDS = 600


@dataclass(frozen=True, slots=True)
class Person:
    """A user that the visitor can be. A guest has no user id."""

    key: str
    label: str
    user_id: str | None = None
    email: str | None = None
    role: str | None = None


PEOPLE = (
    Person("guest", "Guest"),
    Person(
        "owner",
        "Team owner",
        "11111111-1111-4111-8111-111111111111",
        "owner@example.com",
        "owner",
    ),
    Person(
        "member",
        "Team member",
        "22222222-2222-4222-8222-222222222222",
        "member@example.com",
        "member",
    ),
)


@dataclass(frozen=True, slots=True)
class Visitor:
    """The visitor of a page: a person, and the browser's guest number for orders as a guest."""

    person: Person
    guest_id: str

    @property
    def user_id(self) -> str | None:
        return self.person.user_id


def visitor(request: Request) -> Visitor:
    """Read the visitor from the cookies; anything unknown is a new guest."""
    key = request.cookies.get(_PERSON_COOKIE)
    person = next((each for each in PEOPLE if each.key == key), PEOPLE[0])
    try:
        guest_id = str(uuid.UUID(request.cookies.get(_GUEST_COOKIE, "")))
    except ValueError:
        guest_id = str(uuid.uuid4())
    return Visitor(person, guest_id)


def remember(response: Response, who: Visitor, path: str) -> None:
    """Store the visitor in cookies. They only select a demo user, so they contain no secret."""
    for name, value in ((_PERSON_COOKIE, who.person.key), (_GUEST_COOKIE, who.guest_id)):
        response.set_cookie(
            name, value, max_age=30 * 24 * 3600, path=path, httponly=True, samesite="lax"
        )


def token(person: Person, jwt_secret: str, anon_key: str) -> str:
    """What the page sends as `Authorization: Bearer …`: the user's JWT, or the anonymous key."""
    if person.user_id is None:
        return anon_key
    now = int(time.time())
    claims = {
        "sub": person.user_id,
        "email": person.email,
        "role": "authenticated",
        "iat": now,
        "exp": now + _TOKEN_SECONDS,
    }
    return jwt.encode(claims, jwt_secret, algorithm="HS256")
