"""Which test clock a request runs on: that of the customer it concerns (stripe-facts 20)."""

from collections.abc import Mapping

from billhook_sandbox.store import DataSet, Json

KIND_BY_PARAM = {
    "checkout_session": "checkout.session",
    "invoice": "invoice",
    "subscription": "subscription",
}
KIND_BY_PREFIX = {
    "cs": "checkout.session",
    "ii": "invoiceitem",
    "in": "invoice",
    "pi": "payment_intent",
    "pm": "payment_method",
    "si": "subscription_item",
    "sub": "subscription",
}


def find_test_clock(data: DataSet, params: Json, path: Mapping[str, str]) -> Json | None:
    customer = data.get("customer", customer_id_for(data, params, path))
    return customer and data.get("test_helpers.test_clock", customer["test_clock"])


def customer_id_for(data: DataSet, params: Json, path: Mapping[str, str]) -> str | None:
    """The customer that the request names, or that owns the object it names."""
    if isinstance(params.get("customer"), str):
        return str(params["customer"])
    object_id = path.get("customer") or path.get("id", "")
    if object_id.startswith("cus_"):
        return object_id
    kind = KIND_BY_PREFIX.get(object_id.split("_")[0])
    found = data.get(kind, object_id) if kind else None
    for param, kind in KIND_BY_PARAM.items():
        if found is None and isinstance(params.get(param), str):
            found = data.get(kind, params[param])
    if found and "subscription" in found and "customer" not in found:
        found = data.get("subscription", found["subscription"])
    return found.get("customer") if found else None
