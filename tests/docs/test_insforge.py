"""docs/how-to/insforge.md: a database that InsForge made is adopted, used, given back, and adopted
again."""

from __future__ import annotations

import asyncio
import csv
import os
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import stripe
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

import insforge
import shell
from api import STRIPE_KEY, Api, opened, serving
from billhook.postgres.embedded import EmbeddedPostgres
from billhook.postgres.migrate import migrate
from billhook.settings import load_settings
from books import Books
from http_tokens import ADMIN_KEY, ANONYMOUS_KEY, JWT_SECRET, USER, token
from pages import ROOT, block
from stripe_events import T0, event, refund

PAGE = "docs/how-to/insforge.md"
COLUMNS = ROOT / "tests/data/insforge_columns.tsv"
SESSIONS = "payments.stripe_checkout_sessions"
_SECRETS = """
    CREATE SCHEMA system;
    CREATE TABLE system.secrets (
        id uuid PRIMARY KEY DEFAULT gen_random_uuid(), key text NOT NULL UNIQUE,
        value_ciphertext text NOT NULL, is_active boolean NOT NULL DEFAULT true,
        is_reserved boolean NOT NULL DEFAULT false, last_used_at timestamptz,
        expires_at timestamptz, created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now())
"""
# What an app of InsForge's has: a policy, and a trigger in the form that InsForge documents.
_APP = f"""
    CREATE TABLE orders (id text PRIMARY KEY, status text NOT NULL, paid integer NOT NULL);
    INSERT INTO orders VALUES ('1001', 'pending', 0);
    CREATE FUNCTION fulfill() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
    BEGIN
        IF NEW.event_type = 'checkout.session.completed'
            AND NEW.processing_status = 'processed' THEN
            UPDATE public.orders SET status = 'paid', paid = paid + 1
            WHERE id = NEW.payload #>> '{{data,object,metadata,order_id}}';
        END IF;
        RETURN NEW;
    END $$;
    CREATE TRIGGER fulfill AFTER INSERT OR UPDATE ON payments.webhook_events
        FOR EACH ROW EXECUTE FUNCTION fulfill();
    ALTER TABLE {SESSIONS} ENABLE ROW LEVEL SECURITY;
    CREATE POLICY own ON {SESSIONS} TO authenticated USING (subject_id = auth.uid()::text);
"""
# InsForge has this function, among others.
_AUTH = """
    CREATE SCHEMA auth;
    GRANT USAGE ON SCHEMA auth TO PUBLIC;
    CREATE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql STABLE AS
        $$ SELECT (current_setting('request.jwt.claims', true)::jsonb ->> 'sub')::uuid $$;
"""
_ROWS = f"""
    INSERT INTO payments.customer_mappings
        (provider, environment, subject_type, subject_id, provider_customer_id)
        VALUES ('stripe', 'test', 'team', 't1', 'cus_1');
    INSERT INTO payments.transactions
        (provider, environment, type, status, provider_object_type, provider_object_id,
         provider_customer_id, amount, currency, paid_at, provider_created_at,
         related_object_ids, raw)
        VALUES ('stripe', 'test', 'one_time_payment', 'succeeded', 'payment_intent', 'pi_1',
            'cus_1', 2900, 'usd', to_timestamp({T0}), to_timestamp({T0}),
            '{{"payment_intent": "pi_1", "charge": "ch_1"}}', '{{"id": "pi_1"}}');
"""
# As InsForge's checkout inserts: the index that ON CONFLICT names must exist.
_INSERT = f"""
    INSERT INTO {SESSIONS} (environment, mode, status, success_url, cancel_url, idempotency_key)
    VALUES ('test', 'payment', 'initialized', 'https://a.b', 'https://a.b', 'key')
    ON CONFLICT (environment, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
"""


def encrypted(value: str) -> str:
    """As InsForge does, whose key is `JWT_SECRET` if there is no `ENCRYPTION_KEY`."""
    nonce = os.urandom(16)
    sealed = AESGCM(sha256(JWT_SECRET.encode()).digest()).encrypt(nonce, value.encode(), None)
    return f"{nonce.hex()}:{sealed[-16:].hex()}:{sealed[:-16].hex()}"


