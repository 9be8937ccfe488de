"""What the ledger keeps, and when the app's triggers fire (contract section 4)."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest
from structlog.testing import capture_logs

from billhook import postgres
from billhook.errors import DatabaseBusy, DatabaseUnavailable, ObjectLocked, SettingsError
from billhook.ledger import EventNotApplied, EventNotRecorded, Ledger, decode, replaying
from billhook.models import ReplayEvents
from billhook.postgres import Database
from billhook.postgres.refusals import is_of_the_app
from billhook.recovery import housekeeping
from billhook.rows.loading import Wanted
from books import Books, apply_one
from strangers import as_user
from strangers import stranger as a_stranger
from stripe_events import customer, event, payload, payment_intent, session, subject

FULFILL = """
    CREATE TABLE public.orders (id text PRIMARY KEY, fulfilled integer NOT NULL DEFAULT 0);
    INSERT INTO public.orders (id) VALUES ('o1');
    CREATE FUNCTION public.fulfill() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        UPDATE public.orders SET fulfilled = fulfilled + 1
        WHERE id = NEW.payload #>> '{data,object,metadata,order}';
        RETURN NEW;
    END $$;
    CREATE TRIGGER fulfill AFTER INSERT OR UPDATE ON payments.webhook_events
        FOR EACH ROW WHEN (NEW.processing_status = 'processed')
        EXECUTE FUNCTION public.fulfill();
"""
BROKEN = """
    CREATE OR REPLACE FUNCTION public.fulfill() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION 'no stock left'; END $$;
"""
# On every write to the ledger, whatever the status.
REFUSE = """
    CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION 'no stock left'; END $$;
    CREATE TRIGGER refuse AFTER INSERT OR UPDATE ON payments.webhook_events
        FOR EACH ROW EXECUTE FUNCTION public.refuse();
"""
TRIGGERS = """
    SELECT tgname::text, tgenabled::text FROM pg_trigger
    WHERE tgrelid = 'payments.webhook_events'::regclass ORDER BY 1
