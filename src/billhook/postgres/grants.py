"""Who may do what with Billhook's tables, schemas and functions (contract section 4).

Objects that a migration creates get exactly these grants, whatever the database's default
privileges are. Existing objects of an adopted database keep explicit grants: only what default
privileges gave to PUBLIC or to users is revoked there. `billhook doctor` reports the rest.
docs/how-to/database-roles.md documents this for operators.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import groupby
from typing import TypeAlias

import asyncpg

from billhook import kinds
from billhook.postgres import ROLES, Connection

Object: TypeAlias = tuple[str, str]
"""A kind and a name."""

_PUBLIC = "PUBLIC"
_USERS = ("anon", "authenticated")
_CALLERS = tuple(sorted(ROLES))
_SESSIONS = ("stripe_checkout_sessions", "stripe_customer_portal_sessions")
_USAGE = "usage"
# What an app's rows of usage say; the other columns are for Billhook alone to set.
_USAGE_COLUMNS = (
    *("environment", "meter", "subject_type", "subject_id", "customer_id", "value", "payload"),
    *("occurred_at", "identifier"),
)
VIEWS = ("active_subscriptions", "usage_totals", "usage_by_day")
"""Billhook's views in `payments`."""
TABLES = (
    *("provider_connections", "customer_mappings", "customer_assignments", *_SESSIONS),
    *("webhook_events", "transactions", _USAGE, "usage_days", "access_settings", "offers"),
    "mrr_movements",
    *kinds.TABLES,
)
"""Billhook's tables in `payments`."""
_FOR_POLICIES = ("access_quantity", "has_access", "my_access")
"""Functions in `payments`, which policies of the app call with the caller's rights."""
_SECRETS = ("TABLE", "system.secrets")
_PRIVATE = """
    api_keys archived_events archived_rows archives audit_log audit_log_id_seq backoff
    charge_requests connected_account customer_claims dashboard_sessions discounts endpoint_events
    entitlements_to event_accounts event_retries events_of_others fetched_payments function_files
    import_ranges import_ranges_id_seq imports items_with_access keep_audit_log keep_expanded leases
    load_batch load_payment_rows load_payments load_rows migrations payment_ids payment_refs
    payment_refunds payment_sources pulls refreshes refund_requests refuse_outcomes reset_session
    save_batch save_rows signing_secrets sole_checkouts subscription_requests subscription_states
    sync_ranges sync_ranges_id_seq syncs ties tombstones touch_updated_at unpaid_since usage_batches
    usage_batches_id_seq verifications
"""
"""The names of everything that Billhook creates in the schema `billhook`."""

# Everything of ours, and what others than the owner may do with it. A grant is `by_default` if the
# owner's default privileges may have created it, rather than a GRANT.
_ACTUAL = """
WITH objects AS (
    SELECT 'SCHEMA' AS kind, quote_ident(nspname) AS name, nspowner AS owner, 0::oid AS schema,
        'n'::"char" AS default_kind, nspacl AS acl, NULL::name AS column_name
    FROM pg_namespace WHERE nspname IN ('billhook', 'payments', 'system', 'auth')
    UNION ALL
    SELECT CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END,
        format('%I.%I', n.nspname, c.relname), c.relowner, n.oid,
        CASE c.relkind WHEN 'S' THEN 'S' ELSE 'r' END::"char", c.relacl, NULL
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S')
      AND (n.nspname = 'billhook' OR n.nspname = 'system' AND c.relname = 'secrets'
           OR n.nspname = 'payments' AND c.relname = ANY ($1::text[]))
    UNION ALL
    SELECT 'TABLE', format('%I.%I', n.nspname, c.relname), c.relowner, n.oid, 'r',
        coalesce(a.attacl, '{}'), a.attname
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE a.attacl IS NOT NULL
      AND (n.nspname = 'billhook' OR n.nspname = 'system' AND c.relname = 'secrets'
           OR n.nspname = 'payments' AND c.relname = ANY ($1::text[]))
    UNION ALL
    SELECT 'FUNCTION', format('%I.%I(%s)', n.nspname, p.proname,
            pg_get_function_identity_arguments(p.oid)),
        p.proowner, n.oid, 'f', p.proacl, NULL
    FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE n.nspname = 'billhook' OR n.nspname = 'payments' AND p.proname = ANY ($2::text[])
)
SELECT o.kind, o.name, a.grantee IS NOT NULL AS is_grant,
    CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END AS grantee,
    a.privilege_type || coalesce(' (' || quote_ident(o.column_name) || ')', '') AS privilege,
    EXISTS (
        SELECT FROM pg_default_acl d, aclexplode(d.defaclacl) each
        WHERE d.defaclrole = o.owner AND d.defaclobjtype = o.default_kind
          AND d.defaclnamespace IN (0, o.schema)
          AND each.grantee = a.grantee AND each.privilege_type = a.privilege_type) AS by_default
FROM objects o
LEFT JOIN LATERAL (
    SELECT * FROM aclexplode(coalesce(o.acl, acldefault(
        CASE o.default_kind WHEN 'S' THEN 's' ELSE o.default_kind END, o.owner))) every
    WHERE every.grantee <> o.owner) AS a ON true
ORDER BY 1, 2, 4, 5
"""


