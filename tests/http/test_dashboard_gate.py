"""The dashboard's gate: nothing without a session, and nothing that another site sends."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from pydantic import SecretStr
from starlette.routing import Route

from api import SERVERS, Api, serving
from billhook.access.api_keys import ApiKeys
from billhook.access.auth import Auth, Credential
from billhook.access.secrets import SecretStore
from billhook.dashboard import _routes
from billhook.dashboard.sessions import Notice, Sessions
from billhook.postgres import Database
from billhook.settings import Settings
from http_tokens import ADMIN_KEY, ANONYMOUS_KEY, JWT_SECRET, token
from visitor import Visitor

OPEN = {"/sign-in"}


@pytest.fixture
def visitor(api: Api) -> Iterator[Visitor]:
    found = Visitor(api.url)
    yield found
    found.http.close()


def _filled(route: Route) -> str:
    path = route.path.replace("{environment}", "test").replace(":uuid", "")
    path = re.sub(r"\{(archive|key)\}", "11111111-1111-4111-8111-111111111111", path)
    return re.sub(r"\{\w+\}", "x_1", path)


PAGES = [
    (method, _filled(route))
    for route in _routes()
    if isinstance(route, Route) and route.path not in OPEN
    for method in sorted((route.methods or set()) - {"HEAD"})
]


@pytest.mark.parametrize(("method", "path"), PAGES)
def test_nothing_is_shown_or_done_without_a_session(
    shared_api: Api, method: str, path: str
) -> None:
    answer = shared_api.http.request(method, f"/dashboard{path}")
    if method == "GET":
        assert answer.status_code == 303
        assert answer.headers["location"].startswith("/dashboard/sign-in")
    else:
        assert answer.status_code == 401
        assert "Your session has ended." in answer.text


@pytest.mark.sampled(4)
@pytest.mark.parametrize(("method", "path"), [each for each in PAGES if each[0] == "POST"])
def test_no_form_is_taken_without_its_own_proof(visitor: Visitor, method: str, path: str) -> None:
    visitor.sign_in()
    good = visitor.csrf()
    for fields, headers in (
        ({}, {}),
        ({"csrf": "0" * 64}, {}),
        ({"csrf": good}, {"origin": "https://evil.example"}),
        ({"csrf": good}, {"origin": "null"}),
        ({"csrf": good}, {"origin": "http://["}),
        ({"csrf": good}, {"sec-fetch-site": "same-site"}),
        ({"csrf": good}, {"sec-fetch-site": "cross-site"}),
    ):
        answer = visitor.http.request(method, path, data=fields, headers=headers)
        assert answer.status_code == 403, (fields, headers)
    assert visitor.read("/test/keys")  # still signed in: nobody can sign the admin out, either


def test_another_site_cannot_sign_a_browser_in(visitor: Visitor) -> None:
    answer = visitor.http.post(
        "/sign-in", data={"credential": ADMIN_KEY}, headers={"origin": "https://evil.example"}
    )
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


def test_no_other_origin_may_read_the_dashboard(visitor: Visitor) -> None:
    visitor.sign_in()
    foreign = {"origin": "http://localhost:3000"}
    assert "access-control-allow-origin" not in visitor.get("/test", headers=foreign).headers
    preflight = visitor.http.request(
        "OPTIONS", "/test/keys", headers={**foreign, "access-control-request-method": "POST"}
    )
    assert "access-control-allow-origin" not in preflight.headers
    api = visitor.http.get(str(visitor.http.base_url.join("/api/health")), headers=foreign)
    assert api.headers["access-control-allow-origin"] == foreign["origin"]


def test_an_admin_key_opens_a_session_that_scripts_and_other_sites_cannot_use(
    visitor: Visitor,
) -> None:
    answer = visitor.sign_in()
    assert answer.status_code == 303
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    assert "path=/dashboard" in cookie
    assert ADMIN_KEY not in answer.headers["set-cookie"]
    assert visitor.get("/test").status_code == 200


def test_over_https_the_cookie_never_travels_without(api: Api) -> None:
    with httpx.Client(base_url=f"{api.url}/dashboard", timeout=60) as http:
        answer = http.post(
            "/sign-in", data={"credential": ADMIN_KEY}, headers={"x-forwarded-proto": "https"}
        )
    assert "secure" in answer.headers["set-cookie"].lower()


def test_an_administrators_token_opens_a_session_that_ends_with_it(
    api: Api, visitor: Visitor
) -> None:
    soon = int((datetime.now(UTC) + timedelta(minutes=5)).timestamp())
    answer = visitor.sign_in(token(role="project_admin", email="ada@example.com", exp=soon))
    assert answer.status_code == 303
    assert "ada@example.com" in visitor.read("/test")
    ends = api.books.row(
        "SELECT extract(epoch FROM expires_at) AS at FROM billhook.dashboard_sessions"
    )["at"]
    assert int(ends) == soon


@pytest.mark.parametrize(
    ("credential", "status"),
    [
        ("", 400),
        ("ik_this_is_not_a_key_of_ours", 401),
        (ANONYMOUS_KEY, 401),
        ("not.a.token", 401),
        ("token of a user", 403),
    ],
)
def test_others_are_told_what_to_paste(visitor: Visitor, credential: str, status: int) -> None:
    given = token() if credential == "token of a user" else credential
    answer = visitor.sign_in(given)
    assert answer.status_code == status
    assert 'role="alert"' in answer.text
    assert "set-cookie" not in answer.headers
    assert not given or given not in answer.text


def test_a_session_ends_when_its_key_is_revoked(api: Api, visitor: Visitor) -> None:
    visitor.sign_in()
    made = re.search(
        r'data-testid="new-key">(ik_\w+)<', visitor.send("/test/keys", kind="admin").text
    )
    assert made is not None
    other = Visitor(api.url)
    other.sign_in(made[1])
    assert other.get("/test").status_code == 200
    key_id = api.books.row("SELECT id FROM billhook.api_keys WHERE name IS NULL")["id"]
    assert "was revoked" in visitor.do(f"/test/keys/{key_id}/revoke")
    deadline = time.monotonic() + (10 if SERVERS > 1 else 0)  # another server finds out in seconds
    while other.get("/test").status_code != 303:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert visitor.get("/test").status_code == 200
    other.http.close()


def test_a_session_ends_in_time_and_by_signing_out(api: Api, visitor: Visitor) -> None:
    visitor.sign_in()
    visitor.send("/sign-out")
    assert visitor.get("/test").status_code == 303
    visitor.sign_in()
    cookie = dict(visitor.http.cookies)
    api.books.execute("UPDATE billhook.dashboard_sessions SET expires_at = now()")
    assert visitor.get("/test", cookies=cookie).status_code == 303


def test_whoever_was_on_the_way_to_a_page_arrives_there(visitor: Visitor) -> None:
    asked = visitor.get("/test/events?status=failed")
    location = httpx.URL(asked.headers["location"])
    wanted = location.params["next"]
    answer = visitor.sign_in(next=wanted)
    assert answer.headers["location"] == "/dashboard/test/events?status=failed"


@pytest.mark.parametrize(
    "wanted", ["https://evil.example", "/../../api/health", "//evil.example", "\\\\evil.example"]
)
def test_signing_in_leads_nowhere_else(visitor: Visitor, wanted: str) -> None:
    answer = visitor.sign_in(next=wanted)
    assert answer.headers["location"].startswith("/dashboard/")
    assert ".." not in answer.headers["location"]


def test_every_answer_forbids_what_is_not_its_own(visitor: Visitor) -> None:
    answers = [visitor.get("/sign-in"), visitor.get("/test"), visitor.get("/static/dashboard.js")]
    visitor.sign_in()
    answers += [visitor.get("/test"), visitor.get("/nowhere/at/all"), visitor.get("/moon/catalog")]
    assert [each.status_code for each in answers] == [200, 303, 200, 200, 404, 404]
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert all(
        each.headers["cache-control"] == "no-store"
        for each in answers
        if "/static/" not in str(each.url)
    )


def test_a_form_beyond_all_measure_is_refused(visitor: Visitor) -> None:
    visitor.sign_in()
    assert visitor.send("/test/keys", name="x" * 1_100_000).status_code == 413
    many = {f"field_{number}": "" for number in range(2_000)}
    assert visitor.send("/test/keys", **many).status_code == 400
    assert visitor.send("/test/keys", name="a\0b").status_code == 400


def test_what_strangers_send_is_not_even_read(visitor: Visitor) -> None:
    unreadable = b"csrf=%ff"
    assert visitor.http.post("/test/keys", content=unreadable).status_code == 401
    visitor.sign_in()
    assert visitor.http.post("/test/keys", content=unreadable).status_code == 400


def test_behind_a_proxy_the_browsers_own_word_counts(api: Api, visitor: Visitor) -> None:
    public = {"origin": "https://pay.example.com", "sec-fetch-site": "same-origin"}
    answer = visitor.http.post("/sign-in", data={"credential": ADMIN_KEY}, headers=public)
    assert answer.status_code == 303


def test_what_an_action_left_to_say_is_not_lost_while_another_page_says_what_was_before(
    api: Api,
) -> None:
    async def work(database: Database) -> list[Notice | None]:
        settings = Settings(
            database_url=SecretStr(api.books.dsn), jwt_secret=SecretStr(JWT_SECRET), _env_file=None
        )
        keys = ApiKeys(database, SecretStore(database, settings))
        sessions = Sessions(database, Auth(settings, keys, None), keys, settings)
        cookie = await sessions.open(Credential("token", token(role="project_admin")), "")
        first, second = (Notice(kind="done", text=each) for each in ("first", "second"))
        session = await sessions.find(cookie)
        assert session is not None
        await sessions.note(session, first)
        await sessions.note(session, second)
        await sessions.said(session, first)
        kept = await sessions.find(cookie)
        await sessions.said(session, second)
        gone = await sessions.find(cookie)
        return [found.notice for found in (kept, gone) if found]

    kept, gone = api.books.run(work)
    assert (kept and kept.text, gone) == ("second", None)


def test_a_changed_secret_leaves_nobody_signed_in(database_url: str, sandbox: str) -> None:
    cookies = {}
    for secret in (JWT_SECRET, "another secret of the tests, long enough"):
        with serving(database_url, sandbox, jwt_secret=SecretStr(secret)) as api:
            visitor = Visitor(api.url)
            if not cookies:
                visitor.sign_in(token(role="project_admin"))
                assert visitor.get("/test").status_code == 200
                (value,) = dict(visitor.http.cookies).values()
                cookies = {"value": value}
            else:
                port = visitor.http.base_url.port
                visitor.http.cookies.set(f"billhook_{port}", cookies["value"])
                assert visitor.get("/test").status_code == 303
            visitor.http.close()