@pytest.fixture
def project(
    postgres: EmbeddedPostgres, template: str, empty_database_url: str, sandbox: str
) -> Books:
    """InsForge's database, with a customer that Stripe knows: the first sync removes mappings of
    others. `template`: a migration before this one made the callers' roles."""
    books = Books(postgres.dsn(urlsplit(empty_database_url).path.removeprefix("/")))
    insforge.make_payments(books)
    client = stripe.StripeClient(STRIPE_KEY, base_addresses={"api": sandbox})
    rows = _ROWS.replace("cus_1", client.v1.customers.create({"name": "Ada"}).id)
    for script in (_AUTH, _SECRETS, rows, _APP):
        books.execute(script)
    for name, value in (
        ("STRIPE_TEST_SECRET_KEY", STRIPE_KEY),
        ("API_KEY", ADMIN_KEY),
        ("ANON_KEY", ANONYMOUS_KEY),
        ("S3_SECRET", "of another service"),
    ):
        books.execute(
            "INSERT INTO system.secrets (key, value_ciphertext, is_reserved) "
            f"VALUES ('{name}', '{encrypted(value)}', true)"
        )
    return books


def settings(project: Books, folder: Path) -> dict[str, str]:
    """What the page's second step exports."""
    script = block(PAGE, "sh", "export DATABASE_URL=")
    for value, ours in (
        ("postgresql://postgres:PASSWORD@localhost:5432/insforge", f"'{project.dsn}'"),
        ("the same as in InsForge'", f"{JWT_SECRET}'"),
        ("the same as in InsForge, if it is set there", ""),
    ):
        assert value in script
        script = script.replace(value, ours, 1)
    return shell.run(script, folder, {}).environment


@contextmanager
def adopted(project: Books, sandbox: str, folder: Path) -> Iterator[Api]:
    """Billhook on that database, with InsForge's settings."""
    found = settings(project, folder)
    shell.run(block(PAGE, "sh", "billhook migrate"), folder, found)
    loaded = load_settings(**found)
    assert (loaded.api_base_url, loaded.port) == ("https://your.app", 7140)
    with serving(
        project.dsn,
        sandbox,
        jwt_secret=loaded.jwt_secret,
        encryption_key=loaded.encryption_key,
        access_api_key=None,
        access_anon_key=None,
    ) as api:
        yield api


def give_back(project: Books) -> None:
    project.execute(block(PAGE, "sql", "DROP SCHEMA billhook"))


def secrets(project: Books) -> dict[str, str]:
    rows = project.rows("SELECT key, value_ciphertext FROM system.secrets")
    return {row["key"]: row["value_ciphertext"] for row in rows}


def key_of(project: Books) -> str:
    """An idempotency key that no other test uses: all share a sandbox."""
    return urlsplit(project.dsn).path


def order(api: Api) -> dict[str, Any]:
    product = api.stripe.v1.products.create({"name": "Mug"})
    price = api.stripe.v1.prices.create(
        {"product": product.id, "currency": "eur", "unit_amount": 1500}
    )
    return {
        "mode": "payment",
        "lineItems": [{"priceId": price.id}],
        "successUrl": "https://your.app/done",
        "cancelUrl": "https://your.app/cart",
        "subject": {"type": "user", "id": USER},
        "metadata": {"order_id": "1001"},
        "idempotencyKey": key_of(api.books),
    }


def buy(api: Api, sandbox: str) -> dict[str, Any]:
    """Buy order 1001 as the app's user; returns the session's event."""
    session = opened(api.checkout(order(api), token()))["checkoutSessionId"]
    paid = {"session": session, "payment_method": "pm_card_visa"}
    httpx.post(f"{sandbox}/_sandbox/pay", json=paid, timeout=60).raise_for_status()
    (found,) = [
        each
        for each in api.stripe.v1.events.list({"limit": 100}).data
        if each.type == "checkout.session.completed" and each.data.object["id"] == session
    ]
    told: dict[str, Any] = found.to_dict()
    return told


def test_keys_rows_policies_and_triggers_of_insforge_go_on_working(
    project: Books, sandbox: str, tmp_path: Path
) -> None:
    before = secrets(project)
    with adopted(project, sandbox, tmp_path) as api:
        assert api.admin("GET", "/status").status_code == 200  # with InsForge's API key
        listed = api.admin("GET", "/test/transactions").json()["transactions"]
        assert [each["amount"] for each in listed] == [2900]
        told = buy(api, sandbox)
        assert api.deliver(told).status_code == 200
        assert project.rows("SELECT status, paid FROM orders") == [{"status": "paid", "paid": 1}]
        stranger = token("22222222-2222-4222-8222-222222222222")
        assert api.checkout(order(api), stranger).status_code == 403
    after = secrets(project)
    assert after["STRIPE_TEST_SECRET_KEY"].startswith("bh1.")
    for name in ("API_KEY", "ANON_KEY", "S3_SECRET"):
        assert after[name] == before[name], name


