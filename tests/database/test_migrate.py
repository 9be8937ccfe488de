"""The schema: complete, repeatable, at home in databases that others made (contract §4)."""

from __future__ import annotations

import asyncio
import csv
from pathlib import Path

import pytest

import insforge
from billhook.db.migrate import MigrationError, function_files, migrate, migrations
from billhook.rebuild.fresh import TABLES
from books import Books
from stripe_events import T0, event, invoice_payment, refund

SHARED = Path(__file__).parents[3] / "shared" / "insforge"


def test_every_column_of_insforge_is_there_with_its_type_and_nullability(books: Books) -> None:
    if not SHARED.exists():
        pytest.skip("the contract's column list lies beside the repository, and is not here")
    found = {
        (row["table_name"], row["column_name"]): (row["data_type"], row["is_nullable"])
        for row in books.rows(
            "SELECT table_name, column_name, data_type, is_nullable"
            " FROM information_schema.columns WHERE table_schema = 'payments'"
        )
    }
    with (SHARED / "columns.tsv").open() as file:
        for row in csv.DictReader(file, delimiter="\t"):
            assert found[row["table"], row["column"]] == (row["type"], row["nullable"]), row


def test_every_column_of_a_fresh_database_is_known_as_our_own(books: Books) -> None:
    """A column that a later migration adds belongs into `billhook.own_columns` as well."""
    tables = "SELECT DISTINCT relation FROM billhook.own_columns"
    found = {row["relation"] for row in books.rows(tables)}
    of_accounts = books.rows("SELECT relation FROM billhook.account_tables()")
    assert found == {*TABLES, *(row["relation"] for row in of_accounts)}
    own = books.rows("SELECT relation, name FROM billhook.own_columns ORDER BY 1, 2")
    there = books.rows(f"""
        SELECT attrelid::regclass::text AS relation, attname::text AS name FROM pg_attribute
        WHERE attrelid IN (SELECT relation::regclass FROM ({tables}) AS t)
          AND attnum > 0 AND NOT attisdropped
        ORDER BY attrelid::regclass::text, attname::text
    """)
    assert own == there


def test_migrating_twice_and_from_many_processes_at_once_is_safe(empty_database_url: str) -> None:
    async def at_once() -> list[list[str]]:
        return await asyncio.gather(*(migrate(empty_database_url) for _ in range(5)))

    applied = asyncio.run(at_once())
    assert sorted(map(len, applied)) == [0, 0, 0, 0, len(migrations()) + len(function_files())]
    assert asyncio.run(migrate(empty_database_url)) == []


def test_functions_are_replaced_when_their_text_changes(books: Books) -> None:
    books.execute("""
        CREATE OR REPLACE FUNCTION billhook.backoff(failures integer) RETURNS interval
        LANGUAGE sql AS $$ SELECT interval '1 year' $$;
        UPDATE billhook.function_files SET checksum = 'older' WHERE name = 'ledger';
    """)
    assert asyncio.run(migrate(books.dsn)) == ["functions/ledger"]
    assert books.row("SELECT billhook.backoff(1) < interval '1 day' AS soon")["soon"]


def test_a_database_of_a_newer_version_is_left_alone(books: Books) -> None:
    books.execute("""
        INSERT INTO billhook.migrations VALUES (9999, 'later', 'x');
        UPDATE billhook.function_files SET checksum = 'newer';
    """)
    with pytest.raises(MigrationError, match=r"newer than this .* 9999_later"):
        asyncio.run(migrate(books.dsn))
    checksums = books.rows("SELECT DISTINCT checksum FROM billhook.function_files")
    assert checksums == [{"checksum": "newer"}]


def test_a_database_of_a_development_version_is_refused_in_one_sentence(books: Books) -> None:
    books.execute("UPDATE billhook.migrations SET name = 'old', checksum = 'x' WHERE number = 1")
    with pytest.raises(MigrationError, match="no upgrade path") as refused:
        asyncio.run(migrate(books.dsn))
    assert "delete the folder .billhook" in (refused.value.next_actions or "")


