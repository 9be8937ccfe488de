"""Invoices. Fields are read in both places where API versions put them (stripe-facts 26).

Paying an invoice is also a payment: see billhook/projections/invoices.py.
"""

from __future__ import annotations

from billhook.kinds import kind
from billhook.kinds.kind import Kind, Listed
from billhook.kinds.reading import (
    StripeObject,
    Subject,
    entries,
    hash_of,
    id_of,
    subject_of,
    text,
)


def _details(invoice: StripeObject) -> StripeObject:
    """The subscription's snapshot: `parent.subscription_details` since basil, before that
    `subscription_details`."""
    parent = hash_of(invoice.get("parent"))
    return hash_of(parent.get("subscription_details") or invoice.get("subscription_details"))


def subject_of_invoice(invoice: StripeObject) -> Subject | None:
    """The subscription's metadata first, as InsForge does it."""
    of_subscription = subject_of(_details(invoice).get("metadata"))
    return of_subscription or subject_of(invoice.get("metadata"))


def subscription_of_invoice(invoice: StripeObject) -> str | None:
    """The subscription that it bills."""
    found = id_of(_details(invoice).get("subscription")) or id_of(invoice.get("subscription"))
    if found:
        return found
    for line in entries(invoice.get("lines")):
        parent = hash_of(line.get("parent"))
        for place in (
            line.get("subscription"),
            hash_of(parent.get("subscription_item_details")).get("subscription"),
            hash_of(parent.get("invoice_item_details")).get("subscription"),
        ):
            if subscription_id := id_of(place):
                return subscription_id
    return None


def _status(invoice: StripeObject) -> str:
    """Before 2018, Stripe said only whether it was paid."""
    return text(invoice.get("status")) or ("paid" if invoice.get("paid") is True else "open")


# When a subscription begins, its invoice is created, finalized and paid within one second, and only
# invoice.updated has `previous_attributes`.
_PROGRESS = {"draft": 0, "open": 1, "uncollectible": 2, "paid": 3, "void": 3}


def _progress(invoice: StripeObject) -> int:
    return _PROGRESS.get(_status(invoice), 1)


INVOICE = Kind(
    name="invoice",
    table="stripe_invoices",
    key="invoice_id",
    columns=(
        kind.reference("customer_id", "customer"),
        kind.computed("subscription_id", "text", subscription_of_invoice),
        kind.text("number"),
        kind.computed("status", "text", _status, required=True),
        kind.text("billing_reason"),
        kind.text("collection_method"),
        kind.amount("amount_due"),
        kind.amount("amount_paid"),
        kind.amount("amount_remaining"),
        kind.amount("total"),
        kind.text("currency"),
        kind.time("period_start"),
        kind.time("period_end"),
        kind.time("due_date"),
        kind.time("next_payment_attempt"),
        kind.text("hosted_invoice_url"),
        kind.text("invoice_pdf"),
        kind.metadata(),
        kind.time("provider_created_at", "created"),
    ),
    path="/v1/invoices",
    # Not invoice.upcoming, which is of an invoice that is not there yet and has no id.
    changed_by=tuple(
        f"invoice.{what}"
        for what in (
            "created",
            "updated",
            "finalized",
            "finalization_failed",
            "sent",
            "overdue",
            "will_be_due",
            "paid",
            "overpaid",
            "payment_succeeded",
            "payment_failed",
            "payment_action_required",
            "payment_attempt_required",
            "marked_uncollectible",
            "voided",
        )
    ),
    # Only drafts can be deleted.
    deleted_by=("invoice.deleted",),
    customer="customer_id",
    subject=subject_of_invoice,
    progress=_progress,
    listed=Listed(
        about="Invoices, including drafts and unpaid ones.",
        references=("customer_id", "subscription_id"),
        choice="status",
        choices=("draft", "open", "paid", "uncollectible", "void"),
        users_read=True,
        summary=(
            "number",
            "status",
            "customer_id",
            "total",
            "amount_remaining",
            "due_date",
            "provider_created_at",
        ),
    ),
)
