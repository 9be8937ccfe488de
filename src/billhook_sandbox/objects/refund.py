"""Refunds."""

from billhook_sandbox.params import merge_metadata
from billhook_sandbox.store import DataSet, Json


def make_refund(
    data: DataSet, charge: Json, method: Json, amount: int, status: str, given: Json
) -> Json:
    return data.put(
        {
            "id": data.ids.new("refund"),
            "object": "refund",
            "amount": amount,
            "balance_transaction": None,
            "charge": charge["id"],
            "created": data.clock.now(),
            "currency": charge["currency"],
            "customer": None,
            "customer_account": None,
            "destination_details": destination_details(method["type"]),
            "metadata": merge_metadata({}, given.get("metadata")),
            "payment_intent": charge["payment_intent"],
            "payment_method": method["id"],
            **({"pending_reason": "processing"} if status == "pending" else {}),
            "reason": given.get("reason"),
            "receipt_number": None,
            "source_transfer_reversal": None,
            "status": status,
            "transfer_reversal": None,
        }
    )


def destination_details(type_: str) -> Json:
    """The reference number is set later (stripe-facts 29)."""
    if type_ == "sepa_debit":
        return {
            "type": "eu_bank_transfer",
            "eu_bank_transfer": {"reference": None, "reference_status": "pending"},
        }
    card = {
        "reference_status": "pending",
        "reference_type": "acquirer_reference_number",
        "type": "refund",
    }
    return {"type": "card", "card": card}
