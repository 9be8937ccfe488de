"""`billhook doctor`: whatever is wrong is named, with what to do; and nothing else."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any
from urllib.parse import urlsplit

import httpx
import orjson
import pytest
from pydantic import SecretStr

from api import Api, connect, serving
from billhook.access.secrets import SecretStore
from billhook.client import AsyncClient
from billhook.doctor import Finding, Report, examine
from billhook.doctor.stripe import clock
from billhook.postgres import Database
from billhook.settings import Settings
from cli import Billhook, billhook
from http_tokens import ADMIN_KEY, JWT_SECRET, SIGNING_SECRET
from odd_stripe import odd, with_odd_entries
from sandboxes import running_sandbox
from strangers import as_user
from stripe_events import customer, event

__all__ = ["billhook"]

PUBLIC = "http://127.0.0.1:9"
_accounts = count()
P384 = {"kty": "EC", "crv": "P-384", "alg": "ES384", "kid": "p"}
# RFC 8037, appendix A.2
ED25519 = {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}


@contextmanager
def jwks_at(keys: Any) -> Iterator[str]:
    """The address of an identity provider's keys; with None, one where nobody listens."""
    if keys is None:
        yield "http://127.0.0.1:9/jwks.json"
        return

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(orjson.dumps({"keys": keys}))

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/jwks.json"
        server.shutdown()


class Patient:
    """A Billhook with a key, its endpoint, and the settings that a doctor needs."""

    def __init__(self, api: Api, settings: Settings, key: str) -> None:
        self.api = api
        self.settings = settings
        self.key = key

    def examined(self, *, hours: float = 0, **changes: Any) -> Report:
        """With the settings of the server, `hours` from now."""
        settings = self.settings.model_copy(update=changes)
        return asyncio.run(examine(settings, None, datetime.now(UTC) + timedelta(hours=hours)))

    def connected(self) -> str:
        """The connected account."""
        row = self.api.books.row(
            "SELECT provider_account_id AS id FROM payments.provider_connections"
        )
        return str(row["id"])

    def store(self, secrets: dict[str, str]) -> None:
        """As InsForge stores them."""

        async def work(database: Database) -> None:
            for name, value in secrets.items():
                await SecretStore(database, self.settings).set(name, value)

        self.api.books.run(work)

    def stripe(self, method: str, path: str, **data: Any) -> Any:
        url = f"{self.api.stripe_url}/v1/{path}"
        answer = httpx.request(method, url, auth=(self.key, ""), data=data, timeout=60)
        answer.raise_for_status()
        return answer.json()

    @property
    def endpoint(self) -> str:
        return str(
            self.api.books.row(
                "SELECT webhook_endpoint_id AS id FROM payments.provider_connections "
                "WHERE environment = 'test'"
            )["id"]
        )


@pytest.fixture(scope="module")
def sandbox() -> Iterator[str]:
    """One whose clock nobody else moves on."""
    with running_sandbox() as url:
        yield url


@pytest.fixture(autouse=True)
def _never_stripe_itself(monkeypatch: pytest.MonkeyPatch, sandbox: str) -> None:
    monkeypatch.setattr("billhook.doctor.STRIPE_API_BASE", sandbox)


@pytest.fixture
def patient(database_url: str, sandbox: str) -> Iterator[Patient]:
    """All is well but that no policies are written and no event came yet."""
    key = f"sk_test_doctor{next(_accounts)}x{id(_accounts)}"
    connect(database_url, sandbox, key)
    settings = Settings(
        database_url=SecretStr(database_url),
        jwt_secret=SecretStr(JWT_SECRET),
        stripe_api_base=sandbox,
        public_url=PUBLIC,
        _env_file=None,
    )
    with serving(database_url, sandbox, public_url=PUBLIC) as api:
        assert api.admin("POST", "/test/webhook").status_code == 200
        yield Patient(api, settings, key)


def of(report: Report, check: str, environment: str | None = "test") -> list[Finding]:
    return [f for f in report.checks if (f.check, f.environment) == (check, environment)]


def only(report: Report, check: str, environment: str | None = "test") -> Finding:
    (finding,) = of(report, check, environment)
    return finding


