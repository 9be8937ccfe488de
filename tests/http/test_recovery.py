"""What a webhook alone cannot promise: retries, pulled events, refreshes."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
import stripe

from api import connect
from billhook.access.secrets import SecretStore, stripe_key_name
from billhook.errors import (
    BillhookError,
    DatabaseUnavailable,
    PaymentConfigInvalid,
    UpstreamFailure,
)
from billhook.ledger import EventNotApplied, EventNotRecorded, Ledger, replaying
from billhook.mirror.history import History
from billhook.models import ReplayEvents
from billhook.postgres import Database
from billhook.recovery import Recovery, _repeat, pulling
from billhook.stripe import list_pages
from billhook.stripe.gateway import Gateway
from books import WIPE
from odd_stripe import odd
from recovering import Station, verified
from stripe_events import charge, event, invoice, payment_intent, refund, session, subject


@pytest.fixture
def station(database_url: str, sandbox: str) -> Station:
    return Station(database_url, sandbox)


COMPLETED = "checkout.session.completed"


def test_a_failed_event_is_fulfilled_once_when_the_app_is_mended(station: Station) -> None:
    with station.warehouse_closed():
        station.books.apply(event(COMPLETED, session(), id="evt_a"))
        station.retry()
        assert station.statuses() == ["failed"]
        assert station.fulfilled() == 0
    station.retry()
    station.retry()
    assert station.statuses() == ["processed"]
    assert station.fulfilled() == 1
    assert station.books.rows("SELECT * FROM billhook.event_retries") == []


def test_after_the_last_attempt_an_event_is_left_to_a_person(station: Station) -> None:
    with station.warehouse_closed():
        station.books.apply(event(COMPLETED, session(), id="evt_a"))
        for _ in range(5):
            station.retry()
    row = station.books.row("SELECT attempts, next_at::text FROM billhook.event_retries")
    assert row == {"attempts": 3, "next_at": "infinity"}
    attempts = station.books.row("SELECT attempt_count AS n FROM payments.webhook_events")["n"]
    assert attempts == 4
    station.retry()
    assert station.fulfilled() == 0


def test_several_workers_try_a_failed_event_once_each_time(station: Station) -> None:
    with station.warehouse_closed():
        made = [session(f"cs_{n}", payment_intent=f"pi_{n}") for n in range(30)]
        station.books.apply(*(event(COMPLETED, each) for each in made))
    station.due("event_retries")

    async def together(worker: Recovery) -> None:
        async def one() -> None:
            while await worker.retry():
                pass

        await asyncio.gather(*(one() for _ in range(4)))

    station.work(together)
    assert station.fulfilled() == 30
    counts = station.books.rows("SELECT DISTINCT attempt_count AS n FROM payments.webhook_events")
    assert counts == [{"n": 2}]


def test_without_webhooks_events_are_pulled_and_fulfilled_once(station: Station) -> None:
    station.bought(3)
    station.pull()
    assert station.fulfilled() == 3
    paid = station.books.rows("SELECT status FROM payments.transactions")
    assert [row["status"] for row in paid] == ["succeeded"] * 3
    before = station.books.rows("SELECT xmin::text, id FROM payments.webhook_events ORDER BY id")
    station.pull()  # the overlap is read again, and nothing is done again
    assert station.fulfilled() == 3
    assert before == station.books.rows(
        "SELECT xmin::text, id FROM payments.webhook_events ORDER BY id"
    )


def test_a_worker_pulls_when_it_starts_though_another_took_the_turn_and_died(
    station: Station,
) -> None:
    station.bought()
    station.books.execute("UPDATE billhook.pulls SET next_at = now() + interval '1 hour'")

    async def started(worker: Recovery) -> None:
        await worker.pull("test")
        assert await asyncio.to_thread(station.fulfilled) == 1
        await asyncio.to_thread(station.bought)
        await worker.pull("test")  # not its turn

    station.work(started)
    assert station.fulfilled() == 1


def test_a_worker_takes_no_lease_while_no_pull_is_due(station: Station) -> None:
    station.books.execute("""
        UPDATE billhook.pulls SET next_at = now() + interval '1 hour';
        CREATE TABLE taken (name text);
        CREATE FUNCTION note_lease() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN INSERT INTO public.taken VALUES (NEW.name); RETURN NULL; END $$;
        CREATE TRIGGER note_lease AFTER INSERT ON billhook.leases
            FOR EACH ROW EXECUTE FUNCTION note_lease();
    """)

    async def look_twice(worker: Recovery) -> None:
        await worker.pull("test")  # at the start
        await worker.pull("test")

    station.work(look_twice)
    assert station.books.rows("SELECT name FROM taken") == [{"name": "pull:test"}]


def test_many_missed_events_are_pulled_in_windows(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(list_pages, "_PAGE", 3)
    monkeypatch.setattr(pulling, "_MOST", 6)
    for _ in range(4):
        station.bought(3)
        station.control("advance", seconds=3600)
    station.pull()
    assert station.fulfilled() == 12
    ages = station.books.rows(
        "SELECT (payload ->> 'created')::bigint AS at FROM payments.webhook_events "
        "ORDER BY received_at"
    )
    assert ages == sorted(ages, key=lambda row: row["at"])


def test_a_long_list_is_not_read_twice(station: Station, monkeypatch: pytest.MonkeyPatch) -> None:
    """Evenly spread events: once a window has the right width, it keeps it."""
    monkeypatch.setattr(pulling, "_MOST", 50)
    monkeypatch.setattr(list_pages, "_PAGE", 10)
    for _ in range(40):
        station.bought()
        station.control("advance", seconds=60)
    pages: list[int] = []
    real = list_pages.list_page

    async def page(*given: Any, **more: Any) -> Any:
        found = await real(*given, **more)
        pages.append(len(found.objects))
        return found

    monkeypatch.setattr(list_pages, "list_page", page)
    station.pull()
    assert station.fulfilled() == 40
    events = station.books.row("SELECT count(*) AS n FROM payments.webhook_events")["n"]
    assert sum(pages) < 3 * events  # including the search for that width


def test_a_pull_that_stripe_interrupts_goes_on_from_its_cursor(station: Station) -> None:
    station.bought(2)
    station.control("fault", path_prefix="/v1/events", status=500, times=3)
    with pytest.raises(BillhookError):
        station.pull()
    row = station.books.row("SELECT failures, error FROM billhook.pulls")
    assert row["failures"] == 1
    assert row["error"]
    station.pull()
    assert station.fulfilled() == 2
    assert station.books.row("SELECT failures, error FROM billhook.pulls") == {
        "failures": 0,
        "error": None,
    }


def away(station: Station, days: int = 40) -> None:
    """As if the last pull and import had been this long ago."""
    station.books.execute(
        f"UPDATE billhook.pulls SET since = since - interval '{days} days', "
        f"cursor_at = cursor_at - interval '{days} days';"
        f"UPDATE billhook.imports SET upto = upto - {days * 86400}"
    )


def lose_payments(station: Station) -> None:
    """As if all purchases had been in the gap: no event reports them any more."""
    station.books.execute(f"{WIPE.partition('DELETE')[0]} DELETE FROM payments.transactions")


def payments(station: Station) -> list[str]:
    return [row["status"] for row in station.books.rows("SELECT status FROM payments.transactions")]


def test_events_that_stripe_no_longer_lists_are_told_as_a_gap_and_mended_by_a_sync(
    station: Station,
) -> None:
    station.stripe.v1.products.create({"name": "Made while we were away"})
    away(station)
    station.pull()
    row = station.books.row(
        "SELECT gap_from IS NOT NULL AND gap_upto > gap_from AS gap FROM billhook.pulls"
    )
    assert row["gap"]
    station.books.execute("DELETE FROM payments.stripe_products")
    station.fill_gap()
    names = station.books.rows("SELECT name FROM payments.stripe_products")
    assert names == [{"name": "Made while we were away"}]


def test_payments_of_a_gap_are_imported(station: Station) -> None:
    station.sync()
    station.work(lambda worker: worker.import_history("test"))
    station.bought()
    away(station)
    station.pull()
    lose_payments(station)
    station.fill_gap()
    row = station.books.row(
        "SELECT finished_at IS NOT NULL AS done, since, complete_from FROM billhook.imports"
    )
    assert row["done"]
    gap = station.books.row("SELECT extract(epoch FROM gap_from)::bigint AS at FROM billhook.pulls")
    assert row["complete_from"] < row["since"] < gap["at"]  # all before had been imported
    assert payments(station) == ["succeeded"]
    started = station.books.row("SELECT started_at FROM billhook.imports")
    station.fill_gap()
    assert station.books.row("SELECT started_at FROM billhook.imports") == started  # only once


def test_a_gap_that_the_success_page_found_is_filled(station: Station) -> None:
    station.sync()
    station.work(lambda worker: worker.import_history("test"))
    station.bought()
    away(station)

    async def page(database: Database) -> None:
        gateway = Gateway(SecretStore(database, station.settings).stripe_key, station.sandbox)
        await pulling.pull_due(Ledger(database), gateway, "test", every=None)
        await gateway.close()

    station.books.run(page)
    lose_payments(station)
    station.pull()
    station.fill_gap()
    assert payments(station) == ["succeeded"]


def test_a_gap_is_filled_although_the_pull_that_found_it_failed(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cursor has passed the gap by then."""
    station.sync()
    station.work(lambda worker: worker.import_history("test"))
    for _ in range(2):
        station.bought(10)
        station.control("advance", seconds=3600)
    away(station)
    monkeypatch.setattr(pulling, "_MOST", 10)
    monkeypatch.setattr(list_pages, "_PAGE", 10)
    real, applied = pulling._apply, []

    async def interrupted(*given: Any) -> None:
        await real(*given)
        applied.append(given)
        if len(applied) == 2:
            raise UpstreamFailure("Stripe could not be reached.")

    monkeypatch.setattr(pulling, "_apply", interrupted)
    with pytest.raises(UpstreamFailure):
        station.pull()
    station.pull()
    lose_payments(station)
    station.fill_gap()
    assert payments(station) == ["succeeded"] * 20


