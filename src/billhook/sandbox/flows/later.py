"""What is due after a while; jobs name these functions."""

from collections.abc import Mapping

from billhook.sandbox.events import change, emit
from billhook.sandbox.flows import charging, checkout
from billhook.sandbox.flows.cancelling import end_subscription
from billhook.sandbox.flows.disputing import judge_dispute
from billhook.sandbox.flows.refunding import settle_refund
from billhook.sandbox.flows.subscribing import tell_invoice_payment
from billhook.sandbox.objects.balance import balance_of
from billhook.sandbox.objects.charges import make_balance_transaction
from billhook.sandbox.schedule import Action
from billhook.sandbox.store import DataSet


def settle_charge(data: DataSet, charge: str) -> None:
    """`charge.updated` brings the balance transaction (stripe-facts 4)."""
    found = data.need("charge", charge)
    if found["balance_transaction"] is not None:
        return
    method = data.need("payment_method", found["payment_method"])
    at_once, amount = charging.card_of(method).available_at_once, found["amount_captured"]
    transaction = make_balance_transaction(data, found, amount, "charge", available=at_once)
    change(data, found, "charge.updated", balance_transaction=transaction["id"])
    if at_once:
        emit(data, "balance.available", balance_of(data))


def expire_session(data: DataSet, session: str) -> None:
    found = data.need("checkout.session", session)
    if found["status"] == "open":
        checkout.expire_session(data, found)


def settle_intent(data: DataSet, intent: str) -> None:
    charging.settle_debit(data, data.need("payment_intent", intent))


ACTIONS: Mapping[str, Action] = {
    "end_subscription": end_subscription,
    "expire_session": expire_session,
    "judge_dispute": judge_dispute,
    "settle_charge": settle_charge,
    "settle_debit": checkout.settle_debit,
    "settle_intent": settle_intent,
    "settle_refund": settle_refund,
    "tell_invoice_payment": tell_invoice_payment,
}
