"""Older API versions: objects as they were then, and parameters that were accepted then.

The sandbox keeps everything in the newest version. What it knows about older ones are the changes
that stripe-facts name (25–27, 43); each is undone for readers of a version before it.
"""

import ast
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from billhook_sandbox.errors import InvalidRequest
from billhook_sandbox.options import API_VERSION
from billhook_sandbox.pagination import list_object
from billhook_sandbox.store import DataSet, Json

OLDEST = "2022-08-01"
"""Before it the sandbox knows too little of how objects looked."""


@cache
def known_versions() -> frozenset[str]:
    """All that Stripe has had, as the installed SDK lists them for webhook endpoints."""
    package = find_spec("stripe")
    if package is None or package.origin is None:
        return frozenset({API_VERSION})
    source = Path(package.origin).parent / "params" / "_webhook_endpoint_create_params.py"
    constants = (node for node in ast.walk(ast.parse(source.read_text())))
    strings = {n.value for n in constants if isinstance(n, ast.Constant)}
    return frozenset(s for s in strings if isinstance(s, str) and s[:2] == "20" and s[4:5] == "-")


def check_version(version: str, param: str | None = None) -> str:
    if version not in known_versions():
        raise InvalidRequest(f"Invalid Stripe API version: {version}", param=param)
    if not OLDEST <= version <= API_VERSION:
        message = f"This sandbox renders API versions from {OLDEST} to {API_VERSION}."
        raise InvalidRequest(f"Invalid Stripe API version: {version}. {message}", param=param)
    return version


def default_version(data: DataSet) -> str:
    """The account's own; it renders the events, and answers to requests that name none."""
    settings = data.get("_settings", "account")
    return str(settings["api_version"]) if settings else API_VERSION


def set_default_version(data: DataSet, version: str) -> None:
    check_version(version, "api_version")
    data.put({"id": "account", "object": "_settings", "api_version": version})


def render(data: DataSet, body: Any, version: str) -> Any:
    """An object, a list or an event as readers of that version got it; stored ones stay whole."""
    undoing = [change for change in CHANGES if version < change.since]
    return rendered(data, body, undoing) if undoing else body


def render_event(data: DataSet, event: Json, version: str) -> Json:
    """The previous attributes follow their object, of which they are a part."""
    if version >= event["api_version"]:
        return event
    content = render(data, event["data"], version)
    previous = content.get("previous_attributes", {})
    if event["data"]["object"]["object"] == "subscription" and "items" in previous:
        content = {**content, "previous_attributes": {**previous, **periods(previous)}}
    return {**event, "api_version": version, "data": content}


class Change(NamedTuple):
    """What came with a version: for each kind of object, how it looked before."""

    since: str
    undo: dict[str, Callable[[DataSet, Json], Json]]


def rendered(data: DataSet, node: Any, undoing: list[Change]) -> Any:
    if isinstance(node, list):
        return [rendered(data, item, undoing) for item in node]
    if not isinstance(node, dict) or node.get("object") == "event":
        # An event was rendered when it was made, and never changes (stripe-facts 32).
        return node
    found = {key: rendered(data, value, undoing) for key, value in node.items()}
    for change in undoing:
        if undo := change.undo.get(str(found.get("object"))):
            found = undo(data, found)
    return found


def without_allowed_payment_method_types(_: DataSet, obj: Json) -> Json:
    return {k: v for k, v in obj.items() if k != "allowed_payment_method_types"}


def periods(subscription: Json) -> Json:
    items = subscription["items"].get("data") or [{}]
    names = ("current_period_start", "current_period_end")
    return {name: items[0][name] for name in names if name in items[0]}


def subscription_before_basil(_: DataSet, subscription: Json) -> Json:
    return {**subscription, **periods(subscription)}


