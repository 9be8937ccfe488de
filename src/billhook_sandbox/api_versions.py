"""Older API versions: how objects looked and which parameters were accepted.

The sandbox stores objects in the newest version. It knows the version changes in stripe-facts
(25–27, 43) and undoes them for older versions.
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
"""The oldest supported version: the sandbox does not know the changes before it."""


@cache
def known_versions() -> frozenset[str]:
    """All versions that the installed SDK lists for webhook endpoints."""
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
        message = f"This sandbox supports API versions from {OLDEST} to {API_VERSION}."
        raise InvalidRequest(f"Invalid Stripe API version: {version}. {message}", param=param)
    return version


def default_version(data: DataSet) -> str:
    """The account's default: for its events, and for requests that name no version."""
    settings = data.get("_settings", "account")
    return str(settings["api_version"]) if settings else API_VERSION


def set_default_version(data: DataSet, version: str) -> None:
    check_version(version, "api_version")
    data.put({"id": "account", "object": "_settings", "api_version": version})


def render(data: DataSet, body: Any, version: str) -> Any:
    """An object, list or event as it looked in that version; stored objects are not modified."""
    changes = [change for change in CHANGES if version < change.since]
    return undo_changes(data, body, changes) if changes else body


def render_event(data: DataSet, event: Json, version: str) -> Json:
    """Renders the event's object and its `previous_attributes` in that version."""
    if version >= event["api_version"]:
        return event
    content = render(data, event["data"], version)
    previous = content.get("previous_attributes", {})
    if event["data"]["object"]["object"] == "subscription" and "items" in previous:
        content = {**content, "previous_attributes": {**previous, **current_period(previous)}}
    return {**event, "api_version": version, "data": content}


class Change(NamedTuple):
    """A change that came with a version, and how to undo it for each kind of object."""

    since: str
    undo: dict[str, Callable[[DataSet, Json], Json]]


def undo_changes(data: DataSet, node: Any, changes: list[Change]) -> Any:
    if isinstance(node, list):
        return [undo_changes(data, item, changes) for item in node]
    if not isinstance(node, dict) or node.get("object") == "event":
        # Events are rendered when they are created, and never change (stripe-facts 32).
        return node
    found = {key: undo_changes(data, value, changes) for key, value in node.items()}
    for change in changes:
        if undo := change.undo.get(str(found.get("object"))):
            found = undo(data, found)
    return found


def without_allowed_payment_method_types(_: DataSet, obj: Json) -> Json:
    return {k: v for k, v in obj.items() if k != "allowed_payment_method_types"}


UI_MODES = {"hosted": "hosted_page", "embedded": "embedded_page", "custom": "elements"}
"""The names before dahlia, and today's."""


def session_before_dahlia(_: DataSet, session: Json) -> Json:
    old = {new: name for name, new in UI_MODES.items()}
    mode = session.get("ui_mode")
    return {**session, "ui_mode": old.get(mode or "", mode)}


def current_period(subscription: Json) -> Json:
    items = subscription["items"].get("data") or [{}]
    names = ("current_period_start", "current_period_end")
    return {name: items[0][name] for name in names if name in items[0]}


def subscription_before_basil(_: DataSet, subscription: Json) -> Json:
    return {**subscription, **current_period(subscription)}


def invoice_before_basil(data: DataSet, invoice: Json) -> Json:
    details = (invoice.get("parent") or {}).get("subscription_details") or {}
    intent = intent_of_invoice(data, invoice) if invoice.get("attempted") else None
    rest = {k: v for k, v in invoice.items() if k not in ("parent", "payments")}
    return {
        **rest,
        "charge": intent and intent["latest_charge"],
        "paid": invoice.get("status") == "paid",
        "paid_out_of_band": is_paid_out_of_band(data, invoice),
        "payment_intent": intent and intent["id"],
        "subscription": details.get("subscription"),
    }


def is_paid_out_of_band(data: DataSet, invoice: Json) -> bool:
    payments = data.all("invoice_payment").where("invoice", invoice["id"])
    return any(each["payment"]["type"] == "payment_record" for each in payments)


def intent_of_invoice(data: DataSet, invoice: Json) -> Json | None:
    for payment in data.all("invoice_payment").where("invoice", invoice["id"]):
        if intent_id := payment["payment"].get("payment_intent"):
            return data.get("payment_intent", intent_id)
    return None


def invoice_of(data: DataSet, customer: str | None, intent: str | None) -> str | None:
    """Searches the customer's invoices: they are few, and found by index."""
    for invoice in data.all("invoice").where("customer", customer) if customer and intent else ():
        found = intent_of_invoice(data, invoice)
        if found and found["id"] == intent:
            return str(invoice["id"])
    return None


def id_of(value: Json | str | None) -> str | None:
    """The id in a field that may be expanded."""
    return str(value["id"]) if isinstance(value, dict) else value or None


def charge_before_basil(data: DataSet, charge: Json) -> Json:
    customer, intent = id_of(charge.get("customer")), id_of(charge.get("payment_intent"))
    return {**charge, "invoice": invoice_of(data, customer, intent)}


def intent_before_basil(data: DataSet, intent: Json) -> Json:
    return {**intent, "invoice": invoice_of(data, id_of(intent.get("customer")), intent["id"])}


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
    rest = {k: v for k, v in code.items() if k != "promotion"}
    coupon_id = id_of(promotion["coupon"])
    coupon = data.get("coupon", coupon_id) or {"id": coupon_id, "object": "coupon"}
    return {**rest, "coupon": coupon}


CHANGES = (
    Change(
        "2026-09-30.endive",
        {
            "checkout.session": without_allowed_payment_method_types,
            "payment_intent": without_allowed_payment_method_types,
        },
    ),
    Change("2026-03-25.dahlia", {"checkout.session": session_before_dahlia}),
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
    """Converts parameters of an older version to the newest one (stripe-facts 43)."""
    if path == "/v1/promotion_codes" and method == "POST" and version < "2025-09-30.clover":
        return {("promotion" if k == "coupon" else k): promotion(k, v) for k, v in params.items()}
    if path == "/v1/checkout/sessions" and version < "2026-03-25.dahlia" and "ui_mode" in params:
        params = {**params, "ui_mode": UI_MODES.get(params["ui_mode"], params["ui_mode"])}
    paths = ("/v1/checkout/sessions", "/v1/payment_intents", "/v1/setup_intents")
    renamed = path in paths and method == "POST"
    if not renamed or version >= "2026-09-30.endive" or "payment_method_types" not in params:
        return params
    rest = {k: v for k, v in params.items() if k != "payment_method_types"}
    return {**rest, "allowed_payment_method_types": params["payment_method_types"]}
