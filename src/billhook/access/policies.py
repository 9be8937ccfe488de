"""Who may bill whom: whether the app has policies, and examples (contract section 4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from billhook.postgres import Database

Owner = Literal["user", "team", "organization"]

_SESSION_TABLES = """
SELECT 'payments.' || c.relname::text AS name, c.relrowsecurity AS is_on,
    EXISTS (SELECT FROM pg_catalog.pg_policy AS p
            WHERE p.polrelid = c.oid AND p.polcmd IN ('*', 'a')
              AND p.polname <> 'billhook_service') AS has_policies
FROM pg_catalog.pg_class AS c
WHERE c.oid IN ('payments.stripe_checkout_sessions'::regclass::oid,
                'payments.stripe_customer_portal_sessions'::regclass::oid)
ORDER BY 1
"""

# A policy depends on the functions that it calls; one of the app's may call auth.uid() in its turn.
_NEED_UUID = r"""
SELECT DISTINCT pg_catalog.format('%s on payments.%I', p.polname, c.relname) AS name
FROM pg_catalog.pg_policy AS p
JOIN pg_catalog.pg_class AS c ON c.oid = p.polrelid
JOIN pg_catalog.pg_depend AS d
    ON d.classid = 'pg_catalog.pg_policy'::regclass::oid AND d.objid = p.oid
    AND d.refclassid = 'pg_catalog.pg_proc'::regclass::oid
JOIN pg_catalog.pg_proc AS f ON f.oid = d.refobjid
WHERE c.oid IN ('payments.stripe_checkout_sessions'::regclass::oid,
                'payments.stripe_customer_portal_sessions'::regclass::oid,
                'payments.stripe_subscriptions'::regclass::oid)
    AND (f.oid = pg_catalog.to_regprocedure('auth.uid()')::oid OR f.prosrc ~ 'auth\.uid\(')
ORDER BY 1
"""

_SUBSCRIPTIONS = """
SELECT c.relrowsecurity AS is_on, EXISTS (
    SELECT FROM pg_catalog.pg_policy AS p
    WHERE p.polrelid = c.oid AND p.polcmd IN ('*', 'w') AND p.polpermissive
      AND p.polname <> 'billhook_service') AS users_may_change
FROM pg_catalog.pg_class AS c WHERE c.oid = 'payments.stripe_subscriptions'::regclass::oid
"""

_SUPERUSER = (
    "SELECT rolname::text FROM pg_catalog.pg_roles WHERE rolname = current_user AND rolsuper"
)

NO_SUPERUSER = (
    "The app's triggers and policies, and everyone who may create them, get its privileges. "
    "Use a role that owns Billhook's schemas and nothing else (docs/how-to/database-roles.md)."
)
"""What to do about a DATABASE_URL that names a superuser."""

_UNGUARDED = {
    "payments.stripe_checkout_sessions": "anyone can bill any subject, even without signing in.",
    "payments.stripe_customer_portal_sessions": "any signed-in user can manage the billing of any "
    "subject.",
}

_POLICY = """\
ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_{owner} ON {table} TO authenticated
    USING ({condition})
    WITH CHECK ({condition});"""

# Pausing stops payments, and is left to the server.
_SUBSCRIPTION_POLICIES = """\
CREATE POLICY own_{owner} ON payments.stripe_subscriptions FOR SELECT TO authenticated
    USING ({condition});
CREATE POLICY change_own_{owner} ON payments.stripe_subscriptions FOR UPDATE TO authenticated
    USING ({condition}
        AND payments.requested_change() ->> 'operation'::text
            IN ('preview', 'change', 'cancel', 'resume'));"""

# As text: the subject of a token may not be a UUID.
_USER = "subject_type = 'user' AND subject_id = auth.jwt() ->> 'sub'::text"
_MEMBERS = """subject_type = '{owner}' AND subject_id IN (
        SELECT {owner}_id::text FROM {owner}_members
        WHERE user_id::text = auth.jwt() ->> 'sub'::text AND role = 'owner')"""


GUESTS = """\
CREATE POLICY guests ON payments.stripe_checkout_sessions FOR INSERT TO anon
    WITH CHECK (mode = 'payment' AND subject_type IS NULL AND subject_id IS NULL);"""
"""With row-level security on, selling to guests needs this policy as well."""


@dataclass(frozen=True, slots=True)
class SessionTable:
    """One of the two tables whose rows callers insert, and whether policies restrict them."""

    name: str
    is_on: bool
    has_policies: bool

    @property
    def problem(self) -> str | None:
        """What is wrong with it, as a sentence; None if it has policies."""
        if not self.is_on:
            return f"Row-level security is off on {self.name}: {_UNGUARDED[self.name]}"
        if not self.has_policies:
            return f"Row-level security is on for {self.name}, but no policy allows access."
        return None


async def session_tables(database: Database) -> list[SessionTable]:
    """Both tables, by name."""
    async with database.connection() as connection:
        return [SessionTable(**row) for row in await connection.fetch(_SESSION_TABLES)]


@dataclass(frozen=True, slots=True)
class SubscriptionRights:
    """Whether policies decide who reads and changes subscriptions, and whether any lets users
    change them."""

    is_on: bool
    users_may_change: bool


async def subscription_rights(database: Database) -> SubscriptionRights:
    """Those of `payments.stripe_subscriptions`."""
    async with database.connection() as connection:
        row = await connection.fetchrow(_SUBSCRIPTIONS)
    assert row is not None
    return SubscriptionRights(**row)


async def policies_that_need_uuids(database: Database) -> list[str]:
    """The policies that call `auth.uid()`, themselves or in a function of theirs: they raise an
    error if the subject of a token is not a UUID."""
    async with database.connection() as connection:
        return [row["name"] for row in await connection.fetch(_NEED_UUID)]


async def superuser(database: Database) -> str | None:
    """The name of the database user if it is a superuser, else None."""
    async with database.connection() as connection:
        name: str | None = await connection.fetchval(_SUPERUSER)
        return name


def policy(table: str, owner: Owner = "user") -> str:
    """Example SQL for subjects that are billed to users, or to the owners of a team or an
    organization. Teams and organizations are looked up in `team_members` or `organization_members`,
    with the columns `team_id` or `organization_id`, `user_id` and `role`; callers need SELECT."""
    return _POLICY.format(table=table, owner=owner, condition=_condition(owner))


def subscription_policies(owner: Owner = "user") -> str:
    """The same for users who change subscriptions."""
    return _SUBSCRIPTION_POLICIES.format(owner=owner, condition=_condition(owner))


def _condition(owner: Owner) -> str:
    return _USER if owner == "user" else _MEMBERS.format(owner=owner)
