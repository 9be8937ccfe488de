"""docs/how-to/supabase.md: followed on a database that is set up as Supabase's is."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

import servers
import shell
from api import STRIPE_KEY, Api, connect, serving
from billhook.postgres.embedded import EmbeddedPostgres
from billhook.postgres.migrate import migrate
from billhook.settings import load_settings
from books import Books
from http_tokens import JWT_SECRET, USER, token
from identity import Issuer, Provider, providing
from pages import app_sql, block
from strangers import as_user

PAGE = "docs/how-to/supabase.md"
PROJECT = "https://PROJECT.supabase.co"
OTHER_USER = "22222222-2222-4222-8222-222222222222"

# As in the public repositories supabase/postgres and supabase/auth, where it matters here: who owns
# what, which roles there are, and which settings the functions read. The tests' superuser has the
# name of the user that is `postgres` there, a plain user with the right to create roles.
_PROJECT = """
    CREATE ROLE supabase_admin SUPERUSER;
    CREATE ROLE supabase_auth_admin NOINHERIT;
    CREATE ROLE service_role NOLOGIN BYPASSRLS;
    CREATE ROLE project_owner LOGIN NOSUPERUSER CREATEROLE CREATEDB BYPASSRLS;
    GRANT anon, authenticated, service_role, project_admin TO project_owner WITH ADMIN OPTION;
    ALTER DATABASE "{name}" OWNER TO supabase_admin;
    GRANT ALL ON DATABASE "{name}" TO project_owner;
    CREATE SCHEMA auth AUTHORIZATION supabase_admin;
    CREATE FUNCTION auth.jwt() RETURNS jsonb LANGUAGE sql STABLE AS $$
        SELECT nullif(current_setting('request.jwt.claims', true), '')::jsonb $$;
    CREATE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql STABLE AS $$
        SELECT nullif(coalesce(current_setting('request.jwt.claim.sub', true),
            current_setting('request.jwt.claims', true)::jsonb ->> 'sub'), '')::uuid $$;
    CREATE FUNCTION auth.role() RETURNS text LANGUAGE sql STABLE AS $$
        SELECT coalesce(nullif(current_setting('request.jwt.claim.role', true), ''),
            current_setting('request.jwt.claims', true)::jsonb ->> 'role') $$;
    CREATE FUNCTION auth.email() RETURNS text LANGUAGE sql STABLE AS $$
        SELECT coalesce(nullif(current_setting('request.jwt.claim.email', true), ''),
            current_setting('request.jwt.claims', true)::jsonb ->> 'email') $$;
    ALTER FUNCTION auth.jwt() OWNER TO supabase_auth_admin;
    ALTER FUNCTION auth.uid() OWNER TO supabase_auth_admin;
    ALTER FUNCTION auth.role() OWNER TO supabase_auth_admin;
    ALTER FUNCTION auth.email() OWNER TO supabase_auth_admin;
    GRANT USAGE ON SCHEMA auth TO anon, authenticated, service_role, project_owner;
    GRANT USAGE, CREATE ON SCHEMA public TO project_owner;
    ALTER DEFAULT PRIVILEGES IN SCHEMA public
        GRANT ALL ON TABLES TO anon, authenticated, service_role;
    ALTER DEFAULT PRIVILEGES FOR ROLE project_owner IN SCHEMA public
        GRANT ALL ON TABLES TO anon, authenticated, service_role;
"""
_AUTH_BEFORE = """
    SELECT p.proname::text AS name, p.proowner::regrole::text AS owner, p.prosrc AS source,
        (SELECT nspacl::text FROM pg_namespace WHERE nspname = 'auth') AS grants
    FROM pg_proc p WHERE p.pronamespace = 'auth'::regnamespace ORDER BY 1
