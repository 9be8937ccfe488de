"""Compares what payments show of their disputes with Stripe, and the totals of lost disputes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from billhook.errors import BillhookError
from billhook.kinds.disputes import DISPUTE
from billhook.kinds.reading import UnreadableObject, id_of
from billhook.mirror import fetching
from billhook.mirror.fetching import StripeReader
from billhook.mirror.unlisted import unlisted
from billhook.mirror.verify.extra import TABLE, Sums
from billhook.mirror.verify.reading import CONFIRMED, one_repair, pages
from billhook.models import Drift, VerifiedTable
from billhook.postgres import repeat_collisions
from billhook.postgres.leases import LeaseLost
from billhook.postgres.providers import of_stripe
from billhook.projections import Changes, Event
from billhook.projections.changes import PaymentChange
from billhook.reducers.conversion import Conversion
from billhook.reducers.payments import Dispute, Payment, Transaction
from billhook.reducers.transactions import Disputed, disputed
from billhook.rows import Fact, apply_facts, payments_with
from billhook.stripe.gateway import StripeObject
from billhook.task_groups import for_each

_AT_ONCE = 4
_COLUMNS = (
    *("amount_disputed", "amount_lost", "dispute_status", "dispute_reason"),
    *("dispute_due_by", "disputed_at"),
)
# Payments that show a dispute, and their disputes.
_DISPUTED = f"""
SELECT t.provider_object_type AS of, t.provider_object_id AS id, t.amount_lost, t.currency,
    coalesce(t.disputed_at, t.created_at) AS at, ARRAY(
        SELECT r.object_id FROM billhook.payment_refs r
        WHERE r.payment_id = t.payment_id AND r.object_type = 'dispute') AS ids
FROM payments.transactions t
WHERE {of_stripe("transactions", "t")} AND t.type <> 'refund'
  AND (t.amount_disputed <> 0 OR t.amount_lost <> 0 OR t.dispute_status IS NOT NULL)
  AND coalesce(t.disputed_at >= pg_catalog.to_timestamp($2)
               AND t.disputed_at < pg_catalog.to_timestamp($3), true)