@pytest.mark.parametrize("reaches", ["everything", "a part"])
def test_an_import_that_began_before_a_gap_does_not_count_for_it(
    station: Station, reaches: str
) -> None:
    station.sync()
    # It was interrupted when everything but the list of refunds had been read.
    since = 1293840000 if reaches == "everything" else station.now() - 3600
    station.books.execute(
        f"""
        INSERT INTO billhook.imports (environment, since, upto)
        VALUES ('test', {since}, {station.now()});
        INSERT INTO billhook.import_ranges (environment, list, since, upto, reached, done)
        SELECT 'test', list, {since}, {station.now()}, {since}, list <> 'refunds'
        FROM unnest('{{charges,payment_intents,refunds}}'::text[]) list
        """
    )
    station.bought()
    away(station)
    station.pull()
    lose_payments(station)
    station.fill_gap()
    station.fill_gap()
    assert payments(station) == ["succeeded"]
    assert imported_since(station) <= since


def imported_since(station: Station) -> int:
    row = station.books.row("SELECT since FROM billhook.imports WHERE finished_at IS NOT NULL")
    return int(row["since"])


def test_a_gap_is_filled_whichever_import_was_requested_meanwhile(station: Station) -> None:
    station.sync()
    station.work(lambda worker: worker.import_history("test"))
    station.bought()
    away(station)
    station.pull()
    lose_payments(station)
    latest = datetime.fromtimestamp(station.now() + 3600, UTC)

    async def request(worker: Recovery) -> None:
        await worker._history.run("test", latest)

    station.work(request)
    assert imported_since(station) == int(latest.timestamp())
    assert payments(station) == []
    station.fill_gap()
    assert payments(station) == ["succeeded"]