"""
_ROLES = ["billhook", "project_owner", "service_role", "supabase_auth_admin", "supabase_admin"]
_MADE = "SELECT rolname::text AS it FROM pg_roles WHERE rolname = ANY ($1) ORDER BY 1"


@pytest.fixture
def editor(postgres: EmbeddedPostgres, template: str, empty_database_url: str) -> Iterator[Books]:
    """Supabase's SQL editor. `template`: a migration before this one made the callers' roles."""
    name = urlsplit(empty_database_url).path.removeprefix("/")
    administrator = Books(postgres.dsn(name))
    administrator.execute(_PROJECT.format(name=name))
    try:
        yield Books(as_user(administrator.dsn, "project_owner"))
    finally:
        administrator.execute(f'ALTER DATABASE "{name}" OWNER TO postgres')
        for role in administrator.rows(_MADE, _ROLES):
            administrator.execute("DROP OWNED BY {it} CASCADE; DROP ROLE {it}".format(**role))


@pytest.fixture
def auth() -> Iterator[Provider]:
    with providing() as found:
        yield found


@pytest.fixture
def settings(editor: Books, auth: Provider, tmp_path: Path) -> dict[str, str]:
    """What the first two steps leave in the operator's shell; the database is migrated."""
    untouched = editor.rows(_AUTH_BEFORE)
    role = block(PAGE, "sql", "CREATE ROLE billhook").replace("TO postgres;", "TO project_owner;")
    # It exists already, because the cluster has other databases with Billhook.
    begin, _, rest = role.partition("CREATE ROLE project_admin NOLOGIN;")
    assert begin == ""
    editor.execute(rest.partition("\n")[2])
    script = block(PAGE, "sh", "export DATABASE_URL=")
    _, address, _ = script.split("'")
    assert "/postgres?sslmode=require" in address
    script = script.replace(address, as_user(editor.dsn, "billhook"))
    ran = shell.run(script.replace(PROJECT, auth.origin), tmp_path, {})
    assert editor.rows(_AUTH_BEFORE) == untouched
    return ran.environment


@pytest.fixture
def api(settings: dict[str, str], editor: Books, sandbox: str) -> Iterator[Api]:
    """Billhook with these settings, after the third step."""
    editor.execute(block(PAGE, "sql", "no_anonymous_subscribers"))
    connect(settings["DATABASE_URL"], sandbox, STRIPE_KEY)
    loaded = load_settings(**settings)
    assert loaded.jwt_audiences == ("authenticated",)
    with serving(
        settings["DATABASE_URL"],
        sandbox,
        jwks_url=loaded.jwks_url,
        jwt_audience=loaded.jwt_audience,
        jwt_issuer=loaded.jwt_issuer,
    ) as found:
        yield found


@pytest.fixture
def issuer(auth: Provider) -> Issuer:
    """Supabase's Auth, with the claims that its reference documents."""
    return Issuer(
        auth,
        ec.generate_private_key(ec.SECP256R1()),
        "ES256",
        iss=f"{auth.origin}/auth/v1",
        aud="authenticated",
        sub=USER,
        role="authenticated",
        aal="aal1",
        session_id="33333333-3333-4333-8333-333333333333",
        email="user@example.com",
        phone="",
        is_anonymous=False,
        app_metadata={"provider": "email", "providers": ["email"], "teams": ["t_42"]},
        user_metadata={"teams": ["t_1"]},
        amr=[{"method": "password", "timestamp": 1}],
    )


@pytest.fixture
def price(api: Api) -> str:
    product = api.stripe.v1.products.create({"name": "Mug"})
    made = api.stripe.v1.prices.create(
        {"product": product.id, "currency": "eur", "unit_amount": 1500}
    )
    return str(made.id)


def order(price: str, kind: str = "user", name: str = USER, **more: Any) -> dict[str, Any]:
    return {
        "mode": "payment",
        "lineItems": [{"priceId": price}],
        "successUrl": "https://your.app/done",
        "cancelUrl": "https://your.app/cart",
        "subject": {"type": kind, "id": name},
        **more,
    }


def test_a_user_buys_with_the_access_token_of_supabase(
    api: Api, issuer: Issuer, settings: dict[str, str], price: str, tmp_path: Path
) -> None:
    script = block(PAGE, "sh", "curl").replace("PRICE_ID", price).replace("USER_ID", USER)
    given = {"BILLHOOK_URL": api.url, "ACCESS_TOKEN": issuer.token()}
    made = json.loads(shell.run(script, tmp_path, given).out)
    assert made["checkoutSession"]["status"] == "open"
    assert made["checkoutSession"]["subjectId"] == USER


