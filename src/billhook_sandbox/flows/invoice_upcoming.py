"""`invoice.upcoming`: a notice some days before a subscription is renewed."""

from billhook_sandbox.event_log import emit
from billhook_sandbox.flows.invoice_preview import renewal, shown
from billhook_sandbox.flows.subscription_renewal import UPCOMING_NOTICE_SECONDS, next_period_end
from billhook_sandbox.store import DataSet, Json

RENEWED = ("active", "past_due", "trialing")
KIND = "_upcoming_notice"
"""The period of a subscription that was announced last."""


def emit_upcoming(data: DataSet, subscription: str) -> None:
    """Runs some days before the end of the period, unless the period was changed since."""
    found = data.get("subscription", subscription)
    if found is None or found["status"] not in RENEWED:
        return
    end = next_period_end(data, found)
    ends = found["cancel_at"] is not None and found["cancel_at"] <= end
    announced = data.get(KIND, subscription)
    if ends or not 0 < end - data.clock.now() <= UPCOMING_NOTICE_SECONDS:
        return
    if announced and announced["end"] == end:
        return
    data.put({"id": subscription, "object": KIND, "end": end})
    emit(data, "invoice.upcoming", upcoming_invoice(data, found))


def upcoming_invoice(data: DataSet, subscription: Json) -> Json:
    """The invoice as it would be created at the end of the period."""
    with data.trial_run():
        return shown(data, renewal(data, subscription, "next"), None)