def test_a_sound_billhook_is_told_so(patient: Patient) -> None:
    patient.api.books.execute(
        """
        ALTER TABLE payments.stripe_checkout_sessions ENABLE ROW LEVEL SECURITY;
        ALTER TABLE payments.stripe_customer_portal_sessions ENABLE ROW LEVEL SECURITY;
        CREATE POLICY a ON payments.stripe_checkout_sessions TO authenticated USING (true);
        CREATE POLICY a ON payments.stripe_customer_portal_sessions TO authenticated USING (true);
        """
    )
    books = patient.api.books
    books.apply(event("customer.created", customer()))
    report = patient.examined()
    assert report.healthy
    # The tests' own user is a superuser.
    assert {f.state for f in report.checks if f.check != "database user"} == {"ok", "skipped"}
    (skipped,) = (f for f in report.checks if f.state == "skipped")
    assert (skipped.check, skipped.environment) == ("stripe key", "live")
    assert [f.check for f in report.checks] == [
        *("database", "schema", "roles", "database user", "grants", "policies", "policies"),
        "subscription policies",
        *("access", "encryption"),
        *("stripe key", "signing secret", "webhook endpoint", "missed events"),
        *("events", "last event", "stripe key", "clock"),
    ]


def test_what_is_open_or_missing_is_told_with_the_statements_that_fix_it(patient: Patient) -> None:
    books = patient.api.books
    assert only(patient.examined(), "grants", None).state == "ok"
    books.execute("GRANT INSERT, UPDATE ON payments.transactions TO PUBLIC")
    open_now = only(patient.examined(), "grants", None)
    assert (open_now.state, "PUBLIC" in open_now.message) == ("warning", True)
    books.execute((open_now.next_actions or "").partition("\n")[2])
    books.execute("REVOKE INSERT ON payments.stripe_checkout_sessions FROM anon")
    missing = only(patient.examined(), "grants", None)
    assert missing.state == "broken"
    books.execute((missing.next_actions or "").partition("\n")[2])
    assert only(patient.examined(), "grants", None).state == "ok"


