"""What a restored archive brings back, and what was told before it was restored."""

from __future__ import annotations

from uuid import UUID

import httpx
import pytest

from api import connect
from billhook.errors import DatabaseRefused
from billhook.mirror import archives
from billhook.mirror.rebuild import rebuild
from billhook.models import RebuildOrder, Rebuilt
from billhook.postgres import Database
from books import final_state
from recovering import Station, subscribe_team, verified
from stripe_events import (
    T0,
    customer,
    event,
    payment_intent,
    refund,
    session,
    subject,
    subscription,
)
from stripe_lives import LIFE, PAYS


class Away(Station):
    """A station whose account gives way to another one, and comes back."""

    def __init__(self, database_url: str, sandbox: str) -> None:
        super().__init__(database_url, sandbox)
        self.account = self.connected()

    def connected(self) -> str:
        row = self.books.row("SELECT provider_account_id AS id FROM payments.provider_connections")
        return str(row["id"])

    def replaced(self) -> None:
        connect(self.books.dsn, self.sandbox, self.key.replace("recovery", "other"))
        assert self.connected() != self.account

    def back(self) -> None:
        connect(self.books.dsn, self.sandbox, self.key)
        assert self.connected() == self.account

    def later(self) -> None:
        """Wait until Stripe's clock shows another second."""

        def now() -> str:
            answer = httpx.get(f"{self.sandbox}/v1/account", auth=(self.key, ""), timeout=60)
            return str(answer.headers["date"])

        before = now()
        while now() == before:
            pass

    def restore(self) -> int:
        """Restore the oldest archive of the account that is not restored yet."""
        kept = [each for each in self.books.run(archives.archives) if each.restored_at is None]
        wanted: UUID = [each.id for each in kept if each.account_id == self.account][-1]
        restored: int = self.books.run(lambda database: archives.restore(database, wanted))
        return restored

    def differing(self) -> dict[str, int]:
        """How many rows of which tables are not what the ledger makes of them."""

        async def work(database: Database) -> Rebuilt:
            return await rebuild(database, "test", RebuildOrder())

        return {
            each.table: each.different for each in self.books.run(work).tables if each.different
        }


@pytest.fixture
def away(database_url: str, sandbox: str) -> Away:
    return Away(database_url, sandbox)


def test_columns_of_the_app_come_back_with_their_values_and_generated_ones_are_computed(
    away: Away,
) -> None:
    away.books.apply(*LIFE)
    away.books.execute("""
        ALTER TABLE payments.customers
            ADD COLUMN "CRM id" text,
            ADD COLUMN email_lower text GENERATED ALWAYS AS (lower(email)) STORED,
            ADD COLUMN number bigint GENERATED ALWAYS AS IDENTITY;
        UPDATE payments.customers SET "CRM id" = 'crm-' || provider_customer_id;
    """)
    every = "SELECT * FROM payments.customers ORDER BY id"
    before = away.books.rows(every)
    assert before[0]["email_lower"]
    assert before[0]["CRM id"]
    away.replaced()
    away.books.execute("ALTER TABLE payments.customers ADD tier text NOT NULL DEFAULT 'free'")
    away.back()
    away.restore()
    assert away.books.rows(every) == [row | {"tier": "free"} for row in before]


def test_purchases_before_and_after_a_restoration_are_all_in_the_mirror(away: Away) -> None:
    away.bought()
    away.pull()
    away.replaced()
    away.back()
    away.bought()
    away.pull()
    away.books.execute("""
        ALTER TABLE payments.transactions ADD COLUMN exported_at timestamptz;
        UPDATE payments.transactions SET exported_at = now();
    """)
    exported = away.books.row("SELECT id, exported_at FROM payments.transactions")
    pull = away.books.row("SELECT * FROM billhook.pulls")
    count = "SELECT count(*) AS n FROM payments.transactions WHERE status = 'succeeded'"
    assert away.books.row(count) == {"n": 1}
    away.restore()
    assert away.books.row("SELECT * FROM billhook.pulls") == pull
    assert away.books.row(count) == {"n": 2}
    kept = "SELECT id, exported_at FROM payments.transactions WHERE exported_at IS NOT NULL"
    assert away.books.rows(kept) == [exported]
    assert away.differing() == {}
    away.bought()
    away.pull()
    assert away.books.row(count) == {"n": 3}
    assert away.fulfilled() == 3
    assert away.differing() == {}