"""
WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted"
PAID = {"insforge_checkout_mode": "payment", "order": "o1"}


def test_an_order_is_fulfilled_once_however_often_its_event_comes(books: Books) -> None:
    books.execute(FULFILL)
    paid = event("checkout.session.completed", session(metadata=PAID))
    first, second = books.apply(paid, paid)
    assert (first["handled"], second["handled"]) == (True, False)
    assert second["processing_status"] == "processed"
    assert books.row("SELECT fulfilled FROM public.orders")["fulfilled"] == 1
    books.apply_at_once([[paid]] * 8)
    assert books.row("SELECT fulfilled FROM public.orders")["fulfilled"] == 1
    row = books.row("SELECT * FROM payments.webhook_events")
    assert (row["provider"], row["attempt_count"], row["last_error"]) == ("stripe", 1, None)
    assert (row["object_type"], row["object_id"]) == ("checkout.session", "cs_1")
    assert row["payload"] == paid
    assert row["processed_at"] is not None


def test_triggers_see_every_derived_row(books: Books) -> None:
    books.execute(
        """
        CREATE TABLE public.seen (transactions bigint, mappings bigint);
        CREATE FUNCTION public.look() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            INSERT INTO public.seen SELECT
                (SELECT count(*) FROM payments.transactions),
                (SELECT count(*) FROM payments.customer_mappings);
            RETURN NEW;
        END $$;
        CREATE TRIGGER look AFTER UPDATE ON payments.webhook_events
            FOR EACH ROW WHEN (NEW.processing_status = 'processed')
            EXECUTE FUNCTION public.look();
        """
    )
    books.apply(event("checkout.session.completed", session(metadata=PAID | subject())))
    assert books.row("SELECT * FROM public.seen") == {"transactions": 1, "mappings": 1}


def test_a_trigger_that_raises_fails_the_event_but_not_the_mirror(books: Books) -> None:
    books.execute(FULFILL + BROKEN)
    paid = event("checkout.session.completed", session(metadata=PAID))
    with capture_logs() as logged:
        (answer,) = books.apply(paid)
    assert logged[0]["raised_in"] == "PL/pgSQL function fulfill() line 2 at RAISE"
    assert isinstance(answer, EventNotApplied)
    assert (answer.status, "no stock left" in answer.message) == (500, True)
    row = books.row("SELECT * FROM payments.webhook_events")
    assert (row["processing_status"], row["processed_at"]) == ("failed", None)
    assert "no stock left" in row["last_error"]
    assert books.row("SELECT status FROM payments.transactions")["status"] == "succeeded"

    books.execute("DROP FUNCTION public.fulfill CASCADE; DROP TABLE public.orders;" + FULFILL)
    (again,) = books.apply(paid)
    assert (again["handled"], again["attempt_count"], again["last_error"]) == (True, 2, None)
    assert books.row("SELECT fulfilled FROM public.orders")["fulfilled"] == 1


REFUSING_EVERYTHING = {
    "raises after each write": ("AFTER INSERT OR UPDATE", "RAISE EXCEPTION 'no stock left';"),
    "raises before each write": ("BEFORE INSERT OR UPDATE", "RAISE EXCEPTION 'no stock left';"),
    "forgets to return": ("AFTER INSERT OR UPDATE", "NULL;"),
    "drops each write": ("BEFORE INSERT OR UPDATE", "RETURN NULL;"),
    "drops each change": ("BEFORE UPDATE", "RETURN NULL;"),
}
REASON_TOLD = {
    "forgets to return": "control reached end of trigger procedure without RETURN",
    "drops each write": "a trigger on payments.webhook_events drops what is written",
    "drops each change": "a trigger on payments.webhook_events drops what is written",
}


@pytest.mark.parametrize("enabled", ["ENABLE", "ENABLE ALWAYS"])
@pytest.mark.parametrize("kind", REFUSING_EVERYTHING)
def test_a_trigger_that_refuses_every_write_to_the_ledger_fails_the_event_alone(
    books: Books, kind: str, enabled: str
) -> None:
    """Its function may be wrong before it comes to look at the status."""
    when, does = REFUSING_EVERYTHING[kind]
    books.execute(
        f"""
        {FULFILL}
        CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {does} END $$;
        CREATE TRIGGER refuse {when} ON payments.webhook_events
            FOR EACH ROW EXECUTE FUNCTION public.refuse();
        ALTER TABLE payments.webhook_events {enabled} TRIGGER refuse;
        CREATE TRIGGER asleep AFTER INSERT ON payments.webhook_events
            FOR EACH ROW EXECUTE FUNCTION public.refuse();
        ALTER TABLE payments.webhook_events DISABLE TRIGGER asleep;
        """
    )
    before = books.rows(TRIGGERS)
    paid = event("checkout.session.completed", session(metadata=PAID))
    for attempt in (1, 2):
        (answer,) = books.apply(paid)
        assert isinstance(answer, EventNotApplied)
        row = books.row("SELECT processing_status, last_error FROM payments.webhook_events")
        reason = REASON_TOLD.get(kind, "no stock left")
        assert row == {"processing_status": "failed", "last_error": reason}, attempt
        assert reason in answer.message
    assert books.row("SELECT status FROM payments.transactions")["status"] == "succeeded"
    assert books.row("SELECT event_id FROM billhook.event_retries") == {"event_id": paid["id"]}
    assert books.row("SELECT fulfilled FROM public.orders")["fulfilled"] == 0
    assert books.rows(TRIGGERS) == before

    books.execute("DROP TRIGGER refuse ON payments.webhook_events")
    (again,) = books.apply(paid)
    assert again["processing_status"] == "processed"
    assert books.row("SELECT fulfilled FROM public.orders")["fulfilled"] == 1


def test_events_at_once_under_a_trigger_that_refuses_every_write_all_are_kept(books: Books) -> None:
    books.execute(REFUSE)
    paid = [
        event(
            "payment_intent.succeeded",
            payment_intent(f"pi_{n}", latest_charge=f"ch_{n}"),
            id=f"evt_{n}",
        )
        for n in range(12)
    ]
    answers = books.apply_at_once([paid[lane::4] + paid[:2] for lane in range(4)])
    assert all(isinstance(each, EventNotApplied) for each in answers)
    rows = books.rows("SELECT DISTINCT processing_status, last_error FROM payments.webhook_events")
    assert rows == [{"processing_status": "failed", "last_error": "no stock left"}]
    assert len(books.rows("SELECT * FROM payments.webhook_events")) == 12
    assert len(books.rows("SELECT * FROM payments.transactions")) == 12


def test_who_may_not_silence_triggers_is_told_that_the_event_is_not_recorded(
    books: Books, direct_database_url: str
) -> None:
    """The tables of a database that was adopted may belong to somebody else."""
    books.execute(REFUSE + "CREATE ROLE stranger LOGIN")
    try:
        books.execute(
            """
            GRANT USAGE ON SCHEMA payments, billhook TO stranger;
            GRANT ALL ON ALL TABLES IN SCHEMA payments, billhook TO stranger;
            GRANT ALL ON ALL SEQUENCES IN SCHEMA billhook TO stranger;
            GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA billhook TO stranger;
            """
        )
        stranger = Books(
            direct_database_url.replace("postgresql://postgres@", "postgresql://stranger@")
        )
        (answer,) = stranger.apply(event("checkout.session.completed", session(metadata=PAID)))
        assert isinstance(answer, EventNotRecorded)
        assert "no stock left" in answer.message
        assert books.rows("SELECT * FROM payments.webhook_events") == []
    finally:
        books.execute("DROP OWNED BY stranger; DROP ROLE stranger")


@pytest.mark.parametrize("table", ["webhook_events", "transactions"])
@pytest.mark.parametrize("code", ["08001", "53300", "57P01", "25006", "40001", "02000", "01000"])
def test_a_trigger_that_raises_what_sounds_like_an_outage_fails_its_event_alone(
    books: Books, code: str, table: str
) -> None:
    """As `dblink` does when another database, which the trigger asks, is away."""
    books.execute(
        f"""
        CREATE FUNCTION public.ask() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'could not reach the warehouse' USING ERRCODE = '{code}';
        END $$;
        CREATE TRIGGER ask AFTER INSERT OR UPDATE ON payments.{table}
            FOR EACH ROW {"WHEN (NEW.processing_status = 'processed')" * (table[0] == "w")}
            EXECUTE FUNCTION public.ask();
        """
    )
    paid = event("checkout.session.completed", session(metadata=PAID))
    (answer,) = books.apply(paid)
    assert isinstance(answer, EventNotApplied)
    row = books.row("SELECT processing_status, last_error FROM payments.webhook_events")
    assert row == {"processing_status": "failed", "last_error": "could not reach the warehouse"}
    # The mirror follows Stripe as far as the app lets it.
    followed = [] if table == "transactions" else [{"status": "succeeded"}]
    assert books.rows("SELECT status FROM payments.transactions") == followed
    books.execute("DROP FUNCTION public.ask CASCADE")
    (again,) = books.apply(paid)
    assert (again["processing_status"], again["attempt_count"]) == ("processed", 2)
    assert books.rows("SELECT status FROM payments.transactions") == [{"status": "succeeded"}]


@pytest.mark.parametrize("kind", ["AFTER", "CONSTRAINT"])
def test_a_failure_is_kept_where_the_app_has_deferred_keys_on_the_ledger(
    books: Books, kind: str
) -> None:
    deferred = "DEFERRABLE INITIALLY DEFERRED" if kind == "CONSTRAINT" else ""
    books.execute(
        f"""
        {REFUSE}
        CREATE TABLE public.first_seen (id uuid REFERENCES payments.webhook_events
            DEFERRABLE INITIALLY DEFERRED);
        ALTER TABLE payments.webhook_events ADD COLUMN after uuid REFERENCES
            payments.webhook_events DEFERRABLE INITIALLY DEFERRED DEFAULT gen_random_uuid();
        ALTER TABLE payments.webhook_events ALTER COLUMN after DROP DEFAULT;
        CREATE FUNCTION public.refuse_late() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION 'too late'; END $$;
        CREATE {"CONSTRAINT" if deferred else ""} TRIGGER late AFTER INSERT OR UPDATE
            ON payments.webhook_events {deferred} FOR EACH ROW EXECUTE FUNCTION refuse_late();
        """
    )
    (answer,) = books.apply(event("checkout.session.completed", session(metadata=PAID)))
    assert isinstance(answer, EventNotApplied)
    row = books.row("SELECT processing_status, last_error FROM payments.webhook_events")
    assert row["processing_status"] == "failed"


def test_what_a_trigger_sets_for_its_session_ends_with_its_event(books: Books) -> None:
    """Or the next event on that connection would pass by all triggers, and be lost."""
    books.execute(
        f"""
        {FULFILL}
        CREATE FUNCTION public.leave_behind() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            SET session_replication_role = replica;
            SET statement_timeout = '1ms';
            SET default_transaction_read_only = on;
            PERFORM set_config('role', 'anon', false), pg_advisory_lock(42);
            RETURN NULL;
        END $$;
        CREATE TRIGGER leave_behind AFTER UPDATE ON payments.webhook_events
            FOR EACH ROW WHEN (NEW.event_type = 'customer.created')
            EXECUTE FUNCTION public.leave_behind();
        """
    )
    poison = [event("customer.created", customer(f"cus_{n}")) for n in range(3)]
    paid = event("checkout.session.completed", session(metadata=PAID))

    async def work(database: Database) -> list[Any]:
        ledger = Ledger(database)
        answers = [await apply_one(ledger, each) for each in (*poison, paid)]
        async with database.connection() as another:
            held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 42"
            assert await another.fetchval(held) == 0
        return answers

    answers = books.run(work)
    assert [each["processing_status"] for each in answers] == ["processed"] * 4
    assert books.row("SELECT fulfilled FROM public.orders")["fulfilled"] == 1


def test_a_database_that_isolates_transactions_more_is_refused_at_the_start(
    books: Books, direct_database_url: str
) -> None:
    """Events at once would not see each other's rows."""
    direct = Books(direct_database_url)
    name = direct.row("SELECT current_database() AS name")["name"]
    direct.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = 'repeatable read'")
    direct.close()  # only new sessions have it
    with pytest.raises(SettingsError, match="default_transaction_isolation = 'read committed'"):
        direct.run(lambda _: asyncio.sleep(0))


