"""Disputes: opened by a test card, countered with evidence or accepted, then won or lost."""

from billhook_sandbox.cards import Card
from billhook_sandbox.errors import InvalidRequest
from billhook_sandbox.event_log import change, emit
from billhook_sandbox.objects.charge import make_balance_transaction
from billhook_sandbox.objects.dispute import make_dispute
from billhook_sandbox.schedule import schedule_in
from billhook_sandbox.store import DataSet, Json

FEE = 1500
"""Stripe's dispute fee in minor units; it is returned if the dispute is won."""
DECISION_SECONDS = 5
"""The bank takes months to decide; here it takes seconds, or until time is advanced."""
OPEN = ("needs_response", "warning_needs_response")


def open_dispute_for_card(data: DataSet, charge: Json, card: Card) -> None:
    """Opens a dispute if the test card does so. Call it after the events of the payment."""
    if card.dispute is not None:
        open_dispute(data, data.need("charge", charge["id"]), card.dispute)


def open_dispute(data: DataSet, charge: Json, kind: str) -> Json:
    """An inquiry withdraws no funds yet."""
    inquiry = kind == "inquiry"
    dispute = make_dispute(data, charge, "fraudulent" if inquiry else kind, inquiry)
    if not inquiry:
        dispute = add_balance_transaction(data, dispute, -dispute["amount"], FEE, "dispute")
    charge = data.put({**charge, "disputed": True})
    emit(data, "charge.dispute.created", dispute)
    if not inquiry:
        emit(data, "charge.dispute.funds_withdrawn", dispute)
    emit(data, "charge.updated", charge, {"disputed": False})
    return dispute


def add_balance_transaction(
    data: DataSet, dispute: Json, amount: int, fee: int, category: str
) -> Json:
    transaction = make_balance_transaction(data, dispute, amount, "adjustment", fee, category)
    transactions = [*dispute["balance_transactions"], transaction]
    return data.put({**dispute, "balance_transactions": transactions})


def add_evidence(data: DataSet, dispute: Json, given: Json) -> Json:
    """The changed fields after new evidence; `submit` sends it to the bank, which then decides."""
    require_open(dispute)
    evidence = {**dispute["evidence"], **given.get("evidence", {})}
    details = {**dispute["evidence_details"], "has_evidence": any(evidence.values())}
    values: Json = {"evidence": evidence, "evidence_details": details}
    if given.get("submit", "evidence" in given):
        details |= {"submission_count": details["submission_count"] + 1}
        details |= {"submission_method": "manual"}
        inquiry = dispute["status"].startswith("warning")
        values["status"] = "warning_under_review" if inquiry else "under_review"
        schedule_in(data, DECISION_SECONDS, "decide_dispute", dispute=dispute["id"])
    return values


def require_open(dispute: Json) -> None:
    if dispute["status"] not in OPEN:
        message = f"This dispute is {dispute['status']}; it no longer accepts evidence."
        raise InvalidRequest(message, code="dispute_already_closed")


def close(data: DataSet, dispute: Json) -> Json:
    """Accepts the dispute, which loses it."""
    require_open(dispute)
    inquiry = dispute["status"].startswith("warning")
    return close_with_status(data, dispute, "warning_closed" if inquiry else "lost")


def decide_dispute(data: DataSet, dispute: str) -> None:
    """Decided by the texts that Stripe's test mode defines; any other evidence loses."""
    found = data.need("dispute", dispute)
    if found["status"].startswith("warning"):
        close_with_status(data, found, "warning_closed")
        return
    won = found["evidence"]["uncategorized_text"] == "winning_evidence"
    if won:
        found = add_balance_transaction(data, found, found["amount"], -FEE, "dispute_reversal")
    closed = close_with_status(data, found, "won" if won else "lost")
    if won:
        emit(data, "charge.dispute.funds_reinstated", closed)


def close_with_status(data: DataSet, dispute: Json, status: str) -> Json:
    return change(data, dispute, "charge.dispute.closed", status=status)
