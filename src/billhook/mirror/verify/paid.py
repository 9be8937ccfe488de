"""Compares `payments.transactions` with Stripe's charges and refunds, and the totals of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal

from billhook.errors import BillhookError
from billhook.kinds.reading import id_of, integer, text, timestamp
from billhook.ledger import Ledger
from billhook.mirror import refreshes
from billhook.mirror.fetching import StripeReader
from billhook.mirror.verify.disputed import compare_disputed
from billhook.mirror.verify.extra import PAID, TABLE, Sums, extra_payments, extra_refunds
from billhook.mirror.verify.missed_events import apply_events
from billhook.mirror.verify.reading import CONFIRMED, YOUNG, one_repair, pages
from billhook.models import Drift, Money, VerifiedTable
from billhook.paths import encoded
from billhook.postgres import Connection
from billhook.postgres.leases import LeaseLost
from billhook.projections import Event
from billhook.projections.charges import captured, given_back
from billhook.projections.refunds import refund_changed
from billhook.reducers.conversion import Conversion
from billhook.reducers.payments import Payment
from billhook.rows import payments_with
from billhook.stripe.gateway import StripeObject
from billhook.task_groups import all_or_first_error, for_each

_AT_ONCE = 4
# From the connection on, or as far back as the history was imported.
_SINCE = """
SELECT least(extract(epoch FROM p.since)::bigint, i.complete_from)
FROM billhook.pulls p LEFT JOIN billhook.imports i USING (environment)
WHERE p.environment = $1
"""
# The rows of these PaymentIntents, or of charges without one, with Stripe's values. A pending or
# failed refund may or may not be part of the refunded amount of its charge (stripe-facts 30).
_PAYMENTS = """
SELECT asked.of, asked.id, t.payment_id, t.amount, t.amount_refunded, t.currency, t.status,
    t.updated_at, t.raw = '{}' AS bare, asked.object_type,
    asked.amount AS expected, asked.given_back, asked.currency AS asked_currency,
    (SELECT coalesce(pg_catalog.sum(f.amount), 0::numeric) FROM billhook.payment_refunds f
     WHERE f.payment_id = t.payment_id AND f.object_type = 'refund' AND f.status <> 'refunded'
    ) AS unsettled,
    ARRAY(
        SELECT other.object_id FROM billhook.payment_refs other
        WHERE other.payment_id = t.payment_id AND other.object_type = 'payment_intent'
        ORDER BY other.object_id) AS intents
FROM ROWS FROM (
    pg_catalog.unnest($2::text[]), pg_catalog.unnest($3::text[]::bigint[]),
    pg_catalog.unnest($4::text[]::bigint[]), pg_catalog.unnest($5::text[]),
    pg_catalog.unnest($6::text[]), pg_catalog.unnest($7::text[])
) AS asked(id, amount, given_back, currency, object_type, of)
JOIN billhook.payment_refs r
    ON r.environment = $1 AND r.object_type = asked.object_type AND r.object_id = asked.id
JOIN payments.transactions t ON t.payment_id = r.payment_id AND t.type <> 'refund'
"""
_REFUNDS = """
SELECT t.provider_object_id AS of, t.payment_id, t.amount, t.currency, t.status, t.updated_at,
    t.raw = '{}' AS bare, (
        SELECT p.status = 'failed' FROM payments.transactions p
        WHERE p.payment_id = t.payment_id AND p.type <> 'refund') AS of_nothing
FROM payments.transactions t
WHERE t.provider = 'stripe' AND t.environment = $1 AND t.provider_object_type = 'refund'
  AND t.provider_object_id = ANY ($2)
