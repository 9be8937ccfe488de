"""Which rows a batch of events touches, and the rows that `billhook.load_batch` found → the state
that the reducers work on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, TypeVar

import asyncpg
import orjson

from billhook.errors import DatabaseBusy, ObjectLocked
from billhook.kinds import KINDS
from billhook.kinds.recurring import Terms
from billhook.postgres import Connection
from billhook.projections.changes import (
    Changes,
    PaymentSource,
    RefundFacts,
    SubscriptionState,
    Value,
)
from billhook.reducers.claims import Claim, ClaimKey, Claims, Known
from billhook.reducers.missing import Account, Missing, ObjectKey, Subject
from billhook.reducers.newest_wins import Mirrored, Shown, Version
from billhook.reducers.payments import (
    Dispute,
    Payment,
    Payments,
    Refund,
    Row,
    Source,
    Transaction,
)
from billhook.reducers.recurring import (
    Movement,
    Recurring,
    StateKey,
    date_of,
    day_from,
    day_of,
)
from billhook.reducers.reduce import Session, State, Unnamed
from billhook.rows.saving import Rows, rows_of
from billhook.rows.tables import (
    PAYMENT_REFS,
    PAYMENT_REFUNDS,
    PAYMENT_SOURCES,
    TRANSACTIONS,
    Table,
)
from billhook.settings import Environment

T = TypeVar("T")

_LOAD = "SELECT {}.load_batch($1, $2::text::jsonb)::text"

SOME = 16
"""Claims of each kind that are loaded of a customer or subject. Hardly any has more that count."""


@dataclass(slots=True)
class Wanted:
    """The keys to load. Grows with each event, and with what a rule reports as missing.

    Attributes:
        claims_of, claims_on: how many claims of each kind; None: all.
        states: subscriptions, and the times around which their states are loaded.
        movements: from which day on a customer's movements are loaded.
        locks: the keys to lock.
    """

    environment: Environment
    locks: set[str] = field(default_factory=set)
    events: set[str] = field(default_factory=set)
    old_events: set[str] = field(default_factory=set)
    objects: dict[str, set[str]] = field(default_factory=dict)
    ties: dict[str, set[str]] = field(default_factory=dict)
    claims_of: dict[str, int | None] = field(default_factory=dict)
    claims_on: dict[Subject, int | None] = field(default_factory=dict)
    claims: set[ClaimKey] = field(default_factory=set)
    unnamed: set[str] = field(default_factory=set)
    sessions: dict[str, str | None] = field(default_factory=dict)
    refs: set[ObjectKey] = field(default_factory=set)
    states: set[tuple[str, int]] = field(default_factory=set)
    histories: set[str] = field(default_factory=set)
    discounts: set[str] = field(default_factory=set)
    movements: dict[Account, int] = field(default_factory=dict)
    new_payments: int = 0

    def add(self, changes: Changes) -> None:
        """What one event's changes touch."""
        if changes.mirror is not None:
            kind = changes.mirror.kind
            self._want_object((kind.name, changes.mirror.object_id))
            if kind.customer is not None and changes.mirror.subject is None:
                self._want_customer(changes.mirror.row[kind.customer])
        if (worth := changes.recurring) is not None:
            self.locks.add(f"customer:{worth.customer_id}")
            self.states.add((worth.subscription_id, worth.at))
            self.discounts.update(worth.discounts, worth.past.discounts)
            self._want_movements((worth.customer_id, worth.currency), day_of(worth.at))
        if changes.deleted is not None:
            self._want_object(changes.deleted)
            if changes.deleted[0] == "dispute":
                self.refs.add(changes.deleted)
            if changes.deleted[0] == "customer":
                self._want_customer(changes.deleted[1])
        if (claim := changes.claim) is not None:
            subject = (claim.subject_type, claim.subject_id)
            self._want_customer(claim.customer_id)
            self._want_subject(subject)
            self.claims.add((claim.customer_id, claim.kind, subject, claim.ref))
        if (session := changes.checkout_session) is not None:
            self.sessions[session.session_id] = session.row_id
            self.locks.add(f"checkout.session:{session.session_id}")
        if (payment := changes.payment) is not None:
            self.new_payments += 1
            keys = [(kind, each) for kind, ids in payment.refs.items() for each in ids]
            self.refs.update(keys)
            self.locks.update(f"{kind}:{object_id}" for kind, object_id in keys)
            source = payment.source
            if source is not None and source.customer_id and source.subject_id is None:
                self._want_customer(source.customer_id)

    def add_missing(self, missing: Missing) -> None:
        """Add what a rule found missing."""
        for customer in missing.customers:
            self._want_customer(customer)
            self.claims_of[customer] = None
        for subject in missing.subjects:
            self._want_subject(subject)
            self.claims_on[subject] = None
        for kind, object_id in missing.ties:
            self.ties.setdefault(kind, set()).add(object_id)
        self.unnamed |= missing.unnamed
        self.histories |= missing.histories
        self.discounts |= missing.discounts
        for account, day in missing.movements.items():
            self._want_movements(account, day)

    def _want_object(self, key: ObjectKey) -> None:
        self.objects.setdefault(key[0], set()).add(key[1])
        self.locks.add(f"{key[0]}:{key[1]}")

    def _want_customer(self, customer: object) -> None:
        if isinstance(customer, str):
            self.claims_of.setdefault(customer, SOME)
            self.locks.add(f"customer:{customer}")

    def _want_movements(self, account: Account, since: int) -> None:
        self.movements[account] = min(since, self.movements.get(account, since))

    def _want_subject(self, subject: Subject) -> None:
        self.claims_on.setdefault(subject, SOME)
        self.locks.add(f"subject:{subject[0]}:{subject[1]}")

    def lock_keys(self, held: Set[str] = frozenset()) -> list[int]:
        """The advisory locks that are not held yet, in the fixed order in which all transactions
        take them."""
        return sorted(_key(f"{self.environment}:{name}") for name in self.locks - held)

    def as_json(self) -> dict[str, Any]:
        """What `billhook.load_batch` takes, without the locks."""
        found: dict[str, Any] = {
            "objects": {kind: sorted(ids) for kind, ids in self.objects.items()}
        }
        if self.ties:
            found["ties"] = {kind: sorted(ids) for kind, ids in self.ties.items()}
        for name in ("events", "old_events", "unnamed", "histories", "discounts"):
            if ids := getattr(self, name):
                found[name] = sorted(ids)
        if self.claims_of:
            found["claims_of"] = [
                {"customer": customer, "most": most} for customer, most in self.claims_of.items()
            ]
        if self.claims_on:
            found["claims_on"] = [
                {"type": type, "id": id, "most": most}
                for (type, id), most in self.claims_on.items()
            ]
        if self.claims:
            found["claims"] = [
                {"customer": customer, "kind": kind, "type": type, "id": id, "ref": ref}
                for customer, kind, (type, id), ref in self.claims
            ]
        if self.sessions:
            found["sessions"] = [
                {"session_id": session_id, "row_id": row_id}
                for session_id, row_id in self.sessions.items()
            ]
        if self.states:
            found["states"] = [{"id": id, "at": at} for id, at in sorted(self.states)]
        if self.movements:
            found["movements"] = [
                {"customer": customer, "currency": currency, "since": str(date_of(since))}
                for (customer, currency), since in sorted(self.movements.items())
            ]
        if self.refs:
            found["refs"] = [{"type": type, "id": id} for type, id in self.refs]
            found["new_payments"] = self.new_payments
        return found


