"""The steps from a new server to the first payment, each with what is missing. After the first
payment, `attention` says what is missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from billhook.access.policies import SessionTable
from billhook.models import Connection
from billhook.reports.setup import Progress


@dataclass(frozen=True, slots=True)
class Step:
    """One step.

    Attributes:
        missing: what is missing, and why it matters; empty if the step is done.
        path: the page of the environment where it is done.
    """

    name: str
    missing: str
    action: str
    path: str

    @property
    def is_done(self) -> bool:
        return not self.missing


def steps(connection: Connection, tables: Sequence[SessionTable], progress: Progress) -> list[Step]:
    """All of them, in order; empty after the first payment."""
    if progress.has_payment:
        return []
    missing_key = "" if connection.masked_key else "No Stripe key is set, so nothing can be sold."
    missing_price = "" if progress.has_price else "There is no active price in the catalog."
    missing_policies = " ".join(table.problem for table in tables if table.problem is not None)
    missing_payment = "Create a checkout in your app, with the id of a price from the catalog."
    return [
        Step("Connect your Stripe account", missing_key, "Set a key", "/settings"),
        Step("Create a product with a price", missing_price, "New product", "/new-product"),
        Step("Decide who may bill whom", missing_policies, "View policies", "/settings/policies"),
        Step("Take the first payment", missing_payment, "Open catalog", "/catalog"),
    ]