"""
Kind = Literal["charge", "refund"]
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Movement:
    """Money that moved at Stripe, as its transaction should show it.

    Attributes:
        id: of the PaymentIntent, of the charge if it has none, or of the refund.
        status: of a payment `taken`, `released` if it was authorized and never captured, or
            `unpaid` if the attempt failed.
        at: the time of Stripe's response.
    """

    id: str
    amount: int
    given_back: int
    currency: str
    status: str
    created: int
    at: int
    object: StripeObject

    @property
    def intent_id(self) -> str | None:
        """The PaymentIntent of a charge; None for the legacy Charges API."""
        return id_of(self.object.get("payment_intent"))

    @property
    def counts(self) -> bool:
        """Whether it is part of the totals: a pending or failed refund is not."""
        return self.status in ("taken", "refunded")


async def compare_payments(
    reader: StripeReader, at: int, until: float | None, *, repair: Ledger | None
) -> tuple[list[VerifiedTable], list[Money]]:
    """Compare payments, refunds and disputes since the account was connected, and earlier ones as
    far as they are imported.

    Args:
        at: Stripe's time before its lists are read.
        until: see `pages`.
        repair: applies the events of repaired payments; None to repair nothing.
    """
    async with reader.database.connection() as connection:
        since = await connection.fetchval(_SINCE, reader.environment)
    payments = VerifiedTable(table=f"{TABLE} (payments)")
    refunds = VerifiedTable(table=f"{TABLE} (refunds)")
    disputes = VerifiedTable(table=f"{TABLE} (disputes)")
    sums = Sums()
    if since is not None:
        async with all_or_first_error() as group:
            kinds: tuple[tuple[Kind, VerifiedTable], ...] = (
                ("charge", payments),
                ("refund", refunds),
            )
            for kind, found in kinds:
                group.create_task(
                    _compare(reader, kind, since, at, until, found, sums, repair=repair)
                )
            group.create_task(
                compare_disputed(
                    reader, since, at, until, disputes, sums, repair=repair is not None
                )
            )
    return [payments, refunds, disputes], [
        sums.by_currency[each] for each in sorted(sums.by_currency)
    ]


async def _compare(
    reader: StripeReader,
    kind: Kind,
    since: int,
    at: int,
    until: float | None,
    found: VerifiedTable,
    sums: Sums,
    *,
    repair: Ledger | None,
) -> None:
    seen: set[str] = set()
    suspects: list[_Movement] = []
    try:
        async for page in pages(reader, kind, f"/v1/{kind}s", {}, since, until):
            moved = [m for each in page.objects if (m := _movement(kind, each, page.at))]
            shown = await _shown(reader, kind, moved)
            for each in moved:
                if each.status != "unpaid":
                    found.objects += 1
                    seen.update((each.id, each.object["id"]))
                row = shown.get(each.object["id"])
                if not _differences(kind, each, row):
                    _count(sums, kind, each, row)
                elif row is None and each.created > page.at - YOUNG:
                    found.in_flight += 1
                elif len(suspects) < CONFIRMED:
                    suspects.append(each)
                else:
                    found.unconfirmed += 1
        found.complete = until is None
        await _confirm(reader, kind, suspects, found, sums, repair=repair)
        if found.complete:
            extra = extra_payments if kind == "charge" else extra_refunds
            await extra(reader, since, at, seen, found, sums, repair=repair is not None)
    except LeaseLost:
        raise
    except BillhookError as error:
        found.complete, found.error = False, error.message


def _movement(kind: Kind, stripe_object: StripeObject, at: int) -> _Movement | None:
    """The money that a charge or refund moved, or failed to move; None if it is in progress or has
    no row."""
    created = timestamp(stripe_object.get("created")) or 0
    if kind == "charge":
        intent_id, taken = id_of(stripe_object.get("payment_intent")), captured(stripe_object)
        authorized = stripe_object.get("status") == "succeeded"
        released = authorized and intent_id is not None and stripe_object.get("refunded")
        failed = stripe_object.get("status") == "failed" and intent_id is not None
        if not (authorized and taken) and not released and not failed:
            return None
        return _Movement(
            intent_id or stripe_object["id"],
            (taken if authorized else None) or integer(stripe_object.get("amount")) or 0,
            given_back(stripe_object),
            text(stripe_object.get("currency")) or "",
            "unpaid" if failed else "taken" if taken else "released",
            created,
            at,
            stripe_object,
        )
    change = refund_changed(Event("", "refund.updated", 0, stripe_object, None)).payment
    if change is None or change.refund is None:
        return None
    facts = change.refund
    return _Movement(
        facts.object_id, facts.amount, 0, facts.currency or "", facts.status, created, at,
        stripe_object,
    )  # fmt: skip


async def _shown(reader: StripeReader, kind: Kind, moved: Sequence[_Movement]) -> dict[str, Row]:
    """The rows of these charges or refunds, by the id of each. Several charges of one PaymentIntent
    have the same row."""
    ids = [each.id for each in moved]
    async with reader.database.connection() as connection:
        if kind == "refund":
            rows = await connection.fetch(_REFUNDS, reader.environment, ids)
        else:
            rows = await connection.fetch(
                _PAYMENTS,
                reader.environment,
                ids,
                # As text, whose type asyncpg does not look up (decisions/0010).
                [str(each.amount) for each in moved],
                [str(each.given_back) for each in moved],
                [each.currency for each in moved],
                ["payment_intent" if each.intent_id else "charge" for each in moved],
                [each.object["id"] for each in moved],
            )
        found = [dict(row) for row in rows]
        if kind == "charge":
            await _convert(connection, reader, found)
    return {row["of"]: row for row in found}


async def _convert(
    connection: Connection, reader: StripeReader, rows: list[dict[str, Any]]
) -> None:
    """Convert Stripe's amounts to the currencies of the payments' rows, if Stripe reports the
    equivalent."""
    rows = [row for row in rows if row["asked_currency"] != row["currency"]]
    if not rows:
        return
    payments: dict[str, Payment] = {}
    for object_type in ("payment_intent", "charge"):
        ids = [row["id"] for row in rows if row["object_type"] == object_type]
        payments |= await payments_with(connection, reader.environment, object_type, ids)
    for row in rows:
        conversion = Conversion(payments.get(row["id"]) or Payment(0), row["currency"])
        for name in ("expected", "given_back"):
            row[name] = conversion.of(row[name], row["asked_currency"])


def _differences(kind: Kind, moved: _Movement, row: Row | None) -> list[str]:
    if moved.status == "unpaid":
        # Other attempts decide the rest. A payment that nobody could collect may have no row.
        return ["status"] if row is not None and row["status"] == "pending" else []
    if row is None:
        return ["*"]
    found = _refund_differs(moved, row) if kind == "refund" else _payment_differs(moved, row)
    # If a removed row is recreated by an event of another part of the payment, such as a refund's,
    # it lacks its object.
    return [*found, "raw"] if row["bare"] else found


def _refund_differs(moved: _Movement, row: Row) -> list[str]:
    found = [name for name in ("amount", "currency") if row[name] != getattr(moved, name)]
    # An amount that was never captured cannot be refunded, although Stripe calls its release a
    # refund.
    if row["status"] != moved.status and not (row["of_nothing"] and row["status"] == "failed"):
        found.append("status")
    return found


def _payment_differs(moved: _Movement, row: Row) -> list[str]:
    if moved.status == "released":
        found = [] if row["status"] == "failed" else ["status"]
        return [*found, "amount_refunded"] if row["amount_refunded"] else found
    if row["expected"] is None:
        return ["currency"]
    found = [] if row["amount"] == row["expected"] else ["amount"]
    given, shown = row["given_back"] or 0, row["amount_refunded"]
    if not given - row["unsettled"] <= shown <= given:
        found.append("amount_refunded")
    if row["status"] != _status(row["amount"] or 0, shown):
        found.append("status")
    return found


def _status(amount: int, refunded: int) -> str:
    if not refunded:
        return "succeeded"
    return "refunded" if refunded >= amount else "partially_refunded"


def _count(sums: Sums, kind: Kind, moved: _Movement, row: Row | None) -> None:
    """Add Stripe's amounts and the mirrored ones, in the currency of the row."""
    if moved.status == "unpaid":
        return
    of_nothing = row is not None and kind == "refund" and row["status"] == "failed"
    if moved.counts and not of_nothing:
        amount, currency = moved.amount, moved.currency
        if kind == "charge" and row is not None and row["expected"] is not None:
            amount, currency = row["expected"], row["currency"]
        theirs = sums.of(currency)
        if kind == "charge":
            theirs.stripe_payments += amount
        else:
            theirs.stripe_refunds += amount
    if row is None or row["amount"] is None or not row["currency"]:
        return
    if kind == "charge" and row["status"] in PAID:
        sums.of(row["currency"]).payments += row["amount"]
    elif kind == "refund" and row["status"] == "refunded":
        sums.of(row["currency"]).refunds += row["amount"]


