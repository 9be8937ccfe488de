"""Refunds: created immediately, confirmed or failed later (stripe-facts 29–31)."""

from billhook_sandbox.errors import InvalidRequest
from billhook_sandbox.event_log import change, emit, previous_attributes
from billhook_sandbox.flows.charge_attempts import card_of
from billhook_sandbox.objects.charge import make_balance_transaction
from billhook_sandbox.objects.refund import make_refund
from billhook_sandbox.schedule import schedule_in
from billhook_sandbox.store import DataSet, Json

SETTLE_SECONDS = 5
"""When the bank confirms the refund; it takes days at Stripe."""


def refund_charge(data: DataSet, charge: Json, given: Json) -> Json:
    amount = refundable_amount(data, charge, given.get("amount"))
    method = data.need("payment_method", charge["payment_method"])
    is_pending = method["type"] == "sepa_debit" or card_of(method).refund == "pending"
    status = "pending" if is_pending else "succeeded"
    refund = make_refund(data, charge, method, amount, status, given)
    transaction = make_balance_transaction(data, refund, -amount, "refund")
    refund = change(data, refund, balance_transaction=transaction["id"])
    refunded = charge["amount_refunded"] + amount
    emit(data, "refund.created", refund)
    change(
        data,
        charge,
        "charge.refunded",
        amount_refunded=refunded,
        refunded=refunded == charge["amount"],
    )
    schedule_in(data, SETTLE_SECONDS, "settle_refund", refund=refund["id"])
    return refund


def is_charged_back(data: DataSet, charge: Json) -> bool:
    """Whether a dispute blocks refunds; inquiries and won disputes do not."""
    disputes = data.all("dispute").where("charge", charge["id"])
    return any(
        not dispute["is_charge_refundable"] and dispute["status"] != "won" for dispute in disputes
    )


def refundable_amount(data: DataSet, charge: Json, amount: int | None) -> int:
    if charge["status"] != "succeeded":
        message = "Only charges that have succeeded can be refunded."
        raise InvalidRequest(message, code="charge_not_refundable", param="charge")
    if charge["disputed"] and is_charged_back(data, charge):
        message = f"Charge {charge['id']} has been charged back; cannot issue a refund."
        raise InvalidRequest(message, code="charge_disputed")
    # An amount that was authorized and released without being captured counts as refunded.
    remaining = charge["amount"] - charge["amount_refunded"] if charge["captured"] else 0
    if remaining == 0:
        message = f"Charge {charge['id']} has already been refunded."
        raise InvalidRequest(message, code="charge_already_refunded")
    if amount is not None and amount > remaining:
        raise InvalidRequest(
            f"Refund amount ({money(amount, charge)}) is greater than unrefunded amount on charge "
            f"({money(remaining, charge)})",
            param="amount",
        )
    return remaining if amount is None else amount


def money(amount: int, charge: Json) -> str:
    return f"{amount / 100:.2f} {charge['currency'].upper()}"


def settle_refund(data: DataSet, refund: str) -> None:
    """The refund gets its reference number, or fails."""
    before = data.need("refund", refund)
    if before["status"] in ("requires_action", "canceled"):
        return
    charge = data.need("charge", before["charge"])
    method = data.need("payment_method", charge["payment_method"])
    if card_of(method).refund == "fails_later":
        fail_refund(data, before, charge)
        return
    details = before["destination_details"]
    if details and "card" in details:
        card = {**details["card"], "reference": "4112580003", "reference_status": "available"}
        details = {**details, "card": card}
    # At Stripe, `pending_reason` is then absent, not null.
    rest = {k: v for k, v in before.items() if k != "pending_reason"}
    after = data.put({**rest, "destination_details": details, "status": "succeeded"})
    emit(data, "refund.updated", after, previous_attributes(before, after))
    emit_charge_refund_updated(data, before, after)


def fail_refund(data: DataSet, before: Json, charge: Json) -> None:
    """Returns the amount to the balance; the charge is refundable again (fact 30: unconfirmed)."""
    transaction = make_balance_transaction(data, before, before["amount"], "refund_failure")
    after = change(
        data,
        before,
        failure_balance_transaction=transaction["id"],
        failure_reason="expired_or_canceled_card",
        status="failed",
    )
    emit(data, "refund.failed", after)
    emit_charge_refund_updated(data, before, after)
    refunded = charge["amount_refunded"] - before["amount"]
    change(data, charge, "charge.updated", amount_refunded=refunded, refunded=False)


def require_action(data: DataSet, before: Json) -> Json:
    """The customer has to say where the money goes, as for methods that cannot be refunded to."""
    if before["status"] != "pending":
        message = f"Only a pending refund can require an action; this one is {before['status']}."
        raise InvalidRequest(message)
    now = data.clock.now()
    sent = {"email_sent_at": now, "email_sent_to": "buyer@example.com"}
    details = {"email_sent": sent, "expires_at": now + 45 * 24 * 3600}
    action = {"type": "display_details", "display_details": details}
    # At Stripe, `pending_reason` is then absent, not null.
    rest = {k: v for k, v in before.items() if k != "pending_reason"}
    after = data.put({**rest, "next_action": action, "status": "requires_action"})
    emit(data, "refund.updated", after, previous_attributes(before, after))
    emit_charge_refund_updated(data, before, after)
    return after


def cancel_refund(data: DataSet, before: Json) -> Json:
    """Returns the amount to the balance; the charge is refundable again."""
    if before["status"] != "requires_action":
        raise InvalidRequest(f"You cannot cancel a refund with a status of {before['status']}.")
    transaction = make_balance_transaction(data, before, before["amount"], "refund_failure")
    rest = {k: v for k, v in before.items() if k != "next_action"}
    failed = {"failure_balance_transaction": transaction["id"], "status": "canceled"}
    after = data.put({**rest, **failed})
    emit(data, "refund.updated", after, previous_attributes(before, after))
    emit_charge_refund_updated(data, before, after)
    charge = data.need("charge", before["charge"])
    refunded = charge["amount_refunded"] - before["amount"]
    change(data, charge, "charge.updated", amount_refunded=refunded, refunded=False)
    return after


def emit_charge_refund_updated(data: DataSet, before: Json, after: Json) -> None:
    emit(data, "charge.refund.updated", after, previous_attributes(before, after))
