"""Which privileges the database user lacks for a migration, with the statements that grant them;
and which other users own objects that Billhook relies on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import asyncpg

from billhook.postgres import ROLES, Connection
from billhook.postgres.grants import TABLES

_SCHEMAS = ("billhook", "payments", "system")
_HELPERS = ("jwt", "uid", "role", "email")

_MISSING_SCHEMAS = """
SELECT format('The schema %s is missing, and %I may not create one in the database %I.',
        wanted, current_user, current_database()) AS problem,
    format('GRANT CREATE ON DATABASE %I TO %I', current_database(), current_user) AS statement
FROM unnest($1::text[]) AS wanted
WHERE to_regnamespace(wanted) IS NULL
  AND NOT has_database_privilege(current_database(), 'CREATE')
LIMIT 1
"""
_CLOSED_SCHEMAS = """
SELECT format('The schema %I belongs to %s, and %I may not create objects in it.',
        nspname, nspowner::regrole, current_user) AS problem,
    format('GRANT USAGE, CREATE ON SCHEMA %I TO %I', nspname, current_user) AS statement
FROM pg_namespace
WHERE nspname = ANY ($1) AND NOT (
    has_schema_privilege(oid, 'USAGE') AND has_schema_privilege(oid, 'CREATE'))
"""
_CLOSED_AUTH = """
SELECT format('The schema auth belongs to %s, and %I may not create %s in it.',
        nspowner::regrole, current_user, string_agg('auth.' || helper || '()', ', ')) AS problem,
    format('GRANT USAGE, CREATE ON SCHEMA auth TO %I', current_user) AS statement
FROM pg_namespace n, unnest($1::text[]) AS helper
WHERE nspname = 'auth'
  AND NOT (has_schema_privilege(oid, 'USAGE') AND has_schema_privilege(oid, 'CREATE'))
  AND NOT EXISTS (
      SELECT FROM pg_proc p
      WHERE p.pronamespace = n.oid AND p.proname = helper AND p.pronargs = 0)
GROUP BY nspowner
"""
_NO_TABLES = """
SELECT format('%s is a %s of %s, and Billhook needs a table of that name.',
        c.oid::regclass, lower(kind.name), c.relowner::regrole) AS problem,
    format('ALTER %s %s RENAME TO %I', kind.name, c.oid::regclass, c.relname || '_before_billhook')
        AS statement
FROM pg_class c JOIN (VALUES
    ('f', 'FOREIGN TABLE'), ('v', 'VIEW'), ('m', 'MATERIALIZED VIEW'), ('S', 'SEQUENCE'),
    ('i', 'INDEX'), ('I', 'INDEX'), ('c', 'TYPE')) AS kind (letter, name)
  ON kind.letter = c.relkind::text
WHERE c.relnamespace = to_regnamespace('payments')::oid AND c.relname = ANY ($1)
"""
_TABLES_OF_OTHERS = """
SELECT format('The table %s belongs to %s, and only its owner may change it.',
        oid::regclass, relowner::regrole) AS problem,
    format('ALTER TABLE %s OWNER TO %I', oid::regclass, current_user) AS statement
FROM pg_class
WHERE relkind IN ('r', 'p') AND NOT pg_has_role(current_user, relowner, 'USAGE') AND (
    relnamespace = to_regnamespace('payments')::oid AND relname = ANY ($1)
    OR relnamespace = to_regnamespace('system')::oid AND relname = 'secrets'
    OR relnamespace = to_regnamespace('billhook')::oid)
ORDER BY oid::regclass::text
"""
_MISSING_ROLES = """
SELECT format('The role %I is missing, and %I may not create roles.', wanted, current_user)
        AS problem,
    format('CREATE ROLE %I NOLOGIN; GRANT %I TO %I', wanted, wanted, current_user) AS statement
FROM unnest($1::text[]) AS wanted
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted)
  AND NOT EXISTS (
      SELECT FROM pg_roles WHERE rolname = current_user AND (rolsuper OR rolcreaterole))
"""
_CHECKS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (_MISSING_SCHEMAS, (*_SCHEMAS, "auth")),
    (_CLOSED_SCHEMAS, _SCHEMAS),
    (_CLOSED_AUTH, _HELPERS),
    (_NO_TABLES, TABLES),
    (_TABLES_OF_OTHERS, TABLES),
    (_MISSING_ROLES, tuple(sorted(ROLES))),
)

# The owner of a schema can replace what is in it, the owner of a table can attach triggers, which
# run as Billhook, and the owner of `auth.uid()` decides who a caller is. A superuser has the
# privileges of every role, so its actual memberships count. Supabase's own service owns `auth`.
_FOREIGN_OWNERS = """
WITH ours AS (
    SELECT 'SCHEMA' AS kind, quote_ident(nspname) AS name, nspname AS schema, nspowner AS owner
    FROM pg_namespace WHERE nspname = ANY ($1)
    UNION ALL
    SELECT 'TABLE', format('%I.%I', n.nspname, c.relname), n.nspname, c.relowner
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') AND (
        n.nspname = 'payments' AND c.relname = ANY ($2)
        OR n.nspname = 'system' AND c.relname = 'secrets' OR n.nspname = 'billhook')
    UNION ALL
    SELECT 'FUNCTION', format('auth.%I()', p.proname), n.nspname, p.proowner
    FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE n.nspname = 'auth' AND p.proname = ANY ($3) AND p.pronargs = 0
)
SELECT ours.kind, ours.name, owner.rolname AS owner,
    CASE ours.schema
        WHEN 'auth' THEN format('GRANT %I TO %I', owner.rolname, me.rolname)
        ELSE format('ALTER %s %s OWNER TO %I', ours.kind, ours.name, me.rolname) END AS statement