async def _confirm(
    reader: StripeReader,
    kind: Kind,
    suspects: list[_Movement],
    found: VerifiedTable,
    sums: Sums,
    *,
    repair: Ledger | None,
) -> None:
    """Fetch each suspect again: if it still differs, it has drifted."""
    counted: set[int] = set()
    others = {each.id for each in suspects if each.status != "unpaid"}

    async def one(suspect: _Movement) -> None:
        if suspect.status == "unpaid" and suspect.id in others:
            return  # another attempt decides
        moved = await _fetched_again(reader, kind, suspect)
        row = await _row(reader, kind, moved)
        if row is not None and kind == "charge":
            if row["payment_id"] in counted:
                return  # together with another PaymentIntent of the same invoice
            counted.add(row["payment_id"])
        differing = _differences(kind, moved, row)
        if differing and kind == "charge" and await _is_open(reader, moved, row):
            found.in_flight += 1
            return
        drift = _drift(found.table, moved, row, differing) if differing else None
        if drift is not None and repair is not None:
            with one_repair(TABLE, moved.id):
                row = await _repair(reader, repair, kind, moved)
            drift.repaired = not _differences(kind, moved, row)
        if drift is not None:
            found.drift.append(drift)
        _count(sums, kind, moved, row)

    await for_each(suspects, one, _AT_ONCE)


