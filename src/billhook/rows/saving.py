"""What the reducers changed → the rows for `billhook.save_batch` and `billhook.save_rows`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from billhook.kinds import KINDS
from billhook.reducers.missing import Subject
from billhook.reducers.newest_wins import Mirrored
from billhook.reducers.payments import Payment, Row, Transaction
from billhook.reducers.recurring import date_of
from billhook.reducers.reduce import Result, SessionMoved, State, finish
from billhook.rows.tables import DISCOUNTS, MRR_MOVEMENTS, SUBSCRIPTION_STATES

Rows = dict[str, list[Any]]


def rows_of(state: State, *, outside_ledger: bool = False) -> Rows:
    """The rows that differ from what was loaded, by table.

    Args:
        outside_ledger: the facts are in no event of the ledger.

    Raises:
        Missing: a rule asks for what was not loaded.
    """
    result = finish(state)
    rows: Rows = {}
    for mirrored in state.objects.values():
        if mirrored.changed:
            _add_object(rows, mirrored, result, outside_ledger)
    _add_moved_subjects(rows, state, result)
    _add_claims(rows, state, result, outside_ledger)
    _add_payments(rows, state, result)
    _add_recurring(rows, state, result)
    if state.moved_sessions:
        rows["stripe_checkout_sessions"] = [_session(moved) for moved in state.moved_sessions]
    if state.refreshes:
        rows["refreshes"] = [
            {"object_type": kind, "object_id": object_id, "reason": reason, "next_at": delay}
            for (kind, object_id), (reason, delay) in sorted(state.refreshes.items())
        ]
    # In a fixed order, so that two batches never deadlock.
    for table in rows.values():
        table.sort(key=str)
    return rows


def documents_of(rows: Rows) -> set[int]:
    """The numbers of the documents that rows show."""
    shown = (row.get("raw") for table in rows.values() for row in table if isinstance(row, dict))
    return {each for each in shown if isinstance(each, int)}


def _add(rows: Rows, table: str, row: Any) -> None:
    rows.setdefault(table, []).append(row)


def _add_object(rows: Rows, mirrored: Mirrored, result: Result, outside_ledger: bool) -> None:
    kind, object_id = mirrored.key
    table = mirrored.kind.table
    if mirrored.newly_tied:
        tie = {"object_type": kind, "object_id": object_id, "event_id": mirrored.tied}
        _add(rows, "ties", tie)
    # A kept row has `deleted` set and needs no tombstone, unless no event reported the deletion:
    # a rebuild then needs the tombstone.
    if mirrored.newly_deleted and (outside_ledger or not mirrored.kind.keeps_deleted):
        _add(
            rows,
            "tombstones",
            {
                "object_type": kind,
                "object_id": object_id,
                "deleted_at": mirrored.deleted_at,
                "outside_ledger": outside_ledger,
            },
        )
    if mirrored.removed:
        _add(rows, f"{table}_deleted", object_id)
    children = mirrored.kind.children
    if children is not None:
        for child in mirrored.gone_children:
            _add(rows, f"{children.table}_deleted", child)
        for child, child_row in mirrored.new_children.items():
            key = {children.key: child, children.parent: object_id}
            _add(rows, children.table, key | child_row)
    if mirrored.row is not None:
        _add(rows, table, _object_row(mirrored, result))
    elif mirrored.newly_deleted and mirrored.kind.keeps_deleted:
        _add(rows, f"{table}_marked", object_id)


def _object_row(mirrored: Mirrored, result: Result) -> dict[str, Any]:
    assert mirrored.row is not None
    assert mirrored.document is not None
    assert mirrored.shown is not None
    version = mirrored.shown.version
    assert version is not None
    kind = mirrored.kind
    row = {kind.key: mirrored.key[1], **mirrored.row, "raw": mirrored.document.number}
    if kind.subject is not None:
        row |= _subject(result.subjects[mirrored.key])
    if kind.keeps_deleted:
        row["deleted"] = mirrored.deleted
    return row | {
        "provider_event_at": version.at,
        "provider_event_rank": version.rank,
        "provider_event_id": version.event_id,
        "provider_event_previous": version.previous,
    }


def _subject(subject: Subject | None) -> dict[str, str | None]:
    subject_type, subject_id = subject or (None, None)
    return {"subject_type": subject_type, "subject_id": subject_id}


def _add_moved_subjects(rows: Rows, state: State, result: Result) -> None:
    for key, subject in result.subjects.items():
        mirrored = state.objects.get(key)
        if mirrored is None or mirrored.row is None:
            kind, object_id = key
            _add(rows, f"{KINDS[kind].table}_subjects", {"id": object_id} | _subject(subject))


def _add_claims(rows: Rows, state: State, result: Result, outside_ledger: bool) -> None:
    for claim in state.claims.recorded.values():
        row = {
            "customer_id": claim.customer,
            "kind": claim.kind,
            "ref": claim.ref,
            "claimed_at": claim.at,
            "outside_ledger": outside_ledger,
        }
        _add(rows, "customer_claims", row | _subject(claim.subject))
    for customer in result.lost:
        _add(rows, "customer_mappings_deleted", customer)
    for customer, subject in result.mappings.items():
        _add(rows, "customer_mappings", {"provider_customer_id": customer} | _subject(subject))


def _add_payments(rows: Rows, state: State, result: Result) -> None:
    payments = state.payments
    for (object_type, object_id), payment in payments.new_refs.items():
        row = {"object_type": object_type, "object_id": object_id, "payment_id": payment.id}
        _add(rows, "payment_refs", row)
    for source_key, payment in payments.new_sources.items():
        source = payment.sources[source_key]
        _add(rows, "payment_sources", _facts(source.facts, payment, source.at, source.event_id))
    for refund_key, payment in payments.new_refunds.items():
        refund = payment.refunds[refund_key]
        row = _facts(refund.facts, payment, refund.at, refund.event_id)
        row["version_rank"] = row.pop("rank")
        _add(rows, "payment_refunds", row)
    for payment, stored, transaction in result.transactions:
        _add_transaction(rows, payment, stored, transaction)
    for row_id in payments.deleted_rows:
        _add(rows, "transactions_deleted", row_id)


def _facts(facts: Any, payment: Payment, at: int, event_id: str) -> dict[str, Any]:
    row = {name: getattr(facts, name) for name in facts.__slots__}
    row["provider_created_at"] = row.pop("created")
    return row | {"payment_id": payment.id, "version_at": at, "version_event_id": event_id}


def _add_transaction(rows: Rows, payment: Payment, row: Row, transaction: Transaction) -> None:
    stays = row.saved == transaction and row.payment_id == payment.id
    if stays and row.document is None:
        return
    columns = {"id": row.id, "payment_id": payment.id, "raw": row.document}
    _add(rows, "transactions", transaction._asdict() | columns)


def _add_recurring(rows: Rows, state: State, result: Result) -> None:
    for of, states in state.recurring.new.items():
        for key, shown in states.items():
            columns = {name: getattr(shown, name) for name in SUBSCRIPTION_STATES.columns}
            columns["before"] = shown.before and str(shown.before)
            row = {"subscription_id": of, **key._asdict(), **columns}
            _add(rows, SUBSCRIPTION_STATES.label, row)
    for terms in state.recurring.new_terms.values():
        _add(rows, DISCOUNTS.label, asdict(terms))
    for row_id in result.gone_movements:
        _add(rows, f"{MRR_MOVEMENTS.label}_deleted", row_id)
    for (customer, currency), movements in result.movements.items():
        for day, movement in movements.items():
            row = {
                "id": movement.row_id,
                "customer_id": customer,
                "currency": currency,
                "day": str(date_of(day)),
                "kind": movement.kind,
                "amount": movement.after - movement.before,
                "mrr": movement.after,
                "latest": movement.latest,
            }
            _add(rows, MRR_MOVEMENTS.label, row)


def _session(moved: SessionMoved) -> dict[str, Any]:
    change = moved.change
    return {
        "id": moved.row_id,
        "newer": moved.newer,
        "checkout_session_id": change.session_id,
        "status": change.status,
        "payment_status": change.payment_status,
        "customer_id": change.customer_id,
        "payment_intent_id": change.payment_intent_id,
        "subscription_id": change.subscription_id,
        "url": change.url,
        "raw": moved.document.number,
        "provider_event_at": moved.version[0],
        "provider_event_rank": moved.version[1],
        "provider_event_id": moved.event_id,
    }