@pytest.mark.parametrize("restored", [True, False])
def test_what_an_account_sold_while_another_one_was_connected_is_pulled_when_it_is_back(
    away: Away, monkeypatch: pytest.MonkeyPatch, restored: bool
) -> None:
    monkeypatch.setattr("billhook.mirror.verify.paid.YOUNG", -1)
    away.bought()
    away.pull()
    away.later()
    away.replaced()
    away.pull()
    away.bought()
    away.later()
    away.back()
    if restored:
        away.restore()
    away.pull()
    assert away.fulfilled() == 2
    assert (away.differing() == {}) == restored
    found = verified(away)
    assert [each.stripe_payments for each in found.money] == [3000]
    missing = [] if restored else ["missing"]
    drift = [each for each in found.drift if each.object_id.startswith("pi_")]
    assert [each.problem for each in drift] == missing


@pytest.mark.parametrize("removed", [True, False])
def test_every_return_of_an_account_goes_on_where_the_last_one_ended(
    away: Away, removed: bool
) -> None:
    """Also where its archive is restored before its key is set again."""
    for _ in range(2):
        away.later()
        away.replaced()
        away.bought()
        away.later()
        if removed:
            away.books.execute("UPDATE payments.provider_connections SET status = 'unconfigured'")
            away.restore()
        away.back()
        away.pull()
    assert away.fulfilled() == 2


def test_a_refund_told_before_the_restoration_is_of_the_payment_that_comes_back(
    away: Away,
) -> None:
    paid = payment_intent("pi_1", metadata=PAYS)
    away.books.apply(event("payment_intent.succeeded", paid))
    before = away.books.row("SELECT id FROM payments.transactions")
    away.replaced()
    away.back()
    away.books.apply(event("refund.created", refund(), at=100))
    away.books.archive_events(20)
    away.restore()
    rows = away.books.rows(
        "SELECT id, payment_id, amount_refunded > 0 AS back FROM payments.transactions "
        "ORDER BY type = 'refund'"
    )
    assert rows[0]["id"] == before["id"]
    assert [row["back"] for row in rows] == [True, True]
    assert len({row["payment_id"] for row in rows}) == 1
    assert away.differing() == {}


def test_a_subscription_made_before_the_restoration_is_of_the_subject_that_comes_back(
    away: Away,
) -> None:
    away.books.apply(event("checkout.session.completed", session(metadata=subject() | PAYS)))
    away.replaced()
    away.back()
    away.books.apply(event("customer.subscription.created", subscription(), at=10))
    subjects = "SELECT subject_id FROM payments.stripe_subscriptions"
    assert away.books.rows(subjects) == [{"subject_id": None}]
    away.restore()
    assert away.books.rows(subjects) == [{"subject_id": "t1"}]
    assert away.differing() == {}


def test_payments_of_both_times_that_prove_to_be_one_have_one_row(away: Away) -> None:
    away.books.apply(*LIFE[:5])
    away.replaced()
    away.back()
    away.books.apply(*(each | {"id": f"{each['id']}_again"} for each in LIFE[3:]))
    away.restore()
    assert away.differing() == {}
    shown = away.books.rows("SELECT FROM payments.transactions WHERE provider_object_id = 'pi_1'")
    assert len(shown) == 1


