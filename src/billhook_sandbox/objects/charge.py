"""Charges and balance transactions."""

from billhook_sandbox.cards import DECLINES, Card
from billhook_sandbox.store import DataSet, Json

FEE_PER_MILLE, FEE_FIXED = 29, 30
"""2.9 % and 30 cents."""


UNUSED_FIELDS: Json = {
    "application": None,
    "application_fee": None,
    "application_fee_amount": None,
    "failure_balance_transaction": None,
    "on_behalf_of": None,
    "receipt_number": None,
    "review": None,
    "source": None,
    "source_transfer": None,
    "statement_descriptor": None,
    "statement_descriptor_suffix": None,
    "transfer_data": None,
    "transfer_group": None,
}
"""Fields that the sandbox never sets. Shared, because objects are never modified in place."""


def make_charge(data: DataSet, intent: Json, method: Json, status: str, **values: object) -> Json:
    paid = status == "succeeded"
    return data.put(
        {
            "id": data.ids.new("charge"),
            "object": "charge",
            **UNUSED_FIELDS,
            "amount": intent["amount"],
            "amount_captured": 0 if status == "failed" else intent["amount"],
            "amount_refunded": 0,
            # Set later, with `charge.updated` (stripe-facts 4).
            "balance_transaction": None,
            "billing_details": method["billing_details"],
            "calculated_statement_descriptor": "BILLHOOK SANDBOX",
            "captured": status != "failed",
            "created": data.clock.now(),
            "currency": intent["currency"],
            "customer": intent["customer"],
            "description": intent["description"],
            "disputed": False,
            "failure_code": None,
            "failure_message": None,
            "fraud_details": {},
            "livemode": data.livemode,
            "metadata": intent["metadata"],
            "outcome": outcome("authorized") if paid else None,
            "paid": paid,
            "payment_intent": intent["id"],
            "payment_method": method["id"],
            "payment_method_details": payment_method_details(method),
            "radar_options": {},
            "receipt_email": intent["receipt_email"],
            "receipt_url": None,
            "refunded": False,
            "shipping": intent["shipping"],
            "status": status,
            **values,
        }
    )


def outcome(type_: str, decline_code: str | None = None) -> Json:
    declined = type_ == "issuer_declined"
    return {
        "advice_code": "try_again_later" if declined else None,
        "network_advice_code": None,
        "network_decline_code": None,
        "network_status": "declined_by_network" if declined else "approved_by_network",
        "reason": decline_code,
        "risk_level": "normal",
        "risk_score": 8,
        "seller_message": (
            "The bank did not return any further details with this decline."
            if declined
            else "Payment complete."
        ),
        "type": type_,
    }


def failure_fields(card: Card) -> Json:
    """The failure fields of a declined charge."""
    return {
        "failure_code": card.error_code,
        "failure_message": DECLINES[card.decline_code],
        "outcome": outcome("issuer_declined", card.decline_code),
    }


def payment_method_details(method: Json) -> Json:
    if method["type"] == "sepa_debit":
        sepa = {k: v for k, v in method["sepa_debit"].items() if k != "generated_from"}
        return {"type": "sepa_debit", "sepa_debit": {**sepa, "mandate": None}}
    card = method["card"]
    copied = ("brand", "checks", "country", "exp_month", "exp_year", "fingerprint", "funding")
    return {
        "type": "card",
        "card": {
            **{key: card[key] for key in (*copied, "last4", "regulated_status", "wallet")},
            "amount_authorized": None,
            "authorization_code": None,
            "extended_authorization": {"status": "disabled"},
            "incremental_authorization": {"status": "unavailable"},
            "installments": None,
            "mandate": None,
            "multicapture": {"status": "unavailable"},
            "network": card["brand"],
            "network_token": {"used": False},
            "network_transaction_id": None,
            "overcapture": {"maximum_amount_capturable": 0, "status": "unavailable"},
            "three_d_secure": None,
            "electronic_commerce_indicator": None,
            "transaction_link_id": None,
        },
    }


def make_balance_transaction(
    data: DataSet,
    source: Json,
    amount: int,
    type_: str,
    fee: int = 0,
    category: str | None = None,
    available: bool = False,
) -> Json:
    """Adds or withdraws funds. The fee of a charge is not returned with a refund."""
    fee = amount * FEE_PER_MILLE // 1000 + FEE_FIXED if type_ == "charge" else fee
    detail = {
        "amount": fee,
        "application": None,
        "currency": source["currency"],
        "description": "Dispute fee" if type_ == "adjustment" else "Stripe processing fees",
        "type": "stripe_fee",
    }
    return data.put(
        {
            "id": data.ids.new("balance_transaction"),
            "object": "balance_transaction",
            "amount": amount,
            "available_on": data.clock.now() + (0 if available else 2 * 86400),
            "balance_type": "payments",
            "created": data.clock.now(),
            "currency": source["currency"],
            "description": source.get("description"),
            "exchange_rate": None,
            "fee": fee,
            "fee_details": [detail] if fee else [],
            "net": amount - fee,
            "reporting_category": category or type_,
            "source": source["id"],
            "status": "available" if available else "pending",
            "type": type_,
        }
    )
