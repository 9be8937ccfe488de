"""What is due after a while; jobs name these functions."""

from collections.abc import Mapping

from billhook.sandbox.events import change
from billhook.sandbox.flows import checkout
from billhook.sandbox.flows.cancelling import end_subscription
from billhook.sandbox.flows.refunding import settle_refund
from billhook.sandbox.flows.subscribing import tell_invoice_payment
from billhook.sandbox.objects.charges import make_balance_transaction
from billhook.sandbox.schedule import Action
from billhook.sandbox.store import DataSet


def settle_charge(data: DataSet, charge: str) -> None:
    """`charge.updated` brings the balance transaction (stripe-facts 4)."""
    found = data.need("charge", charge)
    transaction = make_balance_transaction(data, found, found["amount"], "charge")
    change(data, found, "charge.updated", balance_transaction=transaction["id"])


def expire_session(data: DataSet, session: str) -> None:
    found = data.need("checkout.session", session)
    if found["status"] == "open":
        checkout.expire_session(data, found)


ACTIONS: Mapping[str, Action] = {
    "end_subscription": end_subscription,
    "expire_session": expire_session,
    "settle_charge": settle_charge,
    "settle_debit": checkout.settle_debit,
    "settle_refund": settle_refund,
    "tell_invoice_payment": tell_invoice_payment,
}