def test_what_was_fetched_made_or_failed_before_the_restoration_is_kept(away: Away) -> None:
    v1 = away.stripe.v1
    tea, gone = v1.products.create({"name": "Tea"}), v1.products.create({"name": "Gone"})
    customer = v1.customers.create({"name": "Ada", "payment_method": "pm_card_visa"})
    price = v1.prices.create(
        {"currency": "eur", "unit_amount": 900, "recurring": {"interval": "month"},
         "product": tea.id}
    )  # fmt: skip
    away.sync()
    away.replaced()
    away.back()
    v1.products.update(tea.id, {"name": "Chai"})
    v1.products.delete(gone.id)
    subscribe_team(v1, customer.id, price.id)
    away.sync()
    away.books.delete("product", gone.id, 2**31)
    away.books.execute(f"""
        INSERT INTO payments.stripe_checkout_sessions
            (environment, mode, success_url, cancel_url, checkout_session_id)
            VALUES ('test', 'payment', 'https://shop.test', 'https://shop.test', 'cs_1');
        INSERT INTO billhook.fetched_payments VALUES ('test', 'payment_intent.succeeded', 'pi_9',
            to_timestamp({T0}), '{{}}');
    """)
    with away.warehouse_closed():
        away.books.apply(event("checkout.session.completed", session(metadata=PAYS)))
    away.restore()
    names = away.books.rows("SELECT name FROM payments.stripe_products")
    assert names == [{"name": "Chai"}]
    subjects = away.books.rows("SELECT subject_id FROM payments.stripe_subscriptions")
    assert subjects == [{"subject_id": "t1"}]
    assert away.books.rows("SELECT FROM payments.customer_mappings WHERE subject_id = 't1'")
    kept = away.books.row("SELECT status FROM payments.stripe_checkout_sessions")
    assert kept == {"status": "completed"}
    assert away.books.rows("SELECT FROM billhook.fetched_payments WHERE object_id = 'pi_9'")
    away.retry()
    assert away.fulfilled() == 1
    away.books.execute("DELETE FROM billhook.fetched_payments")
    assert away.differing() == {}


def test_a_subject_that_only_an_answer_of_stripes_named_is_kept(away: Away) -> None:
    """The subscription has lost it since, by an event; the claim is for ever."""
    v1 = away.stripe.v1
    customer = v1.customers.create({"name": "Ada", "payment_method": "pm_card_visa"})
    product = {"name": "Plan"}
    price = v1.prices.create(
        {"currency": "eur", "unit_amount": 900, "recurring": {"interval": "month"},
         "product_data": product}
    )  # fmt: skip
    away.replaced()
    away.back()
    subscribe_team(v1, customer.id, price.id)
    away.sync()
    (shown,) = away.books.rows("SELECT raw FROM payments.stripe_subscriptions")
    away.books.apply(
        event(
            "customer.subscription.updated", shown["raw"] | {"metadata": {}}, at=2**31,
        )
    )  # fmt: skip
    mapped = "SELECT FROM payments.customer_mappings WHERE subject_id = 't1'"
    assert away.books.rows(mapped)
    away.restore()
    assert away.books.rows(mapped)
    assert away.differing() == {}


RECORDED = """
INSERT INTO payments.usage (environment, meter, subject_type, subject_id, value, identifier, status)
VALUES ('test', 'calls', 'team', 't1', {n}, 'alone{n}', 'sent'),
    ('test', 'calls', 'team', 't1', 100, 'both', '{status}');
INSERT INTO payments.usage_days
    (environment, meter, subject_type, subject_id, customer_id, day, count, sum, last, last_at)
VALUES ('test', 'calls', 'team', 't1', NULL, '2026-01-02', 1, {n}, {n}, '2026-01-02T0{n}:00Z'),
    ('test', 'calls', NULL, NULL, 'cus_1', '2026-01-02', 1, {n}, {n}, '2026-01-02T0{n}:00Z'),
    ('test', 'calls', 'team', 't1', NULL, '2026-01-1{n}', 1, {n}, {n}, '2026-01-10T00:00Z');
INSERT INTO billhook.usage_batches (environment, events, rows, oldest_at)
VALUES ('test', '[]', {n}, now());
INSERT INTO payments.offers (environment, name, max_redemptions)
VALUES ('test', 'alone{n}', {n}), ('test', 'both', {n});
INSERT INTO payments.stripe_checkout_sessions
    (environment, mode, status, success_url, cancel_url, idempotency_key, offer, redeemed_offer)
SELECT 'test', 'payment', 'open', '', '', key, name, id
FROM payments.offers, unnest(ARRAY['repeated ' || name, name || {n}]) AS key;
UPDATE payments.offers SET redemptions = 2;
INSERT INTO payments.customer_assignments (environment, customer_id, subject_type, subject_id)
VALUES ('test', 'cus_{n}', 'team', 't{n}');
"""


