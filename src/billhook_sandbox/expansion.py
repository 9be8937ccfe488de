"""`expand[]`: replaces ids by objects, and adds fields that are left out by default."""

from collections.abc import Callable

from billhook_sandbox.errors import InvalidRequest
from billhook_sandbox.pagination import list_object
from billhook_sandbox.store import DataSet, Json, deleted_object

MAX_DEPTH = 4
EMBEDDED = 10
"""Nested lists contain their first ten objects."""

# Kind of object -> field that holds an id -> kind of the object it names. None: always null here.
REFERENCES: dict[str, dict[str, str | None]] = {
    "account": {},
    "balance_transaction": {"source": "source"},
    "billing_portal.session": {"configuration": "billing_portal.configuration"},
    "charge": {
        "application": None,
        "balance_transaction": "balance_transaction",
        "customer": "customer",
        "failure_balance_transaction": "balance_transaction",
        "payment_intent": "payment_intent",
    },
    "checkout.session": {
        "customer": "customer",
        "invoice": "invoice",
        "payment_intent": "payment_intent",
        "payment_link": None,
        "setup_intent": "setup_intent",
        "subscription": "subscription",
    },
    "customer": {
        "default_source": None,
        "invoice_settings.default_payment_method": "payment_method",
        "test_clock": "test_helpers.test_clock",
    },
    "dispute": {"charge": "charge", "payment_intent": "payment_intent"},
    "entitlements.active_entitlement": {"feature": "entitlements.feature"},
    "invoice": {
        "customer": "customer",
        "default_payment_method": "payment_method",
        "parent.subscription_details.subscription": "subscription",
    },
    "invoice_payment": {
        "invoice": "invoice",
        "payment.payment_intent": "payment_intent",
    },
    "line_item": {"pricing.price_details.price": "price", "subscription": "subscription"},
    "payment_intent": {
        "customer": "customer",
        "latest_charge": "charge",
        "payment_method": "payment_method",
    },
    "payment_method": {"customer": "customer"},
    "price": {"product": "product"},
    "product": {"default_price": "price"},
    "promotion_code": {"customer": "customer", "promotion.coupon": "coupon"},
    "refund": {
        "balance_transaction": "balance_transaction",
        "charge": "charge",
        "failure_balance_transaction": "balance_transaction",
        "payment_intent": "payment_intent",
    },
    "setup_intent": {
        "customer": "customer",
        "latest_attempt": None,
        "mandate": None,
        "payment_method": "payment_method",
    },
    "subscription": {
        "customer": "customer",
        "default_payment_method": "payment_method",
        "default_source": None,
        "latest_invoice": "invoice",
        "pending_setup_intent": None,
        "schedule": None,
        "test_clock": "test_helpers.test_clock",
    },
}


SOURCES = {"ch": "charge", "du": "dispute", "re": "refund"}
"""The kind of a balance transaction's source, by the prefix of its id."""


def charge_refunds(data: DataSet, charge: Json) -> Json:
    found = data.all("refund").where("charge", charge["id"])[::-1]
    return first_objects(found, f"/v1/charges/{charge['id']}/refunds")


def customer_subscriptions(data: DataSet, customer: Json) -> Json:
    found = data.all("subscription").where("customer", customer["id"])[::-1]
    current = [obj for obj in found if obj["status"] != "canceled"]
    return first_objects(current, f"/v1/customers/{customer['id']}/subscriptions")


def invoice_payments(data: DataSet, invoice: Json) -> Json:
    found = data.all("invoice_payment").where("invoice", invoice["id"])
    return first_objects(found, f"/v1/invoice_payments?invoice={invoice['id']}")


def empty_list(name: str) -> Callable[[DataSet, Json], Json]:
    return lambda data, obj: list_object([], f"/v1/customers/{obj['id']}/{name}")


def session_line_items(data: DataSet, session: Json) -> Json:
    record = data.need("_checkout", session["id"])
    return first_objects(record["line_items"], f"/v1/checkout/sessions/{session['id']}/line_items")


def first_objects(objects: list[Json], url: str) -> Json:
    return list_object(objects[:EMBEDDED], url, len(objects) > EMBEDDED)


# Fields that are absent unless they are expanded (stripe-facts 9, 26, 27).
EXPANDABLE_ONLY: dict[str, dict[str, Callable[[DataSet, Json], Json]]] = {
    "charge": {"refunds": charge_refunds},
    "checkout.session": {"line_items": session_line_items},
    "customer": {
        "sources": empty_list("sources"),
        "subscriptions": customer_subscriptions,
        "tax_ids": empty_list("tax_ids"),
    },
    "invoice": {"payments": invoice_payments},
}


def expand(data: DataSet, body: Json, paths: list[str]) -> Json:
    for path in paths:
        parts = path.split(".")
        if len(parts) > MAX_DEPTH:
            message = f"You cannot expand more than {MAX_DEPTH} levels of a property ({path})."
            raise InvalidRequest(message, param="expand")
        body = Expansion(data, path).expand(body, parts)
    return body


class Expansion:
    """Expands one path. Creates new objects along the path and leaves the stored ones unchanged;
    an object without anything to expand is returned as it is."""

    def __init__(self, data: DataSet, path: str) -> None:
        self.data = data
        self.path = path

    def expand(self, node: Json, parts: list[str], owner: str = "", above: str = "") -> Json:
        """`owner` is the kind of the object that contains the hash `above.node`."""
        if not parts:
            return node
        kind = node.get("object", owner)
        name, rest = parts[0], parts[1:]
        field = name if "object" in node else f"{above}{name}"
        if name in EXPANDABLE_ONLY.get(kind, {}) and "object" in node:
            part = node[name] if name in node else EXPANDABLE_ONLY[kind][name](self.data, node)
            return {**node, name: self.expand(part, rest)}
        if field in REFERENCES.get(kind, {}):
            value = node.get(name)
            expanded = self.resolve(REFERENCES[kind][field], value, rest)
            return node if expanded is value and name in node else {**node, name: expanded}
        value = node.get(name)
        if isinstance(value, list) and rest:
            return {**node, name: [self.expand(item, rest) for item in value]}
        if isinstance(value, list) and kind == "list":
            return node
        if isinstance(value, dict) and rest:
            inner = self.expand(value, rest, kind, f"{field}.")
            return node if inner is value else {**node, name: inner}
        if name in node and value is None and rest:
            return node
        raise InvalidRequest(f"This property cannot be expanded ({self.path}).", param="expand")

    def resolve(self, kind: str | None, value: str | Json | None, rest: list[str]) -> object:
        if isinstance(value, str) and kind is not None:
            kind = SOURCES[value.split("_")[0]] if kind == "source" else kind
            deleted = deleted_object(kind, value)
            value = self.data.get(kind, value) or deleted
            if value is deleted:
                return deleted
        return self.expand(value, rest) if isinstance(value, dict) else value
