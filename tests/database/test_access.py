"""`payments.has_access` in the policies of an app: who may call it, what counts, which environment,
and what it reads."""

from __future__ import annotations

import itertools
import time
from typing import Any

import asyncpg
import orjson
import pytest

import aside
from billhook.access.secrets import SecretStore
from billhook.account.connections import Connections
from billhook.models import UpdateAccessSettings
from billhook.postgres import Database, prepare_connection
from billhook.reports import granted
from billhook.settings import Settings
from billhook.stripe.gateway import Fetched
from books import Books, final_state
from depth import by_depth
from http_tokens import JWT_SECRET
from strangers import stranger
from stripe_events import (
    T0,
    customer,
    entitlements,
    event,
    invoice,
    price,
    product,
    session,
    subject,
    subscription,
)

TEAM = "0b1f6c1e-7f0a-4d3e-9a51-6d8f0d5f3c2a"
SUMMARY = "entitlements.active_entitlement_summary.updated"
NOTES = """
    CREATE TABLE notes (team_id uuid NOT NULL, text text NOT NULL);
    INSERT INTO notes VALUES
        ('0b1f6c1e-7f0a-4d3e-9a51-6d8f0d5f3c2a', 'paid'),
        ('11111111-1111-4111-8111-111111111111', 'unpaid');
    ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
    CREATE POLICY subscribers ON notes FOR SELECT TO authenticated, anon
        USING (payments.has_access('team', team_id, 'pro'));
    GRANT SELECT ON notes TO authenticated, anon;
"""


@pytest.fixture
def app(books: Books) -> Books:
    """An app whose notes are for teams with the product `pro`, and one such team."""
    books.execute(NOTES)
    books.apply(
        event("product.created", product("prod_1", metadata={"lookup_key": "pro"})),
        event("price.created", price("price_1", lookup_key="monthly")),
        event("customer.subscription.created", subscription(metadata=subject(name=TEAM))),
    )
    return books


def as_role(books: Books, role: str, query: str, **claims: Any) -> list[Any]:
    """The first column of what a role reads."""

    async def work(database: Database) -> list[Any]:
        async with database.as_service() as connection:
            await connection.execute(f"SET LOCAL ROLE {role}")
            await connection.execute(
                "SELECT set_config('request.jwt.claims', $1, true)", orjson.dumps(claims).decode()
            )
            found = [row[0] for row in await connection.fetch(query)]
            await connection.execute("RESET ROLE")
            return found

    return books.run(work)


@pytest.mark.parametrize("role", ["authenticated", "anon"])
def test_a_policy_shows_rows_to_subscribers_only(app: Books, role: str) -> None:
    assert as_role(app, role, "SELECT text FROM notes") == ["paid"]
    ended = subscription(metadata=subject(name=TEAM), status="canceled")
    app.apply(event("customer.subscription.deleted", ended, at=5))
    assert as_role(app, role, "SELECT text FROM notes") == []