def test_a_server_that_takes_no_writes_is_an_outage_and_no_failed_event(
    direct_database_url: str,
) -> None:
    """As a standby does, to which a fail-over has led before it was promoted."""
    books = Books(direct_database_url)
    name = books.row("SELECT current_database() AS name")["name"]
    paid = event("checkout.session.completed", session(metadata=PAID))
    books.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    books.close()  # only new sessions have it
    with pytest.raises(DatabaseUnavailable):
        books.apply(paid)
    reset = f"ALTER DATABASE {name} RESET default_transaction_read_only"
    books.execute(f"BEGIN READ WRITE; {reset}; COMMIT")
    books.close()
    (answer,) = books.apply(paid)
    assert (answer["processing_status"], answer["attempt_count"]) == ("processed", 1)


@pytest.mark.parametrize("code", ["53100", "53200", "08006", "25006"])
def test_an_outage_that_clears_at_once_fails_no_event(books: Books, code: str) -> None:
    """A full disk, for example, in the first attempt, and room again in the second."""
    books.execute(f"""
        CREATE SEQUENCE billhook.attempts;
        CREATE FUNCTION billhook.write_once_more() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF nextval('billhook.attempts') = 1 THEN
                RAISE EXCEPTION 'could not write' USING ERRCODE = '{code}';
            END IF;
            RETURN NEW;
        END $$;
        CREATE TRIGGER write_once_more BEFORE INSERT ON payments.webhook_events
            FOR EACH ROW EXECUTE FUNCTION billhook.write_once_more()""")
    paid = event("checkout.session.completed", session(metadata=PAID))
    (answer,) = books.apply(paid)
    assert (answer["processing_status"], answer["attempt_count"]) == ("processed", 1)
    (answer,) = books.apply(paid)
    assert (answer["processing_status"], answer["attempt_count"]) == ("processed", 1)