FROM ours
JOIN pg_roles owner ON owner.oid = ours.owner
JOIN pg_roles me ON me.rolname = current_user
JOIN pg_database d ON d.datname = current_database()
WHERE NOT (owner.rolsuper OR owner.oid IN (me.oid, d.datdba)
    OR owner.rolname = 'pg_database_owner'
    OR ours.schema = 'auth' AND owner.rolname IN ('supabase_admin', 'supabase_auth_admin')
    OR CASE WHEN me.rolsuper
        THEN EXISTS (SELECT FROM pg_auth_members WHERE roleid = owner.oid AND member = me.oid)
        ELSE pg_has_role(me.oid, owner.oid, 'USAGE') END)
ORDER BY ours.kind, ours.name
"""

# Tables whose row-level security also applies to their owner (Billhook), without a policy for it.
_FORCED = """
SELECT c.oid::regclass::text AS name FROM pg_class c
WHERE c.relforcerowsecurity AND c.relrowsecurity
  AND pg_has_role(current_user, c.relowner, 'USAGE')
  AND (c.relnamespace = to_regnamespace('payments')::oid AND c.relname = ANY ($1)
       OR c.relnamespace = to_regnamespace('billhook')::oid)
  AND NOT EXISTS (
      SELECT FROM pg_roles WHERE rolname = current_user AND (rolsuper OR rolbypassrls))
  AND NOT EXISTS (
      SELECT FROM pg_policy p WHERE p.polrelid = c.oid AND p.polname = 'billhook_service')
ORDER BY 1
"""
_OPEN = "CREATE POLICY billhook_service ON {} TO CURRENT_USER USING (true) WITH CHECK (true)"


@dataclass(frozen=True, slots=True)
class MissingRight:
    """A missing privilege, with the object and its owner; and the statement that grants it."""

    problem: str
    statement: str


@dataclass(frozen=True, slots=True)
class ForeignOwner:
    """An object that Billhook relies on, and its owner, who is not known to be trusted."""

    kind: str
    name: str
    owner: str
    statement: str
    """Declares the owner trusted, or makes Billhook the owner."""

    @property
    def problem(self) -> str:
        return f"The {self.kind.lower()} {self.name} belongs to the database user {self.owner}."


async def foreign_owners(connection: Connection) -> list[ForeignOwner]:
    """Objects that Billhook relies on and that belong to neither its user, a role of which that is
    a member, the database's owner nor a superuser. The search path must be `pg_catalog`."""
    rows = await connection.fetch(_FOREIGN_OWNERS, [*_SCHEMAS, "auth"], TABLES, _HELPERS)
    return [ForeignOwner(**dict(row)) for row in rows]


def take_over(found: Iterable[ForeignOwner]) -> str:
    """What an operator should do about them."""
    statements = " ".join(f"{each.statement};" for each in found)
    return (
        "Owners can replace what Billhook relies on. If you trust them, migrate as that user, or "
        f"run as an administrator of the database: {statements} If not, somebody else created "
        "this: check its contents, then drop it."
    )


async def missing(connection: asyncpg.Connection[asyncpg.Record]) -> list[MissingRight]:
    """What the connection's user lacks for a migration. Its search path must be `pg_catalog`."""
    return [
        MissingRight(row["problem"], row["statement"])
        for query, names in _CHECKS
        for row in await connection.fetch(query, names)
    ]


async def forced(connection: Connection) -> list[str]:
    """Our tables on which `FORCE ROW LEVEL SECURITY` keeps Billhook out of its own rows. The search
    path must be `pg_catalog`."""
    return [row["name"] for row in await connection.fetch(_FORCED, TABLES)]


def let_in(tables: Iterable[str]) -> list[str]:
    """The statements that give Billhook's user access to those tables."""
    return [_OPEN.format(table) for table in tables]


async def open_forced(connection: asyncpg.Connection[asyncpg.Record]) -> list[str]:
    """Give Billhook's user a policy on those tables. Returns what was done."""
    tables = await forced(connection)
    for statement in let_in(tables):
        await connection.execute(statement)
    return [f"policy billhook_service on {table}" for table in tables]
