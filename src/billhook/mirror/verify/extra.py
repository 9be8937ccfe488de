"""Payments and refunds that are mirrored, and that Stripe does not have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

import asyncpg

from billhook.mirror import refreshes
from billhook.mirror.fetching import StripeReader
from billhook.mirror.unlisted import unlisted
from billhook.mirror.verify.reading import CONFIRMED, one_repair
from billhook.models import Drift, Money, VerifiedTable
from billhook.paths import encoded
from billhook.postgres.providers import of_stripe
from billhook.projections.charges import captured

TABLE = "payments.transactions"
PAID = ("succeeded", "refunded", "partially_refunded")
"""Statuses of a payment that Stripe collected."""


def _objects(object_type: str) -> str:
    return f"""ARRAY(
        SELECT r.object_id FROM billhook.payment_refs r
        WHERE r.payment_id = t.payment_id AND r.object_type = '{object_type}'
        ORDER BY r.object_id)"""  # noqa: S608


# Mirrored payments that are missing in Stripe's list. Payments outside Stripe have neither a
# PaymentIntent nor a charge.
_EXTRA = f"""
SELECT t.amount, t.currency, t.paid_at AS at, of.intents, of.charges,
    pg_catalog.array_cat(of.intents, of.charges) AS ids
FROM payments.transactions t CROSS JOIN LATERAL (
    SELECT {_objects("payment_intent")} AS intents, {_objects("charge")} AS charges
) AS of
WHERE {of_stripe("transactions", "t")} AND t.type <> 'refund'
  AND t.status IN ('succeeded', 'refunded', 'partially_refunded') AND t.amount > 0
  AND t.paid_at >= pg_catalog.to_timestamp($2) AND t.paid_at < pg_catalog.to_timestamp($3)
  AND pg_catalog.cardinality(pg_catalog.array_cat(of.intents, of.charges)) > 0
"""  # noqa: S608
# The same for refunds; a failed one moved no money.
_EXTRA_REFUNDS = f"""
SELECT ARRAY[t.provider_object_id] AS ids, t.status, t.amount, t.currency, t.refunded_at,
    t.updated_at, coalesce(t.provider_created_at, t.created_at) AS at
FROM payments.transactions t
WHERE {of_stripe("transactions", "t")} AND t.type = 'refund' AND t.status <> 'failed'
  AND t.provider_object_type = 'refund'
  AND coalesce(t.provider_created_at, t.created_at) >= pg_catalog.to_timestamp($2)
  AND coalesce(t.provider_created_at, t.created_at) < pg_catalog.to_timestamp($3)
"""  # noqa: S608
_STATUS = """
SELECT t.status FROM billhook.payment_refs r
JOIN payments.transactions t ON t.payment_id = r.payment_id AND t.type <> 'refund'
WHERE r.environment = $1 AND r.object_type = 'payment_intent' AND r.object_id = $2
"""


@dataclass(slots=True)
class Sums:
    """The totals at Stripe and in the mirror."""

    by_currency: dict[str, Money] = field(default_factory=dict)

    def of(self, currency: str) -> Money:
        """The totals of one currency."""
        return self.by_currency.setdefault(currency, Money(currency=currency))


async def extra_payments(
    reader: StripeReader,
    since: int,
    at: int,
    seen: set[str],
    found: VerifiedTable,
    sums: Sums,
    *,
    repair: bool,
) -> None:
    """Mirrored payments that Stripe did not collect. A repair shows the state at Stripe; a payment
    that does not exist at Stripe is left for manual review."""
    rows, total = await unlisted(reader, _EXTRA, since, at, listed=seen, most=CONFIRMED)
    found.unconfirmed += total - len(rows)
    for row in rows:
        intents = [await refreshes.find_payment_intent(reader, each) for each in row["intents"]]
        known = [each for each in intents if each is not None]
        if any(each.get("status") == "succeeded" for each in known):
            continue  # its charge is older than the connection
        if not row["intents"] and await _took(reader, row["charges"]):
            continue
        drift = _drift(found, row["ids"][0], row["at"], row)
        if repair:
            drift.repaired = False
            for each in known:
                with one_repair(TABLE, each["id"]):
                    await refreshes.show_payment(reader, each)
                    drift.repaired = await _status_shown(reader, each["id"]) not in PAID
        if not drift.repaired:
            sums.of(row["currency"]).payments += row["amount"]
        found.drift.append(drift)


async def extra_refunds(
    reader: StripeReader,
    since: int,
    at: int,
    seen: set[str],
    found: VerifiedTable,
    sums: Sums,
    *,
    repair: bool,
) -> None:
    """Mirrored refunds that do not exist at Stripe."""
    rows, total = await unlisted(reader, _EXTRA_REFUNDS, since, at, listed=seen, most=CONFIRMED)
    found.unconfirmed += total - len(rows)
    for row in rows:
        (refund_id,) = row["ids"]
        if await refreshes.refund(reader, refund_id) is not None:
            continue  # it is older than the connection
        drift = _drift(found, refund_id, row["refunded_at"] or row["updated_at"], row)
        if repair:
            drift.repaired = False
            with one_repair(TABLE, refund_id):
                await refreshes.withdraw_refund(reader, refund_id, at)
                drift.repaired = True
        if not drift.repaired and row["status"] == "refunded" and row["currency"]:
            sums.of(row["currency"]).refunds += row["amount"] or 0
        found.drift.append(drift)


def _drift(found: VerifiedTable, object_id: str, since: datetime, row: asyncpg.Record) -> Drift:
    return Drift(
        table=found.table,
        object_id=object_id,
        problem="extra",
        since=since,
        amount=row["amount"],
        currency=row["currency"],
    )


async def _took(reader: StripeReader, charge_ids: Sequence[str]) -> bool:
    """Whether any of these charges captured money."""
    for each in charge_ids:
        found = await reader.find("charge", f"/v1/charges/{encoded(each)}")
        if found and found.data.get("status") == "succeeded" and captured(found.data):
            return True
    return False


async def _status_shown(reader: StripeReader, intent_id: str) -> str | None:
    async with reader.database.connection() as connection:
        status: str | None = await connection.fetchval(_STATUS, reader.environment, intent_id)
    return status
