"""Applies facts from Stripe to rows: load the affected rows, reduce, save what differs.

Events, syncs, refreshes, replays and rebuilds all write through `apply_facts` or the steps that it
is made of, so each rule holds for all of them (docs/explanation/ordering.md).
"""

from billhook.rows.facts import Elsewhere, Fact, apply_facts, payments_with, reduced

__all__ = ["Elsewhere", "Fact", "apply_facts", "payments_with", "reduced"]
