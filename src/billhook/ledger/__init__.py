"""The ledger: every verified event is recorded in `payments.webhook_events` and applied, in one
transaction (docs/explanation/ordering.md)."""

from billhook.ledger.delivery import Delivery, check, decode
from billhook.ledger.recording import EventNotApplied, EventNotRecorded, Ledger
from billhook.ledger.transaction import FINISHED, Entry, OtherAccount

__all__ = [
    "FINISHED",
    "Delivery",
    "Entry",
    "EventNotApplied",
    "EventNotRecorded",
    "Ledger",
    "OtherAccount",
    "check",
    "decode",
]
