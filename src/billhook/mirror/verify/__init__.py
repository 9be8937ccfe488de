"""`billhook verify`: the mirror and the transactions against Stripe, object by object.

Stripe's lists are read page by page, and each page is compared with the rows of its objects: one
request and one or two indexed lookups per 100 objects. An object that differs is fetched again
individually before it counts: an event may have arrived in the meantime. No connection is held
during a request to Stripe, and no list is in memory as a whole, except for its ids.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime

import structlog

from billhook.kinds import KINDS
from billhook.ledger import Ledger
from billhook.mirror import fetching
from billhook.mirror.verify.objects import compare_entitlements, compare_list
from billhook.mirror.verify.paid import compare_payments
from billhook.models import Verification, Verify
from billhook.postgres import Database
from billhook.postgres.leases import Busy, Lease, try_lease
from billhook.settings import Environment
from billhook.stripe.gateway import Gateway
from billhook.task_groups import all_or_first_error

log = structlog.get_logger(__name__)

_KEEP = """
INSERT INTO billhook.verifications (environment, finished_at, result) VALUES ($1, $2, $3)
ON CONFLICT (environment) DO UPDATE SET
    finished_at = EXCLUDED.finished_at, result = EXCLUDED.result
"""
_LAST = "SELECT result FROM billhook.verifications WHERE environment = $1"
_RUNNING = "SELECT EXISTS (SELECT FROM billhook.leases WHERE name = $1 AND until > now())"
# Counted from the connection, so that a new account is synced before it is verified.
_DUE = """
SELECT coalesce((SELECT finished_at FROM billhook.verifications WHERE environment = $1), since)
    < now() - pg_catalog.make_interval(hours => $2)
FROM billhook.pulls WHERE environment = $1
"""


async def verify(
    ledger: Ledger, gateway: Gateway, environment: Environment, order: Verify
) -> Verification:
    """Compare an environment's rows with Stripe, and fix them on request.

    Args:
        ledger: applies the events of payments that are repaired.

    Raises:
        Busy: a verification of this environment is running.
        PaymentConfigInvalid: no key, or one that Stripe rejects, or another account's.
        LeaseLost: the key was changed in the meantime.
    """
    database = ledger.database
    async with try_lease(database, lease_name(environment)) as lease:
        if lease is None:
            raise Busy(
                f"A verification of {environment} is already running.",
                next_actions="Wait for it, then read its result: GET …/verify.",
            )
        reader = await fetching.reader_in_background(database, gateway, environment, lease)
        at = (await gateway.account(environment, key=reader.key)).at
        found = await _compare(ledger, reader, at, order)
        await _keep(database, lease, found)
    drifting = [each for each in found.drift if not each.repaired]
    if drifting:
        log.warning("the mirror drifted", environment=environment, objects=len(drifting))
    return found


async def last(database: Database, environment: Environment) -> Verification | None:
    """The last verification, or None before the first."""
    async with database.connection() as connection:
        result = await connection.fetchval(_LAST, environment)
    return None if result is None else Verification.model_validate(result)


async def is_running(database: Database, environment: Environment) -> bool:
    """Whether a verification of this environment is running, in any process."""
    async with database.connection() as connection:
        return bool(await connection.fetchval(_RUNNING, lease_name(environment)))


async def is_due(database: Database, environment: Environment, hours: int) -> bool:
    """Whether the last verification, or the connection, is older than this many hours."""
    async with database.connection() as connection:
        return bool(await connection.fetchval(_DUE, environment, hours))


def lease_name(environment: Environment) -> str:
    """The lease of a verification; a change of the key revokes it."""
    return f"verify:{environment}"


async def _compare(
    ledger: Ledger, reader: fetching.StripeReader, at: int, order: Verify
) -> Verification:
    started_at = datetime.now(UTC)
    until = time.monotonic() + order.budget_seconds if order.budget_seconds else None
    async with all_or_first_error() as group:
        comparing = [
            group.create_task(compare_list(reader, each, at, until, repair=order.repair))
            for each in KINDS.values()
            if each.has_list
        ]
        comparing.append(
            group.create_task(compare_entitlements(reader, until, repair=order.repair))
        )
        repair = ledger if order.repair else None
        paid = group.create_task(compare_payments(reader, at, until, repair=repair))
    of_payments, money = paid.result()
    return Verification(
        environment=reader.environment,
        started_at=started_at,
        finished_at=datetime.now(UTC),
        tables=[*(each.result() for each in comparing), *of_payments],
        money=money,
    )


async def _keep(database: Database, lease: Lease, found: Verification) -> None:
    async with database.as_service() as connection:
        await lease.check(connection)
        await connection.execute(
            _KEEP, found.environment, found.finished_at, found.model_dump(mode="json")
        )
