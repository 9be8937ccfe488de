"""Load the affected rows, reduce, save what differs.

Events, syncs, refreshes, replays and rebuilds all write through `apply_facts` or the steps that it
is made of, so each rule holds for all of them (docs/explanation/ordering.md).
"""

from billhook.rows.facts import Fact, apply_facts
from billhook.rows.loading import Elsewhere, payments_with

__all__ = ["Elsewhere", "Fact", "apply_facts", "payments_with"]