@pytest.mark.parametrize("sent", ["before", "since"])
def test_what_the_app_recorded_before_and_since_is_all_there(away: Away, sent: str) -> None:
    first, second = ("sent", "pending") if sent == "before" else ("pending", "sent")
    away.books.execute(RECORDED.format(n=1, status=first))
    away.replaced()
    away.books.execute(RECORDED.format(n=5, status="sent"))
    away.back()
    away.books.execute(RECORDED.format(n=2, status=second))
    away.restore()

    def column(query: str) -> list[object]:
        return [next(iter(row.values())) for row in away.books.rows(query)]

    usage = "SELECT identifier FROM payments.usage WHERE status = 'sent' ORDER BY 1"
    assert column(usage) == ["alone1", "alone2", "both"]
    assert away.books.row("SELECT count(*) AS n FROM payments.usage") == {"n": 3}
    days = away.books.rows("""
        SELECT coalesce(subject_id, customer_id) AS owner, extract(day FROM day)::int AS day, count,
            sum::bigint AS sum, last
        FROM payments.usage_days ORDER BY 2, 1
    """)
    assert [tuple(row.values()) for row in days] == [
        ("cus_1", 2, 2, 3, 2),
        ("t1", 2, 2, 3, 2),
        ("t1", 11, 1, 1, 1),
        ("t1", 12, 1, 2, 2),
    ]
    assert column("SELECT rows FROM billhook.usage_batches ORDER BY 1") == [1, 2]
    offers = "SELECT name || ':' || max_redemptions || ':' || redemptions FROM payments.offers"
    assert sorted(column(offers)) == ["alone1:1:2", "alone2:2:2", "both:2:3"]
    redeemed = """
        SELECT o.name FROM payments.stripe_checkout_sessions s
        LEFT JOIN payments.offers o ON o.id = s.redeemed_offer
    """
    names = [str(each) for each in column(redeemed)]
    assert sorted(names) == ["alone1", "alone1", "alone2", "alone2", "both", "both", "both"]
    assigned = "SELECT customer_id FROM payments.customer_assignments ORDER BY 1"
    assert column(assigned) == ["cus_1", "cus_2"]


@pytest.mark.full
def test_every_time_of_an_account_comes_back_by_one_restoration_after_the_other(
    away: Away,
) -> None:
    """On one connection, as the dashboard does it."""
    times = LIFE[:4], LIFE[4:20], LIFE[20:]
    for told in times[:2]:
        away.books.apply(*told)
        away.replaced()
        away.back()
    away.books.apply(*times[2])

    async def restore_all(database: Database) -> None:
        for each in reversed(await archives.archives(database)):
            if each.account_id == away.account:
                await archives.restore(database, each.id)

    away.books.run(restore_all)
    assert away.differing() == {}
    assert away.books.row("SELECT count(*) AS n FROM payments.transactions") == {"n": 6}


def test_an_account_that_another_one_left_for_is_not_pulled_from_the_others_time(
    away: Away,
) -> None:
    away.replaced()
    away.books.execute("UPDATE payments.provider_connections SET status = 'unconfigured'")
    away.restore()
    assert away.connected() == away.account
    assert away.books.rows("SELECT FROM billhook.pulls") == []


def test_an_archive_made_under_another_search_path_comes_back_whole(away: Away) -> None:
    away.books.apply(*LIFE)
    before = final_state(away.books)
    (database,) = away.books.row("SELECT current_database()").values()
    away.books.execute(
        f"ALTER DATABASE {database} SET search_path = payments, billhook, pg_catalog"
    )
    away.replaced()
    away.books.execute(f"ALTER DATABASE {database} RESET search_path")
    away.back()
    away.restore()
    assert final_state(away.books) == before
    assert away.differing() == {}


