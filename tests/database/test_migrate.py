"""The schema: complete, repeatable, at home in databases that others made (contract §4)."""

from __future__ import annotations

import asyncio
import csv
import time
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import structlog

import billhook.postgres.migrate
import insforge
from billhook.account import archived_rows
from billhook.errors import SettingsError
from billhook.mirror.rebuild.fresh import TABLES
from billhook.postgres.embedded import EmbeddedPostgres
from billhook.postgres.migrate import Migration, MigrationError, function_files, migrate, migrations
from books import Books
from stripe_events import T0, event, invoice_payment, refund

# As a running InsForge database has them.
INSFORGE_COLUMNS = Path(__file__).parents[1] / "data" / "insforge_columns.tsv"


def test_every_column_of_insforge_is_there_with_its_type_and_nullability(books: Books) -> None:
    found = {
        (row["table_name"], row["column_name"]): (row["data_type"], row["is_nullable"])
        for row in books.rows(
            "SELECT table_name, column_name, data_type, is_nullable"
            " FROM information_schema.columns WHERE table_schema = 'payments'"
        )
    }
    with INSFORGE_COLUMNS.open() as file:
        for row in csv.DictReader(file, delimiter="\t"):
            assert found[row["table"], row["column"]] == (row["type"], row["nullable"]), row


def test_whatever_a_rebuild_fills_belongs_to_an_account_and_is_archived() -> None:
    assert set(TABLES) - set(archived_rows.TABLES) == set()


# What an environment keeps, whatever account is connected: the ledger, the settings, and the state
# of work.
STAYS = {
    "billhook.archived_events",
    "billhook.archives",
    "billhook.audit_log",
    "billhook.charge_requests",  # found by their account
    "billhook.endpoint_events",
    "billhook.event_accounts",
    "billhook.import_ranges",
    "billhook.imports",
    "billhook.pulls",
    "billhook.refund_requests",  # found by their account
    "billhook.signing_secrets",
    "billhook.sole_checkouts",
    "billhook.subscription_requests",
    "billhook.sync_ranges",
    "billhook.syncs",
    "billhook.verifications",
    "payments.access_settings",
    "payments.provider_connections",
    "payments.webhook_events",
}


def test_each_table_of_an_environment_is_archived_with_its_account_or_stays(books: Books) -> None:
    found = books.rows("""
        SELECT c.table_schema || '.' || c.table_name AS name
        FROM information_schema.columns c JOIN information_schema.tables t
          ON t.table_schema = c.table_schema AND t.table_name = c.table_name
        WHERE c.table_schema IN ('payments', 'billhook') AND c.column_name = 'environment'
          AND t.table_type = 'BASE TABLE'
    """)
    assert {row["name"] for row in found} - STAYS == set(archived_rows.TABLES)


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


def test_files_of_functions_that_this_version_lacks_are_forgotten(books: Books) -> None:
    books.execute("""
        INSERT INTO billhook.function_files VALUES ('batch', 'x');
        UPDATE billhook.function_files SET checksum = 'older' WHERE name = 'ledger';
    """)
    assert asyncio.run(migrate(books.dsn)) == ["functions/ledger"]
    names = books.rows("SELECT name FROM billhook.function_files ORDER BY name")
    assert [row["name"] for row in names] == [file.name for file in function_files()]


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


def later(number: int, name: str, sql: str) -> Migration:
    return Migration(number, name, sql)


def with_later(monkeypatch: pytest.MonkeyPatch, *more: Migration) -> None:
    """A version of Billhook that has further migrations."""
    known = (*migrations(), *more)
    monkeypatch.setattr(billhook.postgres.migrate, "migrations", lambda: known)


ADD_COLUMN = "ALTER TABLE payments.customers ADD COLUMN later text"


