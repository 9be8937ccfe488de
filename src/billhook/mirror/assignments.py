"""Which subject a customer pays for, according to the app (docs/how-to/existing-customers.md).

An assignment counts like a completed checkout at its time (docs/explanation/ordering.md): the
newest of both decides. The app inserts rows into `payments.customer_assignments`, and the recovery
worker applies them; those of the API are applied at once. What follows is stored as a claim, which
a rebuild keeps.
"""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg
import structlog

from billhook.errors import DatabaseRefused
from billhook.models import AssignCustomers, AssignedCustomer, Assignment, BillingSubject, Outcome
from billhook.postgres import Database, repeat_collisions
from billhook.postgres.accounts import hold_account
from billhook.postgres.refusals import reason_of
from billhook.projections.changes import Changes, ClaimChange, Event
from billhook.rows import Fact, apply_facts
from billhook.settings import Environment

log = structlog.get_logger(__name__)

_AT_ONCE = 50
"""Assignments of a transaction, which loads all subscriptions and invoices of their customers."""

_DUE = """
SELECT id FROM payments.customer_assignments
WHERE environment = $1 AND applied_at IS NULL AND next_at <= now()
ORDER BY next_at, id LIMIT $2
"""
_TAKE = """
SELECT id, customer_id, subject_type, subject_id,
    extract(epoch FROM least(assigned_at, now()))::bigint AS at
FROM payments.customer_assignments
WHERE environment = $1 AND id = ANY ($2::text[]::bigint[]) AND applied_at IS NULL
ORDER BY id FOR UPDATE SKIP LOCKED
"""
_APPLIED = """
UPDATE payments.customer_assignments SET applied_at = now(), last_error = NULL
WHERE id = ANY ($1::text[]::bigint[])
"""
_FAILED = """
UPDATE payments.customer_assignments
SET last_error = $2, next_at = now() + interval '1 minute' WHERE id = $1
"""
_INSERT = """
INSERT INTO payments.customer_assignments (environment, customer_id, subject_type, subject_id)
SELECT $1, * FROM ROWS FROM (
    pg_catalog.unnest($2::text[]), pg_catalog.unnest($3::text[]), pg_catalog.unnest($4::text[]))
RETURNING id
"""
_BY_ID = """
SELECT provider_customer_id AS id FROM payments.customers
WHERE provider = 'stripe' AND environment = $1 AND provider_customer_id = ANY ($2::text[])
  AND NOT deleted
"""
# Two are enough to know that an address is ambiguous: a shop may have given it to all its guests.
# The index customers_by_email has the first 200 characters.
_BY_EMAIL = """
SELECT wanted.email, c.provider_customer_id AS id
FROM pg_catalog.unnest($2::text[]) AS wanted (email)
CROSS JOIN LATERAL (
    SELECT c.provider_customer_id FROM payments.customers c
    WHERE c.environment = $1
        AND pg_catalog.left(pg_catalog.lower(c.email), 200) COLLATE "C"
            = pg_catalog.left(pg_catalog.lower(wanted.email), 200) COLLATE "C"
        AND pg_catalog.lower(c.email) = pg_catalog.lower(wanted.email)
        AND c.provider = 'stripe' AND NOT c.deleted
    LIMIT 2) c
"""
_MAPPED = """
SELECT provider_customer_id AS customer, subject_type, subject_id FROM payments.customer_mappings
WHERE provider = 'stripe' AND environment = $1 AND (provider_customer_id = ANY ($2::text[])
    OR (subject_type, subject_id) IN (SELECT * FROM ROWS FROM (
        pg_catalog.unnest($3::text[]), pg_catalog.unnest($4::text[]))))
"""

Subject = tuple[str, str]


async def apply_due(database: Database, environment: Environment) -> bool:
    """Apply assignments that the app inserted.

    One that cannot be applied, because a trigger of the app rejects what follows, does not stop the
    others; it is tried again a minute later.

    Returns:
        Whether there may be more.
    """
    async with database.connection() as connection:
        due = [row["id"] for row in await connection.fetch(_DUE, environment, _AT_ONCE)]
    if not due:
        return False
    try:
        applied = await _apply(database, environment, due)
    except asyncpg.PostgresError:
        applied = sum([await _apply_one(database, environment, each) for each in due])
    return applied > 0


async def _apply(database: Database, environment: Environment, ids: Sequence[int]) -> int:
    """Apply these assignments in one transaction.

    Returns:
        How many were; none as long as no Stripe account is connected.

    Raises:
        asyncpg.PostgresError: nothing was done; most likely a trigger of the app raised an error.
    """

    async def work() -> int:
        async with database.as_service() as connection:
            if not await hold_account(connection, environment):
                return 0
            rows = await connection.fetch(_TAKE, environment, list(map(str, ids)))
            facts = [_fact(row) for row in rows]
            await apply_facts(connection, environment, facts, outside_ledger=True)
            await connection.execute(_APPLIED, [str(row["id"]) for row in rows])
            return len(rows)

    return await repeat_collisions(work)