"""  # noqa: S608


async def compare_disputed(
    reader: StripeReader,
    since: int,
    at: int,
    until: float | None,
    found: VerifiedTable,
    sums: Sums,
    *,
    repair: bool,
) -> None:
    """Compare the payments of all disputes created since `since`, in epoch seconds.

    Args:
        at: Stripe's time before its lists are read.
        until: see `pages`.
    """
    comparison = _Comparison(reader, found, sums, repair=repair)
    seen: set[str] = set()
    suspects: list[str] = []
    try:
        async for page in pages(reader, DISPUTE.plural, DISPUTE.path, {}, since, until):
            seen.update(each["id"] for each in page.objects)
            suspects += await comparison.differing(page.objects)
        found.complete = until is None
        found.unconfirmed = max(0, len(suspects) - CONFIRMED)
        await for_each(suspects[:CONFIRMED], comparison.confirm, _AT_ONCE)
        if found.complete:
            rows, total = await unlisted(reader, _DISPUTED, since, at, listed=seen, most=CONFIRMED)
            found.unconfirmed += total - len(rows)
            for row in rows:
                await comparison.without_dispute(row)
    except LeaseLost:
        raise
    except BillhookError as error:
        found.complete, found.error = False, error.message


class _Comparison:
    """Compares payments, and adds up what was lost. Each payment counts once."""

    def __init__(
        self, reader: StripeReader, found: VerifiedTable, sums: Sums, *, repair: bool
    ) -> None:
        self._reader = reader
        self._found = found
        self._sums = sums
        self._repair = repair
        self._counted: set[int] = set()

    async def differing(self, disputes: list[StripeObject]) -> list[str]:
        """The ids of the disputes that their payments don't show as they are."""
        differing = []
        for each, payment, shown in await self._shown(disputes):
            self._found.objects += 1
            if _differences(payment, shown):
                differing.append(each["id"])
            else:
                self._count(each, payment, shown)
        return differing

    async def confirm(self, dispute_id: str) -> None:
        """Fetch a dispute again: if its payment still differs, it has drifted."""
        fetched = await fetching.fetch(self._reader, DISPUTE, dispute_id)
        if fetched is None:
            return
        for each, payment, shown in await self._shown([fetched.data]):
            if differing := _differences(payment, shown):
                drift = self._drift(shown.provider_object_id, differing, shown.currency)
                if self._repair:
                    with one_repair(TABLE, drift.object_id):
                        await fetching.write_one(self._reader, DISPUTE, fetched.data, fetched.at)
                    ((_, payment, shown),) = await self._shown([fetched.data])
                    drift.repaired = not _differences(payment, shown)
            self._count(each, payment, shown)

    async def without_dispute(self, row: Any) -> None:
        """A payment shows a dispute, and Stripe lists none."""
        drift = self._drift(row["id"], ["amount_disputed", "amount_lost"], row["currency"])
        if self._repair:
            drift.repaired = False
            with one_repair(TABLE, row["id"]):
                await self._show_again(row["of"], row["id"])
                async with self._reader.database.connection() as connection:
                    known = await payments_with(
                        connection, self._reader.environment, row["of"], [row["id"]]
                    )
                payment = known.get(row["id"])
                shown = payment.row.saved if payment and payment.row else None
                drift.repaired = shown is None or not (shown.amount_lost or shown.amount_disputed)
        if not drift.repaired and row["currency"]:
            self._sums.of(row["currency"]).lost += row["amount_lost"]

    async def _show_again(self, object_type: str, object_id: str) -> None:
        """Compute the row of a payment again."""
        again = Changes(payment=PaymentChange(refs={object_type: [object_id]}))

        async def work() -> None:
            async with self._reader.database.as_service() as connection:
                await self._reader.check(connection)
                await apply_facts(
                    connection,
                    self._reader.environment,
                    [Fact(Event("", "", 0, {}), again)],
                    outside_ledger=True,
                )

        await repeat_collisions(work)

    async def _shown(
        self, disputes: list[StripeObject]
    ) -> list[tuple[StripeObject, Payment, Transaction]]:
        """The payments of these disputes that have a row, with the disputes as Stripe has them."""
        payments: dict[str, Payment] = {}
        async with self._reader.database.connection() as connection:
            for name in ("charge", "payment_intent"):
                ids = {found for each in disputes if (found := id_of(each.get(name)))}
                payments |= await payments_with(connection, self._reader.environment, name, ids)
        result = []
        for each, dispute in _readable(disputes):
            names = (id_of(each.get("payment_intent")), id_of(each.get("charge")))
            payment = next((payments[name] for name in names if name in payments), None)
            if payment is not None and payment.row is not None and payment.row.saved is not None:
                payment.disputes[each["id"]] = dispute
                result.append((each, payment, payment.row.saved))
        return result

    def _drift(self, object_id: str, differing: list[str], currency: str | None) -> Drift:
        drift = Drift(
            table=self._found.table,
            object_id=object_id,
            problem="different",
            fields=differing,
            currency=currency,
        )
        self._found.drift.append(drift)
        return drift

    def _count(self, dispute: StripeObject, payment: Payment, shown: Transaction) -> None:
        """Add what Stripe and the mirror say was lost, in the currency of the payment."""
        if not shown.currency:
            return
        sums = self._sums.of(shown.currency)
        known = payment.disputes[dispute["id"]]
        if known.status == "lost":
            lost = Conversion(payment, shown.currency).of(known.amount or 0, known.currency)
            sums.stripe_lost += lost or 0
        if payment.id not in self._counted:
            self._counted.add(payment.id)
            sums.lost += shown.amount_lost


def _readable(disputes: Iterable[StripeObject]) -> Iterator[tuple[StripeObject, Dispute]]:
    for each in disputes:
        try:
            row: Any = DISPUTE.row(each)
        except UnreadableObject:
            continue
        if row is not None:
            yield each, Dispute.of(row)


def _differences(payment: Payment, shown: Transaction) -> list[str]:
    expected = disputed(payment, Conversion(payment, shown.currency))
    actual = Disputed(
        shown.amount_disputed,
        shown.amount_lost,
        shown.dispute_status,
        shown.dispute_reason,
        shown.dispute_due_by,
        shown.disputed_at,
    )
    pairs = zip(_COLUMNS, expected, actual, strict=True)
    return [name for name, one, other in pairs if one != other]
