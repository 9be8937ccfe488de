"""The shapes of Stripe's objects, read from the annotations of the installed SDK.

The SDK's types are the schema of every object at exactly the pinned API version (stripe-facts,
section 1). They are read as text, by AST, into JSON Schema: a key that no type lists fails, and so
does a missing one that the type requires.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs
import stripe

Schema = dict[str, Any]

ROOT = Path(stripe.__file__).parent

# The class that describes each kind of object: module below `stripe`, class.
CLASSES = {
    "account": ("_account", "Account"),
    "balance": ("_balance", "Balance"),
    "balance_transaction": ("_balance_transaction", "BalanceTransaction"),
    "billing_portal.configuration": ("billing_portal._configuration", "Configuration"),
    "billing_portal.session": ("billing_portal._session", "Session"),
    "charge": ("_charge", "Charge"),
    "checkout.session": ("checkout._session", "Session"),
    "coupon": ("_coupon", "Coupon"),
    "customer": ("_customer", "Customer"),
    "dispute": ("_dispute", "Dispute"),
    "event": ("_event", "Event"),
    "invoice": ("_invoice", "Invoice"),
    "invoice_payment": ("_invoice_payment", "InvoicePayment"),
    "item": ("_line_item", "LineItem"),
    "line_item": ("_invoice_line_item", "InvoiceLineItem"),
    "payment_intent": ("_payment_intent", "PaymentIntent"),
    "payment_method": ("_payment_method", "PaymentMethod"),
    "price": ("_price", "Price"),
    "product": ("_product", "Product"),
    "promotion_code": ("_promotion_code", "PromotionCode"),
    "refund": ("_refund", "Refund"),
    "setup_intent": ("_setup_intent", "SetupIntent"),
    "subscription": ("_subscription", "Subscription"),
    "subscription_item": ("_subscription_item", "SubscriptionItem"),
    "webhook_endpoint": ("_webhook_endpoint", "WebhookEndpoint"),
}

# Keys that real answers carry although no type lists them (stripe-facts 25).
HIDDEN: dict[str, Schema] = {"stripe._subscription:Subscription": {"plan": {}, "quantity": {}}}

PRIMITIVES: dict[str, Schema] = {
    "Any": {},
    "Decimal": {"type": "string", "pattern": r"^-?\d+(\.\d+)?$"},
    "StripeObject": {"type": "object"},
    "UntypedStripeObject": {"type": "object"},
    "bool": {"type": "boolean"},
    "float": {"type": "number"},
    "int": {"type": "integer"},
    "object": {},
    "str": {"type": "string"},
}


@cache
def module(name: str) -> tuple[ast.Module, dict[str, tuple[str, str]]]:
    """The module's tree, and where its imported names come from."""
    path = ROOT.parent.joinpath(*name.split(".")).with_suffix(".py")
    tree = ast.parse(path.read_text())
    imports = {
        alias.asname or alias.name: (node.module, alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }
    return tree, imports


@cache
def find(name: str, path: str) -> ast.ClassDef | None:
    """A class by its dotted path inside the module."""
    node: ast.Module | ast.ClassDef = module(name)[0]
    for part in path.split("."):
        inner = (c for c in node.body if isinstance(c, ast.ClassDef) and c.name == part)
        found = next(inner, None)
        if found is None:
            return None
        node = found
    assert isinstance(node, ast.ClassDef)
    return node


class Reader:
    """Collects the definitions that a schema refers to."""

    def __init__(self) -> None:
        self.definitions: dict[str, Schema] = {}

    def reference(self, name: str, path: str) -> Schema:
        key = f"{name}:{path}"
        if key not in self.definitions:
            self.definitions[key] = {}  # entered first, because classes refer to each other
            self.definitions[key] = self.of_class(name, path)
        return {"$ref": f"#/$defs/{key}"}

    def of_class(self, name: str, path: str) -> Schema:
        node = find(name, path)
        assert node is not None, f"{name}:{path}"
        properties = dict(HIDDEN.get(f"{name}:{path}", {}))
        required = []
        renamed = renames(node)
        for statement in node.body:
            if not isinstance(statement, ast.AnnAssign) or is_internal(statement):
                continue
            assert isinstance(statement.target, ast.Name)
            key = renamed.get(statement.target.id, statement.target.id)
            properties[key], optional = self.read(name, path, statement.annotation)
            if not optional:
                required.append(key)
        return {
            "type": "object",
            "properties": properties,
            "required": required,
            "additionalProperties": False,
        }

    def read(self, name: str, path: str, node: ast.expr) -> tuple[Schema, bool]:
        """The schema of an annotation, and whether its key may be absent."""
        if isinstance(node, ast.Constant):
            if node.value is None:
                return {"type": "null"}, True
            return self.read(name, path, ast.parse(str(node.value), mode="eval").body)
        if isinstance(node, ast.BinOp):
            sides = [self.read(name, path, side) for side in (node.left, node.right)]
            return {"anyOf": [schema for schema, _ in sides]}, any(opt for _, opt in sides)
        if isinstance(node, ast.Subscript):
            return self.generic(name, path, node)
        return self.named(name, path, ast.unparse(node)), False

    def generic(self, name: str, path: str, node: ast.Subscript) -> tuple[Schema, bool]:
        head = ast.unparse(node.value).rpartition(".")[2]
        arguments = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if head == "Literal":
            return {"enum": [ast.literal_eval(argument) for argument in arguments]}, False
        inner = [self.read(name, path, argument)[0] for argument in arguments]
        if head in ("Optional", "NotRequired"):
            return {"anyOf": [inner[0], {"type": "null"}]}, True
        schemas: dict[str, Schema] = {
            "Dict": {"type": "object", "additionalProperties": inner[-1]},
            "ExpandableField": {"anyOf": [{"type": "string"}, inner[0]]},
            "List": {"type": "array", "items": inner[0]},
            "ListObject": list_of(inner[0]),
            "Union": {"anyOf": inner},
        }
        aliases = {"list": "List", "UntypedStripeObject": "Dict"}
        return schemas[aliases.get(head, head)], False

    def named(self, name: str, path: str, wanted: str) -> Schema:
        if wanted in PRIMITIVES:
            return PRIMITIVES[wanted]
        scope = path.split(".")
        for depth in range(len(scope), -1, -1):  # from the innermost scope outwards
            candidate = ".".join([*scope[:depth], wanted])
            if find(name, candidate):
                return self.reference(name, candidate)
        head, _, rest = wanted.partition(".")
        source, original = module(name)[1][head]
        return self.reference(source, f"{original}.{rest}" if rest else original)


def list_of(item: Schema) -> Schema:
    """`total_count` comes with some lists, though no type lists it (stripe-facts 25)."""
    return {
        "type": "object",
        "properties": {
            "object": {"const": "list"},
            "data": {"type": "array", "items": item},
            "has_more": {"type": "boolean"},
            "total_count": {"type": "integer"},
            "url": {"type": "string"},
        },
        "required": ["object", "data", "has_more", "url"],
        "additionalProperties": False,
    }


def is_internal(statement: ast.AnnAssign) -> bool:
    name = ast.unparse(statement.target)
    return name.startswith("_") or ast.unparse(statement.annotation).startswith("ClassVar")


def renames(node: ast.ClassDef) -> dict[str, str]:
    """Attributes whose name on the wire differs, such as `from`."""
    for statement in node.body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == (
            "_field_remappings"
        ):
            found: dict[str, str] = ast.literal_eval(statement.value)
            return found
    return {}


@cache
def validator(kind: str) -> jsonschema_rs.Validator:
    reader = Reader()
    name, class_ = CLASSES[kind]
    schema = reader.reference(f"stripe.{name}", class_)
    return jsonschema_rs.validator_for({**schema, "$defs": reader.definitions})


def problems(obj: dict[str, Any]) -> list[str]:
    """What is wrong with an object of the API; events are judged with what they carry."""
    kind = obj["object"]
    if kind == "list":
        return [problem for item in obj["data"] for problem in problems(item)]
    found = [
        f"{kind}.{'.'.join(map(str, error.instance_path))}: {error.message[:300]}"
        for error in validator(kind).iter_errors(obj)
    ]
    return found + problems(obj["data"]["object"]) if kind == "event" else found
