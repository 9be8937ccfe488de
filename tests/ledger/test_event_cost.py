"""What an event costs grows neither with the history nor with missing statistics (design I9):
pages that PostgreSQL reads for each type of event, counted with nothing analysed, and with tables
that were analysed while they were empty."""

from __future__ import annotations

from typing import Any

import asyncpg
import orjson
import pytest

import aside
import stripe_events as stripe
from billhook.ledger import decode
from billhook.ledger.transaction import Work, apply_batch
from billhook.postgres import prepare_connection
from billhook.projections import TYPES, project
from depth import by_depth

HISTORY = by_depth(20_000, 100_000, 1_000_000)
"""Customers, each with a subscription, a payment and its events."""
MOST = 300
"""Pages of one event: a few for each look-up, and for each entry of an index that it writes."""
DEEPER = 2
"""An index of so many rows has one or two levels more than one of a few."""

OLD = ("years1", "years2")
DAYS = 3_000
"""On so many, the subscriptions of these customers have changed."""

_NO_AUTOVACUUM = """
    DO $$ DECLARE t regclass; BEGIN
        FOR t IN SELECT oid FROM pg_class WHERE relkind = 'r'
            AND relnamespace IN ('payments'::regnamespace, 'billhook'::regnamespace)
        LOOP EXECUTE format('ALTER TABLE %s SET (autovacuum_enabled = off)', t); END LOOP;
    END $$
"""
_GROW = f"""
    CREATE TEMPORARY TABLE n AS SELECT generate_series(1, {HISTORY}) AS n;
    INSERT INTO payments.customers (provider, environment, provider_customer_id, email, raw,
        provider_created_at, provider_event_at, provider_event_rank)
    SELECT 'stripe', 'test', 'cus_old' || n, n || '@example.com', '{{}}',
        to_timestamp({stripe.T0} - n), to_timestamp({stripe.T0} - n), 1 FROM n;
    INSERT INTO payments.customer_mappings (
        provider, environment, subject_type, subject_id, provider_customer_id)
    SELECT 'stripe', 'test', 'team', 'old' || n, 'cus_old' || n FROM n;
    INSERT INTO billhook.customer_claims (
        environment, customer_id, subject_type, subject_id, kind, ref, claimed_at)
    SELECT 'test', 'cus_old' || n, 'team', 'old' || n, 'checkout', 'cs_old' || n,
        to_timestamp({stripe.T0} - n) FROM n;
    INSERT INTO payments.stripe_subscriptions (environment, subscription_id, customer_id, status,
        subject_type, subject_id, provider_event_at, provider_event_rank)
    SELECT 'test', 'sub_old' || n, 'cus_old' || n, 'active', 'team', 'old' || n,
        to_timestamp({stripe.T0} - n), 1 FROM n;
    INSERT INTO payments.stripe_subscription_items (
        environment, subscription_item_id, subscription_id)
    SELECT 'test', 'si_old' || n, 'sub_old' || n FROM n;
    INSERT INTO payments.stripe_invoices (environment, invoice_id, customer_id, status,
        provider_event_at, provider_event_rank)
    SELECT 'test', 'in_old' || n, 'cus_old' || n, 'paid', to_timestamp({stripe.T0} - n), 1 FROM n;
    INSERT INTO payments.stripe_entitlement_summaries (environment, customer_id,
        provider_event_at, provider_event_rank)
    SELECT 'test', 'cus_old' || n, to_timestamp({stripe.T0} - n), 1 FROM n;
    INSERT INTO payments.stripe_active_entitlements (
        environment, entitlement_id, customer_id, feature_id, lookup_key)
    SELECT 'test', 'ent_old' || n, 'cus_old' || n, 'feat_1', 'chat' FROM n;
    INSERT INTO payments.transactions (provider, environment, type, status, provider_object_type,
        provider_object_id, provider_customer_id, amount, currency, provider_created_at,
        related_object_ids, payment_id)
    SELECT 'stripe', 'test', 'one_time_payment', 'succeeded', 'payment_intent', 'pi_old' || n,
        'cus_old' || n, 1500, 'eur', to_timestamp({stripe.T0} - n),
        jsonb_build_object('payment_intent', 'pi_old' || n), -n FROM n;
    INSERT INTO billhook.payment_refs
    SELECT 'test', 'payment_intent', 'pi_old' || n, -n FROM n;
    INSERT INTO billhook.payment_sources (environment, object_type, object_id, outcome, payment_id,
        version_at, version_event_id, place, type, amount, currency, out_of_band, related)
    SELECT 'test', 'payment_intent', 'pi_old' || n, 'succeeded', -n,
        to_timestamp({stripe.T0} - n), '', 1, 'one_time_payment', 1500, 'eur', false, '{{}}' FROM n;
    INSERT INTO payments.webhook_events (provider, environment, provider_event_id, event_type,
        livemode, object_type, object_id, processing_status, payload)
    SELECT 'stripe', 'test', 'evt_old' || n, 'customer.created', false, 'customer',
        'cus_old' || n, 'processed', '{{}}' FROM n;
    INSERT INTO billhook.subscription_states (environment, subscription_id, at, rank, event_id,
        customer_id, currency, period_amount, gross, discounts, had)
    SELECT 'test', 'sub_' || name, to_timestamp({stripe.T0}) - days * interval '1 day', 1,
        'evt_old' || days, 'cus_' || name, 'eur', 100 + days % 2, 100 + days % 2, '[]', 0
    FROM unnest(ARRAY{list(OLD)}) AS name, generate_series(1, {DAYS}) AS days
    ORDER BY md5(days::text);
    INSERT INTO payments.mrr_movements (environment, customer_id, currency, day, kind, amount, mrr)
    SELECT 'test', customer_id, currency, at::date,
        CASE WHEN gross > 100 THEN 'expansion' ELSE 'contraction' END, 2 * gross - 201, gross
    FROM billhook.subscription_states WHERE event_id LIKE 'evt_old%' ORDER BY md5(at::text);
    DROP TABLE n;
"""