def test_without_events_of_a_sandbox_nobody_is_sent_to_stripes_dashboard(
    patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "Stripe's Dashboard" in (only(patient.examined(), "last event").next_actions or "")
    monkeypatch.setattr("billhook.doctor.STRIPE_API_BASE", "https://api.stripe.com")
    advice = only(patient.examined(), "last event").next_actions or ""
    assert advice.startswith("Change something in the sandbox")
    assert "Stripe's Dashboard" not in advice


def test_an_apps_table_in_the_private_schema_is_to_be_moved(patient: Patient) -> None:
    patient.api.books.execute("""
        CREATE TABLE billhook.team_members (team_id text);
        GRANT SELECT ON billhook.team_members TO authenticated""")
    report = patient.examined()
    assert only(report, "grants", None).state == "ok"
    misplaced = only(report, "private schema", None)
    assert misplaced.state == "warning"
    assert "not Billhook's: billhook.team_members." in misplaced.message
    patient.api.books.execute((misplaced.next_actions or "").partition("\n")[2])
    assert of(patient.examined(), "private schema", None) == []


def test_a_foreign_key_that_forbids_deletions_is_warned_of(patient: Patient) -> None:
    patient.api.books.execute("""
        CREATE TABLE notes (of_payment uuid REFERENCES payments.transactions ON DELETE SET NULL);
        CREATE TABLE receipts (of_payment uuid REFERENCES payments.transactions);
    """)
    found = only(patient.examined(), "foreign keys", None)
    assert found.state == "warning"
    assert "receipts_of_payment_fkey of public.receipts" in found.message


def test_a_superuser_is_warned_of_and_another_owner_is_not(
    patient: Patient, direct_database_url: str
) -> None:
    warned = only(patient.examined(), "database user", None)
    assert (warned.state, "the superuser postgres" in warned.message) == ("warning", True)
    name = "doctors_owner"
    patient.api.books.execute(
        f"DO $$ BEGIN CREATE ROLE {name} LOGIN; "
        "EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$;"
        f"GRANT anon, authenticated, project_admin TO {name};"
        f"GRANT USAGE ON SCHEMA billhook, payments, system TO {name};"
        f"GRANT ALL ON ALL TABLES IN SCHEMA billhook, payments, system TO {name}"
    )
    url = SecretStr(as_user(direct_database_url, name))
    assert of(patient.examined(database_url=url), "database user", None) == []
    patient.api.books.execute(f"DROP OWNED BY {name}")


def test_policies_that_are_missing_are_warned_of_with_ones_that_work(patient: Patient) -> None:
    report = patient.examined()
    assert report.healthy
    warnings = of(report, "policies", None)
    assert [f.state for f in warnings] == ["warning", "warning"]
    assert "anyone can bill any subject, even without signing in" in warnings[0].message
    assert "manage the billing of any subject" in warnings[1].message
    for warning in warnings:
        assert warning.next_actions is not None
        patient.api.books.execute(warning.next_actions.partition("\n")[2])
    assert [f.state for f in of(patient.examined(), "policies", None)] == ["ok", "ok"]
    patient.api.books.execute("DROP POLICY own_user ON payments.stripe_checkout_sessions")
    (nobody, _) = of(patient.examined(), "policies", None)
    assert "no policy allows access" in nobody.message


def test_access_by_test_cards_is_warned_of_once_live_is_connected(patient: Patient) -> None:
    assert only(patient.examined(), "access", None).state == "ok"
    patient.api.books.execute("""
        INSERT INTO payments.provider_connections (provider, environment, status)
        VALUES ('stripe', 'live', 'connected')""")
    found = only(patient.examined(), "access", None)
    assert (found.state, found.next_actions) == (
        "warning",
        "billhook access set --environment live",
    )
    patient.api.books.execute("UPDATE payments.access_settings SET environment = 'live'")
    assert only(patient.examined(), "access", None).state == "ok"
    patient.api.books.execute("DELETE FROM payments.access_settings")
    assert only(patient.examined(), "access", None).state == "warning"


def break_migration(patient: Patient) -> None:
    patient.api.books.execute("DELETE FROM billhook.migrations WHERE number = 2")


def forget_functions(patient: Patient) -> None:
    patient.api.books.execute("UPDATE billhook.function_files SET checksum = 'x'")


def add_migration(patient: Patient) -> None:
    patient.api.books.execute("INSERT INTO billhook.migrations VALUES (9999, 'later', 'x')")


def alter_migration(patient: Patient) -> None:
    patient.api.books.execute("UPDATE billhook.migrations SET checksum = 'x' WHERE number = 2")


def disable(patient: Patient) -> None:
    patient.stripe("POST", f"webhook_endpoints/{patient.endpoint}", disabled="true")


def forget_events(patient: Patient) -> None:
    path = f"webhook_endpoints/{patient.endpoint}"
    patient.stripe("POST", path, **{"enabled_events[0]": "customer.created"})


def lead_astray(patient: Patient) -> None:
    path = f"webhook_endpoints/{patient.endpoint}"
    patient.stripe("POST", path, url="https://elsewhere.example/api/webhooks/stripe/test")


def delete_endpoint(patient: Patient) -> None:
    patient.stripe("DELETE", f"webhook_endpoints/{patient.endpoint}")


def never_configured(patient: Patient) -> None:
    delete_endpoint(patient)
    patient.api.books.execute("UPDATE payments.provider_connections SET webhook_endpoint_id = NULL")


def lose_secret(patient: Patient) -> None:
    patient.api.books.execute("DELETE FROM system.secrets WHERE key LIKE '%WEBHOOK_SECRET%'")


def change_account(patient: Patient) -> None:
    patient.api.books.execute(
        "UPDATE payments.provider_connections SET provider_account_id = 'acct_other'"
    )


def remove_key(patient: Patient) -> None:
    patient.api.books.execute("UPDATE system.secrets SET is_active = false")


def fail_events(patient: Patient) -> None:
    patient.api.books.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'no room on the shelf'; END $$;"
        "CREATE TRIGGER refuse AFTER INSERT OR UPDATE ON payments.webhook_events FOR EACH ROW "
        "WHEN (NEW.processing_status = 'processed') EXECUTE FUNCTION refuse()"
    )
    patient.api.books.apply(event("customer.created", customer()))