def _key(name: str) -> int:
    digest = blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, signed=True)


Found = Sequence[Any]


def state_of(found: dict[str, Any], wanted: Wanted) -> State:
    """The state of a batch, of what was wanted and found."""
    rows = found["rows"]
    state = State(unnamed_of=set(wanted.unnamed))
    for kind, declared in KINDS.items():
        for row in rows[f"of_{declared.label}"] or ():
            state.objects[kind, row[0]] = _mirrored(kind, row)
    for kind, object_id, at in rows["tombstones"] or ():
        state.mirrored((kind, object_id)).deleted_at = at
    for kind, object_id, event_id in rows["ties"] or ():
        state.mirrored((kind, object_id)).tied = event_id
    for session_id, row_id, at, rank in rows["sessions"] or ():
        version = None if at is None or rank is None else (at, rank)
        state.sessions[session_id] = Session(row_id, version)
    state.claims = _claims(rows, wanted)
    state.recurring = _recurring(rows, wanted)
    if found["payments"] is not None:
        state.payments = payments_of(found["payments"])
    for each in KINDS.values():
        if (named := each.subject) is None:
            continue
        for object_id, customer, at, subject_type, subject_id, raw in (
            rows[f"unnamed_{each.label}"] or ()
        ):
            if named(raw) is None:
                subject = None if subject_id is None else (subject_type, subject_id)
                state.unnamed[each.name, object_id] = Unnamed(customer, at, subject)
    return state


