"""Whose time a request lives in: a customer of a test clock lives in its time (stripe-facts 20)."""

from collections.abc import Mapping

from billhook_sandbox.store import DataSet, Json

NAMED = {
    "checkout_session": "checkout.session",
    "invoice": "invoice",
    "subscription": "subscription",
}
PREFIXES = {
    "cs": "checkout.session",
    "ii": "invoiceitem",
    "in": "invoice",
    "pi": "payment_intent",
    "pm": "payment_method",
    "si": "subscription_item",
    "sub": "subscription",
}


def clock_of(data: DataSet, params: Json, path: Mapping[str, str]) -> Json | None:
    customer = data.get("customer", owner(data, params, path))
    return customer and data.get("test_helpers.test_clock", customer["test_clock"])


def owner(data: DataSet, params: Json, path: Mapping[str, str]) -> str | None:
    """The customer that is named, or whose object is."""
    if isinstance(params.get("customer"), str):
        return str(params["customer"])
    name = path.get("id", "")
    if name.startswith("cus_"):
        return name
    kind = PREFIXES.get(name.split("_")[0])
    found = data.get(kind, name) if kind else None
    for param, kind in NAMED.items():
        if found is None and isinstance(params.get(param), str):
            found = data.get(kind, params[param])
    if found and "subscription" in found and "customer" not in found:
        found = data.get("subscription", found["subscription"])
    return found.get("customer") if found else None