def miss_event(patient: Patient) -> None:
    patient.api.books.execute(
        "UPDATE payments.provider_connections SET webhook_configured_at = now() - interval '1 day'"
    )
    patient.stripe("POST", "products", name="Tea")


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("harm", "check", "environment", "says", "do"),
    [
        (break_migration, "schema", None, "not up to date", "billhook migrate"),
        (forget_functions, "schema", None, "not up to date", "billhook migrate"),
        (add_migration, "schema", None, "newer than this version", "Upgrade"),
        (alter_migration, "schema", None, "no upgrade path", "new database"),
        (disable, "webhook endpoint", "test", "has disabled", "webhooks configure"),
        (forget_events, "webhook endpoint", "test", "does not receive", "webhooks configure"),
        (lead_astray, "webhook endpoint", "test", ", not to", "webhooks configure"),
        (delete_endpoint, "webhook endpoint", "test", "no longer exists", "webhooks configure"),
        (never_configured, "webhook endpoint", "test", "no endpoint", "webhooks configure"),
        (lose_secret, "signing secret", "test", "every event is rejected", "webhooks configure"),
        (change_account, "stripe key", "test", "the mirror for acct_other", "config set"),
        (remove_key, "stripe key", None, "Neither environment", "config set"),
        (fail_events, "events", "test", "1 customer.created", "events replay --failed"),
        (miss_event, "missed events", "test", "never arrived", "billhook sync"),
    ],
)
def test_what_is_broken_is_named_with_what_to_do(
    patient: Patient,
    harm: Callable[[Patient], None],
    check: str,
    environment: str | None,
    says: str,
    do: str,
) -> None:
    assert patient.examined().healthy
    harm(patient)
    report = patient.examined(hours=1)
    assert not report.healthy
    # The clock is an hour away here: this examination is one of the future.
    broken = [f for f in report.checks if f.state == "broken" and f.check != "clock"]
    (finding,) = broken
    assert (finding.check, finding.environment) == (check, environment)
    assert says in finding.message
    assert do in (finding.next_actions or "")


def test_function_files_of_other_versions_do_not_make_a_database_newer(patient: Patient) -> None:
    patient.api.books.execute("INSERT INTO billhook.function_files VALUES ('batch', 'x')")
    assert only(patient.examined(), "schema", None).state == "ok"


def test_an_event_on_its_way_is_not_missed(patient: Patient) -> None:
    miss_event(patient)
    assert only(patient.examined(), "missed events").state == "ok"


def test_entries_of_stripes_lists_that_are_no_objects_do_not_end_an_examination(
    patient: Patient,
) -> None:
    miss_event(patient)
    with odd(patient.settings.stripe_api_base, with_odd_entries) as address:
        report = patient.examined(hours=1, stripe_api_base=address)
    assert only(report, "missed events").state == "broken"
    assert only(report, "webhook endpoint").state == "ok"


def test_without_a_public_url_events_are_pulled_and_that_is_no_fault(patient: Patient) -> None:
    never_configured(patient)
    lose_secret(patient)
    report = patient.examined(public_url=None)
    assert report.healthy
    finding = only(report, "webhook endpoint")
    assert (finding.state, "events are pulled" in finding.message) == ("ok", True)
    assert "BILLHOOK_PUBLIC_URL" in (finding.next_actions or "")
    assert only(report, "signing secret").state == "ok"


def test_what_happened_before_the_account_was_connected_is_not_missed(patient: Patient) -> None:
    never_configured(patient)
    patient.stripe("POST", "products", name="Tea")
    patient.api.books.execute(
        "UPDATE payments.provider_connections SET webhook_configured_at = NULL;"
        "UPDATE billhook.pulls SET since = since + interval '1 minute'"
    )
    assert only(patient.examined(public_url=None, hours=1), "missed events").state == "ok"
    patient.api.books.execute("UPDATE billhook.pulls SET since = since - interval '1 day'")
    assert only(patient.examined(public_url=None, hours=1), "missed events").state == "broken"


def test_an_endpoint_made_by_hand_needs_its_secret_without_a_public_url(patient: Patient) -> None:
    never_configured(patient)
    lose_secret(patient)
    url = f"{PUBLIC}/api/webhooks/stripe/test"
    patient.stripe("POST", "webhook_endpoints", url=url, **{"enabled_events[0]": "*"})
    assert only(patient.examined(public_url=None), "signing secret").state == "broken"