class Counting:
    """A connection that counts the pages of each statement.

    What changes something runs twice: once for the count, and undone.
    """

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        self._connection = connection
        self.pages = 0

    async def _count(self, query: str, args: tuple[Any, ...]) -> None:
        undone = self._connection.transaction()
        await undone.start()
        plan = await self._connection.fetchval(
            f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {query}", *args
        )
        await undone.rollback()
        top = orjson.loads(plan)[0]["Plan"]
        self.pages += top["Shared Hit Blocks"] + top["Shared Read Blocks"]

    async def fetchval(self, query: str, *args: Any) -> Any:
        await self._count(query, args)
        return await self._connection.fetchval(query, *args)

    async def fetch(self, query: str, *args: Any) -> list[asyncpg.Record]:
        await self._count(query, args)
        return list(await self._connection.fetch(query, *args))


def life(name: str) -> list[dict[str, Any]]:
    """An event of each type, of one customer with one order."""
    mine = {"customer": f"cus_{name}"}
    team = stripe.subject(name=name)
    paid = {"metadata": team, "payment_intent": f"pi_{name}", **mine}
    intent = stripe.payment_intent(f"pi_{name}", latest_charge=f"ch_{name}", **mine)
    charge = stripe.charge(f"ch_{name}", payment_intent=f"pi_{name}", **mine)
    begun = {"created": stripe.T0 - DAYS * 86400, "currency": "eur"}
    subscription = stripe.subscription(f"sub_{name}", **mine, **begun)
    subscription["items"]["data"][0]["price"] |= {
        "unit_amount": 500,
        "recurring": {"interval": "month"},
    }
    invoice = stripe.invoice(f"in_{name}", **mine)
    refund = stripe.refund(f"re_{name}", payment_intent=f"pi_{name}", charge=f"ch_{name}")
    dispute = stripe.dispute(f"dp_{name}", charge=f"ch_{name}", payment_intent=f"pi_{name}")
    objects = {
        "product": stripe.product(f"prod_{name}"),
        "price": stripe.price(f"price_{name}"),
        "customer": stripe.customer(f"cus_{name}", metadata=team),
        "checkout.session": stripe.session(f"cs_{name}", **paid),
        "customer.subscription": subscription,
        "invoice": invoice,
        "invoice_payment": stripe.invoice_payment(f"in_{name}", f"pi_{name}"),
        "payment_intent": intent,
        "charge": charge,
        "refund": refund,
        "charge.refund": refund,
        "charge.dispute": dispute,
        "payment_method": stripe.payment_method(f"pm_{name}", **mine),
        "billing.meter": stripe.meter(f"mtr_{name}", event_name=name),
        "entitlements.active_entitlement_summary": stripe.entitlements("chat", **mine),
    }
    deletions = [each for each in sorted(TYPES) if each.endswith(".deleted")]
    types = [each for each in sorted(TYPES) if each not in deletions] + deletions
    return [
        stripe.event(kind, objects[kind.rpartition(".")[0]], at=at) for at, kind in enumerate(types)
    ]


async def pages_by_type(
    connection: asyncpg.Connection[asyncpg.Record], name: str
) -> dict[str, int]:
    found = {}
    for each in life(name):
        delivery = decode(stripe.payload(each))
        async with connection.transaction():
            counting = Counting(connection)
            work = Work(delivery, project(delivery.event))
            await apply_batch(counting, "test", [work])  # type: ignore[arg-type]
        found[each["type"]] = counting.pages
    return found


@pytest.mark.parametrize(
    "before", ["SELECT", "ANALYZE"], ids=["never analysed", "analysed when empty"]
)
def test_an_event_reads_as_few_pages_after_a_long_history(database_url: str, before: str) -> None:
    async def work() -> tuple[dict[str, int], dict[str, int]]:
        connection = await asyncpg.connect(database_url)
        await prepare_connection(connection)
        await connection.execute(_NO_AUTOVACUUM)
        await connection.execute(before)
        for number in range(6):  # plans are made, and kept after the fifth time
            small = await pages_by_type(connection, f"n{number}")
        await connection.execute(_GROW, timeout=600)
        for name in OLD:
            large = await pages_by_type(connection, name)
        await connection.close()
        return small, large

    small, large = aside.run(work())
    assert small.keys() == TYPES
    assert {kind: pages for kind, pages in large.items() if pages > MOST} == {}
    assert {
        kind: (small[kind], pages) for kind, pages in large.items() if pages > DEEPER * small[kind]
    } == {}
