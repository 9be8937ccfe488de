"""`billhook rebuild`: the ledger explains every row, and fixes what it does not."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any, cast

import asyncpg
import pytest

import insforge
from api import Api
from billhook.errors import BillhookError
from billhook.kinds.subscriptions import SUBSCRIPTION
from billhook.ledger import Ledger
from billhook.mirror import refreshes
from billhook.mirror.fetching import StripeReader, facts_of
from billhook.mirror.rebuild import comparison, rebuild, replay
from billhook.mirror.rebuild.replay import Replay
from billhook.models import RebuildOrder, Rebuilt
from billhook.postgres import Database
from billhook.postgres.migrate import migrate
from billhook.rows import apply_facts
from books import Books, apply_one, final_state
from cli import Billhook, billhook
from http_tokens import ADMIN_KEY
from recovering import Station, subscribe_team
from stripe_events import (
    T0,
    event,
    invoice,
    invoice_payment,
    payment_intent,
    refund,
    subject,
    subscription,
)
from stripe_lives import IN_A_RING, LIFE, PAYS, one_time_payment

__all__ = ["billhook"]


@pytest.fixture
def books(database_url: str) -> Books:
    return Books(database_url)


def rebuilt(books: Books, *, swap: bool = False) -> Rebuilt:
    async def work(database: Database) -> Rebuilt:
        return await rebuild(database, "test", RebuildOrder(swap=swap))

    return books.run(work)


def differing(found: Rebuilt) -> dict[str, list[tuple[str, str, list[str]]]]:
    return {
        table.table: [(d.object_id, d.problem, d.fields) for d in table.differences]
        for table in found.tables
        if table.different
    }


def test_what_the_ledger_explains_is_equal_to_the_last_row(books: Books) -> None:
    books.apply(*LIFE[::-1])
    found = rebuilt(books)
    assert differing(found) == {}
    assert found.equal
    assert found.events == len(LIFE)
    assert all(each.checksum == each.rebuilt_checksum for each in found.tables)
    assert {each.table: each.rows for each in found.tables}["payments.transactions"] == 6


def test_a_rebuild_shows_the_newer_of_two_responses_however_they_were_written(books: Books) -> None:
    books.apply(event("payment_intent.succeeded", payment_intent(), at=1))

    async def work(database: Database) -> None:
        reader = StripeReader(database, cast(Any, None), "test")
        await refreshes.show_refund(reader, refund(), T0 + 300)
        await refreshes.show_refund(reader, refund(status="pending"), T0 + 200)

    books.run(work)
    assert differing(rebuilt(books)) == {}


@pytest.mark.parametrize(
    ("bug", "expected"),
    [
        (
            "UPDATE payments.transactions SET amount = 1, status = 'failed' WHERE type <> 'refund'"
            " AND provider_object_id = 'pi_1'",
            {"payments.transactions": [("pi_1", "different", ["status", "amount"])]},
        ),
        (
            "DELETE FROM payments.transactions WHERE provider_object_id = 're_2'",
            {"payments.transactions": [("re_2", "missing", [])]},
        ),
        (
            "INSERT INTO payments.customers (provider, environment, provider_customer_id) "
            "VALUES ('stripe', 'test', 'cus_planted')",
            {"payments.customers": [("cus_planted", "extra", [])]},
        ),
        (
            "UPDATE payments.stripe_products SET name = 'Hacked'",
            {"payments.stripe_products": [("gold", "different", ["name"])]},
        ),
        (
            "UPDATE payments.stripe_subscription_items SET quantity = 7",
            {"payments.stripe_subscription_items": [("si_sub_1", "different", ["quantity"])]},
        ),
        (
            "UPDATE payments.customer_mappings SET subject_id = 'thief'",
            {
                "payments.customer_mappings": [
                    ("cus_2", "extra", []),
                    ("cus_2", "missing", []),
                ]
            },
        ),
        (
            "UPDATE billhook.payment_sources SET amount = 3 WHERE object_id = 'in_3'",
            {"billhook.payment_sources": [("in_3", "different", ["amount"])]},
        ),
    ],
)
@pytest.mark.sampled(3)
def test_a_row_that_a_bug_got_wrong_is_named_and_mended_without_stripe(
    books: Books, bug: str, expected: dict[str, Any]
) -> None:
    books.apply(*LIFE)
    right = final_state(books)
    books.execute(bug)
    found = differing(rebuilt(books))
    assert {t: sorted(rows) for t, rows in found.items()} == expected
    assert final_state(books) != right or "billhook" in bug  # only looked at, so far
    swapped = rebuilt(books, swap=True)
    assert swapped.equal
    assert differing(swapped).keys() == expected.keys()
    assert final_state(books) == right
    assert differing(rebuilt(books)) == {}


@pytest.mark.sampled(4)
@pytest.mark.parametrize("put_away", [False, True])
@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_changes_of_one_second_that_met_in_another_order_end_as_it_was_decided(
    books: Books, order: tuple[int, ...], put_away: bool
) -> None:
    books.apply(*IN_A_RING)  # and Stripe was asked, and said the same
    books.execute("DELETE FROM billhook.refreshes")
    for place, each in enumerate(order):
        books.execute(
            f"""
            UPDATE payments.webhook_events
            SET received_at = now() - interval '1 day' + interval '{place} hours'
            WHERE provider_event_id = '{IN_A_RING[each]["id"]}'
            """
        )
    if put_away:
        books.archive_events(10)
    assert differing(rebuilt(books)) == {}
    books.execute("UPDATE payments.stripe_products SET active = false")
    wrong = {"payments.stripe_products": [("tea", "different", ["active"])]}
    assert differing(rebuilt(books)) == wrong
    assert rebuilt(books, swap=True).equal
    assert books.row("SELECT name, active FROM payments.stripe_products") == {
        "name": "Tea",
        "active": True,
    }


def test_what_was_fetched_after_changes_of_its_second_stays_shown(books: Books) -> None:
    books.apply(*IN_A_RING)
    seen = IN_A_RING[2]["data"]["object"] | {"images": []}
    books.fetch("product", seen, IN_A_RING[2]["created"])
    (shown,) = books.row("SELECT raw FROM payments.stripe_products").values()
    assert shown == seen
    assert differing(rebuilt(books)) == {}


def test_all_rows_lost_come_back_with_payments_that_later_events_find(books: Books) -> None:
    books.apply(*LIFE)
    right = final_state(books)
    books.execute("""
        TRUNCATE payments.stripe_products, payments.stripe_prices, payments.customers,
            payments.customer_mappings, payments.stripe_subscriptions, payments.transactions,
            payments.stripe_subscription_items, billhook.tombstones, billhook.customer_claims,
            billhook.payment_refs, billhook.payment_sources, billhook.payment_refunds
    """)
    rebuilt(books, swap=True)
    assert final_state(books) == right
    books.apply(event("invoice.paid", invoice("in_9", customer="cus_2"), at=2000), *LIFE)
    assert len(final_state(books)["transactions"]) == 7
    numbers = books.rows("SELECT DISTINCT payment_id FROM billhook.payment_refs ORDER BY 1")
    assert all(row["payment_id"] > 0 for row in numbers)


def test_a_payment_that_a_bug_tore_in_two_is_one_again(books: Books) -> None:
    books.apply(*one_time_payment())
    right = final_state(books)
    books.execute("""
        UPDATE billhook.payment_refs SET payment_id = 77 WHERE object_type = 'checkout_session';
        UPDATE billhook.payment_sources SET payment_id = 77 WHERE object_type = 'checkout_session';
        INSERT INTO payments.transactions (provider, environment, type, status, payment_id,
            provider_object_type, provider_object_id)
        VALUES ('stripe', 'test', 'one_time_payment', 'succeeded', 77, 'checkout_session', 'cs_1');
    """)
    assert "payments.transactions" in differing(rebuilt(books))
    rebuilt(books, swap=True)
    assert final_state(books) == right
    assert differing(rebuilt(books)) == {}


def test_only_rows_that_differ_are_touched_and_no_trigger_on_the_ledger_fires(
    books: Books,
) -> None:
    books.apply(*LIFE)
    books.execute("UPDATE payments.transactions SET amount = 1 WHERE provider_object_id = 'pi_1'")
    books.execute("""
        CREATE TABLE fired (what text);
        CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            INSERT INTO fired VALUES (TG_TABLE_NAME || ' ' || (to_jsonb(coalesce(NEW, OLD))
                ->> 'provider_object_id'));
            RETURN NULL; END $$;
        CREATE TRIGGER t AFTER INSERT OR UPDATE OR DELETE ON payments.webhook_events
            FOR EACH ROW EXECUTE FUNCTION note();
        CREATE TRIGGER t AFTER INSERT OR UPDATE OR DELETE ON payments.transactions
            FOR EACH ROW EXECUTE FUNCTION note();
    """)
    before = books.row("SELECT id FROM payments.transactions WHERE provider_object_id = 'pi_1'")
    rebuilt(books, swap=True)
    fired = [row["what"] for row in books.rows("SELECT what FROM fired")]
    assert fired == ["transactions pi_1"]
    after = books.row("SELECT id FROM payments.transactions WHERE provider_object_id = 'pi_1'")
    assert after == before


def test_an_event_that_arrives_while_the_ledger_is_read_is_not_lost(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = len(one_time_payment())
    books.apply(*LIFE[:before])
    books.execute("UPDATE payments.transactions SET amount = 1")
    late = Books(books.dsn)
    passes = []
    run = Replay.run

    async def run_and_receive(self: Replay) -> None:
        await run(self)
        if not passes:
            from books import apply_one

            database = Database(late.dsn)
            await database.open()
            for each in LIFE[before:]:
                await apply_one(database, each)
            await database.close()
        passes.append(self.events)

    monkeypatch.setattr(Replay, "run", run_and_receive)
    assert rebuilt(books, swap=True).events == len(LIFE)
    assert passes == [before, len(LIFE)]
    monkeypatch.undo()
    assert differing(rebuilt(books)) == {}
    assert len(final_state(books)["transactions"]) == 6


def test_a_discount_that_is_fetched_while_the_ledger_is_read_reduces_mrr(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = subscription(currency="eur", discounts=["di_1"])
    shown["items"]["data"][0]["price"] |= {"unit_amount": 1000, "recurring": {"interval": "month"}}
    books.apply(event("customer.subscription.created", shown))
    coupon = {"id": "c_1", "duration": "forever", "percent_off": 50}
    full = shown | {"discounts": [{"id": "di_1", "source": {"coupon": coupon}}]}
    run = Replay.run

    async def run_and_fetch(self: Replay) -> None:
        await run(self)
        monkeypatch.undo()
        database = Database(books.dsn)
        await database.open()
        async with database.as_service() as connection:
            facts = facts_of(SUBSCRIPTION, [full], T0 + 60)
            await apply_facts(connection, "test", facts, outside_ledger=True)
        await database.close()

    monkeypatch.setattr(Replay, "run", run_and_fetch)
    assert differing(rebuilt(books, swap=True)) == {}
    moved = books.rows("SELECT kind, amount, mrr FROM payments.mrr_movements")
    assert moved == [{"kind": "new", "amount": 1500, "mrr": 1500}]


def test_an_event_that_waits_for_a_swap_reads_what_the_swap_has_written(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    books.apply(event("payment_intent.succeeded", payment_intent(), at=1))
    books.execute(
        "DELETE FROM payments.transactions; DELETE FROM billhook.payment_refs;"
        "DELETE FROM billhook.payment_sources"
    )
    waits = """
        SELECT count(*) > 0 FROM pg_locks
        WHERE NOT granted AND relation = 'payments.webhook_events'::regclass
    """
    compare = comparison.compare

    async def work(database: Database) -> Any:
        ledger = Ledger(database)
        refunded = event("refund.created", refund(), at=100)

        async def compare_meanwhile(*args: Any) -> Any:
            nonlocal applying
            applying = asyncio.create_task(apply_one(ledger, refunded))
            async with database.connection() as other:
                while not await other.fetchval(waits):
                    assert not applying.done()
            return await compare(*args)

        applying: asyncio.Task[Any]
        monkeypatch.setattr(comparison, "compare", compare_meanwhile)
        await rebuild(database, "test", RebuildOrder(swap=True))
        return await applying

    assert books.run(work)["processing_status"] == "processed"
    monkeypatch.undo()
    rows = books.rows("SELECT amount_refunded, payment_id FROM payments.transactions")
    assert [row["amount_refunded"] for row in rows] == [500, 500]
    assert rows[0]["payment_id"] == rows[1]["payment_id"]
    assert differing(rebuilt(books)) == {}


def test_a_swap_that_is_cut_off_changes_nothing(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    books.apply(*LIFE)
    books.execute("UPDATE payments.transactions SET amount = 1")
    wrong = final_state(books)
    whole = comparison.swap

    async def cut(connection: Any, *args: Any) -> None:
        await whole(connection, *args)
        await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    monkeypatch.setattr(comparison, "swap", cut)
    with pytest.raises(BillhookError) as failed:
        rebuilt(books, swap=True)
    assert failed.value.status == 503
    assert final_state(books) == wrong
    monkeypatch.undo()
    books.execute("DELETE FROM billhook.leases")
    assert rebuilt(books, swap=True).equal


def test_a_rule_of_the_app_that_forbids_the_swap_is_told_and_nothing_is_changed(
    books: Books,
) -> None:
    books.apply(*LIFE)
    books.execute("""
        INSERT INTO payments.customers (provider, environment, provider_customer_id)
            VALUES ('stripe', 'test', 'cus_planted');
        CREATE TABLE members (customer uuid REFERENCES payments.customers (id));
        INSERT INTO members SELECT id FROM payments.customers
            WHERE provider_customer_id = 'cus_planted';
    """)
    with pytest.raises(BillhookError, match="members") as failed:
        rebuilt(books, swap=True)
    assert failed.value.status == 400
    assert books.rows("SELECT FROM payments.customers WHERE provider_customer_id = 'cus_planted'")


OF_THE_APP = """
    ALTER TABLE payments.transactions ADD COLUMN exported_at timestamptz;
    UPDATE payments.transactions SET exported_at = now();
    ALTER TABLE payments.customers ADD COLUMN "CRM id" text;
    UPDATE payments.customers SET "CRM id" = 'crm-' || provider_customer_id;
    ALTER TABLE payments.customers ALTER COLUMN "CRM id" SET NOT NULL,
        ADD COLUMN email_lower text GENERATED ALWAYS AS (lower(email)) STORED,
        ADD COLUMN number bigint GENERATED ALWAYS AS IDENTITY,
        ADD CHECK ("CRM id" <> email), ADD UNIQUE ("CRM id", provider_customer_id);
    CREATE INDEX ON payments.customers ((lower("CRM id")), email) WHERE number > 0;