def test_an_endpoint_made_by_hand_is_judged_like_ours(patient: Patient) -> None:
    never_configured(patient)
    lose_secret(patient)
    made = patient.stripe(
        "POST",
        "webhook_endpoints",
        url=f"{PUBLIC}/api/webhooks/stripe/test",
        **{"enabled_events[0]": "*"},
    )
    report = patient.examined(stripe_test_webhook_secret=SecretStr(made["secret"]))
    assert only(report, "signing secret").state == "ok"
    assert only(report, "webhook endpoint").state in ("ok", "warning")
    assert made["id"] in only(report, "webhook endpoint").message


def test_endpoints_of_other_deployments_are_named(patient: Patient) -> None:
    """Of a copy of the database, of the original, or of the URL before this one."""
    path = f"webhook_endpoints/{patient.endpoint}"
    patient.stripe("POST", path, url="https://before.example.com/api/webhooks/stripe/test")
    assert patient.api.admin("POST", "/test/webhook").status_code == 200
    report = patient.examined()
    assert only(report, "webhook endpoint").state == "ok"
    other = only(report, "other endpoints")
    assert (other.state, "https://before.example.com/" in other.message) == ("warning", True)
    assert "delete the endpoint in Stripe's Dashboard" in (other.next_actions or "")
    patient.stripe("POST", path, disabled="true")
    assert of(patient.examined(), "other endpoints") == []


def test_a_key_of_another_encryption_is_told_apart(patient: Patient) -> None:
    report = patient.examined(jwt_secret=SecretStr("another secret, which is long enough too"))
    finding = only(report, "stripe key")
    assert finding.state == "broken"
    assert "ENCRYPTION_KEY" in (finding.next_actions or "")
    assert only(report, "encryption", None).state == "broken"


def test_the_doctor_names_published_keys_that_insforge_stored(patient: Patient) -> None:
    secrets = {"API_KEY": "ik_your-api-key-here-32-chars-minimum", "ANON_KEY": "anon_5f0c8e1b2d7a"}
    patient.store(secrets)
    finding = only(patient.examined(), "api keys", None)
    assert (finding.state, "API_KEY" in finding.message) == ("warning", True)
    assert not {*secrets.values(), "ANON_KEY"} & set(finding.message.split())
    patient.store({"API_KEY": "ik_5f0c8e1b2d7a4936b1c8e0f7a2d95346"})
    assert of(patient.examined(), "api keys", None) == []


def test_the_doctor_says_when_a_previous_encryption_key_can_go(patient: Patient) -> None:
    key = SecretStr("5f0c8e1b2d7a4936b1c8e0f7a2d95346")
    rotated = {"encryption_key": key, "previous_encryption_key": SecretStr(JWT_SECRET)}
    during = only(patient.examined(**rotated), "encryption", None)
    assert (during.state, "Restart" in (during.next_actions or "")) == ("warning", True)
    with serving(patient.api.books.dsn, patient.api.stripe_url, **rotated):
        pass
    after = only(patient.examined(**rotated), "encryption", None)
    assert "no longer needed" in (after.next_actions or "")
    assert only(patient.examined(encryption_key=key), "encryption", None).state == "ok"


def test_the_doctor_counts_the_signing_secrets(patient: Patient) -> None:
    assert "1 signing secret is accepted" in only(patient.examined(), "signing secret").message
    by_hand = {"stripe_test_webhook_secret": SecretStr("whsec_one,whsec_two")}
    assert "3 signing secrets" in only(patient.examined(**by_hand), "signing secret").message


def test_the_doctor_names_signing_secrets_of_an_account_that_is_not_connected(
    patient: Patient,
) -> None:
    assert patient.api.deliver(event("customer.created", customer())).status_code == 200
    before = patient.connected()
    by_hand = {"stripe_test_webhook_secret": SecretStr(SIGNING_SECRET)}
    assert only(patient.examined(**by_hand), "signing secret").state == "ok"
    connect(patient.settings.database_url.get_secret_value(), patient.api.stripe_url, "sk_test_b_1")
    connected = patient.connected()
    finding = only(patient.examined(**by_hand), "signing secret")
    assert finding.state == "broken"
    assert f"signed events of {before}" in finding.message
    assert f"while {connected} is connected" in finding.message
    assert "roll it in Stripe" in (finding.next_actions or "")
    both = {"stripe_test_webhook_secret": SecretStr(f"{SIGNING_SECRET},whsec_of_second")}
    assert only(patient.examined(**both), "signing secret").state == "warning"


