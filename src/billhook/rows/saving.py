"""The reducers' changes → the rows for `billhook.save_batch`."""

from __future__ import annotations

from typing import Any

from billhook.kinds import KINDS
from billhook.reducers.newest_wins import Mirrored
from billhook.reducers.payments import Payment, Row, Transaction
from billhook.reducers.reduce import SessionMoved, State, subject_of_row
from billhook.reducers.transactions import refund_transactions, transaction_of

Rows = dict[str, list[Any]]


def rows_of(state: State, *, outside_ledger: bool = False) -> Rows:
    """The rows that differ from what was loaded, by table.

    Args:
        outside_ledger: the facts are in no event of the ledger.

    Raises:
        Missing: a rule asks for what was not loaded.
    """
    state.require_unnamed()
    rows: Rows = {}
    for mirrored in state.objects.values():
        if mirrored.changed:
            _add_object(rows, state, mirrored, outside_ledger)
    _add_moved_subjects(rows, state)
    _add_claims(rows, state, outside_ledger)
    _add_payments(rows, state)
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


def _add(rows: Rows, table: str, row: Any) -> None:
    rows.setdefault(table, []).append(row)


def _add_object(rows: Rows, state: State, mirrored: Mirrored, outside_ledger: bool) -> None:
    kind, object_id = mirrored.key
    table = mirrored.kind.table
    if mirrored.newly_tied:
        tie = {"object_type": kind, "object_id": object_id, "event_id": mirrored.tied}
        _add(rows, "ties", tie)
    # A row that stays says itself that its object is gone; what no event says, a rebuild keeps.
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
        _add(rows, table, _object_row(state, mirrored))
    elif mirrored.newly_deleted and mirrored.kind.keeps_deleted:
        _add(rows, f"{table}_marked", object_id)


def _object_row(state: State, mirrored: Mirrored) -> dict[str, Any]:
    assert mirrored.row is not None
    assert mirrored.document is not None
    assert mirrored.shown is not None
    version = mirrored.shown.version
    assert version is not None
    kind = mirrored.kind
    row = {kind.key: mirrored.key[1], **mirrored.row, "raw": mirrored.document.number}
    if kind.subject is not None:
        named = kind.subject(mirrored.document.object)
        customer = mirrored.row[kind.customer] if kind.customer else None
        row["subject_type"], row["subject_id"] = subject_of_row(
            state,
            (named.type, named.id) if named else None,
            customer if isinstance(customer, str) else None,
            version.at,
        )
    if kind.keeps_deleted:
        row["deleted"] = mirrored.deleted
    return row | {
        "provider_event_at": version.at,
        "provider_event_rank": version.rank,
        "provider_event_id": version.event_id,
        "provider_event_previous": version.previous,
    }


def _add_moved_subjects(rows: Rows, state: State) -> None:
    for key, unnamed in state.unnamed.items():
        mirrored = state.objects.get(key)
        saved = mirrored is not None and (mirrored.row is not None or mirrored.removed)
        if saved or unnamed.customer not in state.claims.moved:
            continue
        now = state.claims.subject_at(unnamed.customer, unnamed.at)
        if now != unnamed.subject:
            subject_type, subject_id = now or (None, None)
            row = {"id": key[1], "subject_type": subject_type, "subject_id": subject_id}
            _add(rows, f"{_table(key[0])}_subjects", row)


def _table(kind: str) -> str:
    return KINDS[kind].table


def _add_claims(rows: Rows, state: State, outside_ledger: bool) -> None:
    for claim in state.claims.recorded.values():
        subject_type, subject_id = claim.subject
        _add(
            rows,
            "customer_claims",
            {
                "customer_id": claim.customer,
                "kind": claim.kind,
                "subject_type": subject_type,
                "subject_id": subject_id,
                "ref": claim.ref,
                "claimed_at": claim.at,
                "outside_ledger": outside_ledger,
            },
        )
    lost, mapped = state.claims.settle()
    for customer in lost:
        _add(rows, "customer_mappings_deleted", customer)
    for customer, (subject_type, subject_id) in mapped.items():
        row = {"provider_customer_id": customer}
        row |= {"subject_type": subject_type, "subject_id": subject_id}
        _add(rows, "customer_mappings", row)


def _add_payments(rows: Rows, state: State) -> None:
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
    for payment in payments.by_id.values():
        if payment.changed or _may_have_moved(state, payment):
            transaction = transaction_of(payment, state.claims)
            if transaction is not None:
                _add_transaction(rows, payment, payment.row or Row.new(), transaction)
            for refund_id, shown in refund_transactions(payment, transaction):
                of_refund = payment.refund_rows.get(refund_id) or Row.new()
                _add_transaction(rows, payment, of_refund, shown)
    for row_id in payments.deleted_rows:
        _add(rows, "transactions_deleted", row_id)


def _may_have_moved(state: State, payment: Payment) -> bool:
    return any(s.facts.customer_id in state.claims.moved for s in payment.sources.values())


def _facts(facts: Any, payment: Payment, at: int, event_id: str) -> dict[str, Any]:
    row = {name: getattr(facts, name) for name in facts.__slots__}
    row["provider_created_at"] = row.pop("created")
    return row | {"payment_id": payment.id, "version_at": at, "version_event_id": event_id}


def _add_transaction(rows: Rows, payment: Payment, row: Row, transaction: Transaction) -> None:
    stays = row.stands == transaction and row.payment_id == payment.id
    if stays and row.document is None:
        return
    columns = {"id": row.id, "payment_id": payment.id, "raw": row.document}
    _add(rows, "transactions", transaction._asdict() | columns)


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
