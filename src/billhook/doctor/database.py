"""Checks of the database itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime

import asyncpg

from billhook.access.policies import (
    NO_SUPERUSER,
    policy,
    session_tables,
    subscription_policies,
    subscription_rights,
    superuser,
)
from billhook.doctor.finding import Finding, failure
from billhook.errors import DatabaseUnavailable
from billhook.postgres import ROLES, Database, grants, rights
from billhook.postgres.migrate import function_files, migrations
from billhook.settings import Environment, Settings

_OLDEST_POSTGRES = 14

_MIGRATIONS = "SELECT number, checksum FROM billhook.migrations"
_FUNCTION_FILES = "SELECT name, checksum FROM billhook.function_files"
# pg_has_role raises an error for a missing role, so it is called with the oids of existing ones.
_ROLES = """
SELECT wanted AS name, r.oid IS NOT NULL AS is_there,
    r.oid IS NOT NULL AND pg_catalog.pg_has_role(current_user, r.oid,
        -- Since PostgreSQL 16 members may lack the right to SET ROLE.
        CASE WHEN pg_catalog.current_setting('server_version_num')::integer >= 160000
            THEN 'SET' ELSE 'MEMBER' END) AS can_be_taken,
    coalesce(r.rolsuper OR r.rolbypassrls, false) AS ignores_policies
FROM pg_catalog.unnest($1::text[]) AS wanted
    LEFT JOIN pg_catalog.pg_roles AS r ON r.rolname = wanted
ORDER BY wanted
"""
# Foreign keys to Billhook's rows, without an action when a row is deleted.
_FOREIGN_KEYS = """
SELECT pg_catalog.format('%I.%I', t.relnamespace::regnamespace::text, t.relname) AS child,
    c.conname AS name, pg_catalog.format('payments.%I', p.relname) AS parent
FROM pg_catalog.pg_constraint c
JOIN pg_catalog.pg_class t ON t.oid = c.conrelid
JOIN pg_catalog.pg_class p ON p.oid = c.confrelid
WHERE c.contype = 'f' AND c.confdeltype IN ('a', 'r') AND c.conparentid = 0::oid
  AND p.relnamespace = 'payments'::regnamespace::oid
ORDER BY 1, 2
"""
_FAILED = """
SELECT event_type, count(*) AS events,
    (pg_catalog.array_agg(last_error ORDER BY received_at DESC))[1] AS newest_error
FROM payments.webhook_events
WHERE provider = 'stripe' AND environment = $1 AND processing_status = 'failed'
GROUP BY event_type ORDER BY count(*) DESC, event_type
"""
_LAST_EVENT = """
SELECT received_at, event_type FROM payments.webhook_events
WHERE provider = 'stripe' AND environment = $1 ORDER BY received_at DESC LIMIT 1
"""
# Whether subscriptions of test mode give access although a live account is connected.
_ACCESS = """
SELECT environment, is_chosen, environment = 'test' AND EXISTS (
    SELECT FROM payments.provider_connections
    WHERE provider = 'stripe' AND environment = 'live' AND status = 'connected') AS is_free