@dataclass(frozen=True, slots=True, order=True)
class Grant:
    """One privilege of a role, or of PUBLIC, on an object."""

    kind: str
    name: str
    grantee: str
    privilege: str

    @property
    def object(self) -> Object:
        return self.kind, self.name


@dataclass(frozen=True, slots=True)
class Grants:
    """Our objects, the grants on them, and which of those come from default privileges.

    Attributes:
        misplaced: tables, views and functions that someone else created in the schema `billhook`.
            The other attributes are not about these.
    """

    objects: frozenset[Object]
    grants: frozenset[Grant]
    by_default: frozenset[Grant]
    misplaced: frozenset[Object]


async def read(connection: Connection) -> Grants:
    """The grants in the database, in a transaction whose search_path is `pg_catalog, pg_temp`."""
    await connection.execute("SET LOCAL quote_all_identifiers = off")
    rows = await connection.fetch(_ACTUAL, [*TABLES, *VIEWS], [*_FOR_POLICIES])
    found = {
        Grant(row["kind"], row["name"], row["grantee"], row["privilege"]): row["by_default"]
        for row in rows
        if row["is_grant"] and _is_ours(row["name"])
    }
    objects = {(row["kind"], row["name"]) for row in rows}
    return Grants(
        frozenset(each for each in objects if _is_ours(each[1])),
        frozenset(found),
        frozenset(grant for grant, by_default in found.items() if by_default),
        # A sequence moves with the table that owns it.
        frozenset(each for each in objects if each[0] != "SEQUENCE" and not _is_ours(each[1])),
    )


def _is_ours(name: str) -> bool:
    schema, _, of_schema = name.partition(".")
    return schema != "billhook" or not of_schema or of_schema.partition("(")[0] in _PRIVATE.split()


def intended(objects: Collection[Object]) -> set[Grant]:
    """The contract's grants on these objects. On all others, only Billhook has privileges."""
    wanted = [("SCHEMA", "payments", role, "USAGE") for role in _CALLERS]
    wanted += [("SCHEMA", "auth", role, "USAGE") for role in _CALLERS]
    for table in (*TABLES, *VIEWS):
        wanted.append(("TABLE", f"payments.{table}", "project_admin", "SELECT"))
    for table in _SESSIONS:
        for role in _CALLERS:
            wanted += [("TABLE", f"payments.{table}", role, each) for each in ("INSERT", "SELECT")]
    wanted.append(("TABLE", "payments.customer_assignments", "project_admin", "INSERT"))
    # What the check of a user's rights needs (checkout/subscriptions/rights.py).
    for privilege in ("SELECT", "UPDATE (updated_at)"):
        wanted.append(("TABLE", "payments.stripe_subscriptions", "authenticated", privilege))
    for column in _USAGE_COLUMNS:
        wanted.append(("TABLE", f"payments.{_USAGE}", "project_admin", f"INSERT ({column})"))
    for kind, name in objects:
        schema, _, function = name.partition("(")[0].partition(".")
        if kind == "FUNCTION" and schema == "payments" and function in _FOR_POLICIES:
            wanted += [(kind, name, role, "EXECUTE") for role in _CALLERS]
    # What users read, and what the check of their rights needs (checkout/payment_methods.py).
    wanted += [
        ("TABLE", "payments.stripe_invoices", "authenticated", "SELECT"),
        ("TABLE", "payments.stripe_payment_methods", "authenticated", "SELECT"),
        ("TABLE", "payments.stripe_payment_methods", "authenticated", "UPDATE (updated_at)"),
    ]
    for table in (*_SESSIONS, "customers", "webhook_events"):
        wanted.append(("TABLE", f"payments.{table}", "project_admin", "TRIGGER"))
    return {grant for grant in (Grant(*each) for each in wanted) if grant.object in objects}