def test_the_doctor_names_settings_without_effect(patient: Patient) -> None:
    changes = {"public_url": None, "api_base_url": "http://localhost:7130"}
    finding = only(patient.examined(**changes), "settings", None)
    assert (finding.state, "http://localhost:7130" in finding.message) == ("warning", True)
    dsn = f"{patient.settings.database_url.get_secret_value()}&channel_binding=require"
    report = patient.examined(database_url=SecretStr(dsn))
    assert "channel_binding" in only(report, "settings", None).message
    assert only(report, "database", None).state == "ok"


@pytest.mark.parametrize(
    ("keys", "audience", "state", "said"),
    [
        ([ED25519], "shop", "ok", "1 usable key"),
        ([ED25519, P384], "shop", "warning", "unusable: p (ES384)"),
        ([P384], "shop", "broken", "no usable keys; unusable: p (ES384)"),
        ([], "shop", "broken", "no usable keys"),
        ([ED25519], "*", "warning", "for any application"),
        (None, "shop", "broken", "cannot be fetched"),
    ],
)
def test_the_doctor_looks_at_the_identity_providers_keys(
    patient: Patient, keys: Any, audience: str, state: str, said: str
) -> None:
    with jwks_at(keys) as url:
        report = patient.examined(jwks_url=url, jwt_audience=audience)
    finding = only(report, "jwks", None)
    assert (finding.state, said in finding.message) == (state, True), finding


def test_stripe_and_postgres_away_are_one_finding_each(patient: Patient) -> None:
    away = patient.examined(stripe_api_base="http://127.0.0.1:9")
    assert "could not be reached" in only(away, "stripe key").message
    assert only(away, "clock", None).state == "warning"
    report = patient.examined(database_url=SecretStr("postgresql://app:hunter2@127.0.0.1:9/none"))
    assert only(report, "database", None).state == "broken"
    assert "hunter2" not in report.model_dump_json()


def test_a_database_user_without_rights_is_told_so(
    patient: Patient, direct_database_url: str
) -> None:
    patient.api.books.execute(
        "DO $$ BEGIN CREATE ROLE doctors_guest LOGIN; "
        "EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$;"
        "GRANT USAGE ON SCHEMA billhook TO doctors_guest;"
        "GRANT SELECT ON billhook.migrations, billhook.function_files TO doctors_guest"
    )
    address = urlsplit(direct_database_url)
    guest = address._replace(netloc=f"doctors_guest@{address.netloc.rpartition('@')[2]}").geturl()
    report = patient.examined(database_url=SecretStr(guest))
    broken = [f for f in report.checks if f.state == "broken"]
    assert {f.check for f in broken} == {"roles", "database"}
    assert "GRANT anon TO" in (broken[0].next_actions or "")
    assert "PostgreSQL rejected a query: permission denied" in broken[-1].message


def test_an_empty_database_needs_a_migration(patient: Patient, empty_database_url: str) -> None:
    report = patient.examined(database_url=SecretStr(empty_database_url))
    assert [f.check for f in report.checks if f.state == "broken"] == ["schema"]


@pytest.mark.parametrize(
    ("seconds", "state"),
    [(0, "ok"), (-20, "ok"), (60, "warning"), (-299, "warning"), (301, "broken")],
)
def test_the_clock_matters_from_where_signatures_are_refused(seconds: int, state: str) -> None:
    ours = datetime(2026, 5, 12, tzinfo=UTC)
    assert clock(ours + timedelta(seconds=seconds), ours).state == state


