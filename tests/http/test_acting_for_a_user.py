"""`actAs`: a backend with an admin key opens a session for one of its users, and row-level security
decides as if the user had."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from test_checkout import MINE, OTHER, POLICIES, order

from api import Api
from billhook import ApiError, Client
from http_tokens import ADMIN_KEY, ANONYMOUS_KEY, USER, token
from pages import blocks

THEIRS = {"type": "user", "id": OTHER}
AS_USER = {"claims": {"sub": USER}}
CHECKOUT = "/api/payments/stripe/test/checkout-sessions"
PORTAL = "/api/payments/stripe/test/customer-portal-sessions"
# What runs as whom, in a table that every role may write.
WITNESS = """
    CREATE TABLE witness (id uuid, role text, claims jsonb);
    GRANT INSERT ON witness TO anon, authenticated;
    CREATE FUNCTION witnessed() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO witness VALUES (NEW.id, current_user, auth.jwt());
        RETURN NEW;
    END $$;
    CREATE TRIGGER witness AFTER INSERT ON payments.stripe_checkout_sessions
        FOR EACH ROW EXECUTE FUNCTION witnessed();
"""


def test_the_row_is_inserted_as_the_user_with_their_claims(api: Api, price: str) -> None:
    api.books.execute(POLICIES + WITNESS)
    claims = {"sub": USER, "email": "ada@example.com", "org": {"id": "org_7"}}
    made = api.checkout(order(price, subject=MINE, actAs={"claims": claims}), ADMIN_KEY)
    assert made.status_code == 201, made.text
    session = made.json()["checkoutSession"]
    assert (session["status"], session["subjectId"]) == ("open", USER)
    seen = api.books.row("SELECT * FROM witness WHERE id = $1", session["id"])
    assert seen["role"] == "authenticated"
    assert seen["claims"] == {**claims, "role": "authenticated"}


def test_row_level_security_decides_as_for_the_users_own_token(api: Api, price: str) -> None:
    api.books.execute(POLICIES)
    refused = api.checkout(order(price, subject=THEIRS, actAs=AS_USER), ADMIN_KEY)
    own = api.checkout(order(price, subject=THEIRS), token())
    assert (refused.status_code, refused.json()) == (403, own.json())
    assert api.books.row("SELECT count(*) FROM payments.stripe_checkout_sessions")["count"] == 0

    guest = {"role": "anon"}
    assert api.checkout(order(price, actAs=guest), ADMIN_KEY).status_code == 201
    assert api.checkout(order(price, subject=MINE, actAs=guest), ADMIN_KEY).status_code == 403


def test_a_users_own_request_and_one_for_them_are_the_same(api: Api, price: str) -> None:
    api.books.execute(POLICIES)
    body = order(price, subject=MINE, idempotencyKey="order-1")
    own = api.checkout(body, token()).json()["checkoutSession"]
    for_them = api.checkout({**body, "actAs": AS_USER}, ADMIN_KEY)
    assert (for_them.status_code, for_them.json()["checkoutSession"]) == (201, own)


@pytest.mark.parametrize(
    "credential",
    [
        token,
        partial(token, role="anon"),
        partial(token, role="project_admin"),
        lambda: ANONYMOUS_KEY,
    ],
    ids=["user", "anonymous token", "project admin", "anonymous key"],
)
@pytest.mark.parametrize("role", ["anon", "authenticated"])
def test_nobody_else_chooses_for_whom(
    api: Api, price: str, credential: Callable[[], str], role: str
) -> None:
    """Not even for themselves: there is one way to be a user."""
    act_as = {"role": role, **({} if role == "anon" else AS_USER)}
    refused = api.checkout(order(price, actAs=act_as), credential())
    assert (refused.status_code, refused.json()["error"]) == (403, "AUTH_UNAUTHORIZED")
    assert "Only an admin key" in refused.json()["message"]
    assert api.books.row("SELECT count(*) FROM payments.stripe_checkout_sessions")["count"] == 0


def test_an_admin_key_is_still_nobody_itself(api: Api, price: str) -> None:
    refused = api.checkout(order(price), ADMIN_KEY)
    assert (refused.status_code, refused.json()["error"]) == (401, "AUTH_INVALID_CREDENTIALS")
    assert "actAs" in refused.json()["nextActions"]
    other = api.post(CHECKOUT, ["not", "an", "order"], ADMIN_KEY)
    assert other.json() == refused.json()
    no_json = {"content": b"{", "headers": {"Authorization": f"Bearer {ADMIN_KEY}"}}
    for path in (CHECKOUT, PORTAL):
        assert api.http.post(path, **no_json).status_code == 400
    wrong = api.checkout(order(price, actAs=AS_USER), "ik_" + "8f3a91c7" * 4)
    assert (wrong.status_code, wrong.json()["error"]) == (401, "AUTH_INVALID_API_KEY")


@pytest.mark.parametrize(
    ("act_as", "problem"),
    [
        ({}, "actAs.claims.sub: must be the id of the user"),
        ({"claims": {"sub": ""}}, "actAs.claims.sub: must be the id of the user"),
        ({"claims": {"sub": 7}}, "actAs.claims.sub: must be the id of the user"),
        ({"role": "anon", "claims": {"sub": USER}}, "actAs.claims: must be empty"),
        ({"claims": {"sub": USER, "role": "project_admin"}}, "actAs.claims.role: must be the role"),
        ({"claims": {"sub": USER, "x": "a\0b"}}, "actAs.claims: has a claim that PostgreSQL"),
        ({"claims": {"sub": USER, "x": [[[]]]} | {str(n): n for n in range(99)}}, "actAs.claims"),
        ({"claims": "sub"}, "actAs.claims: must be an object"),
        ({"claims": {"sub": USER}, "sub": USER}, "actAs.sub: is not a known field"),
        (None, "actAs: must not be null"),
        *(
            ({"role": role, "claims": {"sub": USER}}, "actAs.role: ")
            for role in ("project_admin", "postgres", "service_role", "billhook", "", None)
        ),
    ],
)
def test_what_no_user_could_be_is_refused(api: Api, price: str, act_as: Any, problem: str) -> None:
    refused = api.checkout(order(price, actAs=act_as), ADMIN_KEY)
    assert (refused.status_code, refused.json()["error"]) == (400, "INVALID_INPUT")
    assert refused.json()["message"].startswith(problem)
    assert api.books.row("SELECT count(*) FROM payments.stripe_checkout_sessions")["count"] == 0


def test_the_page_for_apps_with_cookie_sessions_works(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.books.execute(POLICIES)
    monkeypatch.setenv("BILLHOOK_URL", api.url)
    monkeypatch.setenv("BILLHOOK_API_KEY", ADMIN_KEY)
    names: dict[str, Any] = {}
    for code in blocks("docs/how-to/server-checkout.md", "python"):
        exec(code, names)
    url = asyncio.run(names["checkout_url"](USER, "1001"))
    row = api.books.row("SELECT url, subject_id FROM payments.stripe_checkout_sessions")
    assert (row["url"], row["subject_id"]) == (url, USER)


def test_the_portal_too(api: Api) -> None:
    api.books.execute(
        """
        ALTER TABLE payments.stripe_customer_portal_sessions ENABLE ROW LEVEL SECURITY;
        CREATE POLICY own ON payments.stripe_customer_portal_sessions TO authenticated
            USING (subject_id = auth.uid()::text) WITH CHECK (subject_id = auth.uid()::text);
        """
    )
    customer = api.stripe.v1.customers.create({"email": "ada@example.com"}).id
    api.books.execute(
        "INSERT INTO payments.customer_mappings (provider, environment, subject_type, subject_id, "
        f"provider_customer_id) VALUES ('stripe', 'test', 'user', '{USER}', '{customer}')"
    )
    with Client(api.url, ADMIN_KEY) as backend:
        subject: Any = MINE
        made = backend.create_customer_portal_session("test", subject=subject, act_as=AS_USER)
        assert (made.status, made.customer_id) == ("created", customer)
        somebody: Any = {"claims": {"sub": OTHER}}
        with pytest.raises(ApiError) as refused:
            backend.create_customer_portal_session("test", subject=subject, act_as=somebody)
        assert refused.value.status == 403
    guest = api.post(PORTAL, {"subject": MINE, "actAs": {"role": "anon"}}, ADMIN_KEY)
    assert (guest.status_code, guest.json()["error"]) == (401, "AUTH_INVALID_CREDENTIALS")
    assert api.post(PORTAL, {"subject": MINE, "actAs": AS_USER}, token()).status_code == 403
    assert api.post(PORTAL, {"subject": MINE}, ADMIN_KEY).status_code == 401
