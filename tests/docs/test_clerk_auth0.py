"""docs/how-to/clerk-auth0.md: its settings and policies, with tokens that have the claims of each
provider."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

import shell
from api import STRIPE_KEY, Api, connect, serving
from billhook.settings import load_settings
from http_tokens import JWT_SECRET
from identity import Issuer, Provider, providing
from pages import block, blocks

PAGE = "docs/how-to/clerk-auth0.md"
CLERK = "https://clerk.your.app"
AUTH0 = "https://TENANT.auth0.com"
CLERK_USER, AUTH0_USER = "user_2abc", "auth0|6553da60"
PORTAL = "/api/payments/stripe/test/customer-portal-sessions"


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture
def provider() -> Iterator[Provider]:
    with providing() as found:
        yield found


@dataclass(frozen=True, slots=True)
class App:
    """Billhook with the settings and policies of the page, a price, and the tokens' issuer."""

    api: Api
    price: str
    issuer: Issuer

    def status(self, kind: str, name: str, **claims: Any) -> int:
        answer = self.api.checkout(order(self.price, kind, name), self.issuer.token(**claims))
        return answer.status_code


def order(price: str, kind: str, name: str) -> dict[str, Any]:
    return {
        "mode": "payment",
        "lineItems": [{"priceId": price}],
        "successUrl": "https://your.app/done",
        "cancelUrl": "https://your.app/cart",
        "subject": {"type": kind, "id": name},
    }


@contextmanager
def running(
    database_url: str, sandbox: str, provider: Provider, exports: str, policies: str, folder: Path
) -> Iterator[tuple[Api, str]]:
    """Billhook as `exports` set it up, and a price."""
    connect(database_url, sandbox, STRIPE_KEY)
    found = shell.run(exports, folder, {}).environment
    # The page's URLs are https; those of the tests' provider are on this machine.
    loaded = load_settings(DATABASE_URL=database_url, JWT_SECRET=JWT_SECRET, **found)
    with serving(
        database_url,
        sandbox,
        jwks_url=loaded.jwks_url,
        jwt_audience=loaded.jwt_audience,
        jwt_issuer=loaded.jwt_issuer,
    ) as api:
        api.books.execute(policies)
        product = api.stripe.v1.products.create({"name": "Mug"})
        made = api.stripe.v1.prices.create(
            {"product": product.id, "currency": "eur", "unit_amount": 1500}
        )
        yield api, str(made.id)


@pytest.fixture
def clerk(
    database_url: str, sandbox: str, provider: Provider, key: Any, tmp_path: Path
) -> Iterator[App]:
    exports = block(PAGE, "sh", CLERK).replace(CLERK, provider.origin)
    policies = block(PAGE, "sql", "-- Clerk")
    issuer = Issuer(
        provider,
        key,
        "RS256",
        azp="https://your.app",
        fva=[7, -1],
        iss=provider.origin,
        jti="1234567890",
        sid="sess_123",
        sub=CLERK_USER,
        v=2,
        pla="u:free",
        fea="",
        sts="active",
        o={"id": "org_123", "slg": "acme", "rol": "admin"},
    )
    with running(database_url, sandbox, provider, exports, policies, tmp_path) as (api, price):
        yield App(api, price, issuer)


@pytest.fixture
def auth0(
    database_url: str, sandbox: str, provider: Provider, key: Any, tmp_path: Path
) -> Iterator[App]:
    exports = block(PAGE, "sh", AUTH0).replace(AUTH0, provider.origin)
    policies = block(PAGE, "sql", "-- Auth0")
    issuer = Issuer(
        provider,
        key,
        "RS256",
        iss=f"{provider.origin}/",
        sub=AUTH0_USER,
        aud=["https://billhook.your.app", f"{provider.origin}/userinfo"],
        azp="client_id",
        scope="openid profile",
        org_id="org_123",
        **{"https://your.app/roles": ["billing"]},
    )
    with running(database_url, sandbox, provider, exports, policies, tmp_path) as (api, price):
        yield App(api, price, issuer)


def test_clerks_policies_decide_about_users_and_organizations(clerk: App) -> None:
    assert clerk.status("user", CLERK_USER) == 201
    assert clerk.status("user", "user_3") == 403
    assert clerk.status("user", CLERK_USER, sts="pending") == 403
    assert clerk.status("organization", "org_123") == 201
    assert clerk.status("organization", "org_4") == 403
    member = {"id": "org_123", "slg": "acme", "rol": "member"}
    assert clerk.status("organization", "org_123", o=member) == 403
    assert clerk.status("organization", "org_123", o=None) == 403
    for kind, name, expected in (("user", CLERK_USER, 404), ("user", "user_3", 403)):
        subject = {"subject": {"type": kind, "id": name}}
        answer = clerk.api.post(PORTAL, subject, clerk.issuer.token())
        assert answer.status_code == expected  # there is no customer yet


