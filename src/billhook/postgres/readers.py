"""Row-level security on tables that Billhook had already, so that users read their own rows there.

Roles that may read a table keep reading it, also through views, for which PostgreSQL takes the
policies of the view's owner. So do roles that are granted SELECT later. Where the app has turned
row-level security on already, its own policies decide.
"""

from __future__ import annotations

import asyncpg

_NEW_WITH: dict[int, tuple[str, ...]] = {
    12: ("payments.stripe_subscriptions", "payments.stripe_subscription_items"),
    22: ("payments.stripe_invoices", "payments.stripe_payment_methods"),
}
"""The tables by the number of the migration that first lets users read them."""

_READERS = """
SELECT pg_catalog.string_agg(pg_catalog.quote_ident(role.rolname), ', ') AS readers
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_roles role ON role.rolname NOT IN ('anon', 'authenticated') AND (
    role.rolname = 'project_admin' OR role.oid IN (
        SELECT grantee FROM pg_catalog.aclexplode(c.relacl) WHERE privilege_type = 'SELECT'))
WHERE c.oid = pg_catalog.to_regclass($1)::oid AND NOT c.relrowsecurity
GROUP BY c.oid
"""
_PROTECT = """
ALTER TABLE {name} ENABLE ROW LEVEL SECURITY;
CREATE POLICY billhook_readers ON {name} FOR SELECT TO {readers} USING (true);
CREATE POLICY billhook_not_users ON {name} FOR SELECT
    USING (current_user NOT IN ('anon', 'authenticated'));
"""


async def keep_reading(connection: asyncpg.Connection[asyncpg.Record], migration: int) -> None:
    """Turn on row-level security on the tables that are new to users with a migration, as its last
    step. The connection's search_path must be `pg_catalog`."""
    for table in _NEW_WITH.get(migration, ()):
        roles = await connection.fetchval(_READERS, table)
        if roles is not None:
            await connection.execute(_PROTECT.format(name=table, readers=roles))