def _mirrored(kind: str, row: Found) -> Mirrored:
    object_id, at, rank, event_id, deleted, children, tie = row
    raw, previous = tie or (None, None)
    version = None if at is None else Version(at, rank or 0, event_id, previous)
    return Mirrored(
        KINDS[kind],
        (kind, object_id),
        Shown(version, raw),
        deleted=deleted,
        children=frozenset(children or ()),
    )


def _claims(found: dict[str, Any], wanted: Wanted) -> Claims:
    claims = Claims()
    of, on = _by(found["claims_of"], "customer"), _by(found["claims_on"], "subject")
    for customer, most in wanted.claims_of.items():
        whole = Missing(customers=[customer])
        claims.by_customer[customer] = Known.of(of[customer], most, whole)
    for subject, most in wanted.claims_on.items():
        whole = Missing(subjects=[subject])
        claims.by_subject[subject] = Known.of(on[subject], most, whole)
    for row in found["claims"] or ():
        claim = _claim(row)
        claims.by_customer[claim.customer].of_kind(claim.kind).add(claim)
        claims.by_subject[claim.subject].of_kind(claim.kind).add(claim)
    claims.deleted_customers = {id for id, deleted in found["deleted_customers"] or () if deleted}
    for customer, subject_type, subject_id in [*(found["mapped"] or ()), *(found["held"] or ())]:
        claims.mappings[customer] = (subject_type, subject_id)
        claims.holders[subject_type, subject_id] = customer
    return claims


def _claim(row: Found) -> Claim:
    customer, subject_type, subject_id, kind, ref, at = row
    return Claim(at, ref, customer, (subject_type, subject_id), kind)


def _recurring(found: dict[str, Any], wanted: Wanted) -> Recurring:
    """Raises `Missing` if states have discounts that no event of the batch names."""
    recurring = Recurring(complete=set(wanted.histories), loaded_from=dict(wanted.movements))
    for row in (*(found["states"] or ()), *(found["histories"] or ())):
        of, at, rank, event_id, customer, currency, period_amount, gross, discounts, *rest = row
        before, had, had_from, had_to = rest
        recurring.states[of][StateKey(at, rank, event_id)] = SubscriptionState(
            subscription_id=of,
            at=at,
            customer_id=customer,
            currency=currency,
            period_amount=period_amount,
            gross=gross,
            discounts=tuple(discounts),
            before=before and Value.of(before),
            had=had,
            had_from=had_from,
            had_to=had_to,
        )
    loaded = [state for states in recurring.states.values() for state in states.values()]
    named = {each for state in loaded for each in (*state.discounts, *state.past.discounts)}
    if discounts := named - wanted.discounts:
        raise Missing(discounts=discounts)
    for row in found["discounts"] or ():
        recurring.terms[row[0]] = Terms(*row)
    for customer, currency, day, row_id, kind, amount, mrr, latest in found["movements"] or ():
        recurring.movements[customer, currency][day_from(day)] = Movement(
            row_id, mrr - amount, mrr, kind == "reactivation", latest
        )
    return recurring


def _by(rows: Sequence[Found] | None, name: str) -> dict[Any, list[Claim]]:
    """Claims by their customer or subject."""
    claims = defaultdict(list)
    for claim in map(_claim, rows or ()):
        claims[getattr(claim, name)].append(claim)
    return claims


