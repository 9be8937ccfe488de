"""What customers are entitled to follows from their subscriptions.

Stripe's documentation says that the subscription's status decides, without a list; the sandbox
counts `active`, `trialing` and `past_due`. A feature that is attached to a product reaches its
subscribers when their subscription changes the next time, at the latest when it renews.
"""

from billhook_sandbox.event_log import emit, previous_attributes
from billhook_sandbox.objects.entitlement import (
    attached_features,
    entitlements_of,
    make_entitlement,
    summary_of,
)
from billhook_sandbox.objects.subscription import items_of
from billhook_sandbox.store import DataSet, Json

ENTITLED = ("active", "trialing", "past_due")


def follow_subscriptions(data: DataSet) -> None:
    """Update the customers whose subscriptions this request or job has changed."""
    if not data.all("_product_features").rows:
        return
    changed = [obj for (kind, _), obj in data.unsaved.items() if kind == "subscription" and obj]
    for customer in dict.fromkeys(str(each["customer"]) for each in changed):
        _update(data, customer)


def _update(data: DataSet, customer: str) -> None:
    before = entitlements_of(data, customer)
    kept = {each["feature"]: each for each in before}
    after = [
        kept.get(feature_id) or make_entitlement(data, feature)
        for feature_id, feature in _features_of(data, customer).items()
    ]
    if after == before:
        return
    for gone in before:
        if gone not in after:
            data.remove("entitlements.active_entitlement", gone["id"])
    for each in after:
        data.put(each)
    data.put({"id": customer, "object": "_entitlements", "entitlements": after})
    was, now = summary_of(data, customer, before), summary_of(data, customer, after)
    type_ = "entitlements.active_entitlement_summary.updated"
    emit(data, type_, now, previous_attributes(was, now))


def _features_of(data: DataSet, customer: str) -> dict[str, Json]:
    """The features of the products that the customer subscribes to, by id."""
    products = [
        item["price"]["product"]
        for subscription in data.all("subscription").where("customer", customer)
        if subscription["status"] in ENTITLED
        for item in items_of(data, subscription["id"])
    ]
    features = (
        attached["entitlement_feature"]
        for product in products
        for attached in attached_features(data, product)
    )
    return {feature["id"]: feature for feature in features}
