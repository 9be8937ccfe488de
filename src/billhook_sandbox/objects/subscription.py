"""Subscriptions and their items, which have the billing period (stripe-facts 25)."""

from billhook_sandbox.objects.catalog import legacy_plan
from billhook_sandbox.pagination import list_object
from billhook_sandbox.store import DataSet, Json

UNUSED_FIELDS: Json = {
    "application": None,
    "application_fee_percent": None,
    "billing_cycle_anchor_config": None,
    "billing_schedules": [],
    "billing_thresholds": None,
    "customer_account": None,
    "days_until_due": None,
    "default_source": None,
    "default_tax_rates": [],
    "description": None,
    "discounts": [],
    "managed_payments": None,
    "next_pending_invoice_item_invoice": None,
    "on_behalf_of": None,
    "pause_collection": None,
    "pending_invoice_item_interval": None,
    "pending_setup_intent": None,
    "pending_update": None,
    "schedule": None,
    "transfer_data": None,
    "trial_end": None,
    "trial_start": None,
}
"""Fields that the sandbox never sets. Shared, because objects are never modified in place."""


def make_subscription(
    data: DataSet, customer: Json, method: Json | None, items: list[Json], **values: object
) -> Json:
    now = data.clock.now()
    subscription_id = items[0]["subscription"]
    return data.put(
        {
            "id": subscription_id,
            "object": "subscription",
            **UNUSED_FIELDS,
            **automatic_tax_values(False),
            "billing_cycle_anchor": now,
            "billing_mode": {"type": "flexible", "flexible": {"proration_discounts": "included"}},
            "cancel_at": None,
            "cancel_at_period_end": False,
            "canceled_at": None,
            "cancellation_details": {
                "comment": None,
                "feedback": None,
                "feedback_option": None,
                "reason": None,
            },
            "collection_method": "charge_automatically",
            "created": now,
            "currency": items[0]["price"]["currency"],
            "customer": customer["id"],
            "default_payment_method": method and method["id"],
            "ended_at": None,
            "invoice_settings": {
                "account_tax_ids": None,
                "custom_fields": None,
                "description": None,
                "footer": None,
                "issuer": {"type": "self"},
            },
            "items": item_list(subscription_id, items),
            "latest_invoice": None,
            "livemode": data.livemode,
            "metadata": {},
            "payment_settings": {
                "payment_method_options": None,
                "payment_method_types": None,
                "save_default_payment_method": "off",
            },
            "start_date": now,
            "status": "active",
            "test_clock": customer["test_clock"],
            "trial_settings": {
                "end_behavior": {
                    "billing_cycle_anchor": None,
                    "missing_payment_method": "create_invoice",
                }
            },
            **undocumented_fields(items),
            **values,
        }
    )


def automatic_tax_values(enabled: bool) -> Json:
    liability = {"type": "self"} if enabled else None
    return {"automatic_tax": {"disabled_reason": None, "enabled": enabled, "liability": liability}}


def item_list(subscription: str, items: list[Json]) -> Json:
    """The embedded list has the first ten items; the maximum is twenty (stripe-facts 25)."""
    url = f"/v1/subscription_items?subscription={subscription}"
    return {**list_object(items[:10], url, len(items) > 10), "total_count": len(items)}


def undocumented_fields(items: list[Json]) -> Json:
    """Real subscriptions with one item have these fields, although no type lists them."""
    if len(items) != 1:
        return {"plan": None, "quantity": None}
    return {"plan": items[0]["plan"], "quantity": items[0].get("quantity")}


def make_item(
    data: DataSet, subscription: str, price: Json, quantity: int | None, start: int, end: int
) -> Json:
    item: Json = {
        "id": data.ids.new("subscription_item"),
        "object": "subscription_item",
        "billing_thresholds": None,
        "created": data.clock.now(),
        "current_period_end": end,
        "current_period_start": start,
        "current_trial": None,
        "discounts": [],
        "metadata": {},
        "plan": legacy_plan(price),
        "price": price,
        "subscription": subscription,
        "tax_rates": [],
    }
    # Items with a metered price have no quantity.
    return item if quantity is None else {**item, "quantity": quantity}


def items_of(data: DataSet, subscription: str) -> list[Json]:
    """All items, in the order they were added."""
    return data.all("subscription_item").where("subscription", subscription)


def with_items(data: DataSet, subscription: Json, items: list[Json]) -> Json:
    """Stores the items; returns the changed fields of the subscription."""
    for item in items:
        data.put(item)
    return {"items": item_list(subscription["id"], items), **undocumented_fields(items)}


def period_of(items: list[Json]) -> tuple[int, int]:
    return items[0]["current_period_start"], items[0]["current_period_end"]