def test_readers_are_not_blocked_while_a_migration_waits_for_an_open_transaction(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A migration's lock queues before everybody who comes after it: it gives way in a second."""
    with_later(monkeypatch, later(9000, "later", ADD_COLUMN))

    async def run() -> tuple[list[str], float]:
        holder = await asyncpg.connect(books.dsn, statement_cache_size=0)
        reader = await asyncpg.connect(books.dsn, statement_cache_size=0)
        await holder.execute("BEGIN; SELECT FROM payments.customers")
        migrating = asyncio.create_task(migrate(books.dsn))
        slowest = 0.0
        while not await reader.fetchval(_MIGRATION_WAITS):
            pass
        for _ in range(3):
            began = time.monotonic()
            await reader.fetch("SELECT * FROM payments.customers")
            slowest = max(slowest, time.monotonic() - began)
        await holder.execute("COMMIT")
        applied = await migrating
        await holder.close()
        await reader.close()
        return applied, slowest

    applied, slowest = asyncio.run(run())
    assert applied == ["9000_later"]
    assert slowest < 3


_INDEX_IS_BEGUN = "SELECT to_regclass('payments.later_by_name') IS NOT NULL"
_MIGRATION_WAITS = """
SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND locktype = 'relation'
    AND relation = 'payments.customers'::regclass)
"""


def test_a_migration_that_gets_no_lock_says_who_holds_it(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_later(monkeypatch, later(9000, "later", ADD_COLUMN))
    monkeypatch.setattr(billhook.postgres.migrate, "LOCK_PATIENCE", 0.0)

    async def run() -> tuple[MigrationError, int]:
        holder = await asyncpg.connect(books.dsn, statement_cache_size=0)
        await holder.execute("SET application_name = 'pg_dump'; BEGIN; TABLE payments.customers")
        process = await holder.fetchval("SELECT pg_backend_pid()")
        with pytest.raises(MigrationError) as found:
            await migrate(books.dsn)
        await holder.execute("ROLLBACK")
        assert await migrate(books.dsn) == ["9000_later"]
        await holder.close()
        return found.value, process

    error, process = asyncio.run(run())
    assert f"process {process}" in error.message
    assert "'pg_dump'" in error.message
    assert f"SELECT pg_terminate_backend({process});" in str(error.next_actions)


INDEXES = """
-- Lookups by name.
CREATE INDEX CONCURRENTLY IF NOT EXISTS later_by_name ON payments.customers (name);
CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS later_by_phone
    ON payments.customers (environment, phone) WHERE phone <> '';
"""


def test_a_later_index_is_built_while_others_write(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_later(
        monkeypatch,
        later(9000, "column", ADD_COLUMN),
        later(9001, "indexes", INDEXES),
        later(9002, "another", "ALTER TABLE payments.customers ADD COLUMN another text"),
    )

    async def run() -> list[list[str]]:
        writer = await asyncpg.connect(books.dsn, statement_cache_size=0)
        await migrate_up_to(books.dsn, monkeypatch, 9000)
        # The building waits for this transaction, and nobody waits for the building.
        await writer.execute("BEGIN; UPDATE payments.customers SET name = name")
        migrating = [asyncio.create_task(migrate(books.dsn)) for _ in range(2)]
        other = await asyncpg.connect(books.dsn, statement_cache_size=0)
        while not await other.fetchval(_INDEX_IS_BEGUN):
            assert not any(each.done() for each in migrating)
        await other.execute(
            "SET lock_timeout = '2s'; INSERT INTO payments.customers (provider, environment, "
            "provider_customer_id, name) VALUES ('stripe', 'test', 'cus_1', 'Ada')"
        )
        assert not any(each.done() for each in migrating)
        await writer.execute("COMMIT")
        applied = [await each for each in migrating]
        await writer.close()
        await other.close()
        return applied

    applied = asyncio.run(run())
    # Once the indexes are built, either may go on with the rest.
    assert sorted(name for names in applied for name in names) == [
        "9001_indexes",
        "9002_another",
        "functions/ledger",
    ]
    valid = books.rows(
        "SELECT indisvalid FROM pg_index WHERE indexrelid IN "
        "('payments.later_by_name'::regclass, 'payments.later_by_phone'::regclass)"
    )
    assert valid == [{"indisvalid": True}] * 2


def test_a_process_that_waits_does_not_hold_up_the_index_that_it_waits_for(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_later(monkeypatch, later(9000, "indexes", INDEXES))
    # A waiting process checks most of the time whether it may migrate.
    looking = billhook.postgres.migrate._LOCK.replace("SELECT WHERE", "SELECT FROM {} WHERE")
    slowly = looking.format("pg_catalog.pg_sleep(0.5)")
    monkeypatch.setattr(billhook.postgres.migrate, "_LOCK", slowly)
    monkeypatch.setattr(billhook.postgres.migrate, "_LOOK_EVERY", 0.0)

    async def run() -> list[list[str]]:
        async with asyncio.timeout(60):
            return await asyncio.gather(*(migrate(books.dsn) for _ in range(3)))

    assert sorted(asyncio.run(run())) == [[], [], ["9000_indexes"]]


async def migrate_up_to(dsn: str, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    every = billhook.postgres.migrate.migrations()
    files = billhook.postgres.migrate.function_files()
    monkeypatch.setattr(
        billhook.postgres.migrate,
        "migrations",
        lambda: tuple(m for m in every if m.number <= number),
    )
    monkeypatch.setattr(
        billhook.postgres.migrate,
        "function_files",
        lambda: tuple(file for file in files if file.name != "ledger"),
    )
    await migrate(dsn)
    monkeypatch.setattr(billhook.postgres.migrate, "migrations", lambda: every)
    monkeypatch.setattr(billhook.postgres.migrate, "function_files", lambda: files)


def test_an_index_that_was_left_unfinished_is_built_again(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_later(monkeypatch, later(9000, "indexes", INDEXES))
    books.execute("""
        INSERT INTO payments.customers (provider, environment, provider_customer_id, phone)
        VALUES ('stripe', 'test', 'cus_1', '1'), ('stripe', 'test', 'cus_2', '1')
    """)
    with pytest.raises(MigrationError, match="later_by_phone"):
        asyncio.run(migrate(books.dsn))
    invalid = "SELECT indexrelid::regclass::text AS name FROM pg_index WHERE NOT indisvalid"
    assert books.rows(invalid) == [{"name": "payments.later_by_phone"}]
    books.execute("UPDATE payments.customers SET phone = '2' WHERE provider_customer_id = 'cus_2'")
    assert asyncio.run(migrate(books.dsn)) == ["9000_indexes"]
    assert books.rows(invalid) == []


def test_a_new_database_gets_later_indexes_with_its_tables(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_later(monkeypatch, later(9000, "indexes", INDEXES))
    assert "9000_indexes" in asyncio.run(migrate(empty_database_url))
    books = Books(empty_database_url)
    assert books.row("SELECT to_regclass('payments.later_by_phone') AS i")["i"] is not None


def test_a_process_that_waits_for_another_migration_says_for_whom(books: Books) -> None:
    async def run() -> list[dict[str, Any]]:
        holder = await asyncpg.connect(books.dsn, statement_cache_size=0)
        await holder.execute(
            "SET application_name = 'a stranger';"
            "SELECT pg_catalog.pg_advisory_lock("
            "pg_catalog.hashtextextended('billhook.migrate'::text, 0::bigint))"
        )
        with structlog.testing.capture_logs() as logs:
            migrating = asyncio.create_task(migrate(books.dsn))
            while not logs:  # noqa: ASYNC110 — a list
                await asyncio.sleep(0.01)
            await holder.close()
            await migrating
        return list(logs)

    (told,) = asyncio.run(run())
    assert told["application_name"] == "a stranger"
    assert f"pg_terminate_backend({told['pid']})" in told["next_actions"]


def test_a_database_that_is_not_in_utf8_is_refused(postgres: EmbeddedPostgres) -> None:
    books = Books(postgres.dsn())
    books.execute("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    with pytest.raises(SettingsError, match="encoding is LATIN1"):
        asyncio.run(migrate(postgres.dsn("latin")))
    books.execute("DROP DATABASE latin")
