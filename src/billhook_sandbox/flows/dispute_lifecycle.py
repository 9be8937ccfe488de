"""The life of a dispute: opened by a test card, answered or accepted, won or lost."""

from billhook_sandbox.cards import Card
from billhook_sandbox.errors import InvalidRequest
from billhook_sandbox.event_log import change, emit
from billhook_sandbox.objects.charges import make_balance_transaction
from billhook_sandbox.objects.disputes import make_dispute
from billhook_sandbox.schedule import schedule_in
from billhook_sandbox.store import DataSet, Json

FEE = 1500
"""What Stripe takes for a dispute, in minor units; it comes back with one that is won."""
DECISION_SECONDS = 5
"""The bank takes months; here its answer is due soon, or when time is advanced."""
OPEN = ("needs_response", "warning_needs_response")


def open_dispute_for_card(data: DataSet, charge: Json, card: Card) -> None:
    """To be called after the payment was told: the cardholder complains afterwards."""
    if card.dispute is not None:
        open_dispute(data, data.need("charge", charge["id"]), card.dispute)


def open_dispute(data: DataSet, charge: Json, kind: str) -> Json:
    """An inquiry takes no money yet."""
    inquiry = kind == "inquiry"
    dispute = make_dispute(data, charge, "fraudulent" if inquiry else kind, inquiry)
    if not inquiry:
        dispute = book(data, dispute, -dispute["amount"], FEE, "dispute")
    charge = data.put({**charge, "disputed": True})
    emit(data, "charge.dispute.created", dispute)
    if not inquiry:
        emit(data, "charge.dispute.funds_withdrawn", dispute)
    emit(data, "charge.updated", charge, {"disputed": False})
    return dispute


def book(data: DataSet, dispute: Json, amount: int, fee: int, category: str) -> Json:
    made = make_balance_transaction(data, dispute, amount, "adjustment", fee, category)
    return data.put({**dispute, "balance_transactions": [*dispute["balance_transactions"], made]})


def answer(data: DataSet, dispute: Json, given: Json) -> Json:
    """New evidence; `submit` hands it to the bank, which then decides."""
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
        message = f"This dispute is {dispute['status']} and can no longer be answered."
        raise InvalidRequest(message, code="dispute_already_closed")


def close(data: DataSet, dispute: Json) -> Json:
    """The seller accepts it: lost for good."""
    require_open(dispute)
    inquiry = dispute["status"].startswith("warning")
    return end(data, dispute, "warning_closed" if inquiry else "lost")


def decide_dispute(data: DataSet, dispute: str) -> None:
    """By the words that Stripe's test mode knows; any other evidence loses."""
    found = data.need("dispute", dispute)
    if found["status"].startswith("warning"):
        end(data, found, "warning_closed")
        return
    won = found["evidence"]["uncategorized_text"] == "winning_evidence"
    if won:
        found = book(data, found, found["amount"], -FEE, "dispute_reversal")
    ended = end(data, found, "won" if won else "lost")
    if won:
        emit(data, "charge.dispute.funds_reinstated", ended)


def end(data: DataSet, dispute: Json, status: str) -> Json:
    ended = change(data, dispute, "charge.dispute.closed", status=status)
    return ended