def test_a_gap_is_filled_although_the_account_was_disconnected_meanwhile(
    station: Station,
) -> None:
    station.sync()
    station.work(lambda worker: worker.import_history("test"))
    station.bought()
    away(station)
    station.pull()
    other = f"sk_test_other{station.key.removeprefix('sk_test_')}"
    connect(station.books.dsn, station.sandbox, other)
    station.fill_gap()
    connect(station.books.dsn, station.sandbox, station.key)
    # Its import does not go back to the gap.
    station.books.execute(
        "INSERT INTO billhook.imports (environment, since, upto, finished_at)"
        f" VALUES ('test', {station.now()}, {station.now()}, now())"
    )
    station.pull()
    lose_payments(station)
    station.fill_gap()
    assert payments(station) == ["succeeded"]


@pytest.mark.parametrize("work", ["pull", "import_history", "refresh", "verify"])
def test_nothing_is_read_with_the_key_of_an_account_that_is_not_connected_yet(
    station: Station, work: str
) -> None:
    """At startup, a key from the environment is stored before its account is known."""
    ours = station.stripe.v1.customers.create({"name": "Ada"}).id
    station.sync()
    other = f"sk_test_other{station.key.removeprefix('sk_test_')}"
    stripe.StripeClient(other, base_addresses={"api": station.sandbox}).v1.payment_intents.create(
        {
            **{"amount": 900, "currency": "eur", "confirm": True, "payment_method": "pm_card_visa"},
            "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"},
        }
    )

    async def seed(database: Database) -> None:
        await SecretStore(database, station.settings).set(stripe_key_name("test"), other)

    station.books.run(seed)
    station.books.execute(
        "INSERT INTO billhook.refreshes (environment, object_type, object_id, reason, next_at)"
        f" VALUES ('test', 'customer', '{ours}', 'unknown', now());"
        "UPDATE billhook.pulls SET next_at = now(), since = since - interval '2 days'"
    )
    with suppress(PaymentConfigInvalid):  # an import stores it
        station.work(lambda worker: getattr(worker, work)("test"))
    assert payments(station) == []
    assert station.statuses() == []
    assert station.books.rows("SELECT deleted FROM payments.customers") == [{"deleted": False}]
    assert station.books.rows("SELECT FROM billhook.verifications") == []