def test_the_adopted_rows_are_checked_against_stripe(
    project: Books, sandbox: str, tmp_path: Path
) -> None:
    script = block(PAGE, "sh", "billhook verify").replace(" live", " test")
    with adopted(project, sandbox, tmp_path) as api:
        api.stripe.v1.products.create({"name": "Made before"})
        given = {
            **settings(project, tmp_path),
            "STRIPE_API_BASE": sandbox,
            "BILLHOOK_URL": api.url,
            "BILLHOOK_API_KEY": ADMIN_KEY,
        }
        checks, doctor = script.replace("billhook doctor\n", ""), "billhook doctor\n"
        assert doctor in script
        shell.run(checks, tmp_path, given)
    assert project.rows("SELECT FROM payments.stripe_products WHERE name = 'Made before'")


def test_a_database_that_is_given_back_is_insforges_again(
    project: Books, sandbox: str, tmp_path: Path
) -> None:
    before = secrets(project)
    with adopted(project, sandbox, tmp_path) as api:
        told = buy(api, sandbox)
        api.deliver(told)
    rows = "SELECT id, status, amount FROM payments.transactions ORDER BY amount"
    kept = project.rows(rows)
    give_back(project)
    assert project.rows(rows) == kept
    assert project.rows("SELECT paid FROM orders") == [{"paid": 1}]
    found = {
        (row["table_name"], row["column_name"]): (row["data_type"], row["is_nullable"])
        for row in project.rows(
            "SELECT table_name, column_name, data_type, is_nullable"
            " FROM information_schema.columns WHERE table_schema = 'payments'"
        )
    }
    with COLUMNS.open() as file:
        theirs = {
            (row["table"], row["column"]): (row["type"], row["nullable"])
            for row in csv.DictReader(file, delimiter="\t")
        }
    assert found == {key: theirs[key] for key in found}
    for _ in range(2):  # the second time, the key is taken
        project.execute(_INSERT)
    assert len(project.rows(f"SELECT FROM {SESSIONS} WHERE idempotency_key = 'key'")) == 1
    left = secrets(project)
    assert left == {name: before[name] for name in ("API_KEY", "ANON_KEY", "S3_SECRET")}
    triggers = project.rows("SELECT tgname::text FROM pg_trigger WHERE NOT tgisinternal")
    assert triggers == [{"tgname": "fulfill"}]


def test_of_two_sessions_with_one_key_the_newest_keeps_it(
    project: Books, sandbox: str, tmp_path: Path
) -> None:
    with adopted(project, sandbox, tmp_path):
        for n, name in enumerate(("a", "b")):
            project.execute(f"""
                INSERT INTO {SESSIONS} (environment, mode, success_url, cancel_url, idempotency_key,
                    subject_type, subject_id, created_at)
                VALUES ('test', 'payment', 'https://a.b', 'https://a.b', 'key', 'user', '{name}',
                    to_timestamp({n}))""")
    give_back(project)
    kept = project.rows(f"SELECT subject_id FROM {SESSIONS} WHERE idempotency_key = 'key'")
    assert kept == [{"subject_id": "b"}]


def test_it_can_be_adopted_again(project: Books, sandbox: str, tmp_path: Path) -> None:
    with adopted(project, sandbox, tmp_path) as api:
        api.deliver(buy(api, sandbox))
    give_back(project)
    project.execute("UPDATE payments.transactions SET description = 'while InsForge was in charge'")
    asyncio.run(migrate(project.dsn))
    back = refund("re_1", payment_intent="pi_1", charge="ch_1", amount=400, currency="usd")
    project.apply(event("refund.created", back, at=300))
    payment = project.row(
        "SELECT amount_refunded, status, description, subject_id FROM payments.transactions "
        "WHERE provider_object_id = 'pi_1'"
    )
    assert payment == {
        "amount_refunded": 400,
        "status": "partially_refunded",
        "description": "while InsForge was in charge",
        "subject_id": "t1",
    }