def test_users_learn_nothing_else(app: Books) -> None:
    for role, relation in itertools.product(
        ("anon", "authenticated"),
        (
            *("active_subscriptions", "access_settings", "stripe_subscription_items"),
            *("stripe_features", "stripe_active_entitlements", "stripe_entitlement_summaries"),
        ),
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            as_role(app, role, f"SELECT 1 FROM payments.{relation}")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        as_role(app, "project_admin", "UPDATE payments.access_settings SET environment = 'live'")
    names = as_role(app, "project_admin", "SELECT product_name FROM payments.active_subscriptions")
    assert names == ["Tea"]


def test_another_user_of_the_database_may_not_ask(app: Books, direct_database_url: str) -> None:
    with stranger(direct_database_url) as other, pytest.raises(asyncpg.InsufficientPrivilegeError):
        other.rows("SELECT payments.has_access('team', 't1', 'pro')")


def test_ids_are_texts_uuids_or_numbers(app: Books) -> None:
    app.apply(
        event("customer.subscription.created", subscription("sub_2", metadata=subject(name="7")))
    )
    for team in (f"'{TEAM}'", f"'{TEAM}'::uuid", f"'{TEAM}'::varchar", "7", "7::bigint"):
        asked = f"""
            SELECT payments.has_access('team', {team}, 'pro') AS has,
                payments.access_quantity('team', {team}, 'pro') AS quantity"""
        assert app.row(asked) == {"has": True, "quantity": 3}, team


def test_what_is_missing_gives_no_access(app: Books) -> None:
    asked = f"""
        SELECT payments.has_access(NULL, '{TEAM}', 'pro') AS a,
            payments.has_access('team', NULL::text, 'pro') AS b,
            payments.has_access('team', NULL::uuid, 'pro') AS c,
            payments.has_access('team', '{TEAM}', NULL) AS d,
            payments.has_access('user', '{TEAM}', 'pro') AS e,
            payments.has_access('team', '{TEAM}', 'pro', 'nowhere') AS f,
            payments.has_access('team', '', '') AS g
    """
    assert set(app.row(asked).values()) == {False}


def test_a_product_is_named_by_id_and_lookup_key(app: Books) -> None:
    for what in ("prod_1", "price_1", "pro", "monthly"):
        query = f"SELECT payments.access_quantity('team', '{TEAM}', '{what}')"
        assert as_role(app, "authenticated", query) == [3], what
    others = product("prod_1", metadata={"lookup_key": "basic"})
    app.apply(event("product.updated", others, at=9))
    assert as_role(app, "anon", f"SELECT payments.has_access('team', '{TEAM}', 'pro')") == [False]


def test_the_caller_is_asked_for_by_a_claim_of_the_token(app: Books) -> None:
    user = subscription("sub_2", metadata=subject("user", "ada"))
    app.apply(event("customer.subscription.created", user))
    mine = "SELECT payments.my_access('pro')"
    assert as_role(app, "authenticated", mine, sub="ada") == [True]
    assert as_role(app, "authenticated", mine, sub="eve") == [False]
    assert as_role(app, "anon", mine) == [False]
    ours = "SELECT payments.my_access('pro', 'team', 'org_id')"
    assert as_role(app, "authenticated", ours, sub="eve", org_id=TEAM) == [True]
    # An app that wants nobody to ask for others takes the other functions away.
    app.execute(
        "REVOKE EXECUTE ON FUNCTION payments.access_quantity(text, text, text, text, interval) "
        "FROM authenticated"
    )
    assert as_role(app, "authenticated", mine, sub="ada") == [True]
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        as_role(app, "authenticated", f"SELECT payments.has_access('team', '{TEAM}', 'pro')")


def test_nothing_of_the_callers_runs_as_billhook(app: Books) -> None:
    """Neither tables and operators of the caller's path, nor temporary ones."""

    async def work(database: Database) -> list[Any]:
        async with database.as_service() as connection:
            await connection.execute("""
                CREATE SCHEMA trap; GRANT ALL ON SCHEMA trap TO authenticated;
                SET LOCAL ROLE authenticated;
                CREATE FUNCTION trap.caught(text, text) RETURNS boolean LANGUAGE plpgsql AS $$
                    BEGIN RAISE 'run as %', current_user; END $$;
                CREATE OPERATOR trap.= (LEFTARG = text, RIGHTARG = text, FUNCTION = trap.caught);
                CREATE OPERATOR trap.>= (LEFTARG = text, RIGHTARG = text, FUNCTION = trap.caught);
                CREATE FUNCTION trap.sum(bigint) RETURNS bigint LANGUAGE plpgsql AS $$
                    BEGIN RAISE 'run as %', current_user; END $$;
                CREATE TEMPORARY TABLE stripe_subscriptions (id text);
                SET LOCAL search_path = trap, pg_temp, payments, pg_catalog
            """)
            found = await connection.fetch(
                f"SELECT has_access('team', '{TEAM}', 'pro'), my_access('pro')"
            )
            await connection.execute("RESET ROLE; RESET search_path; DROP SCHEMA trap CASCADE")
            return [*found[0]]

    assert app.run(work) == [True, False]


# --- the environment -----------------------------------------------------------------------------


def connect(books: Books, environment: Any) -> None:
    async def work(database: Database) -> None:
        settings = Settings(database_url=books.dsn, jwt_secret=JWT_SECRET, _env_file=None)
        connections = Connections(database, SecretStore(database, settings))
        account = Fetched({"id": f"acct_{environment}", "object": "account"}, T0)
        await connections.connected(environment, account)

    books.run(work)


def setting(books: Books) -> tuple[str, bool]:
    row = books.row("SELECT environment, is_chosen FROM payments.access_settings")
    return row["environment"], row["is_chosen"]


def choose(books: Books, **order: Any) -> None:
    async def work(database: Database) -> None:
        await granted.update_settings(database, UpdateAccessSettings(**order))

    books.run(work)


def test_test_mode_stops_giving_access_when_a_live_account_is_connected(app: Books) -> None:
    connect(app, "test")
    assert (setting(app), as_role(app, "authenticated", "SELECT text FROM notes")) == (
        ("test", False),
        ["paid"],
    )
    connect(app, "live")
    assert (setting(app), as_role(app, "authenticated", "SELECT text FROM notes")) == (
        ("live", False),
        [],
    )
    # Removing the live key, or connecting test mode again, gives nothing back.
    connect(app, "test")
    app.execute("DELETE FROM payments.provider_connections WHERE environment = 'live'")
    assert setting(app) == ("live", False)

    real = event("customer.subscription.created", subscription(metadata=subject(name=TEAM)))
    pro = product("prod_1", metadata={"lookup_key": "pro"})
    app.apply(event("product.created", pro, livemode=True))
    app.apply(real | {"livemode": True})
    assert as_role(app, "authenticated", "SELECT text FROM notes") == ["paid"]


def test_a_policy_may_name_the_environment_itself(app: Books) -> None:
    connect(app, "live")
    ask = f"SELECT payments.has_access('team', '{TEAM}', 'pro', environment => '{{}}')"
    assert as_role(app, "anon", ask.format("test")) == [True]
    assert as_role(app, "anon", ask.format("live")) == [False]


def test_an_environment_that_was_chosen_stays(app: Books) -> None:
    choose(app, environment="test")
    connect(app, "live")
    assert setting(app) == ("test", True)
    choose(app, graceSeconds=60)
    assert setting(app) == ("test", True)


# --- grace ---------------------------------------------------------------------------------------


def test_the_grace_begins_when_the_oldest_unpaid_invoice_was_due(app: Books) -> None:
    """Not when the period began: a failed renewal moves that on, month after month."""
    now = int(time.time())
    late = subscription(metadata=subject(name=TEAM), status="past_due")
    for item in late["items"]["data"]:
        item["current_period_start"] = now - 86_400
    app.apply(event("customer.subscription.updated", late, at=10))
    ask = "SELECT text FROM notes"
    assert as_role(app, "authenticated", ask) == []
    choose(app, graceSeconds=3 * 86_400)
    assert as_role(app, "authenticated", ask) == ["paid"]
    view = "SELECT in_grace, until FROM payments.active_subscriptions"
    assert app.row(view)["in_grace"] is True
    assert int(app.row(view)["until"].timestamp()) == now + 2 * 86_400

    def unpaid(number: int, days: int, at: int, **more: Any) -> None:
        found = invoice(f"in_{number}", status="open", created=now - days * 86_400, **more)
        app.apply(event("invoice.updated", found, at=at))

    unpaid(1, 2, at=20)
    assert as_role(app, "authenticated", ask) == ["paid"]
    unpaid(2, 40, at=21)
    assert as_role(app, "authenticated", ask) == []
    # One that is sent is due later than it was created.
    unpaid(2, 40, at=22, due_date=now - 86_400)
    assert as_role(app, "authenticated", ask) == ["paid"]
    unpaid(2, 40, at=23, due_date=now - 4 * 86_400)
    assert as_role(app, "authenticated", ask) == []
    paid_late = f"SELECT payments.has_access('team', '{TEAM}', 'pro', grace => '100 days')"
    assert as_role(app, "authenticated", paid_late) == [True]


@pytest.mark.parametrize("grace", [0, 86_400])
@pytest.mark.parametrize(
    ("column", "at"),
    [
        ("current_period_start", "NULL"),
        ("current_period_start", "now() + interval '1 hour'"),
        ("current_period_start", "now() - interval '1 hour'"),
        ("cancel_at", "now() - interval '1 second'"),
        ("cancel_at", "now() + interval '1 hour'"),
    ],
)
@pytest.mark.parametrize("status", ["active", "past_due", "trialing", "unpaid", "paused"])
def test_the_view_lists_who_has_access(
    app: Books, status: str, column: str, at: str, grace: int
) -> None:
    choose(app, graceSeconds=grace)
    app.execute(f"UPDATE payments.stripe_subscriptions SET status = '{status}', {column} = {at}")
    shown = app.row(f"""
        SELECT payments.has_access('team', '{TEAM}', 'pro') AS has,
            EXISTS (SELECT FROM payments.active_subscriptions) AS listed,
            (SELECT every(until IS NULL OR until > now())
             FROM payments.active_subscriptions WHERE status = 'past_due') AS lasts
    """)
    assert shown["has"] == shown["listed"]
    assert shown["lasts"] in (None, True)
    if status == "past_due" and grace == 0:
        assert shown["has"] is False


# --- entitlements --------------------------------------------------------------------------------


def features(books: Books, name: str = "t1") -> set[str]:
    return {
        each
        for each in ("chat", "search", "export")
        if books.row(f"SELECT payments.has_access('team', '{name}', '{each}') AS it")["it"]
    }


BOUGHT = session(metadata=subject(), payment_intent=None)


def test_a_feature_of_stripe_counts_for_the_subject_that_the_customer_pays_for(
    books: Books,
) -> None:
    books.apply(event(SUMMARY, entitlements("chat", "search"), at=10))
    assert features(books) == set()
    books.apply(event("checkout.session.completed", BOUGHT, at=5))
    assert features(books) == {"chat", "search"}
    moved = session("cs_2", metadata=subject(name="t2"), payment_intent=None)
    books.apply(event("checkout.session.completed", moved, at=20))
    assert (features(books), features(books, "t2")) == (set(), {"chat", "search"})
    books.apply(event("customer.deleted", customer(), at=30))
    assert features(books, "t2") == set()


def test_the_newest_summary_wins_in_any_order(books: Books) -> None:
    books.apply(event("checkout.session.completed", BOUGHT))
    states = [
        event(SUMMARY, entitlements("chat"), at=1),
        event(SUMMARY, entitlements("chat", "search"), at=2),
        event(
            SUMMARY,
            entitlements("export"),
            at=2,
            previous={
                "entitlements": {"data": entitlements("chat", "search")["entitlements"]["data"]}
            },
        ),
        event(SUMMARY, entitlements("search", "export"), at=3),
        event(SUMMARY, entitlements("search"), at=4),
    ]
    seen = set()
    for order in itertools.permutations(states):
        books.execute(
            "TRUNCATE payments.stripe_entitlement_summaries, payments.stripe_active_entitlements, "
            "payments.webhook_events, billhook.ties"
        )
        books.apply(*order)
        assert features(books) == {"search"}
        seen.add(orjson.dumps(final_state(books)))
        assert books.rows("SELECT * FROM billhook.refreshes") == []
    assert len(seen) == 1
    rows = books.rows("SELECT lookup_key FROM payments.stripe_active_entitlements")
    assert rows == [{"lookup_key": "search"}]


def test_a_summary_that_does_not_show_all_is_completed_by_a_refresh(books: Books) -> None:
    books.apply(
        event("checkout.session.completed", BOUGHT),
        event(SUMMARY, entitlements("chat"), at=1),
        event(SUMMARY, entitlements("search", has_more=True), at=2),
    )
    # What it leaves out may still be so.
    assert features(books) == {"chat", "search"}
    refreshes = books.rows("SELECT object_type, object_id FROM billhook.refreshes")
    assert refreshes == [
        {"object_type": "entitlements.active_entitlement_summary", "object_id": "cus_1"}
    ]
    books.fetch("entitlements.active_entitlement_summary", entitlements("search", "export"), T0 + 9)
    assert features(books) == {"search", "export"}


def test_the_ledger_names_the_customer_of_a_summary(books: Books) -> None:
    books.apply(event(SUMMARY, entitlements("chat")))
    row = books.row("SELECT object_id, processing_status AS status FROM payments.webhook_events")
    assert row == {"object_id": "cus_1", "status": "processed"}


# --- what it costs -------------------------------------------------------------------------------

SUBSCRIPTIONS = by_depth(20_000, 100_000, 1_000_000)
MOST = 40
"""Pages of one answer."""
DEEPER = 14
"""An index of so many rows has one or two levels more than one of a few; an answer reads seven."""
OLD = 500
"""Ended subscriptions of one team, which may not be read one by one."""

_GROW = """
    INSERT INTO payments.stripe_products (environment, product_id, name, active, metadata)
    SELECT 'test', 'prod_' || n, 'Plan ' || n, true, jsonb_build_object('lookup_key', 'plan_' || n)
    FROM generate_series({first}, {last} / 100) n;
    INSERT INTO payments.stripe_prices (
        environment, price_id, product_id, active, currency, type, lookup_key)
    SELECT 'test', 'price_' || n, 'prod_' || n / 2, true, 'eur', 'recurring', 'key_' || n
    FROM generate_series({first}, {last} / 50) n;
    INSERT INTO payments.stripe_subscriptions (environment, subscription_id, customer_id,
        subject_type, subject_id, status, current_period_start)
    SELECT 'test', 'sub_' || n, 'cus_' || n, 'team', 't' || n,
        CASE WHEN n % 10 = 0 THEN 'past_due' WHEN n % 3 = 0 THEN 'canceled' ELSE 'active' END, now()
    FROM generate_series({first}, {last}) n;
    INSERT INTO payments.stripe_subscription_items (
        environment, subscription_item_id, subscription_id, product_id, price_id, quantity)
    SELECT 'test', 'si_' || n, 'sub_' || n, 'prod_' || n / 100, 'price_' || n / 50, 1
    FROM generate_series({first}, {last}) n;
    INSERT INTO payments.customer_mappings (
        provider, environment, subject_type, subject_id, provider_customer_id)
    SELECT 'stripe', 'test', 'team', 't' || n, 'cus_' || n FROM generate_series({first}, {last}) n;
    INSERT INTO payments.stripe_active_entitlements (
        environment, entitlement_id, customer_id, feature_id, lookup_key)
    SELECT 'test', 'ent_' || n, 'cus_' || n, 'feat_1', 'chat'
    FROM generate_series({first}, {last}) n;
    INSERT INTO payments.stripe_invoices (
        environment, invoice_id, customer_id, subscription_id, status, provider_created_at)
    SELECT 'test', 'in_' || n, 'cus_' || n, 'sub_' || n, 'open', now()
    FROM generate_series({first}, {last}) n;
"""
_ENDED = f"""
    INSERT INTO payments.stripe_subscriptions (
        environment, subscription_id, customer_id, subject_type, subject_id, status)
    SELECT 'test', 'sub_old' || n, 'cus_1', 'team', 't1', 'canceled'
    FROM generate_series(1, {OLD}) n
"""
_NO_AUTOVACUUM = """
    DO $$ DECLARE t regclass; BEGIN
        FOR t IN SELECT oid FROM pg_class
            WHERE relkind = 'r' AND relnamespace = 'payments'::regnamespace
        LOOP EXECUTE format('ALTER TABLE %s SET (autovacuum_enabled = off)', t); END LOOP;
    END $$
"""
CALLS = {
    "an active subscription": "'t1', 'key_0'",
    "a product": "'t1', 'plan_0'",
    "a feature": "'t2', 'chat'",
    "another plan": "'t7', 'nothing'",
    "in grace": "'t10', 'price_0', grace => '3 days'",
    "ended": "'t3', 'price_0'",
    "nobody": "'nobody', 'price_0'",
}


@pytest.mark.parametrize(
    "before", ["SELECT", "ANALYZE"], ids=["never analysed", "analysed when empty"]
)
def test_an_answer_reads_as_few_pages_with_many_subscriptions(
    database_url: str, before: str
) -> None:
    async def pages(connection: Any) -> dict[str, int]:
        found = {}
        for name, arguments in CALLS.items():
            plan = await connection.fetchval(
                "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) "
                f"SELECT payments.has_access('team', {arguments})"
            )
            top = orjson.loads(plan)[0]["Plan"]
            found[name] = top["Shared Hit Blocks"] + top["Shared Read Blocks"]
        return found

    async def work() -> tuple[dict[str, int], dict[str, int], list[bool]]:
        connection = await asyncpg.connect(database_url)
        await prepare_connection(connection)
        await connection.execute(_NO_AUTOVACUUM)
        await connection.execute(before)
        for _ in range(6):  # plans are made, and kept
            await pages(connection)
        await connection.execute(_GROW.format(first=0, last=100))
        for _ in range(2):
            small = await pages(connection)
        await connection.execute(_GROW.format(first=101, last=SUBSCRIPTIONS), timeout=600)
        await connection.execute(_ENDED)
        for _ in range(2):
            large = await pages(connection)
        answers = [
            await connection.fetchval(f"SELECT payments.has_access('team', {each})")
            for each in CALLS.values()
        ]
        await connection.close()
        return small, large, answers

    small, large, answers = aside.run(work())
    assert answers == [True, True, True, False, True, False, False]
    assert {name: count for name, count in large.items() if count > MOST} == {}, (small, large)
    deeper = {n: (small[n], count) for n, count in large.items() if count > small[n] + DEEPER}
    assert deeper == {}