def test_an_incomplete_sync_of_a_gap_is_repeated(station: Station) -> None:
    station.sync()
    station.stripe.v1.products.create({"name": "Made while we were away"})
    away(station)
    station.pull()
    station.books.execute("DELETE FROM payments.stripe_products")
    station.control("fault", path_prefix="/v1/products", status=403, times=1)
    station.fill_gap()
    assert station.books.rows("SELECT FROM payments.stripe_products") == []
    station.books.execute("UPDATE billhook.pulls SET resync_at = now()")
    station.fill_gap()
    assert len(station.books.rows("SELECT FROM payments.stripe_products")) == 1
    assert station.books.row("SELECT resync_at FROM billhook.pulls") == {"resync_at": None}


def test_without_automatic_imports_a_gap_waits_for_a_request(station: Station) -> None:
    station.sync()
    station.work(lambda worker: worker.import_history("test"))
    station.bought()
    away(station)
    station.pull()
    lose_payments(station)

    async def within(worker: Recovery) -> None:
        worker._history = History(worker._database, worker._gateway, automatic=False)
        await worker.import_history("test")
        assert (await worker._history.progress("test")).status == "finished"  # the first one
        await worker._history.run("test")

    station.work(within)
    assert payments(station) == ["succeeded"]
    assert station.books.row("SELECT import_since FROM billhook.pulls") == {"import_since": None}


def test_what_happened_before_the_account_was_connected_is_not_applied(
    database_url: str, sandbox: str
) -> None:
    station = Station(database_url, sandbox)
    station.bought(1)
    station.control("advance", seconds=60)
    station.books.execute("DELETE FROM billhook.pulls")
    connect(database_url, sandbox, station.key)
    station.bought(1)
    station.pull()
    assert station.fulfilled() == 1


