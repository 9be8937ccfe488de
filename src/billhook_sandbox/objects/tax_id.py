"""Tax ids of customers, such as VAT numbers."""

from billhook_sandbox.event_log import emit
from billhook_sandbox.store import DataSet, Json


def make_tax_id(data: DataSet, customer: str, type_: str, value: str) -> Json:
    prefix = value[:2].upper() if type_ == "eu_vat" else type_[:2].upper()
    tax_id = data.put(
        {
            "id": data.ids.new("tax_id"),
            "object": "tax_id",
            "country": prefix,
            "created": data.clock.now(),
            "customer": customer,
            "customer_account": None,
            "livemode": data.livemode,
            "owner": {"customer": customer, "customer_account": None, "type": "customer"},
            "type": type_,
            "value": value,
            "verification": {
                "status": "unavailable",
                "verified_address": None,
                "verified_name": None,
            },
        }
    )
    emit(data, "customer.tax_id.created", tax_id)
    return tax_id


def tax_ids_of(data: DataSet, customer: str) -> list[Json]:
    """Newest first."""
    return data.all("tax_id").where("customer", customer)[::-1]