FROM payments.access_settings
"""


ABSENT = Finding(
    check="schema",
    state="broken",
    message="The schema does not exist yet.",
    next_actions="The first start of the server creates it, and so does: billhook migrate",
)


async def reachable(settings: Settings) -> tuple[Finding, Database | None]:
    """Whether PostgreSQL responds; and the open database, if it does."""
    database = Database(settings.database_url.get_secret_value(), pool_size=2)
    try:
        await database.open()
        async with database.connection() as connection:
            number = int(await connection.fetchval("SHOW server_version_num"))
            version = await connection.fetchval("SHOW server_version")
    except DatabaseUnavailable as error:
        await database.close()
        return failure("database", error), None
    if number < _OLDEST_POSTGRES * 10_000:
        old = Finding(
            check="database",
            state="broken",
            message=f"PostgreSQL {version} is too old.",
            next_actions=f"Billhook needs PostgreSQL {_OLDEST_POSTGRES} or newer.",
        )
        return old, database
    return Finding(
        check="database", state="ok", message=f"Connected to PostgreSQL {version}."
    ), database


def refused(error: asyncpg.PostgresError) -> Finding:
    """PostgreSQL rejected a query."""
    return Finding(
        check="database",
        state="broken",
        message=f"PostgreSQL rejected a query: {error}",
        next_actions="DATABASE_URL must name the user that ran `billhook migrate`, or one with its "
        "rights.",
    )


async def migrated(database: Database) -> Finding:
    """Whether the schema is the one that this version of Billhook works with."""
    try:
        async with database.connection() as connection:
            rows = await connection.fetch(_MIGRATIONS)
            files = await connection.fetch(_FUNCTION_FILES)
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
        return ABSENT
    if not rows:
        return ABSENT
    applied = {row["number"]: row["checksum"] for row in rows}
    known = {each.number: each.checksum for each in migrations()}
    if applied.keys() - known.keys():
        return _schema(
            "broken",
            "The database is newer than this version of Billhook.",
            "Upgrade Billhook.",
        )
    if any(applied.get(number, checksum) != checksum for number, checksum in known.items()):
        return _schema(
            "broken",
            "A development version of Billhook made this database; it has no upgrade path.",
            "Use a new database.",
        )
    # Those of other versions do not matter.
    functions = {row["name"]: row["checksum"] for row in files}
    if known.keys() - applied.keys() or any(
        functions.get(each.name) != each.checksum for each in function_files()
    ):
        return _schema("broken", "The schema is not up to date.", "Run: billhook migrate")
    return _schema("ok", "The schema is up to date.", None)


def _schema(state: str, message: str, next_actions: str | None) -> Finding:
    return Finding.model_validate(
        {"check": "schema", "state": state, "message": message, "nextActions": next_actions}
    )


async def roles(database: Database) -> AsyncIterator[Finding]:
    """Whether the callers' roles can be used, and policies apply to them."""
    async with database.connection() as connection:
        rows = await connection.fetch(_ROLES, sorted(ROLES))
        user = await connection.fetchval("SELECT current_user")
    sound = True
    for row in rows:
        name = row["name"]
        if not row["is_there"]:
            problem = (f"The role {name} is missing.", "Run: billhook migrate")
        elif not row["can_be_taken"]:
            grant = f'As an administrator run: GRANT {name} TO "{user}"'
            problem = (f"The database user {user} cannot become {name}.", grant)
        elif row["ignores_policies"] and name != "project_admin":
            alter = f"As an administrator run: ALTER ROLE {name} NOSUPERUSER NOBYPASSRLS"
            problem = (f"The role {name} bypasses row-level security.", alter)
        else:
            continue
        sound = False
        yield Finding(check="roles", state="broken", message=problem[0], next_actions=problem[1])
    if sound:
        yield Finding(check="roles", state="ok", message=f"{', '.join(sorted(ROLES))} exist.")


async def user(database: Database) -> AsyncIterator[Finding]:
    """Whether the database user has more privileges than Billhook needs."""
    if name := await superuser(database):
        yield Finding(
            check="database user",
            state="warning",
            message=f"DATABASE_URL names the superuser {name}.",
            next_actions=NO_SUPERUSER,
        )


async def owners(database: Database) -> AsyncIterator[Finding]:
    """Whether other users own what Billhook relies on."""
    async with database.as_service() as connection:
        await connection.execute("SET LOCAL search_path = pg_catalog, pg_temp")
        found = await rights.foreign_owners(connection)
    if found:
        yield Finding(
            check="owners",
            state="broken",
            message=" ".join(each.problem for each in found),
            next_actions=rights.take_over(found),
        )


async def forced(database: Database) -> AsyncIterator[Finding]:
    """Whether policies keep Billhook from its own rows."""
    async with database.as_service() as connection:
        await connection.execute("SET LOCAL search_path = pg_catalog, pg_temp")
        tables = await rights.forced(connection)
        name = await connection.fetchval("SELECT current_user")
    if tables:
        yield Finding(
            check="row-level security",
            state="broken",
            message="FORCE ROW LEVEL SECURITY keeps Billhook from its own rows in: "
            f"{', '.join(tables)}.",
            next_actions=f"Run `billhook migrate`, or as the database user {name} run:\n"
            + _script(rights.let_in(tables)),
        )


async def opened(database: Database) -> AsyncIterator[Finding]:
    """Whether any role has more or fewer privileges on Billhook's tables than documented."""
    async with database.as_service() as connection:
        await connection.execute("SET LOCAL search_path = pg_catalog, pg_temp")
        found = await grants.read(connection)
    missing, excess = grants.missing(found), grants.excess(found)
    if found.misplaced:
        names = ", ".join(name for _, name in sorted(found.misplaced))
        yield Finding(
            check="private schema",
            state="warning",
            message=f"These objects in the private schema billhook are not Billhook's: {names}.",
            next_actions="Move them to the schema public, and give your tables to your app's role "
            "(ALTER TABLE … OWNER TO …). As an administrator run:\n"
            + _script(grants.moves(found.misplaced)),
        )
    if missing:
        yield Finding(
            check="grants",
            state="broken",
            message="Privileges that callers need are missing.",
            next_actions="As the owner run:\n" + _script(grants.additions(missing)),
        )
    if excess:
        roles = ", ".join(sorted({grant.grantee for grant in excess}))
        yield Finding(
            check="grants",
            state="warning",
            message=f"These roles have more privileges on Billhook's tables than needed: {roles}.",
            next_actions="Unless you granted it on purpose, as the owner run:\n"
            + _script(grants.revocations(excess)),
        )
    if not missing and not excess:
        yield Finding(check="grants", state="ok", message="All privileges are as documented.")


def _script(statements: list[str]) -> str:
    return "\n".join(f"{each};" for each in statements)