def test_a_restrictive_policy_checks_where_a_user_signed_in(clerk: App) -> None:
    assert clerk.status("user", CLERK_USER, azp="https://elsewhere.app") == 201
    clerk.api.books.execute("""
        CREATE POLICY origin ON payments.stripe_checkout_sessions AS RESTRICTIVE TO authenticated
        USING (auth.jwt() ->> 'azp' = 'https://your.app')""")
    assert clerk.status("user", CLERK_USER, azp="https://elsewhere.app") == 403
    assert clerk.status("user", CLERK_USER) == 201


def test_auth0s_policies_decide_about_users_and_organizations(auth0: App) -> None:
    roles = "https://your.app/roles"
    assert auth0.status("user", AUTH0_USER) == 201
    assert auth0.status("user", "auth0|1") == 403
    assert auth0.status("user", AUTH0_USER, sub="awZd@clients") == 403
    assert auth0.status("organization", "org_123") == 201
    assert auth0.status("organization", "org_4") == 403
    assert auth0.status("organization", "org_123", **{roles: ["viewer"]}) == 403
    assert auth0.status("organization", "org_123", **{roles: None}) == 403
    subject = {"subject": {"type": "organization", "id": "org_4"}}
    assert auth0.api.post(PORTAL, subject, auth0.issuer.token()).status_code == 403


def test_the_issuer_and_the_audience_are_checked(auth0: App, provider: Provider) -> None:
    assert auth0.status("user", AUTH0_USER, iss=provider.origin) == 401  # without the slash
    assert auth0.status("user", AUTH0_USER, aud="client_id") == 401  # an ID token
    assert auth0.status("user", AUTH0_USER, aud=None) == 401


def test_clerks_template_gets_an_audience_of_its_own(
    database_url: str, sandbox: str, provider: Provider, key: Any, tmp_path: Path
) -> None:
    exports = block(PAGE, "sh", CLERK).replace(CLERK, provider.origin)
    exports += block(PAGE, "sh", "AUDIENCE=billhook")
    policies = block(PAGE, "sql", "-- Clerk")
    for session, template in (
        ("#>> '{o,id}'", "->> 'org_id'"),
        ("#>> '{o,rol}' = 'admin'", "->> 'org_role' = 'org:admin'"),
    ):
        policies = policies.replace(session, template)
    issuer = Issuer(
        provider,
        key,
        "RS256",
        iss=provider.origin,
        sub=CLERK_USER,
        aud="billhook",
        email="a@b.test",
        org_id="org_123",
        org_role="org:admin",
    )
    with running(database_url, sandbox, provider, exports, policies, tmp_path) as (api, price):
        app = App(api, price, issuer)
        assert app.status("user", CLERK_USER) == 201
        assert app.status("organization", "org_123") == 201
        assert app.status("organization", "org_123", org_role="org:member") == 403
        assert app.status("user", CLERK_USER, aud=None) == 401
        assert app.status("user", CLERK_USER, aud="hasura") == 401


def test_a_claim_role_with_the_apps_roles_is_refused_and_one_of_ours_counts(clerk: App) -> None:
    assert clerk.status("user", CLERK_USER, role="editor") == 401
    assert clerk.status("user", CLERK_USER, role="authenticated") == 201
    for role, expected in ((None, 403), ("project_admin", 200)):
        bearer = {"Authorization": f"Bearer {clerk.issuer.token(role=role)}"}
        answer = clerk.api.http.get("/api/payments/stripe/status", headers=bearer)
        assert answer.status_code == expected


def test_a_policy_with_auth_uid_says_what_to_write_instead(auth0: App) -> None:
    auth0.api.books.execute("""
        DROP POLICY own ON payments.stripe_checkout_sessions;
        CREATE POLICY own ON payments.stripe_checkout_sessions TO authenticated
            USING (subject_id = auth.uid()::text)""")
    wanted = order(auth0.price, "user", AUTH0_USER)
    answer = auth0.api.checkout(wanted, auth0.issuer.token())
    assert (answer.status_code, answer.json()["error"]) == (400, "DATABASE_VALIDATION_ERROR")
    assert "invalid input syntax for type uuid" in answer.json()["message"]
    assert "auth.jwt() ->> 'sub'" in answer.json()["nextActions"]


def test_both_sets_of_policies_are_on_the_page() -> None:
    assert len(blocks(PAGE, "sql")) == 2