async def _is_open(reader: StripeReader, moved: _Movement, row: Row | None) -> bool:
    """Whether another attempt is in progress, or only a part has been captured: it counts when the
    PaymentIntent succeeds."""
    if moved.intent_id is None or (row is not None and row["status"] in PAID):
        return False
    intent = await refreshes.find_payment_intent(reader, moved.intent_id)
    return intent is not None and intent.get("status") in ("requires_capture", "processing")


async def _row(reader: StripeReader, kind: Kind, moved: _Movement) -> Row | None:
    return (await _shown(reader, kind, [moved])).get(moved.object["id"])


async def _fetched_again(reader: StripeReader, kind: Kind, suspect: _Movement) -> _Movement:
    """The current state of the charge or refund: a refund may have failed in the meantime. If
    several PaymentIntents paid one invoice, all of them together."""
    found = await reader.get(kind, f"/v1/{kind}s/{encoded(suspect.object['id'])}", {})
    moved = _movement(kind, found.data, found.at) or suspect
    row = await _row(reader, kind, moved) if kind == "charge" else None
    for intent_id in row["intents"] if row is not None else ():
        if intent_id != moved.id:
            other = await refreshes.payment_intent(reader, intent_id)
            charge = other.get("latest_charge")
            also = _movement(kind, charge, found.at) if isinstance(charge, dict) else None
            if also is not None and also.status == "taken":
                moved = replace(
                    moved,
                    amount=moved.amount * (moved.status == "taken") + also.amount,
                    given_back=moved.given_back + also.given_back,
                    status="taken",
                )
    return moved


def _drift(table: str, moved: _Movement, row: Row | None, differing: list[str]) -> Drift:
    return Drift(
        table=table,
        object_id=moved.id,
        problem="different" if row else "missing",
        fields=differing if row else [],
        since=row["updated_at"] if row else datetime.fromtimestamp(moved.created, UTC),
        amount=moved.amount,
        currency=moved.currency,
    )


async def _repair(reader: StripeReader, ledger: Ledger, kind: Kind, moved: _Movement) -> Row | None:
    """Apply the events through the ledger, if Stripe still lists them, so that the app's triggers
    run; then the object as fetched. Returns the resulting row."""
    parts = [moved.object["id"]]
    if kind == "charge" and moved.intent_id is not None:
        # Events of an invoice report its payment without naming it.
        parts += await refreshes.invoices_paid_by(reader, moved.intent_id)
    await apply_events(reader, ledger, moved.id, parts, moved.created)
    row = await _row(reader, kind, moved)
    if not _differences(kind, moved, row):
        return row
    if moved.intent_id is not None:
        intent = await refreshes.payment_intent(reader, moved.intent_id)
        await refreshes.show_payment(reader, intent)
    elif kind == "charge":
        await refreshes.show_charge(reader, moved.object)
    row = await _row(reader, kind, moved)
    differing = _differences(kind, moved, row)
    if kind == "refund" and differing:
        await refreshes.show_refund(reader, moved.object, moved.at)
    elif "amount_refunded" in differing:
        await refreshes.show_refunds_of(reader, moved.object["id"])
    return await _row(reader, kind, moved)