async def foreign_keys(database: Database) -> AsyncIterator[Finding]:
    """Whether foreign keys of the app keep Billhook from deleting its rows."""
    async with database.connection() as connection:
        rows = await connection.fetch(_FOREIGN_KEYS)
    for row in rows:
        yield Finding(
            check="foreign keys",
            state="warning",
            message=f"The foreign key {row['name']} of {row['child']} forbids deleting rows of "
            f"{row['parent']}: an event that deletes one fails.",
            next_actions="Recreate it with ON DELETE SET NULL or ON DELETE CASCADE, or drop it "
            "(docs/reference/tables.md, Foreign keys).",
        )


async def policies(database: Database) -> AsyncIterator[Finding]:
    """Whether policies decide who may bill whom."""
    for table in await session_tables(database):
        if table.problem is None:
            message = f"{table.name} has policies."
            yield Finding(check="policies", state="ok", message=message)
        else:
            yield Finding(
                check="policies",
                state="warning",
                message=table.problem,
                next_actions=f"Create policies, for example:\n{policy(table.name)}",
            )


async def changes(database: Database) -> Finding:
    """Whether policies decide which users change subscriptions."""
    rights = await subscription_rights(database)
    if not rights.is_on:
        return Finding(
            check="subscription policies",
            state="warning",
            message="Row-level security is off on payments.stripe_subscriptions: signed-in users "
            "who can run SQL read all subscriptions, and none can change their own.",
            next_actions="As the owner run: ALTER TABLE payments.stripe_subscriptions ENABLE ROW "
            "LEVEL SECURITY",
        )
    if rights.users_may_change:
        message = "Policies decide which users may change subscriptions."
        return Finding(check="subscription policies", state="ok", message=message)
    return Finding(
        check="subscription policies",
        state="ok",
        message="Only your server can change subscriptions: no policy lets users do it "
        "(docs/how-to/manage-subscriptions.md has some).",
        next_actions=f"To let users do it, create policies, for example:\n"
        f"{subscription_policies()}",
    )


async def access(database: Database) -> AsyncIterator[Finding]:
    """Whether only real payments give access once a live account is connected."""
    async with database.connection() as connection:
        row = await connection.fetchrow(_ACCESS)
    if row is None or row["is_free"]:
        yield Finding(
            check="access",
            state="warning",
            message="The live account is connected, and payments.has_access still counts "
            "subscriptions of test mode, which anyone gets with a test card."
            if row
            else "payments.access_settings has no row: payments.has_access gives no access.",
            next_actions="billhook access set --environment live"
            if row
            else "INSERT INTO payments.access_settings (environment) VALUES ('live');",
        )
        return
    message = f"Subscriptions of {row['environment']} mode give access (payments.has_access)."
    yield Finding(check="access", state="ok", message=message)


async def ledger(
    database: Database, environment: Environment, now: datetime, *, sandbox: bool
) -> AsyncIterator[Finding]:
    """Whether events arrive, from Stripe or a sandbox, and whether they could be applied."""
    async with database.connection() as connection:
        failed = await connection.fetch(_FAILED, environment)
        last = await connection.fetchrow(_LAST_EVENT, environment)
    if failed:
        kinds = ", ".join(f"{row['events']} {row['event_type']}" for row in failed)
        yield failing(environment, kinds, failed[0]["newest_error"])
    else:
        yield Finding(
            check="events", environment=environment, state="ok", message="No event is failing."
        )
    seen = (last["received_at"], last["event_type"]) if last else None
    yield last_event(environment, seen, now, sandbox=sandbox)


def failing(environment: Environment, kinds: str, newest_error: str | None) -> Finding:
    """Some events could not be applied."""
    return Finding(
        check="events",
        environment=environment,
        state="broken",
        message=f"Events are failing: {kinds}. The last error: {newest_error or 'unknown'}",
        next_actions="Fix the cause (usually one of the app's triggers), then: "
        f"billhook events replay --failed --environment {environment}",
    )


def last_event(
    environment: Environment,
    seen: tuple[datetime, str] | None,
    now: datetime,
    *,
    sandbox: bool = False,
) -> Finding:
    """When the last event arrived."""
    if seen is None:
        change = "Change something in {}, such as a product's name, and check again"
        return Finding(
            check="last event",
            environment=environment,
            state="warning",
            message="No event has arrived yet.",
            next_actions=f"{change.format('the sandbox')}."
            if sandbox
            else f"{change.format('Stripe')}; Stripe's Dashboard (Developers, Webhooks) shows its "
            "deliveries.",
        )
    at, kind = seen
    return Finding(
        check="last event",
        environment=environment,
        state="ok",
        message=f"The last event ({kind}) arrived {_ago((now - at).total_seconds())} ago.",
    )


def _ago(seconds: float) -> str:
    for size, word in ((86_400, "days"), (3_600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {word}"
    return f"{max(seconds, 0):.0f} seconds"
