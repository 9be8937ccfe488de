"""Features, the products that include them, and what customers are entitled to."""

from billhook_sandbox.pagination import list_object
from billhook_sandbox.store import DataSet, Json

EMBEDDED = 10
"""Nested lists contain their first ten objects."""


def make_feature(data: DataSet, given: Json) -> Json:
    return data.put(
        {
            "id": data.ids.new("entitlements.feature"),
            "object": "entitlements.feature",
            "active": True,
            "livemode": data.livemode,
            "lookup_key": given["lookup_key"],
            "metadata": given.get("metadata") or {},
            "name": given["name"],
        }
    )


def attached_features(data: DataSet, product: str) -> list[Json]:
    """The `product_feature` objects of a product, each with the feature as it is now."""
    found = data.get("_product_features", product)
    return [
        {**each, "entitlement_feature": data.need("entitlements.feature", feature["id"])}
        for each in (found["features"] if found else ())
        if (feature := each["entitlement_feature"])
    ]


def attach_feature(data: DataSet, product: str, feature: Json) -> Json:
    attached: Json = {
        "id": data.ids.new("product_feature"),
        "object": "product_feature",
        "entitlement_feature": feature,
        "livemode": data.livemode,
    }
    _put_features(data, product, [*attached_features(data, product), attached])
    return attached


def detach_feature(data: DataSet, product: str, attached_id: str) -> None:
    rest = [each for each in attached_features(data, product) if each["id"] != attached_id]
    _put_features(data, product, rest)


def _put_features(data: DataSet, product: str, features: list[Json]) -> None:
    # A product_feature does not name its product.
    data.put({"id": product, "object": "_product_features", "features": features})


def make_entitlement(data: DataSet, feature: Json) -> Json:
    return {
        "id": data.ids.new("entitlements.active_entitlement"),
        "object": "entitlements.active_entitlement",
        "feature": feature["id"],
        "livemode": data.livemode,
        "lookup_key": feature["lookup_key"],
    }


def entitlements_of(data: DataSet, customer: str) -> list[Json]:
    """The active entitlements of a customer, which do not name it."""
    found = data.get("_entitlements", customer)
    return found["entitlements"] if found else []


def summary_of(data: DataSet, customer: str, entitlements: list[Json]) -> Json:
    """It has no id: the customer identifies it."""
    url = f"/v1/customer/{customer}/entitlements"
    more = len(entitlements) > EMBEDDED
    return {
        "object": "entitlements.active_entitlement_summary",
        "customer": customer,
        "entitlements": list_object(entitlements[:EMBEDDED], url, more),
        "livemode": data.livemode,
    }