def invoice_before_basil(data: DataSet, invoice: Json) -> Json:
    details = (invoice.get("parent") or {}).get("subscription_details") or {}
    intent = intent_of_invoice(data, invoice) if invoice.get("attempted") else None
    kept = {k: v for k, v in invoice.items() if k not in ("parent", "payments")}
    return {
        **kept,
        "charge": intent and intent["latest_charge"],
        "paid": invoice.get("status") == "paid",
        "payment_intent": intent and intent["id"],
        "subscription": details.get("subscription"),
    }


def intent_of_invoice(data: DataSet, invoice: Json) -> Json | None:
    for payment in data.all("invoice_payment").where("invoice", invoice["id"]):
        if name := payment["payment"].get("payment_intent"):
            return data.get("payment_intent", name)
    return None


def invoice_of(data: DataSet, customer: str | None, intent: str | None) -> str | None:
    """By way of the customer, whose invoices are few and found by index."""
    for invoice in data.all("invoice").where("customer", customer) if customer and intent else ():
        paying = intent_of_invoice(data, invoice)
        if paying and paying["id"] == intent:
            return str(invoice["id"])
    return None


def name_of(value: Json | str | None) -> str | None:
    """An id, wherever it may stand expanded."""
    return str(value["id"]) if isinstance(value, dict) else value or None


def charge_before_basil(data: DataSet, charge: Json) -> Json:
    customer, intent = name_of(charge.get("customer")), name_of(charge.get("payment_intent"))
    return {**charge, "invoice": invoice_of(data, customer, intent)}


def intent_before_basil(data: DataSet, intent: Json) -> Json:
    return {**intent, "invoice": invoice_of(data, name_of(intent.get("customer")), intent["id"])}


def intent_with_charges(data: DataSet, intent: Json) -> Json:
    charges = data.all("charge").where("payment_intent", intent["id"])[::-1]
    return {**intent, "charges": list_object(charges, f"/v1/charges?payment_intent={intent['id']}")}


def charge_with_refunds(data: DataSet, charge: Json) -> Json:
    refunds = data.all("refund").where("charge", charge["id"])[::-1]
    return {"refunds": list_object(refunds, f"/v1/charges/{charge['id']}/refunds"), **charge}


def code_before_clover(data: DataSet, code: Json) -> Json:
    promotion = code.get("promotion")
    if promotion is None:
        return code
    kept = {k: v for k, v in code.items() if k != "promotion"}
    name = name_of(promotion["coupon"])
    return {**kept, "coupon": data.get("coupon", name) or {"id": name, "object": "coupon"}}


CHANGES = (
    Change(
        "2026-09-30.endive",
        {
            "checkout.session": without_allowed_payment_method_types,
            "payment_intent": without_allowed_payment_method_types,
        },
    ),
    Change("2025-09-30.clover", {"promotion_code": code_before_clover}),
    Change(
        "2025-03-31.basil",
        {
            "charge": charge_before_basil,
            "invoice": invoice_before_basil,
            "payment_intent": intent_before_basil,
            "subscription": subscription_before_basil,
        },
    ),
    Change("2022-11-15", {"charge": charge_with_refunds, "payment_intent": intent_with_charges}),
)


def promotion(key: str, value: Any) -> Any:
    return {"coupon": value, "type": "coupon"} if key == "coupon" else value


def to_current_params(version: str, method: str, path: str, params: Json) -> Json:
    """Parameters of an older version in today's words (stripe-facts 43)."""
    if path == "/v1/promotion_codes" and method == "POST" and version < "2025-09-30.clover":
        return {("promotion" if k == "coupon" else k): promotion(k, v) for k, v in params.items()}
    paths = ("/v1/checkout/sessions", "/v1/payment_intents", "/v1/setup_intents")
    renamed = path in paths and method == "POST"
    if not renamed or version >= "2026-09-30.endive" or "payment_method_types" not in params:
        return params
    rest = {k: v for k, v in params.items() if k != "payment_method_types"}
    return {**rest, "allowed_payment_method_types": params["payment_method_types"]}