def test_a_connected_account_that_nobody_pulls_is_pulled_from_now_on(station: Station) -> None:
    station.books.execute("DELETE FROM billhook.pulls")
    station.pull()
    station.bought()
    station.pull()
    assert station.fulfilled() == 1


def test_a_failing_event_does_not_stop_the_pull_of_the_others(station: Station) -> None:
    station.bought(2)
    with station.warehouse_closed():
        station.pull()
    assert set(station.statuses()) == {"failed", "processed", "ignored"}
    station.retry()
    assert station.fulfilled() == 2


CUTTING_OFF = {
    "ends its own session": "PERFORM pg_terminate_backend(pg_backend_pid());",
    "forbids all writes": "SET TRANSACTION READ ONLY;",
    "waits for the next order, for ever": "SET LOCAL statement_timeout = 0; PERFORM pg_sleep(9);",
}


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits 30 seconds for PostgreSQL."""
    monkeypatch.setattr("billhook.postgres.PATIENCE", 1.0)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("does", CUTTING_OFF)
def test_a_trigger_that_makes_postgres_seem_away_holds_up_no_other_event(
    station: Station, does: str
) -> None:
    station.bought(3)
    first = "(SELECT min(id) FROM cut)"
    station.books.execute(f"""
        CREATE TABLE cut (id text);
        CREATE FUNCTION cut_off() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF NEW.object_id = {first} THEN {CUTTING_OFF[does]} END IF;
            RETURN NULL;
        END $$;
        CREATE TRIGGER cut_off AFTER INSERT OR UPDATE ON payments.webhook_events
        FOR EACH ROW EXECUTE FUNCTION cut_off()""")
    (cut, *_) = station.bought(3)
    station.books.execute(f"INSERT INTO cut VALUES ('{cut}')")
    station.pull()
    assert station.fulfilled() == 5
    failed = station.books.row(
        "SELECT last_error FROM payments.webhook_events WHERE processing_status = 'failed'"
    )
    assert failed["last_error"]
    station.books.execute("TRUNCATE cut")
    station.retry()
    assert station.fulfilled() == 6


def test_the_cursor_waits_for_an_event_that_cannot_be_recorded_and_the_others_do_not(
    station: Station,
) -> None:
    """The ledger of an adopted database may belong to somebody else."""
    (refused, *_) = station.bought(3)
    station.books.execute(f"""
        CREATE FUNCTION refuse_ddl() RETURNS event_trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE insufficient_privilege USING MESSAGE = 'must be owner of table'; END $$;
        CREATE EVENT TRIGGER refuse_ddl ON ddl_command_start WHEN TAG IN ('ALTER TABLE')
        EXECUTE FUNCTION refuse_ddl();
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$;
        CREATE TRIGGER refuse AFTER INSERT OR UPDATE ON payments.webhook_events FOR EACH ROW
        WHEN (NEW.object_id = '{refused}') EXECUTE FUNCTION refuse()""")
    cursor = station.books.rows("SELECT cursor_at FROM billhook.pulls")
    with pytest.raises(EventNotRecorded):
        station.pull()
    assert station.fulfilled() == 2
    assert station.books.rows("SELECT cursor_at FROM billhook.pulls") == cursor
    told = station.books.row("SELECT error FROM billhook.pulls")["error"]
    assert "could not be recorded: no" in told
    station.books.execute("DROP FUNCTION refuse CASCADE")
    station.pull()
    assert station.fulfilled() == 3
    assert station.books.row("SELECT error FROM billhook.pulls") == {"error": None}


def test_a_trigger_that_ends_its_session_costs_no_other_failed_event_its_turn(
    station: Station,
) -> None:
    with station.warehouse_closed():
        made = [session(f"cs_{n}", payment_intent=f"pi_{n}") for n in range(4)]
        station.books.apply(*(event(COMPLETED, each) for each in made))
    station.books.execute("""
        CREATE FUNCTION cut_off() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            PERFORM pg_terminate_backend(pg_backend_pid());
            RETURN NULL;
        END $$;
        CREATE TRIGGER cut_off AFTER UPDATE ON payments.webhook_events FOR EACH ROW
        WHEN (NEW.processing_status = 'processed' AND NEW.object_id = 'cs_0')
        EXECUTE FUNCTION cut_off()""")
    for _ in range(2):
        try:
            station.retry()
        except DatabaseUnavailable:
            continue
    assert station.fulfilled() == 3
    replayed = station.books.run(
        lambda database: replaying.replay_many(Ledger(database), "test", ReplayEvents())
    )
    assert (replayed.replayed, len(replayed.failed)) == (0, 1)


def test_an_event_that_a_trigger_marked_as_failed_itself_is_tried_again(station: Station) -> None:
    station.books.execute("""
        CREATE FUNCTION give_up() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            UPDATE payments.webhook_events SET processing_status = 'failed' WHERE id = NEW.id;
            RETURN NULL;
        END $$;
        CREATE TRIGGER give_up AFTER UPDATE ON payments.webhook_events FOR EACH ROW
        WHEN (NEW.processing_status = 'processed') EXECUTE FUNCTION give_up()""")
    station.books.apply(event(COMPLETED, session()))
    assert station.statuses() == ["failed"]
    station.books.execute("""
        DROP FUNCTION give_up CASCADE;
        DELETE FROM fulfillments;
        ALTER TABLE payments.webhook_events DISABLE TRIGGER billhook_touch_updated_at;
        UPDATE billhook.migrations SET applied_at = now() - interval '1 hour';
        UPDATE payments.webhook_events SET updated_at = now() - interval '2 minutes'""")
    station.retry()
    assert station.statuses() == ["failed"]  # nobody knows of it
    station.work(lambda worker: worker.take_up("test"))
    station.retry()
    assert (station.statuses(), station.fulfilled()) == (["processed"], 1)


def test_replayed_once_more_an_event_whose_trigger_drops_it_stays_as_it_was(
    station: Station,
) -> None:
    told = event(COMPLETED, session())
    station.books.apply(told)
    station.books.execute("""
        CREATE FUNCTION drop() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
        CREATE TRIGGER a_drop BEFORE UPDATE ON payments.webhook_events FOR EACH ROW
        WHEN (NEW.processing_status = 'processed') EXECUTE FUNCTION drop()""")
    with pytest.raises(EventNotApplied, match="drops what is written"):
        station.books.run(
            lambda database: replaying.replay(Ledger(database), "test", told["id"], refire=True)
        )
    assert station.statuses() == ["processed"]


def test_the_worker_goes_on_after_a_bug_of_ours() -> None:
    tried = []

    async def work() -> bool:
        tried.append(len(tried))
        if len(tried) == 1:
            raise KeyError("a bug")
        raise asyncio.CancelledError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("billhook.recovery._AFTER_ERROR", 0)
        with pytest.raises(asyncio.CancelledError):
            asyncio.run(_repeat("try", 0, work, asyncio.Event()))
    assert tried == [0, 1]


def test_the_mirror_follows_stripe_past_a_trigger_that_refuses_every_write_to_the_ledger(
    station: Station,
) -> None:
    station.bought(2)
    station.books.execute("""
        CREATE FUNCTION typo() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            PERFORM 1 FROM oders WHERE id = NEW.id;
            RETURN NULL;
        END $$;
        CREATE TRIGGER typo AFTER INSERT OR UPDATE ON payments.webhook_events
        FOR EACH ROW EXECUTE FUNCTION typo()""")
    station.pull()
    assert set(station.statuses()) == {"failed"}
    (told,) = station.books.rows("SELECT DISTINCT last_error FROM payments.webhook_events")
    assert told == {"last_error": 'relation "oders" does not exist'}
    assert len(station.books.rows("SELECT * FROM payments.transactions")) == 2
    assert station.books.row("SELECT error FROM billhook.pulls") == {"error": None}
    station.books.execute("DROP FUNCTION typo CASCADE")
    station.retry()
    assert set(station.statuses()) <= {"processed", "ignored"}
    assert station.fulfilled() == 2


def test_a_refund_whose_payment_never_told_of_itself_finds_it_at_stripe(station: Station) -> None:
    (bought,) = station.bought(1)
    intent = station.stripe.v1.checkout.sessions.retrieve(bought).payment_intent
    assert isinstance(intent, str)
    back = station.stripe.v1.refunds.create({"payment_intent": intent, "amount": 400})
    station.books.apply(event("refund.created", back.to_dict(), at=1))
    station.refresh()
    row = station.books.row(
        "SELECT status, amount, amount_refunded FROM payments.transactions WHERE type <> 'refund'"
    )
    assert row == {"status": "partially_refunded", "amount": 1500, "amount_refunded": 400}
    assert station.books.rows("SELECT * FROM billhook.refreshes") == []


def test_a_refunded_charge_whose_refunds_never_told_of_themselves_finds_them_at_stripe(
    station: Station,
) -> None:
    (bought,) = station.bought(1)
    station.pull()
    intent = station.stripe.v1.checkout.sessions.retrieve(bought).payment_intent
    assert isinstance(intent, str)
    for amount in (400, 100):
        back = station.stripe.v1.refunds.create({"payment_intent": intent, "amount": amount})
    assert isinstance(back.charge, str)
    charged = station.stripe.v1.charges.retrieve(back.charge).to_dict()
    station.books.apply(event("charge.refunded", charged, at=1))
    station.refresh()
    rows = station.books.rows("""
        SELECT type, status, amount, amount_refunded FROM payments.transactions
        ORDER BY amount DESC
    """)
    assert [tuple(row.values()) for row in rows] == [
        ("one_time_payment", "partially_refunded", 1500, 500),
        ("refund", "refunded", 400, 400),
        ("refund", "refunded", 100, 100),
    ]
    assert station.books.rows("SELECT * FROM billhook.refreshes") == []


def test_a_charge_refunded_again_while_its_refunds_are_fetched_is_fetched_again(
    station: Station,
) -> None:
    station.bought()
    station.pull()
    v1 = station.stripe.v1
    (intent,) = v1.payment_intents.list().data

    def refunded(amount: int, at: int) -> None:
        """Only the charge reports it, as in API versions before 2024-10-28."""
        v1.refunds.create({"payment_intent": intent.id, "amount": amount})
        charged = v1.charges.retrieve(str(intent.latest_charge)).to_dict()
        station.books.apply(event("charge.refunded", charged, at=at))

    again = iter([lambda: refunded(400, 10_000_002)])

    def meanwhile(path: str, answer: Any) -> None:
        if path == "/v1/refunds":
            next(again, lambda: None)()

    refunded(500, 10_000_001)
    with odd(station.sandbox, meanwhile) as station.sandbox:
        station.refresh()
        station.refresh()
    refunds = "SELECT amount FROM payments.transactions WHERE type = 'refund' ORDER BY 1"
    assert station.books.rows(refunds) == [{"amount": 400}, {"amount": 500}]
    assert station.books.rows("SELECT * FROM billhook.refreshes") == []


def test_a_refresh_that_events_made_needless_asks_stripe_nothing(station: Station) -> None:
    metadata = subject() | {"insforge_checkout_mode": "payment"}
    station.books.apply(
        event("charge.refunded", charge(amount_refunded=500), at=5),
        event("refund.created", refund(), at=5),
        event("payment_intent.succeeded", payment_intent(metadata=metadata), at=1),
    )
    station.refresh()  # Stripe knows of no pi_1: a request would fail, and the mark would stay
    assert station.books.rows("SELECT * FROM billhook.refreshes") == []


def test_a_paid_invoice_learns_its_payment_intent_from_stripe(station: Station) -> None:
    v1 = station.stripe.v1
    product = v1.products.create({"name": "Plan"})
    price = v1.prices.create(
        {
            "product": product.id,
            "currency": "eur",
            "unit_amount": 900,
            "recurring": {"interval": "month"},
        }
    )
    made = v1.checkout.sessions.create(
        {
            "mode": "subscription",
            "success_url": "https://shop.test",
            "line_items": [{"price": price.id, "quantity": 1}],
        }
    )
    station.control("pay", session=made.id)
    paid = v1.checkout.sessions.retrieve(made.id).invoice
    assert isinstance(paid, str)
    station.books.apply(event("invoice.paid", invoice(paid), at=1))
    assert len(station.books.rows("SELECT * FROM billhook.refreshes")) == 1
    station.refresh()
    row = station.books.row("SELECT related_object_ids AS ids FROM payments.transactions")
    assert row["ids"]["payment_intent"].startswith("pi_")
    assert station.books.rows("SELECT * FROM billhook.refreshes") == []


def test_old_events_are_put_away_and_still_count_as_known(station: Station) -> None:
    old = event(COMPLETED, session(), id="evt_old", at=-100 * 86_400)
    station.books.apply(old, event(COMPLETED, session("cs_2", payment_intent="pi_2")))
    station.books.execute(
        "UPDATE payments.webhook_events SET received_at = now() - interval '40 days' "
        "WHERE provider_event_id = 'evt_old'"
    )
    station.books.execute("DELETE FROM fulfillments")
    station.work(lambda worker: worker.archive("test"))
    assert len(station.statuses()) == 1
    (answer,) = station.books.apply(old)
    assert (answer["handled"], answer["processing_status"]) == (False, "processed")
    assert station.fulfilled() == 0
    assert len(station.statuses()) == 1
    shown = station.books.run(lambda database: replaying.event(database, "test", "evt_old"))
    assert (shown.processing_status, shown.payload["id"]) == ("processed", "evt_old")
    with pytest.raises(replaying.EventNotFound):
        station.books.run(lambda database: replaying.event(database, "live", "evt_old"))


def failing_debit(station: Station, **metadata: str) -> None:
    """A checkout paid by a bank debit that is still processing, and fails later."""
    v1 = station.stripe.v1
    product = v1.products.create({"name": "Tea"})
    price = v1.prices.create({"product": product.id, "currency": "eur", "unit_amount": 1500})
    made = v1.checkout.sessions.create(
        {
            "mode": "payment",
            "success_url": "https://shop.test",
            "line_items": [{"price": price.id, "quantity": 1}],
            "payment_intent_data": {"metadata": metadata},
            "metadata": metadata,
        }
    )
    debit = {"iban": "AT861904300235473202"}
    method = v1.payment_methods.create({"type": "sepa_debit", "sepa_debit": debit})
    station.control("pay", session=made.id, payment_method=method.id)
    station.pull()
    # At Stripe, these events come some seconds after the charge.
    station.books.execute("""
        UPDATE billhook.payment_sources SET version_at = version_at + interval '3 seconds'
    """)
    assert payment_statuses(station) == ["pending"]


def payment_statuses(station: Station) -> list[str]:
    return [
        each["status"] for each in station.books.rows("SELECT status FROM payments.transactions")
    ]


OURS = {"insforge_checkout_mode": "payment"}


@pytest.mark.parametrize("metadata", [{}, OURS], ids=["another shop's", "ours"])
@pytest.mark.parametrize("how", ["import", "verify"])
def test_a_bank_debit_that_failed_while_no_events_came_is_failed(
    station: Station, how: str, metadata: dict[str, str]
) -> None:
    station.sync()
    station.work(lambda worker: worker.import_history("test"))
    failing_debit(station, **metadata)
    station.control("advance", seconds=40 * 86_400)  # its failure is no longer listed
    if how == "import":
        station.pull()
        station.work(lambda worker: worker.import_history("test"))
    else:
        (drift,) = verified(station).drift
        assert (drift.problem, drift.fields) == ("different", ["status"])
        verified(station, repair=True)
    assert payment_statuses(station) == ["failed"]
    assert verified(station).drift == []