async def settle(
    connection: asyncpg.Connection[asyncpg.Record], before: Grants, *, is_first: bool
) -> None:
    """Set the grants, as the last step of a migration.

    Args:
        before: the state before it.
        is_first: it created the schema; later, missing grants were revoked on purpose.
    """
    now = await read(connection)
    created = now.objects - before.objects
    wanted = intended(now.objects)

    def is_ours_to_revoke(grant: Grant) -> bool:
        is_private = grant.kind == "FUNCTION" and grant.name.startswith("billhook.")
        if grant.object in created or is_private:
            return True
        of_users = grant.grantee in (_PUBLIC, *_USERS) and grant.object != ("SCHEMA", "auth")
        return of_users and is_first and (grant in now.by_default or grant.object == _SECRETS)

    revoked = {grant for grant in now.grants - wanted if is_ours_to_revoke(grant)}
    # Revoking a privilege on a table revokes it on the table's columns as well.
    touched = {grant.object for grant in revoked}
    granted = {
        grant
        for grant in wanted
        if (grant not in now.grants or grant.object in touched)
        and (grant.object in created or (is_first and grant.object != ("SCHEMA", "auth")))
    }
    statements = [*revocations(revoked), *additions(granted)]
    if statements:
        await connection.execute("; ".join(statements))


def excess(found: Grants) -> set[Grant]:
    """Grants beyond the contract's, except those to the app's own roles on tables in `payments`,
    and those with which an app lets its users record or read usage: policies decide there."""
    usage = {
        "SELECT",
        *(f"{verb} ({each})" for verb in ("INSERT", "SELECT") for each in _USAGE_COLUMNS),
    }

    def counts(grant: Grant) -> bool:
        if grant.name == f"payments.{_USAGE}" and grant.grantee == "authenticated":
            return grant.privilege not in usage
        if grant.name in ("auth", "system"):
            return False
        if "payments" in (grant.name, grant.name.partition(".")[0]):
            return grant.grantee in (_PUBLIC, *_CALLERS)
        return True

    return {grant for grant in found.grants - intended(found.objects) if counts(grant)}


def missing(found: Grants) -> set[Grant]:
    """Missing grants of the contract; an app may close the functions for policies on purpose."""
    wanted = intended(found.objects - {("SCHEMA", "auth")})
    return {grant for grant in wanted - found.grants if grant.kind != "FUNCTION"}


def revocations(grants: Iterable[Grant]) -> list[str]:
    """The statements that revoke these grants."""
    return _statements("REVOKE", "FROM", grants)


def additions(grants: Iterable[Grant]) -> list[str]:
    """The statements that grant these."""
    return _statements("GRANT", "TO", grants)


def moves(misplaced: Iterable[Object]) -> list[str]:
    """The statements that move these objects to the schema `public`."""
    return [f"ALTER {kind} {name} SET SCHEMA public" for kind, name in sorted(misplaced)]


def _statements(verb: str, preposition: str, grants: Iterable[Grant]) -> list[str]:
    return [
        f"{verb} {', '.join(each.privilege for each in few)} ON {kind} {name} {preposition} {role}"
        for (kind, name, role), few in groupby(
            sorted(grants), key=lambda each: (each.kind, each.name, each.grantee)
        )
    ]