def test_roles_and_auth_functions_that_exist_are_left_alone(empty_database_url: str) -> None:
    books = Books(empty_database_url)
    books.execute(
        """CREATE SCHEMA auth;
           CREATE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql AS
           $$ SELECT '00000000-0000-0000-0000-00000000beef'::uuid $$;"""
    )
    asyncio.run(migrate(empty_database_url))
    assert str(books.row("SELECT auth.uid() AS id")["id"]).endswith("beef")
    assert books.row("SELECT to_regprocedure('auth.jwt()')::text AS f")["f"] == "auth.jwt()"


def test_rows_that_insforge_wrote_are_kept_and_go_on_living(empty_database_url: str) -> None:
    books = Books(empty_database_url)
    insforge.make_payments(books)
    books.execute(
        f"""
        INSERT INTO payments.customer_mappings
            (provider, environment, subject_type, subject_id, provider_customer_id)
            VALUES ('stripe', 'test', 'team', 't1', 'cus_1');
        INSERT INTO payments.transactions
            (provider, environment, type, status, provider_object_type, provider_object_id,
             provider_customer_id, amount, amount_refunded, currency, paid_at, refunded_at,
             provider_created_at, related_object_ids, raw)
            VALUES ('stripe', 'test', 'subscription_invoice', 'partially_refunded', 'invoice',
                'in_1', 'cus_1', 2900, 500, 'usd', to_timestamp({T0}), to_timestamp({T0 + 100}),
                to_timestamp({T0}), '{{"invoice": "in_1", "charge": "ch_1"}}', '{{"id": "in_1"}}'),
            ('stripe', 'test', 'refund', 'refunded', 'refund', 're_1', 'cus_1', 500, 500, 'usd',
                NULL, to_timestamp({T0 + 100}), to_timestamp({T0 + 100}),
                '{{"refund": "re_1", "charge": "ch_1"}}', '{{"id": "re_1"}}');
        """
    )
    before = books.rows("SELECT id FROM payments.transactions ORDER BY type")
    asyncio.run(migrate(empty_database_url))
    books.apply(
        event("invoice_payment.paid", invoice_payment(), at=200),
        event(
            "refund.created",
            refund("re_2", payment_intent="pi_9", amount=400, currency="usd"),
            at=300,
        ),
    )
    back, again, payment = books.rows(
        "SELECT * FROM payments.transactions ORDER BY type, provider_object_id"
    )
    assert {back["id"], payment["id"]} == {row["id"] for row in before}
    assert (payment["provider_object_id"], payment["amount_refunded"]) == ("pi_9", 900)
    assert (payment["amount"], payment["raw"]) == (2900, {"id": "in_1"})
    assert (payment["subject_type"], payment["subject_id"]) == ("team", "t1")
    assert (again["subject_id"], again["provider_parent_object_id"]) == ("t1", "pi_9")
    assert books.row("SELECT subject_id FROM payments.customer_mappings")["subject_id"] == "t1"


def test_an_administrator_of_the_app_may_attach_triggers_where_insforge_lets_them(
    books: Books,
) -> None:
    books.execute(
        """
        CREATE SCHEMA app AUTHORIZATION project_admin;
        SET ROLE project_admin;
        CREATE FUNCTION app.note() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RETURN NULL; END $$;
        CREATE TRIGGER note AFTER INSERT ON payments.customers
        FOR EACH ROW EXECUTE FUNCTION app.note();
        CREATE TRIGGER note AFTER UPDATE ON payments.webhook_events
        FOR EACH ROW EXECUTE FUNCTION app.note();
        CREATE TRIGGER note AFTER INSERT ON payments.stripe_checkout_sessions
        FOR EACH ROW EXECUTE FUNCTION app.note();
        CREATE TRIGGER note AFTER INSERT ON payments.stripe_customer_portal_sessions
        FOR EACH ROW EXECUTE FUNCTION app.note();
        """
    )
