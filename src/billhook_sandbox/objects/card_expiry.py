"""`customer.source.expiring`: sent at the beginning of the month in which a saved card expires.

Stripe documents it for cards that are sources; whether it is sent for payment methods is not
confirmed.
"""

from datetime import UTC, datetime

from billhook_sandbox.event_log import emit
from billhook_sandbox.objects.card import card_object
from billhook_sandbox.schedule import schedule_at
from billhook_sandbox.store import DataSet, Json

KIND = "_expiry_notice"
"""The month for which a card's notice was sent."""


def schedule_expiry(data: DataSet, method: Json) -> None:
    """A card that expires this month is reported at once; an expired one is not."""
    if method["type"] != "card":
        return
    first, end = expiry_month(method)
    if end > data.clock.now():
        due = max(first, data.clock.now())
        schedule_at(data, due, "emit_card_expiring", method=method["id"])


def expiry_month(method: Json) -> tuple[int, int]:
    """The beginning and the end of the month."""
    year, month = method["card"]["exp_year"], method["card"]["exp_month"]
    first = datetime(year, month, 1, tzinfo=UTC)
    end = datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)
    return int(first.timestamp()), int(end.timestamp())


def emit_card_expiring(data: DataSet, method: str) -> None:
    """Runs when the month begins, unless the card was changed or detached before."""
    found = data.get("payment_method", method)
    if found is None or found["customer"] is None:
        return
    first, end = expiry_month(found)
    sent = data.get(KIND, method)
    if not first <= data.clock.now() < end or (sent and sent["month"] == first):
        return
    data.put({"id": method, "object": KIND, "month": first})
    emit(data, "customer.source.expiring", card_object(found))
