"""`payments.has_access` in a row-level security policy, with 1,000,000 subscriptions: microseconds
a row, read by a user of the app.

Autovacuum is off, and nothing is analyzed until the second round. The first read of each kind warms
the caches, and the fastest of the following ones counts. The cost of reading the same rows without
the call is subtracted. On a machine that others use, see the time that PostgreSQL's process had.
"""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import asyncpg

from bench.database import server
from billhook.postgres.migrate import migrate

SUBSCRIPTIONS = 1_000_000
ROWS = 20_000
TIMES = 5

_FILL = f"""
    INSERT INTO payments.stripe_products (environment, product_id, name, active, metadata)
    SELECT 'live', 'prod_' || n, 'Plan ' || n, true, jsonb_build_object('lookup_key', 'plan_' || n)
    FROM generate_series(0, 99) n;
    INSERT INTO payments.stripe_prices (
        environment, price_id, product_id, active, currency, type, lookup_key)
    SELECT 'live', 'price_' || n, 'prod_' || n % 100, true, 'eur', 'recurring', 'key_' || n
    FROM generate_series(0, 299) n;
    INSERT INTO payments.stripe_subscriptions (
        environment, subscription_id, customer_id, subject_type, subject_id, status,
        current_period_start, current_period_end, metadata, raw)
    SELECT 'live', 'sub_' || md5(n::text), 'cus_' || n, 'team', team,
        CASE WHEN n % 10 = 0 THEN 'past_due' WHEN n % 5 = 1 THEN 'canceled' ELSE 'active' END,
        now() - interval '1 day', now() + interval '29 days', '{{}}',
        jsonb_build_object('id', 'sub_' || n, 'filler', repeat(md5(n::text), 20))
    FROM generate_series(1, {SUBSCRIPTIONS}) n, md5((n % 900000)::text) AS team;
    INSERT INTO payments.stripe_subscription_items (
        environment, subscription_item_id, subscription_id, product_id, price_id, quantity)
    SELECT 'live', 'si_' || n, 'sub_' || md5(n::text), 'prod_' || n % 100, 'price_' || n % 300,
        n % 9
    FROM generate_series(1, {SUBSCRIPTIONS}) n;
    INSERT INTO payments.customer_mappings (
        provider, environment, subject_type, subject_id, provider_customer_id)
    SELECT 'stripe', 'live', 'team', md5(n::text), 'cus_' || n
    FROM generate_series(1, 800000) n;
    INSERT INTO payments.stripe_active_entitlements (
        environment, entitlement_id, customer_id, feature_id, lookup_key)
    SELECT 'live', 'ent_' || n, 'cus_' || n, 'feat_' || n % 7, 'feature_' || n % 7
    FROM generate_series(1, 800000) n;
    UPDATE payments.access_settings SET environment = 'live';
    CREATE TABLE notes (
        id integer PRIMARY KEY, team text NOT NULL, plan text NOT NULL, feature text NOT NULL);
    INSERT INTO notes
    SELECT n, md5(team::text), 'plan_' || team % 100, 'feature_' || team % 7
    FROM generate_series(1, {ROWS}) n, LATERAL (SELECT n * 37 % 799000 + 1 AS team) AS t;
    ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
    GRANT SELECT ON notes TO authenticated;
"""
_NO_AUTOVACUUM = """
    DO $$ DECLARE t regclass; BEGIN
        FOR t IN SELECT oid FROM pg_class
            WHERE relkind = 'r' AND relnamespace = 'payments'::regnamespace
        LOOP EXECUTE format('ALTER TABLE %s SET (autovacuum_enabled = off)', t); END LOOP;
    END $$
"""
_POLICY = """
    DROP POLICY IF EXISTS subscribers ON notes;
    CREATE POLICY subscribers ON notes TO authenticated USING ({})
"""
POLICIES = {
    "by plan": "payments.has_access('team', team, plan)",
    "by plan, with a grace": "payments.has_access('team', team, plan, grace => '3 days')",
    "by feature": "payments.has_access('team', team, feature)",
    "by seats": "payments.access_quantity('team', team, plan) >= 3",
    "nobody has it": "payments.has_access('team', team, 'platinum')",
}


class Took(NamedTuple):
    """The shortest time of reading all rows as a user, by the clock and by the process, in seconds;
    and how many rows the user sees."""

    clock: float
    process: float
    seen: int


def _process_seconds(pid: int) -> float:
    """The processor time of a process so far; 0 where the system does not say."""
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0


async def _read(connection: asyncpg.Connection[asyncpg.Record]) -> Took:
    pid = connection.get_server_pid()
    clock, process = [], []
    for _ in range(TIMES + 1):
        async with connection.transaction():
            await connection.execute("SET LOCAL ROLE authenticated")
            began, spent = time.perf_counter(), _process_seconds(pid)
            seen = await connection.fetchval("SELECT count(*) FROM notes", timeout=600)
            clock.append(time.perf_counter() - began)
            process.append(_process_seconds(pid) - spent)
    return Took(min(clock[1:]), min(process[1:]), seen)


async def measure(dsn: str) -> None:
    """Fill the tables, and time each policy."""
    connection = await asyncpg.connect(dsn)
    await connection.execute(_NO_AUTOVACUUM)
    await connection.execute(_FILL, timeout=1800)
    await connection.execute("CHECKPOINT", timeout=600)
    for known in ("never analyzed", "analyzed"):
        if known == "analyzed":
            await connection.execute("ANALYZE", timeout=600)
        print(f"  {known}")
        await connection.execute(_POLICY.format("team <> ''"))
        base = await _read(connection)
        for name, condition in POLICIES.items():
            await connection.execute(_POLICY.format(condition))
            took = await _read(connection)
            clock, process = (
                (mine - its) / ROWS * 1e6 for mine, its in zip(took[:2], base[:2], strict=True)
            )
            print(
                f"    {name}: {clock:.1f} µs a row, of PostgreSQL's process {process:.1f}; "
                f"{took.seen:,} rows seen"
            )
    await connection.close()


def main() -> None:
    """Run everything and print."""
    print(f"access with {SUBSCRIPTIONS:,} subscriptions, a policy on {ROWS:,} rows")
    # The default of 128 MB holds a tenth of what is read at random.
    with server(shared_buffers="1GB") as postgres:
        dsn = postgres.create_database("bench")
        asyncio.run(migrate(dsn))
        asyncio.run(measure(dsn))