DROP_ROWS = """
CREATE FUNCTION public.drop_row() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RETURN NULL; END $$;
CREATE TRIGGER drop_row BEFORE {operation} ON payments.customers
    FOR EACH ROW EXECUTE FUNCTION public.drop_row();
"""


def test_a_restoration_that_cannot_bring_back_every_row_changes_nothing(away: Away) -> None:
    away.books.apply(*LIFE)
    away.replaced()
    away.back()
    before = final_state(away.books)
    away.books.execute(DROP_ROWS.format(operation="INSERT"))
    with pytest.raises(DatabaseRefused, match=r"archived rows of payments\.customers could not"):
        away.restore()
    away.books.execute("DROP FUNCTION public.drop_row CASCADE")
    assert final_state(away.books) == before
    assert away.restore() > 0


def test_an_account_whose_rows_cannot_all_be_archived_is_not_replaced(away: Away) -> None:
    away.books.apply(*LIFE)
    before = final_state(away.books)
    away.books.execute(DROP_ROWS.format(operation="DELETE"))
    with pytest.raises(DatabaseRefused, match=r"payments\.customers could not be archived"):
        away.replaced()
    assert final_state(away.books) == before
    assert away.connected() == away.account


REFERS = """
CREATE TABLE public.invitations (
    customer_id uuid NOT NULL REFERENCES payments.customers (id) {deferred});
INSERT INTO public.invitations SELECT id FROM payments.customers LIMIT 1;
"""
RAISE = """
CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE 'customers are never deleted'; END $$;
CREATE TRIGGER refuse BEFORE DELETE ON payments.customers
    FOR EACH ROW EXECUTE FUNCTION public.refuse();
"""
RULES = {
    "foreign key": (REFERS.format(deferred=""), "violates foreign key constraint"),
    "trigger": (RAISE, "customers are never deleted"),
}
DEFERRED = (REFERS.format(deferred="DEFERRABLE INITIALLY DEFERRED"), "foreign key constraint")


@pytest.mark.parametrize(
    ("rule", "reason"), [*RULES.values(), DEFERRED], ids=[*RULES, "deferred foreign key"]
)
def test_a_rule_of_the_app_that_rejects_a_switch_is_named_and_nothing_changes(
    away: Away, rule: str, reason: str
) -> None:
    away.books.apply(*LIFE)
    before = final_state(away.books)
    away.books.execute(rule)
    with pytest.raises(DatabaseRefused, match=f"could not be connected: .*{reason}"):
        away.replaced()
    assert final_state(away.books) == before
    assert away.connected() == away.account


@pytest.mark.parametrize(("rule", "reason"), RULES.values(), ids=RULES)
def test_a_rule_of_the_app_that_rejects_a_restoration_is_named_and_nothing_changes(
    away: Away, rule: str, reason: str
) -> None:
    away.books.apply(*LIFE)
    away.replaced()
    away.back()
    away.books.apply(event("customer.created", customer("cus_since")))
    before = final_state(away.books)
    away.books.execute(rule)
    with pytest.raises(DatabaseRefused, match=f"could not be restored: .*{reason}"):
        away.restore()
    assert final_state(away.books) == before


def test_a_switch_that_collides_with_another_transaction_is_repeated(away: Away) -> None:
    away.books.apply(*LIFE)
    away.books.execute("""
        CREATE SEQUENCE public.attempts;
        CREATE FUNCTION public.collide() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF nextval('public.attempts') = 1 THEN
                RAISE 'deadlock detected' USING ERRCODE = 'deadlock_detected';
            END IF;
            RETURN OLD;
        END $$;
        CREATE TRIGGER collide BEFORE DELETE ON payments.customers
            FOR EACH ROW EXECUTE FUNCTION public.collide();
    """)
    away.replaced()
    assert away.books.row("SELECT last_value > 1 AS again FROM public.attempts") == {"again": True}
    assert away.books.rows("SELECT FROM payments.customers") == []