@pytest.mark.parametrize(
    ("where", "is_the_apps"),
    [
        (
            "PL/pgSQL function fulfill() line 3 at RAISE\nPL/pgSQL function billhook.mark(text)",
            True,
        ),
        ('PL/Python function "fulfill"\nPL/pgSQL function billhook.mark(text) line 9', True),
        ('SQL statement "INSERT …"\nPL/pgSQL function billhook.mark(text) line 9', False),
        ("", False),
    ],
)
def test_the_innermost_function_says_whose_error_it_is(where: str, is_the_apps: bool) -> None:
    error = asyncpg.DiskFullError("could not write")
    error.context = where
    assert is_of_the_app(error) is is_the_apps


def test_an_unknown_type_is_stored_as_ignored(books: Books) -> None:
    (answer,) = books.apply(event("payout.paid", {"id": "po_1", "object": "payout"}))
    assert (answer["handled"], answer["processing_status"]) == (False, "ignored")
    assert answer["processed_at"] is not None


def test_an_object_without_what_its_row_needs_fails_with_the_reason(books: Books) -> None:
    (answer,) = books.apply(event("product.created", {"id": "prod_1", "object": "product"}))
    assert isinstance(answer, EventNotApplied)
    row = books.row("SELECT processing_status, last_error FROM payments.webhook_events")
    assert row == {"processing_status": "failed", "last_error": "The product has no name."}