"""


def test_columns_that_the_app_added_are_no_difference_and_keep_their_values(books: Books) -> None:
    books.apply(*LIFE)
    books.execute(OF_THE_APP)
    books.execute("ALTER TABLE payments.stripe_products ADD COLUMN shelf text NOT NULL DEFAULT 'A'")
    books.execute("ALTER TABLE payments.stripe_products ALTER COLUMN shelf DROP DEFAULT")
    kept = (
        'SELECT provider_customer_id, "CRM id", email_lower, number FROM payments.customers '
        "ORDER BY number",
        "SELECT id, exported_at FROM payments.transactions ORDER BY id",
    )
    before = [books.rows(each) for each in kept]
    assert differing(rebuilt(books)) == {}
    books.execute("""
        UPDATE payments.transactions SET amount = 1, status = 'failed';
        UPDATE payments.customers SET name = 'Drifted';
    """)
    found = differing(rebuilt(books, swap=True))
    assert found["payments.customers"] == [
        ("cus_1", "different", ["name"]),
        ("cus_2", "different", ["name"]),
    ]
    assert [books.rows(each) for each in kept] == before
    assert differing(rebuilt(books)) == {}


def test_a_rebuild_that_adds_rows_fills_the_columns_of_the_app_as_an_event_does(
    books: Books,
) -> None:
    books.apply(*LIFE)
    books.execute("""
        ALTER TABLE payments.customers ADD COLUMN tier text NOT NULL DEFAULT 'free',
            ADD COLUMN email_lower text GENERATED ALWAYS AS (lower(email)) STORED;
        DELETE FROM payments.customers;
    """)
    assert rebuilt(books, swap=True).equal
    rows = books.rows(
        "SELECT DISTINCT tier, email_lower IS NOT NULL AS made FROM payments.customers"
    )
    assert rows == [{"tier": "free", "made": True}]


def test_an_adopted_failure_whose_payment_was_paid_later_is_rebuilt(
    empty_database_url: str,
) -> None:
    books = Books(empty_database_url)
    insforge.make_payments(books)
    books.execute(f"""
        INSERT INTO payments.transactions (provider, environment, type, status,
            provider_object_type, provider_object_id, amount, currency, failed_at,
            provider_created_at, related_object_ids)
        VALUES ('stripe', 'test', 'subscription_invoice', 'failed', 'invoice', 'in_1', 2900, 'usd',
            to_timestamp({T0}), to_timestamp({T0}), '{{"invoice": "in_1"}}')
    """)
    asyncio.run(migrate(empty_database_url))
    intent = payment_intent("pi_9", amount=2900, amount_received=2900, currency="usd", metadata={})
    books.apply(
        event("payment_intent.succeeded", intent, at=50),
        event("invoice_payment.paid", invoice_payment(), at=60),
        event("invoice.paid", invoice(), at=51),
    )
    before = final_state(books)
    assert differing(rebuilt(books, swap=True)) == {}
    assert final_state(books) == before


def test_a_checkout_and_adopted_rows_are_rebuilt_beside_columns_of_the_app(books: Books) -> None:
    books.execute(OF_THE_APP)
    books.execute("""
        ALTER TABLE payments.stripe_checkout_sessions ADD COLUMN campaign text,
            ADD COLUMN host text GENERATED ALWAYS AS (split_part(success_url, '/', 3)) STORED;
        INSERT INTO payments.stripe_checkout_sessions (environment, mode, success_url, cancel_url)
            VALUES ('test', 'payment', 'https://shop.test/', 'https://shop.test/');
        INSERT INTO payments.customers (provider, environment, provider_customer_id, "CRM id",
                created_at)
            VALUES ('stripe', 'test', 'cus_adopted', 'crm-1', '2020-01-01');
        INSERT INTO payments.transactions (provider, environment, type, status, created_at)
            VALUES ('stripe', 'test', 'one_time_payment', 'succeeded', '2020-01-01');
    """)
    found = rebuilt(books)
    assert differing(found) == {}
    assert {each.table: each.rows for each in found.tables}["payments.customers"] == 1


def test_a_temporary_table_that_a_trigger_left_behind_stands_in_no_ones_way(books: Books) -> None:
    books.apply(*LIFE)

    async def work(database: Database) -> Rebuilt:
        async with database.connection() as connection:
            await connection.execute("CREATE TEMPORARY TABLE transactions (id int)")
        return await rebuild(database, "test", RebuildOrder())

    assert books.run(work).equal


def test_items_beyond_an_events_page_stay_until_stripe_is_asked_again(books: Books) -> None:
    def of(shown: int, more: bool) -> dict[str, Any]:
        one = subscription()["items"]["data"][0]
        data = [one | {"id": f"si_{number:02}"} for number in range(shown)]
        return {"items": {"object": "list", "data": data, "has_more": more}}

    created = subscription(**of(10, True))
    books.apply(event("customer.subscription.created", created))
    whole = subscription(**of(12, False))
    books.fetch("subscription", whole, T0 + 5)
    books.execute("DELETE FROM billhook.refreshes")
    changed = subscription(metadata={"a": "b"}, **of(10, True))
    books.apply(event("customer.subscription.updated", changed, at=10))
    assert books.rows("SELECT FROM billhook.refreshes WHERE object_id = 'sub_1'")
    assert differing(rebuilt(books)) == {}
    books.execute("UPDATE payments.stripe_subscriptions SET status = 'unpaid'")
    assert rebuilt(books, swap=True).equal
    items = books.row("SELECT count(*) AS n FROM payments.stripe_subscription_items")
    assert items == {"n": 12}
    # An item that a whole list does not show is still one too many.
    books.apply(event("customer.subscription.updated", subscription(**of(9, False)), at=20))
    books.execute("""
        INSERT INTO payments.stripe_subscription_items (environment, subscription_item_id,
            subscription_id) VALUES ('test', 'si_planted', 'sub_1')
    """)
    planted = {"payments.stripe_subscription_items": [("si_planted", "extra", [])]}
    assert differing(rebuilt(books)) == planted


def test_events_that_were_put_away_by_age_count(books: Books) -> None:
    books.apply(*LIFE)
    books.archive_events(20)
    found = rebuilt(books)
    assert found.events == len(LIFE)
    assert differing(found) == {}


def test_an_event_that_cannot_be_read_is_named_and_stops_none_of_the_rest(books: Books) -> None:
    broken = event("product.updated", {"id": "prod_x", "object": "product"})
    books.apply(broken, *LIFE)
    found = rebuilt(books)
    assert [each.event_id for each in found.skipped] == [broken["id"]]
    assert found.events == len(LIFE)
    assert differing(found) == {}


@pytest.mark.parametrize("payload", ["{}", '{"id": "evt_1", "data": {"object": null}}'])
def test_an_event_whose_stored_payload_was_edited_is_skipped_and_named(
    books: Books, payload: str
) -> None:
    tea = {"id": "prod_1", "object": "product", "name": "Tea"}
    books.apply(event("product.created", tea, id="evt_edited"), *one_time_payment())
    books.execute(f"""
        UPDATE payments.webhook_events SET payload = '{payload}'
        WHERE provider_event_id = 'evt_edited'
    """)
    found = rebuilt(books)
    assert [each.event_id for each in found.skipped] == ["evt_edited"]
    assert found.events == len(one_time_payment())


@pytest.mark.parametrize(
    "error", [KeyError("id"), asyncpg.NumericValueOutOfRangeError("bigint out of range")]
)
def test_an_event_that_cannot_be_applied_is_named_and_the_rest_of_its_batch_is_applied(
    books: Books, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    tea = {"id": "prod_1", "object": "product", "name": "Tea"}
    books.apply(*LIFE[:5], event("product.created", tea, id="evt_tea"), *LIFE[5:])
    apply = replay.apply_facts

    async def bug(connection: Any, environment: Any, facts: Any, **options: Any) -> None:
        await apply(connection, environment, facts, **options)
        if any(fact.event.id == "evt_tea" for fact in facts):
            raise error

    monkeypatch.setattr(replay, "apply_facts", bug)
    found = rebuilt(books)
    assert [each.event_id for each in found.skipped] == ["evt_tea"]
    assert found.events == len(LIFE)
    assert differing(found) == {"payments.stripe_products": [("prod_1", "extra", [])]}


def test_one_rebuild_at_a_time(books: Books) -> None:
    books.execute(
        "INSERT INTO billhook.leases VALUES "
        "('rebuild:test', gen_random_uuid(), now() + interval '1 hour')"
    )
    with pytest.raises(BillhookError, match="already running") as busy:
        rebuilt(books)
    assert busy.value.status == 409


def test_the_other_environment_is_left_alone(books: Books) -> None:
    mine = payment_intent("pi_live", metadata=subject() | PAYS)
    books.apply(*LIFE, event("payment_intent.succeeded", mine) | {"livemode": True})
    books.execute("UPDATE payments.transactions SET amount = 1 WHERE environment = 'live'")
    assert differing(rebuilt(books)) == {}
    rebuilt(books, swap=True)
    live = books.row("SELECT amount FROM payments.transactions WHERE environment = 'live'")
    assert live == {"amount": 1}


@pytest.fixture
def station(database_url: str, sandbox: str) -> Station:
    return Station(database_url, sandbox)


def test_what_syncs_and_questions_learned_is_kept_though_no_event_says_it(
    station: Station, books: Books
) -> None:
    (session,) = station.bought()
    v1 = station.stripe.v1
    intent = v1.checkout.sessions.retrieve(session).payment_intent
    assert isinstance(intent, str)
    v1.refunds.create({"payment_intent": intent, "amount": 500})
    price = v1.prices.create(
        {
            "currency": "eur",
            "unit_amount": 900,
            "recurring": {"interval": "month"},
            "product_data": {"name": "Plan"},
        }
    )
    gone = v1.products.create({"name": "Gone"})
    customer = v1.customers.create(
        {
            "name": "Ada",
            "payment_method": "pm_card_visa",
            "invoice_settings": {"default_payment_method": "pm_card_visa"},
        }
    )
    missed = v1.customers.create({"name": "Bob"})
    subscribe_team(v1, customer.id, price.id)
    station.sync()  # before any event: the mirror is all that was fetched
    v1.products.delete(gone.id)
    v1.customers.delete(missed.id)
    station.sync()
    assert books.rows("SELECT FROM payments.customer_mappings WHERE subject_id = 't1'")
    assert differing(rebuilt(books)) == {}
    station.pull()
    station.refresh()
    assert differing(rebuilt(books)) == {}
    # Events lost, and what they would have told asked of Stripe instead.
    books.execute("DELETE FROM payments.webhook_events WHERE event_type LIKE 'payment_intent%'")
    books.execute("DELETE FROM payments.webhook_events WHERE event_type LIKE 'invoice%'")
    assert not rebuilt(books).equal
    assert rebuilt(books, swap=True).equal
    assert differing(rebuilt(books)) == {}


def test_over_http(api: Api) -> None:
    api.books.apply(*LIFE)
    api.books.execute("UPDATE payments.stripe_products SET name = 'Hacked'")
    answer = api.admin("POST", "/test/rebuild")
    assert answer.status_code == 200
    found = answer.json()["rebuild"]
    assert (found["equal"], found["swapped"], found["events"]) == (False, False, len(LIFE))
    assert api.post("/api/payments/stripe/test/rebuild", {}).status_code == 401
    assert api.admin("POST", "/test/rebuild", {"swap": "yes"}).status_code == 400


def test_at_the_command_line(api: Api, billhook: Billhook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BILLHOOK_URL", api.url)
    monkeypatch.setenv("BILLHOOK_API_KEY", ADMIN_KEY)
    api.books.apply(*LIFE)
    sound = billhook("rebuild")
    assert sound.code == 0
    assert f"Every row matches the {len(LIFE)} events of the ledger." in sound.out
    api.books.execute("UPDATE payments.stripe_products SET name = 'Hacked'")
    wrong = billhook("rebuild")
    assert wrong.code == 1
    assert "different: name" in wrong.out
    assert "To replace them: billhook rebuild --environment test --swap" in wrong.out
    assert billhook("rebuild", "--swap").code == 2  # nobody to ask
    swapped = billhook("rebuild", "--swap", "--yes")
    assert swapped.code == 0
    assert "were replaced" in swapped.out
    assert billhook("rebuild", "--json").json["rebuild"]["equal"]
