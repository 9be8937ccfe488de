"""`tsc` checks objects against stripe-node's types, which distinguish null from absent.

Objects become constants with `satisfies Stripe.…`. Of objects with the same form only one is
checked, so thousands take seconds.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from sandbox.referees.tools import HERE, PACKAGES

Json = dict[str, Any]

TYPES = {
    "account": "Account",
    "balance": "Balance",
    "balance_transaction": "BalanceTransaction",
    "billing.credit_balance_transaction": "Billing.CreditBalanceTransaction",
    "billing.credit_grant": "Billing.CreditGrant",
    "billing.meter": "Billing.Meter",
    "billing_portal.configuration": "BillingPortal.Configuration",
    "billing_portal.session": "BillingPortal.Session",
    "charge": "Charge",
    "checkout.session": "Checkout.Session",
    "coupon": "Coupon",
    "credit_note": "CreditNote",
    "customer": "Customer",
    "discount": "Discount",
    "dispute": "Dispute",
    "event": "Event",
    "invoice": "Invoice",
    "invoice_payment": "InvoicePayment",
    "invoiceitem": "InvoiceItem",
    "item": "LineItem",
    "line_item": "InvoiceLineItem",
    "mandate": "Mandate",
    "payment_intent": "PaymentIntent",
    "payment_method": "PaymentMethod",
    "price": "Price",
    "product": "Product",
    "promotion_code": "PromotionCode",
    "refund": "Refund",
    "setup_attempt": "SetupAttempt",
    "setup_intent": "SetupIntent",
    "shipping_rate": "ShippingRate",
    "subscription": "Subscription",
    "subscription_item": "SubscriptionItem",
    "tax_id": "TaxId",
    "tax_rate": "TaxRate",
    "test_helpers.test_clock": "TestHelpers.TestClock",
    "webhook_endpoint": "WebhookEndpoint",
}

# Real objects have these fields although no type lists them (stripe-facts 25). Left out.
HIDDEN = {"subscription": {"plan", "quantity"}, "list": {"total_count"}}

OPTIONS = (
    *("--noEmit", "--strict", "--skipLibCheck", "--exactOptionalPropertyTypes"),
    *("--module", "nodenext", "--moduleResolution", "nodenext", "--target", "es2022"),
)


@cache
def decimals() -> frozenset[str]:
    """Fields whose strings the SDK converts to its own `Decimal` (stripe-facts 28)."""
    found: set[str] = set()
    for path in (PACKAGES / "stripe" / "esm" / "resources").rglob("*.d.ts"):
        found.update(re.findall(r"^\s+(\w+)\??: (?:Stripe\.)?Decimal\b", path.read_text(), re.M))
    return frozenset(found)


def api_version() -> str:
    source = (PACKAGES / "stripe" / "cjs" / "apiVersion.js").read_text()
    found = re.search(r"ApiVersion = '([^']+)'", source)
    assert found is not None
    return found[1]


def judged(obj: Json) -> Json:
    """Previous attributes are partial objects, which no type describes."""
    if obj["object"] != "event":
        return obj
    return {**obj, "data": {"object": obj["data"]["object"]}}


def form(node: Any) -> Any:
    """The value without what types don't distinguish: free text, numbers and ids."""
    if isinstance(node, dict):
        return tuple((key, form(value)) for key, value in sorted(node.items()))
    if isinstance(node, list):
        return ("list", *sorted({repr(form(item)) for item in node}))
    if isinstance(node, str):
        return node if re.fullmatch(r"[a-z]+([_.-][a-z]+)*", node) else "text"
    return type(node).__name__


def literal(node: Any, key: str = "") -> str:
    """The value as TypeScript, without undocumented fields."""
    if isinstance(node, dict):
        hidden = HIDDEN.get(str(node.get("object")), set())
        inner = (f"{json.dumps(k)}: {literal(v, k)}" for k, v in node.items() if k not in hidden)
        return "{" + ", ".join(inner) + "}"
    if isinstance(node, list):
        return "[" + ", ".join(literal(item, key) for item in node) + "]"
    if isinstance(node, str) and key in decimals():
        return f"{json.dumps(node)} as unknown as Stripe.Decimal"
    return json.dumps(node)


def program(objects: Iterable[Json]) -> tuple[list[str], list[Json]]:
    """Lines of TypeScript, and the object for each line after the first."""
    lines, chosen, seen = ['import Stripe from "stripe";'], [], set()
    for obj in map(judged, objects):
        known = form(obj)
        if known not in seen:
            seen.add(known)
            chosen.append(obj)
            type_ = TYPES[obj["object"]]
            lines.append(f"export const o{len(lines)} = {literal(obj)} satisfies Stripe.{type_};")
    return lines, chosen


def complaints(objects: Iterable[Json], folder: Path) -> list[str]:
    """The errors of `tsc`, each with the kind of object."""
    lines, chosen = program(objects)
    # Node looks for packages beside the file, or above it.
    (folder / "node_modules").symlink_to(PACKAGES)
    (folder / "package.json").write_text('{"type": "module"}')
    source = folder / "corpus.ts"
    source.write_text("\n".join(lines))
    tsc = PACKAGES / "typescript" / "bin" / "tsc"
    run = subprocess.run(
        ["node", "--max-old-space-size=2048", tsc, *OPTIONS, source],
        cwd=HERE,
        capture_output=True,
        text=True,
        timeout=300,
    )
    found = []
    for match in re.finditer(r"corpus\.ts\((\d+),\d+\): error (.*(?:\n  .*)*)", run.stdout):
        at = int(match[1]) - 2
        about = f"{chosen[at]['object']} {chosen[at].get('type', '')}" if at >= 0 else "program"
        found.append(f"{about}: {match[2][:1500]}")
    if run.returncode and not found:
        found.append(run.stdout + run.stderr)
    return found