async def _apply_one(database: Database, environment: Environment, assignment: int) -> int:
    try:
        return await _apply(database, environment, [assignment])
    except asyncpg.PostgresError as error:
        reason = reason_of(error)
        log.warning("an assignment of a customer is rejected", id=assignment, reason=reason)
        await database.execute(_FAILED, assignment, reason)
        return 0


def _fact(row: asyncpg.Record) -> Fact:
    claim = ClaimChange(
        customer_id=row["customer_id"],
        subject_type=row["subject_type"],
        subject_id=row["subject_id"],
        kind="checkout",
        # Of two in the same second, the one that was inserted later counts.
        ref=f"assignment:{row['id']:020}",
    )
    return Fact(Event("", "assignment", row["at"], {}), Changes(claim=claim))


async def assign(
    database: Database, environment: Environment, order: AssignCustomers
) -> list[AssignedCustomer]:
    """Assign subjects to customers, and apply it.

    Returns:
        The outcome of each assignment, in order. An assignment that others contradict is skipped,
        unless `overwrite` is set.

    Raises:
        DatabaseRefused: a trigger of the app raised an error; the worker tries again.
        DatabaseUnavailable: PostgreSQL is unavailable.
    """
    results = await _outcomes(database, environment, order)
    wanted = [each for each in results if each.outcome == "assigned"]
    if wanted and not order.dry_run:
        async with database.as_service() as connection:
            rows = await connection.fetch(
                _INSERT,
                environment,
                [each.customer_id for each in wanted],
                [each.subject.type for each in wanted],
                [each.subject.id for each in wanted],
            )
        ids = [row["id"] for row in rows]
        try:
            for begin in range(0, len(ids), _AT_ONCE):
                await _apply(database, environment, ids[begin : begin + _AT_ONCE])
        except asyncpg.PostgresError as error:
            raise DatabaseRefused(
                f"A trigger of the app rejects what follows from the assignments: "
                f"{reason_of(error)}",
                next_actions="Fix the trigger. The assignments are stored, and the worker tries "
                "them again; last_error in payments.customer_assignments names those it rejects.",
            ) from error
    return results


async def _outcomes(
    database: Database, environment: Environment, order: AssignCustomers
) -> list[AssignedCustomer]:
    """What each assignment would do, judged against the mappings and the ones before it."""
    emails = [each.email for each in order.assignments if each.email is not None]
    ids = [each.customer_id for each in order.assignments if each.customer_id is not None]
    subjects = [each.subject for each in order.assignments]
    async with database.connection() as connection:
        known = {row["id"] for row in await connection.fetch(_BY_ID, environment, ids)}
        by_email: dict[str, set[str]] = {}
        for row in await connection.fetch(_BY_EMAIL, environment, sorted(set(emails))):
            by_email.setdefault(row["email"], set()).add(row["id"])
        customers = sorted(known.union(*by_email.values()))
        names = [each.type for each in subjects], [each.id for each in subjects]
        mapped = await connection.fetch(_MAPPED, environment, customers, *names)
    payers = {(row["subject_type"], row["subject_id"]): row["customer"] for row in mapped}
    planned = _Planned(payers, overwrite=order.overwrite)
    return [planned.add(each, _matches(each, known, by_email)) for each in order.assignments]


def _matches(
    assignment: Assignment, known: set[str], by_email: dict[str, set[str]]
) -> Sequence[str]:
    if assignment.email is not None:
        return sorted(by_email.get(assignment.email, ()))
    return [assignment.customer_id] if assignment.customer_id in known else []


class _Planned:
    """The mappings, and what the assignments so far make of them.

    Args:
        payers: subject to customer.
        overwrite: whether an assignment replaces a mapping that contradicts it.
    """

    def __init__(self, payers: dict[Subject, str], *, overwrite: bool) -> None:
        self._payer = payers
        self._subject = {customer: subject for subject, customer in payers.items()}
        self._overwrite = overwrite
        self._taken: set[object] = set()

    def add(self, assignment: Assignment, customers: Sequence[str]) -> AssignedCustomer:
        """The outcome of the next assignment."""
        result = AssignedCustomer(
            customer_id=customers[0] if len(customers) == 1 else assignment.customer_id,
            email=assignment.email,
            subject=assignment.subject,
            outcome="ambiguous" if customers else "unknown",
            current_subject=None,
            current_customer_id=None,
        )
        if len(customers) != 1:
            return result
        (customer,) = customers
        subject = (assignment.subject.type, assignment.subject.id)
        result.current_subject = _billing_subject(self._subject.get(customer))
        result.current_customer_id = self._payer.get(subject)
        result.outcome = self._outcome(customer, subject)
        if result.outcome == "assigned":
            self._taken |= {customer, subject}
        return result

    def _outcome(self, customer: str, subject: Subject) -> Outcome:
        if self._subject.get(customer) == subject:
            return "unchanged"
        if {customer, subject} & self._taken:
            return "conflict"  # with an assignment before it
        contradicted = customer in self._subject or subject in self._payer
        return "conflict" if contradicted and not self._overwrite else "assigned"


def _billing_subject(subject: Subject | None) -> BillingSubject | None:
    return BillingSubject(type=subject[0], id=subject[1]) if subject else None