def test_the_policies_admit_and_refuse_whom_the_page_says(
    api: Api, issuer: Issuer, price: str
) -> None:
    def status(body: dict[str, Any], **claims: Any) -> int:
        return api.checkout(body, issuer.token(**claims)).status_code

    assert status(order(price, "team", "t_42")) == 201
    assert status(order(price, "team", "t_1")) == 403  # in user_metadata
    assert status(order(price, name=OTHER_USER)) == 403
    assert status(order(price), is_anonymous=True) == 201
    product = api.stripe.v1.products.create({"name": "Plan"})
    monthly = api.stripe.v1.prices.create(
        {
            "product": product.id,
            "currency": "eur",
            "unit_amount": 900,
            "recurring": {"interval": "month"},
        }
    )
    plan = order(monthly.id, mode="subscription")
    assert status(plan) == 201
    assert status(plan, is_anonymous=True) == 403
    portal = "/api/payments/stripe/test/customer-portal-sessions"
    teams = {"subject": {"type": "team", "id": "t_1"}}
    assert api.post(portal, teams, issuer.token()).status_code == 403


def test_a_token_of_another_project_or_audience_is_refused(
    api: Api, issuer: Issuer, price: str
) -> None:
    for claims in ({"iss": "https://other.supabase.co/auth/v1"}, {"aud": "anon"}):
        assert api.checkout(order(price), issuer.token(**claims)).status_code == 401


def test_supabases_own_keys_are_no_credentials_and_an_anonymous_key_is(
    api: Api, settings: dict[str, str], price: str, tmp_path: Path
) -> None:
    """Its legacy keys are signed with its JWT secret, which may be ours."""
    legacy = {"iss": "supabase", "ref": "abcdefghijklmnopqrst"}
    for key in (
        "sb_publishable_" + "x" * 22,
        token(None, role="anon", **legacy),
        token(None, role="service_role", **legacy),
    ):
        assert api.checkout(order(price), key).status_code == 401
    ran = shell.run(block(PAGE, "sh", "--anonymous"), tmp_path, settings)
    refused = api.checkout(order(price), ran.out.strip())  # no policy for guests on this page
    assert refused.status_code == 403


def test_an_access_token_with_the_legacy_secret_works_as_well(api: Api, price: str) -> None:
    assert api.checkout(order(price), token(is_anonymous=False)).status_code == 201


def test_doctor_finds_nothing_broken(
    editor: Books, issuer: Issuer, settings: dict[str, str], sandbox: str, tmp_path: Path
) -> None:
    editor.execute(block(PAGE, "sql", "no_anonymous_subscribers"))
    connect(settings["DATABASE_URL"], sandbox, STRIPE_KEY)  # with the secret of the tests
    given = {**settings, "STRIPE_API_BASE": sandbox, "JWT_SECRET": JWT_SECRET}
    del given["ENCRYPTION_KEY"]
    ran = shell.run(block(PAGE, "sh", "billhook doctor"), tmp_path, given)
    assert "0 broken" in ran.out
    assert "The JWKS has 1 usable key." in ran.out
    assert "superuser" not in ran.out


def test_the_editor_creates_the_trigger_and_an_order_is_paid(api: Api, editor: Books) -> None:
    editor.execute(app_sql()[0])
    granted = "SELECT has_table_privilege('authenticated', 'orders', 'SELECT') AS it"
    assert editor.row(granted) == {"it": False}
    trigger = "SELECT tgrelid::regclass::text AS it FROM pg_trigger WHERE tgname = 'fulfill_order'"
    assert editor.row(trigger) == {"it": "payments.webhook_events"}


@pytest.mark.full
@pytest.mark.parametrize("major", [15, 17])
def test_the_first_step_works_on_the_versions_that_supabase_runs(
    major: int, tmp_path: Path
) -> None:
    """With roles that nobody has prepared. Only since PostgreSQL 16 is the right to grant a role
    one of its own."""
    with servers.running(major, tmp_path) as server:
        Books(server.dsn()).execute("CREATE DATABASE app")
        project = _PROJECT.format(name="app").replace(", project_admin TO", " TO")
        if major < 16:
            project = project.replace("WITH ADMIN OPTION", "")
        administrator = Books(server.dsn("app"))
        administrator.execute("CREATE ROLE anon NOLOGIN; CREATE ROLE authenticated NOLOGIN")
        administrator.execute(project)
        editor = Books(as_user(administrator.dsn, "project_owner"))
        role = block(PAGE, "sql", "CREATE ROLE billhook")
        editor.execute(role.replace("TO postgres;", "TO project_owner;"))
        asyncio.run(migrate(as_user(administrator.dsn, "billhook")))
        editor.execute(block(PAGE, "sql", "no_anonymous_subscribers"))
