"""Billing credits: grants to a customer, and the transactions that use them up."""

from billhook_sandbox.event_log import emit
from billhook_sandbox.params import merge_metadata
from billhook_sandbox.store import DataSet, Json

KIND = "billing.credit_grant"
TRANSACTIONS = "billing.credit_balance_transaction"
DEFAULT_PRIORITY = 50


def make_grant(data: DataSet, given: Json, customer: Json) -> Json:
    now = data.clock.now()
    scope = given["applicability_config"]["scope"]
    grant = data.put(
        {
            "id": data.ids.new(KIND),
            "object": KIND,
            "amount": given["amount"],
            "applicability_config": {"scope": {"price_type": None, "prices": None, **scope}},
            "category": given.get("category", "paid"),
            "created": now,
            "customer": customer["id"],
            "customer_account": None,
            "effective_at": given.get("effective_at", now),
            "expires_at": given.get("expires_at"),
            "livemode": data.livemode,
            "metadata": merge_metadata({}, given.get("metadata")),
            "name": given.get("name"),
            "priority": given.get("priority", DEFAULT_PRIORITY),
            "test_clock": customer["test_clock"],
            "updated": now,
            "voided_at": None,
        }
    )
    put_transaction(data, grant, "credit", amount_of(grant), "credits_granted")
    emit(data, "billing.credit_grant.created", grant)
    return grant


def amount_of(grant: Json) -> int:
    return int(grant["amount"]["monetary"]["value"])


def put_transaction(
    data: DataSet, grant: Json, direction: str, value: int, type_: str, **applied: object
) -> Json:
    """`direction` is `credit` or `debit`; `applied` names the invoice and its line. Stripe sends an
    event for each transaction."""
    currency, now = grant["amount"]["monetary"]["currency"], data.clock.now()
    amount = {"type": "monetary", "monetary": {"currency": currency, "value": value}}
    details: Json = {"amount": amount, "type": type_}
    details |= (
        {"credits_application_invoice_voided": applied or None}
        if direction == "credit"
        else {"credits_applied": applied or None}
    )
    transaction = data.put(
        {
            "id": data.ids.new(TRANSACTIONS),
            "object": TRANSACTIONS,
            "created": now,
            "credit": details if direction == "credit" else None,
            "credit_grant": grant["id"],
            "debit": details if direction == "debit" else None,
            "effective_at": now,
            "livemode": data.livemode,
            "test_clock": grant["test_clock"],
            "type": direction,
        }
    )
    emit(data, f"{TRANSACTIONS}.created", transaction)
    return transaction


def left(data: DataSet, grant: Json) -> int:
    """What is left of a grant, whether or not it is effective now."""
    total = 0
    for each in data.all(TRANSACTIONS).where("credit_grant", grant["id"]):
        details = each["credit"] or each["debit"]
        value = details["amount"]["monetary"]["value"]
        total += value if each["credit"] else -value
    return int(total)


def is_effective(data: DataSet, grant: Json) -> bool:
    now = data.clock.now()
    return (
        grant["voided_at"] is None
        and grant["effective_at"] <= now
        and (grant["expires_at"] is None or now < grant["expires_at"])
    )


def applies_to(grant: Json, price: Json) -> bool:
    """Credits pay only for metered prices: all of them, or those that the grant names."""
    recurring = price["recurring"] or {}
    if recurring.get("usage_type") != "metered" or recurring.get("meter") is None:
        return False
    prices = grant["applicability_config"]["scope"]["prices"]
    return prices is None or any(each["id"] == price["id"] for each in prices)


def usable_grants(data: DataSet, customer: str, currency: str) -> list[Json]:
    """In the order in which they are used: by priority, the next to expire, promotional ones
    first, the oldest."""
    grants = [
        grant
        for grant in data.all(KIND).where("customer", customer)
        if grant["amount"]["monetary"]["currency"] == currency
        and is_effective(data, grant)
        and left(data, grant) > 0
    ]
    return sorted(
        grants,
        key=lambda grant: (
            grant["priority"],
            grant["expires_at"] or float("inf"),
            grant["category"] != "promotional",
            grant["effective_at"],
            grant["created"],
        ),
    )