def payments_of(found: dict[str, Any]) -> Payments:
    """The payments that `billhook.load_payments` found."""
    payments = Payments()
    payments.spare_ids = list(reversed(found["new_ids"] or ()))

    def rows(table: Table) -> Iterator[tuple[Payment, dict[str, Any]]]:
        for values in found["rows"][table.label] or ():
            row = dict(zip(table.loaded, values, strict=True))
            payment_id = row.pop("payment_id")
            yield payments.by_id.setdefault(payment_id, Payment(payment_id)), row

    for payment, ref in rows(PAYMENT_REFS):
        key = (ref["object_type"], ref["object_id"])
        payment.refs.add(key)
        payments.by_ref[key] = payment
    for payment, row in rows(PAYMENT_SOURCES):
        at, event_id = row.pop("version_at"), row.pop("version_event_id")
        source = PaymentSource(created=row.pop("provider_created_at"), **row)
        of_object = (source.object_type, source.object_id, source.outcome)
        payment.sources[of_object] = Source(at, event_id, source)
    for payment, row in rows(PAYMENT_REFUNDS):
        at, event_id, rank = (row.pop(f"version_{each}") for each in ("at", "event_id", "rank"))
        refund = RefundFacts(created=row.pop("provider_created_at"), rank=rank, **row)
        payment.refunds[refund.object_type, refund.object_id] = Refund(at, event_id, refund)
    for payment_id, dispute_id, *shown in found["rows"]["disputes"] or ():
        payments.by_id[payment_id].disputes[dispute_id] = Dispute(*shown)
    for payment, row in rows(TRANSACTIONS):
        shown = Row(row.pop("id"), saved := Transaction(**row), payment.id)
        if saved.type == "refund":
            payment.refund_rows[saved.provider_object_id] = shown
        else:
            payment.row = shown
    return payments


async def payments_with(
    connection: Connection, environment: Environment, object_type: str, ids: Iterable[str]
) -> dict[str, Payment]:
    """The known facts of the payments that objects of one type belong to, by the objects' ids."""
    refs = [{"type": object_type, "id": each} for each in ids]
    asked = orjson.dumps({"refs": refs, "new_payments": 0}).decode()
    loaded = orjson.loads(await connection.fetchval(_LOAD.format("billhook"), environment, asked))
    known = payments_of(loaded["payments"]).by_ref
    return {of_id: payment for (of_type, of_id), payment in known.items() if of_type == object_type}


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Tables other than the live ones, which nobody else writes, so nothing is locked.

    Attributes:
        schema: where `load_batch` and `save_rows` are, and the tables that they work on.
        payment_ids: numbers for new payments, ascending.
    """

    schema: str
    payment_ids: Iterator[int]


async def load_and_reduce(
    connection: Connection,
    wanted: Wanted,
    reduce: Callable[[State, dict[str, Any]], T],
    *,
    outside_ledger: bool = False,
    elsewhere: Elsewhere | None = None,
) -> tuple[T, Rows]:
    """Lock and load the wanted rows, and reduce. A rule that needs something rare costs another
    load.

    Args:
        reduce: changes the state, given also what was loaded. It may be called several times.

    Returns:
        What `reduce` returned, and the rows to save.

    Raises:
        DatabaseBusy: somebody holds a lock for too long. No code of the app runs here.
    """
    load = _LOAD.format(elsewhere.schema if elsewhere else "billhook")
    held: frozenset[str] = frozenset()
    while True:
        asked = wanted.as_json()
        if elsewhere is None:
            # As texts: a JSON reader may not keep 64 bits.
            asked["locks"] = [str(key) for key in wanted.lock_keys(held)]
        else:
            asked["new_payments"] = 0
        text = orjson.dumps(asked).decode()
        loaded = orjson.loads(await _load(connection, load, wanted.environment, text))
        held |= wanted.locks
        try:
            state = state_of(loaded, wanted)
            if elsewhere is not None:
                state.payments.spare_ids = [
                    next(elsewhere.payment_ids) for _ in range(wanted.new_payments)
                ][::-1]
            result = reduce(state, loaded)
            return result, rows_of(state, outside_ledger=outside_ledger)
        except Missing as missing:
            wanted.add_missing(missing)


async def _load(connection: Connection, load: str, environment: Environment, asked: str) -> Any:
    try:
        return await connection.fetchval(load, environment, asked)
    except asyncpg.LockNotAvailableError as error:
        raise ObjectLocked(
            "Another transaction has locked the same object, customer or subject for more than "
            f"five seconds ({error.args[0]}). Nothing was changed; try again.",
            next_actions="If the process is not one of Billhook's, end it. The locks are listed in "
            "pg_locks (locktype = 'advisory').",
        ) from error
    except TimeoutError as error:
        raise DatabaseBusy(
            "PostgreSQL did not answer in time: the ledger is locked by a rebuild, an archive or "
            "another transaction, or the server is overloaded. Nothing was changed; try again.",
            next_actions="Retry when it has ended: it is listed in pg_locks (relation = "
            "'payments.webhook_events'::regclass).",
        ) from error
