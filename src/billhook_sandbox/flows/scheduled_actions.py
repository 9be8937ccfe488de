"""The actions that jobs run when they are due."""

from collections.abc import Mapping

from billhook_sandbox.errors import JobFailed
from billhook_sandbox.event_log import change, emit
from billhook_sandbox.flows import (
    charge_attempts,
    checkout_completion,
    checkout_expiry,
    invoice_collection,
    subscription_creation,
    subscription_renewal,
)
from billhook_sandbox.flows.dispute_lifecycle import decide_dispute
from billhook_sandbox.flows.invoice_lifecycle import emit_invoice_payment_paid
from billhook_sandbox.flows.invoice_upcoming import emit_upcoming
from billhook_sandbox.flows.pending_updates import expire_pending_update
from billhook_sandbox.flows.refund_lifecycle import settle_refund
from billhook_sandbox.flows.subscription_end import end_subscription
from billhook_sandbox.flows.subscription_pause import resume_when_due
from billhook_sandbox.objects.balance_summary import balance_of
from billhook_sandbox.objects.card_expiry import emit_card_expiring
from billhook_sandbox.objects.charge import make_balance_transaction
from billhook_sandbox.schedule import Action
from billhook_sandbox.store import DataSet, Json


def settle_charge(data: DataSet, charge: str) -> None:
    """Adds the balance transaction, with `charge.updated` (stripe-facts 4)."""
    found = data.need("charge", charge)
    if found["balance_transaction"] is not None:
        return
    method = data.need("payment_method", found["payment_method"])
    available = charge_attempts.card_of(method).available_immediately
    amount = found["amount_captured"]
    transaction = make_balance_transaction(data, found, amount, "charge", available=available)
    change(data, found, "charge.updated", balance_transaction=transaction["id"])
    if available:
        emit(data, "balance.available", balance_of(data))


def settle_intent(data: DataSet, intent: str) -> None:
    charge_attempts.settle_debit(data, data.need("payment_intent", intent))


def advance_clock(data: DataSet, clock: str) -> None:
    """Runs the due jobs of a test clock in order, each at its own time."""
    found = data.get("test_helpers.test_clock", clock)
    if found is None or found["status"] != "advancing":
        return
    target = found["status_details"]["advancing"]["target_frozen_time"]
    try:
        while job := next_job(data, clock, target):
            data.remove("_job", job["id"])
            found = data.put({**found, "frozen_time": max(found["frozen_time"], int(job["due"]))})
            with data.all_or_nothing(), data.on_clock(found):
                ACTIONS[job["action"]](data, **job["args"])
    except Exception as error:
        emit_clock(data, {**found, "status": "internal_failure", "status_details": NO_DETAILS})
        raise JobFailed(str(error)) from error
    ready = {"frozen_time": target, "status": "ready", "status_details": NO_DETAILS}
    emit_clock(data, {**found, **ready})


def next_job(data: DataSet, clock: str, target: int) -> Json | None:
    due = (job for job in data.all("_job").where("clock", clock) if job["due"] <= target)
    return min(due, key=lambda job: float(job["due"]), default=None)


def emit_clock(data: DataSet, clock: Json) -> None:
    emit(data, f"test_helpers.test_clock.{clock['status']}", data.put(clock))


NO_DETAILS: Json = {}
ACTIONS: Mapping[str, Action] = {
    "advance_clock": advance_clock,
    "expire_subscription": subscription_creation.expire_subscription,
    "finalize_invoice": invoice_collection.finalize_when_due,
    "renew_subscription": subscription_renewal.renew_when_due,
    "retry_invoice": invoice_collection.retry_when_due,
    "emit_card_expiring": emit_card_expiring,
    "emit_upcoming": emit_upcoming,
    "emit_trial_will_end": subscription_renewal.emit_trial_will_end,
    "end_subscription": end_subscription,
    "expire_pending_update": expire_pending_update,
    "expire_session": checkout_expiry.expire_when_due,
    "decide_dispute": decide_dispute,
    "settle_charge": settle_charge,
    "settle_debit": checkout_completion.settle_debit,
    "settle_intent": settle_intent,
    "resume_collection": resume_when_due,
    "settle_refund": settle_refund,
    "emit_invoice_payment_paid": emit_invoice_payment_paid,
}
