"""customer.subscription.* → `payments.stripe_subscriptions` and its items."""

from __future__ import annotations

from collections.abc import Sequence

from billhook.projections.changes import (
    NOTHING,
    Changes,
    Claim,
    Event,
    SubscriptionItemRow,
    SubscriptionRow,
)
from billhook.projections.shapes import (
    StripeObject,
    entries,
    hash_of,
    id_of,
    integer,
    metadata,
    required,
    subject_of,
    timestamp,
)


def subscription_changed(event: Event) -> Changes:
    """All five: created, updated, deleted, paused, resumed. Each shows the whole subscription."""
    row = subscription_row(event.object)
    if row is None:
        return NOTHING
    claim = None
    if row.subject_type and row.subject_id:
        claim = Claim(
            customer_id=row.customer_id,
            subject_type=row.subject_type,
            subject_id=row.subject_id,
            kind="metadata",
        )
    return Changes(mirror=row, claim=claim)


def subscription_row(subscription: StripeObject) -> SubscriptionRow | None:
    """The row of a Subscription; None without a customer, whom it cannot be without."""
    subscription_id = id_of(subscription)
    customer_id = id_of(subscription.get("customer"))
    if subscription_id is None or customer_id is None:
        return None
    subject = subject_of(subscription.get("metadata"))
    items = entries(subscription.get("items"))
    return SubscriptionRow(
        subscription_id=subscription_id,
        customer_id=customer_id,
        subject_type=subject.type if subject else None,
        subject_id=subject.id if subject else None,
        status=required(subscription, "status"),
        current_period_start=min(_periods(subscription, items, "start"), default=None),
        current_period_end=max(_periods(subscription, items, "end"), default=None),
        cancel_at_period_end=subscription.get("cancel_at_period_end") is True,
        cancel_at=timestamp(subscription.get("cancel_at")),
        canceled_at=timestamp(subscription.get("canceled_at")),
        trial_start=timestamp(subscription.get("trial_start")),
        trial_end=timestamp(subscription.get("trial_end")),
        pause_collection=dict(hash_of(subscription.get("pause_collection"))) or None,
        latest_invoice_id=id_of(subscription.get("latest_invoice")),
        metadata=metadata(subscription.get("metadata")),
        items=[item for entry in items if (item := _item_row(entry))],
        items_complete=hash_of(subscription.get("items")).get("has_more") is not True,
    )


def _item_row(item: StripeObject) -> SubscriptionItemRow | None:
    item_id = id_of(item)
    if item_id is None:
        return None
    price = item.get("price") or item.get("plan")
    return SubscriptionItemRow(
        subscription_item_id=item_id,
        product_id=id_of(hash_of(price).get("product")),
        price_id=id_of(price),
        quantity=integer(item.get("quantity")),
        metadata=metadata(item.get("metadata")),
        raw=item,
    )


def _periods(subscription: StripeObject, items: Sequence[StripeObject], edge: str) -> list[int]:
    """The periods are on the items since basil, before that on the subscription
    (stripe-facts 25)."""
    field = f"current_period_{edge}"
    found = [at for item in items if (at := timestamp(item.get(field)))]
    own = timestamp(subscription.get(field))
    return found or ([own] if own else [])
