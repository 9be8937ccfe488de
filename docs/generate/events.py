"""The types of events, from `billhook.projections` and events.toml.

The tables are those that the projection of an example changes.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from billhook.kinds import KINDS
from billhook.projections import TYPES, Changes, Event, project
from generate.markdown import code, table

_SUBJECT = {"insforge_subject_type": "team", "insforge_subject_id": "t_1"}
_PAYMENT = {"customer": "cus_1", "amount": 1500, "currency": "eur", "created": 1, "metadata": {}}
_REFUND = {"id": "re_1", "charge": "ch_1", "payment_intent": "pi_1", "amount": 1500}
_EXAMPLES: dict[str, dict[str, Any]] = {
    "product": {"id": "prod_1", "name": "Tea"},
    "price": {"id": "price_1", "product": "prod_1", "currency": "eur", "type": "one_time"},
    "customer": {"id": "cus_1", "created": 1},
    "checkout.session": {
        "id": "cs_1",
        "mode": "payment",
        "payment_status": "paid",
        "customer": "cus_1",
        "amount_total": 1500,
        "metadata": _SUBJECT,
    },
    "customer.subscription": {
        "id": "sub_1",
        "customer": "cus_1",
        "status": "active",
        "metadata": _SUBJECT,
    },
    "invoice": {"id": "in_1", "customer": "cus_1", "status": "open", "metadata": _SUBJECT},
    "invoice_payment": {
        "id": "inpay_1",
        "invoice": "in_1",
        "payment": {"type": "payment_intent", "payment_intent": "pi_1"},
    },
    "payment_intent": {
        "id": "pi_1",
        **_PAYMENT,
        "metadata": {"insforge_checkout_mode": "payment"},
    },
    "charge": {"id": "ch_1", "status": "succeeded", "amount_refunded": 0, **_PAYMENT},
    "refund": _REFUND,
    "charge.refund": _REFUND,
    "charge.dispute": {"id": "du_1", "charge": "ch_1", "status": "needs_response"},
    "payment_method": {"id": "pm_1", "customer": "cus_1", "type": "card"},
    "billing.meter": {"id": "mtr_1", "event_name": "api_calls", "status": "active"},
}
"""An object for the events of each family, with everything that an event of it may change."""


def meanings() -> dict[str, Any]:
    """events.toml."""
    return tomllib.loads((Path(__file__).parent / "events.toml").read_text())


def write() -> str:
    """Each type, by group.

    Raises:
        KeyError: events.toml does not describe a type.
    """
    texts = meanings()
    return "\n\n".join(_section(group, texts["effects"]) for group in texts["groups"])


def _section(group: dict[str, Any], effects: dict[str, str]) -> str:
    types = [type for type in effects if _family(type) in group["objects"]]
    types += sorted(type for type in TYPES - set(types) if _family(type) in group["objects"])
    rows = [(code(type), effects[type], ", ".join(map(code, changed_by(type)))) for type in types]
    return f"## {group['name']}\n\n{table(('Event', 'Effect', 'Tables'), rows)}"


def _family(type: str) -> str:
    return type.rpartition(".")[0]


def changed_by(type: str) -> list[str]:
    """The tables of `payments` that an event of a type changes."""
    return list(dict.fromkeys(_tables(project(Event("evt_1", type, 1, _EXAMPLES[_family(type)])))))


def _tables(changes: Changes) -> Iterator[str]:
    if changes.mirror is not None:
        yield from changes.mirror.kind.tables
    if changes.deleted is not None:
        name, _ = changes.deleted
        yield from KINDS[name].tables
        if name == "customer":
            yield "customer_mappings"
    if changes.checkout_session is not None:
        yield "stripe_checkout_sessions"
    if changes.claim is not None:
        yield "customer_mappings"
    if changes.payment is not None:
        yield "transactions"