def test_nul_characters_are_kept_out_of_jsonb_and_lose_nothing_else(books: Books) -> None:
    books.apply(event("customer.created", customer(name="A\x00da")))
    assert books.row("SELECT name FROM payments.customers")["name"] == "A\ufffdda"


def test_sql_in_any_field_is_data(books: Books) -> None:
    nasty = "'); DROP TABLE payments.customers; --"
    books.apply(event("customer.created", customer(name=nasty, metadata={nasty: nasty})))
    row = books.row("SELECT name, metadata FROM payments.customers")
    assert row == {"name": nasty, "metadata": {nasty: nasty}}


def test_a_session_is_found_by_its_row_id_when_the_webhook_is_faster(books: Books) -> None:
    row_id = "6f1d1d6e-8b1c-4c39-9a53-0f3f4d7f7a11"
    books.execute(
        f"""INSERT INTO payments.stripe_checkout_sessions
            (id, environment, mode, success_url, cancel_url)
            VALUES ('{row_id}', 'test', 'payment', 'https://a.example', 'https://b.example')"""
    )
    books.apply(
        event(
            "checkout.session.completed",
            session(metadata=PAID | {"insforge_checkout_session_id": row_id}),
        )
    )
    row = books.row("SELECT * FROM payments.stripe_checkout_sessions")
    assert (row["status"], row["payment_status"], row["checkout_session_id"]) == (
        "completed",
        "paid",
        "cs_1",
    )
    assert (row["customer_id"], row["payment_intent_id"]) == ("cus_1", "pi_1")


def test_an_outcome_of_an_asynchronous_payment_is_not_undone_by_a_late_completion(
    books: Books,
) -> None:
    books.execute(
        """INSERT INTO payments.stripe_checkout_sessions
            (environment, mode, success_url, cancel_url, checkout_session_id, status)
            VALUES ('test', 'payment', 'https://a.example', 'https://b.example', 'cs_1', 'open')"""
    )
    books.apply(
        event("checkout.session.async_payment_succeeded", session(), at=90),
        event("checkout.session.completed", session(payment_status="unpaid"), at=10),
        event("checkout.session.expired", session("cs_other"), at=99),
    )
    row = books.row("SELECT status, payment_status FROM payments.stripe_checkout_sessions")
    assert row == {"status": "completed", "payment_status": "paid"}
    statuses = books.rows(
        "SELECT event_type, processing_status FROM payments.webhook_events ORDER BY received_at"
    )
    assert [row["processing_status"] for row in statuses] == ["processed", "processed", "ignored"]


