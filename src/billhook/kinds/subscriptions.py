"""Subscriptions and their items."""

from __future__ import annotations

from billhook.kinds import kind
from billhook.kinds.kind import Children, Kind
from billhook.kinds.reading import (
    StripeObject,
    Subject,
    hash_of,
    id_of,
    subject_of,
    timestamp,
)


def _price(item: StripeObject) -> object:
    return item.get("price") or item.get("plan")


ITEMS = Children(
    name="subscription_item",
    table="stripe_subscription_items",
    key="subscription_item_id",
    parent="subscription_id",
    columns=(
        kind.computed("product_id", "text", lambda i: id_of(hash_of(_price(i)).get("product"))),
        kind.computed("price_id", "text", lambda i: id_of(_price(i))),
        kind.integer("quantity"),
        kind.metadata(),
    ),
    field="items",
    path="/v1/subscription_items",
    parameter="subscription",
)


def _periods(subscription: StripeObject, edge: str) -> list[int]:
    """On the items since basil, before that on the subscription (stripe-facts 25)."""
    field = f"current_period_{edge}"
    found = [at for item in ITEMS.entries(subscription) if (at := timestamp(item.get(field)))]
    own = timestamp(subscription.get(field))
    return found or ([own] if own else [])


def _period_start(subscription: StripeObject) -> int | None:
    return min(_periods(subscription, "start"), default=None)


def _period_end(subscription: StripeObject) -> int | None:
    return max(_periods(subscription, "end"), default=None)


def _pause_collection(subscription: StripeObject) -> StripeObject | None:
    return dict(hash_of(subscription.get("pause_collection"))) or None


def _subject(subscription: StripeObject) -> Subject | None:
    return subject_of(subscription.get("metadata"))


def _has_customer(subscription: StripeObject) -> bool:
    return id_of(subscription.get("customer")) is not None


SUBSCRIPTION = Kind(
    name="subscription",
    table="stripe_subscriptions",
    key="subscription_id",
    columns=(
        kind.reference("customer_id", "customer", required=True),
        kind.required("status"),
        kind.computed("current_period_start", "timestamptz", _period_start),
        kind.computed("current_period_end", "timestamptz", _period_end),
        kind.flag("cancel_at_period_end"),
        kind.time("cancel_at"),
        kind.time("canceled_at"),
        kind.time("trial_start"),
        kind.time("trial_end"),
        kind.computed("pause_collection", "jsonb", _pause_collection),
        kind.reference("latest_invoice_id", "latest_invoice"),
        kind.metadata(),
    ),
    path="/v1/subscriptions",
    variants=({"status": "all"},),
    # What a discount takes off is not in any event of the subscription.
    expand=("discounts.source.coupon",),
    # A deletion is a change, too: Stripe keeps the subscription, with the status `canceled`.
    changed_by=tuple(
        f"customer.subscription.{what}"
        for what in ("created", "updated", "deleted", "paused", "resumed", "trial_will_end")
    ),
    customer="customer_id",
    subject=_subject,
    claims=True,
    children=ITEMS,
    readable=_has_customer,
    # Billhook's reducers/recurring.py.
    derived={"currency": "text", "mrr": "bigint", "renewal_amount": "bigint"},
)
