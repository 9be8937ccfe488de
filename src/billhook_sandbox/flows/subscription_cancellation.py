"""Cancels subscriptions: immediately, or at the end of the period (stripe-facts 21, 22)."""

from billhook_sandbox.event_log import change, emit
from billhook_sandbox.objects.subscription import items_of, period_of
from billhook_sandbox.schedule import schedule_at
from billhook_sandbox.store import DataSet, Json

ENDED = ("canceled", "incomplete_expired")


def cancel_now(
    data: DataSet,
    subscription: Json,
    details: Json | None = None,
    latest_invoice: Json | None = None,
) -> Json:
    """Cancels immediately. The one event has the full object."""
    now = data.clock.now()
    data.remove("_pending_update", subscription["id"])
    scheduled = subscription["cancel_at"] is not None and now >= subscription["cancel_at"]
    subscription = change(
        data,
        subscription,
        cancel_at=subscription["cancel_at"] if scheduled else None,
        cancel_at_period_end=subscription["cancel_at_period_end"] and scheduled,
        canceled_at=subscription["canceled_at"] or now,
        cancellation_details={
            **subscription["cancellation_details"],
            "reason": "cancellation_requested",
            **(details or {}),
        },
        ended_at=now,
        latest_invoice=latest_invoice["id"] if latest_invoice else subscription["latest_invoice"],
        pending_update=None,
        status="canceled",
    )
    emit(data, "customer.subscription.deleted", subscription)
    return subscription


def with_cancel_at_period_end(data: DataSet, subscription: Json, wanted: bool) -> Json:
    """The changed fields of the subscription; its status stays the same until the period ends."""
    if wanted == subscription["cancel_at_period_end"]:
        return {}
    details, reason = subscription["cancellation_details"], None
    period_end, canceled_at = None, None
    if wanted:
        _, period_end = period_of(items_of(data, subscription["id"]))
        canceled_at, reason = data.clock.now(), "cancellation_requested"
        schedule_at(data, period_end, "end_subscription", subscription=subscription["id"])
    return {
        "cancel_at": period_end,
        "cancel_at_period_end": wanted,
        "canceled_at": canceled_at,
        "cancellation_details": {**details, "reason": reason},
    }