class TestOverTheApi:
    def examined(self, patient: Patient, key: str = ADMIN_KEY) -> Report:
        async def work() -> Report:
            async with AsyncClient(patient.api.url, key) as client:
                return await examine(None, client, datetime.now(UTC))

        return asyncio.run(work())

    def test_it_tells_what_the_server_knows(self, patient: Patient) -> None:
        report = self.examined(patient)
        assert only(report, "server", None).state == "ok"
        assert only(report, "stripe key").state == "ok"
        assert patient.endpoint in only(report, "webhook endpoint").message
        assert only(report, "last event").state == "warning"
        assert only(report, "policies", None).state == "skipped"
        fail_events(patient)
        failing = self.examined(patient)
        assert not failing.healthy
        assert "no room on the shelf" in only(failing, "events").message

    def test_a_wrong_key_ends_it(self, patient: Patient) -> None:
        report = self.examined(patient, key="ik_wrongwrongwrongwrong")
        assert only(report, "admin key", None).state == "broken"

    def test_a_server_that_is_not_there_ends_it(self, patient: Patient) -> None:
        async def work() -> Report:
            async with AsyncClient("http://127.0.0.1:9", ADMIN_KEY, retries=0) as client:
                return await examine(None, client, datetime.now(UTC))

        report = asyncio.run(work())
        assert [f.check for f in report.checks] == ["server"]
        assert not report.healthy


class TestCommand:
    @pytest.fixture
    def at_server(
        self, patient: Patient, monkeypatch: pytest.MonkeyPatch, billhook: Billhook
    ) -> Billhook:
        monkeypatch.setenv("DATABASE_URL", patient.settings.database_url.get_secret_value())
        monkeypatch.setenv("JWT_SECRET", JWT_SECRET)
        monkeypatch.setenv("STRIPE_API_BASE", patient.settings.stripe_api_base)
        monkeypatch.setenv("BILLHOOK_PUBLIC_URL", PUBLIC)
        return billhook

    def test_people_read_what_is_broken_and_what_to_do(
        self, at_server: Billhook, patient: Patient
    ) -> None:
        sound = at_server("doctor")
        assert sound.code == 0
        assert "0 broken" in sound.out
        assert "CREATE POLICY" in sound.out
        patient.api.books.execute(
            "ALTER TABLE payments.stripe_checkout_sessions ENABLE ROW LEVEL SECURITY;"
            "CREATE POLICY a ON payments.stripe_checkout_sessions TO authenticated USING (true);"
        )
        patient.api.books.apply(event("customer.created", customer()))
        assert "0 broken, 2 warnings.\n" in at_server("doctor").out
        disable(patient)
        broken = at_server("doctor")
        assert broken.code == 1
        assert re.search(r"^broken +test webhook endpoint: .* has disabled", broken.out, re.M)
        assert "1 broken" in broken.out
        assert patient.key not in broken.out

    def test_a_published_secret_is_reported(
        self, at_server: Billhook, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name, published in (
            ("ACCESS_API_KEY", "ik_your-api-key-here-32-chars-minimum"),
            ("JWT_SECRET", "your-secret-key-here-must-be-32-char-or-above"),
        ):
            monkeypatch.setenv(name, published)
            ran = at_server("doctor")
            assert (ran.code, ran.out) == (2, "")
            assert f"{name} looks like a placeholder" in ran.err
            assert published not in ran.err

    def test_programs_get_json(self, at_server: Billhook, patient: Patient) -> None:
        fail_events(patient)
        ran = at_server("doctor", "--json")
        assert ran.code == 1
        assert ran.json["healthy"] is False
        (found,) = (f for f in ran.json["checks"] if f["state"] == "broken")
        assert (found["check"], found["environment"]) == ("events", "test")
        assert "events replay" in found["nextActions"]

    def test_with_a_link_alone_it_asks_the_api(
        self, patient: Patient, billhook: Billhook, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        nothing = billhook("doctor")
        assert nothing.code == 2
        assert "DATABASE_URL" in nothing.err
        monkeypatch.setenv("BILLHOOK_API_KEY", ADMIN_KEY)
        monkeypatch.setenv("STRIPE_API_BASE", patient.api.stripe_url)
        monkeypatch.setattr("billhook.doctor.STRIPE_API_BASE", "http://127.0.0.1:9")
        ran = billhook("doctor", "--url", patient.api.url, "--json")
        assert ran.json["checks"][-1]["check"] == "clock"
        assert ran.json["checks"][-1]["state"] == "ok"
        assert [f["check"] for f in ran.json["checks"]][:2] == ["server", "admin key"]