def test_a_payment_intent_payment_of_ours_counts_even_when_nothing_else_comes(books: Books) -> None:
    (answer,) = books.apply(event("payment_intent.succeeded", payment_intent()))
    assert answer["handled"] is True


def test_events_that_wait_for_rows_of_the_app_hold_up_no_others(books: Books) -> None:
    """An operator's open transaction has locked three orders."""
    books.execute(FULFILL + "INSERT INTO public.orders (id) VALUES ('o2'), ('o3');")
    paid = [
        event(
            "checkout.session.completed",
            session(
                f"cs_{n}",
                customer=f"cus_{n}",
                payment_intent=f"pi_{n}",
                metadata={"insforge_checkout_mode": "payment", "order": f"o{n}"},
            ),
        )
        for n in (1, 2, 3)
    ]

    async def work(database: Database) -> list[Any]:
        ledger = Ledger(database)
        async with database.as_service() as operator:
            await operator.execute("SELECT FROM public.orders FOR UPDATE")
            waiting = []
            for n, each in enumerate(paid, start=1):
                waiting.append(asyncio.create_task(apply_one(ledger, each)))
                while await operator.fetchval(WAITING) < n:
                    assert not waiting[-1].done()
            async with asyncio.timeout(5):
                await apply_one(ledger, event("customer.created", customer("cus_other")))
            assert not any(each.done() for each in waiting)
        return await asyncio.gather(*waiting)

    assert [each["processing_status"] for each in books.run(work)] == ["processed"] * 3


def test_a_lock_that_a_stranger_holds_is_named_and_no_failure_of_the_app(
    books: Books, direct_database_url: str
) -> None:
    """Every user of a database may take any advisory lock."""
    books.execute(FULFILL)
    held = Wanted("test", {"customer:cus_1"}).lock_keys()
    told = event("customer.created", customer("cus_1"))

    async def work(database: Database) -> tuple[int, Any]:
        stranger = await asyncpg.connect(as_user(direct_database_url, "stranger"))
        try:
            await stranger.execute(f"SELECT pg_advisory_lock({held[0]})")
            pid = await stranger.fetchval("SELECT pg_backend_pid()")
            with pytest.raises(ObjectLocked) as refused:
                await Ledger(database).record("test", decode(payload(told)))
            return pid, refused.value
        finally:
            await stranger.close()

    with a_stranger(direct_database_url):
        pid, refused = books.run(work)
    assert refused.status == 503
    assert f"held by process {pid} (stranger)" in refused.message
    assert books.rows("SELECT FROM payments.webhook_events") == []
    (answer,) = books.apply(told)
    assert (answer["processing_status"], answer["attempt_count"]) == ("processed", 1)


def test_an_event_that_waits_too_long_for_a_swap_is_no_failure_of_the_app(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "PATIENCE", 7.0)  # longer than the wait for an advisory lock
    told = event("customer.created", customer("cus_1"))

    async def work(database: Database) -> None:
        async with database.as_service() as swap:
            await swap.execute("LOCK TABLE payments.webhook_events IN SHARE ROW EXCLUSIVE MODE")
            with pytest.raises(DatabaseBusy, match="locked by a rebuild") as refused:
                await Ledger(database).record("test", decode(payload(told)))
            assert not isinstance(refused.value, ObjectLocked)

    books.run(work)
    assert books.rows("SELECT FROM payments.webhook_events") == []


def test_an_event_that_is_archived_while_many_are_replayed_stops_no_others(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    books.apply(*(event("customer.created", customer(f"cus_{n}"), id=f"evt_{n}") for n in range(2)))
    replay = replaying.replay

    async def late(ledger: Ledger, environment: Any, event_id: str, *, refire: bool) -> Any:
        await housekeeping.archive(ledger.database, environment, days=-1, most=1)
        return await replay(ledger, environment, event_id, refire=refire)

    monkeypatch.setattr(replaying, "replay", late)
    order = ReplayEvents(status="processed", limit=2)
    found = books.run(lambda database: replaying.replay_many(Ledger(database), "test", order))
    assert found.replayed == 0
    assert [each.event_id for each in found.failed] == ["evt_0", "evt_1"]
