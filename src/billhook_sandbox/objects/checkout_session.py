"""Checkout Sessions, and the internal record of each."""

from billhook_sandbox.objects.checkout_options import interface, invoice_creation, options_of
from billhook_sandbox.objects.taxes import automatic_tax
from billhook_sandbox.store import DataSet, Json

LIFETIME_SECONDS = 24 * 3600


def make_record(data: DataSet, session_id: str, given: Json, **values: object) -> Json:
    """The internal record: what the session's totals depend on, and what is created later."""
    return data.put(
        {
            "id": session_id,
            "object": "_checkout",
            "breakdown": {"discounts": [], "taxes": []},
            "customer_update": given.get("customer_update", {}),
            "discounts": [],
            "line_items": [],
            "location": None,
            "payment_intent": None,
            "payment_intent_data": given.get("payment_intent_data", {}),
            "payment_method_data": given.get("payment_method_data", {}),
            "setup_intent": None,
            "shipping_rate": None,
            "subscription_data": given.get("subscription_data", {}),
            "taxed": given.get("automatic_tax", {}).get("enabled", False),
            "trial": False,
            **values,
        }
    )


def make_session(
    data: DataSet, session_id: str, given: Json, currency: str | None, page_url: str
) -> Json:
    """The session without its totals. Emits no event: Stripe has none for new sessions."""
    setup = given["mode"] == "setup"
    now = data.clock.now()
    embedded = given.get("ui_mode", "hosted_page") != "hosted_page"
    return data.put(
        {
            "id": session_id,
            "object": "checkout.session",
            **UNUSED_FIELDS,
            **options_of(given),
            **interface(given),
            "allow_promotion_codes": given.get("allow_promotion_codes"),
            "allowed_payment_method_types": given.get("allowed_payment_method_types"),
            "amount_subtotal": None,
            "amount_total": None,
            "automatic_tax": automatic_tax(False),
            "client_reference_id": given.get("client_reference_id"),
            "client_secret": data.ids.secret(session_id) if embedded else None,
            "created": now,
            "currency": currency,
            "customer": given.get("customer"),
            "customer_creation": customer_creation(given),
            "customer_details": initial_customer_details(data, given),
            "customer_email": given.get("customer_email"),
            "discounts": [
                {"coupon": None, "promotion_code": None, **each}
                for each in given.get("discounts", [])
            ],
            "expires_at": given.get("expires_at", now + LIFETIME_SECONDS),
            "invoice_creation": invoice_creation(given),
            "livemode": data.livemode,
            "metadata": given.get("metadata") or {},
            "mode": given["mode"],
            "payment_method_collection": payment_method_collection(given),
            "payment_method_types": payment_method_types(given, currency),
            "payment_status": "no_payment_required" if setup else "unpaid",
            "status": "open",
            "submit_type": given.get("submit_type"),
            "url": None if embedded else page_url,
        }
    )


UNUSED_FIELDS: Json = {
    "adaptive_pricing": {"enabled": False},
    "after_expiration": None,
    "collected_information": None,
    "consent": None,
    "currency_conversion": None,
    "customer_account": None,
    "integration_identifier": None,
    # Subscription, invoice and intent are created after the payment (stripe-facts 1, 10).
    "invoice": None,
    "managed_payments": None,
    "origin_context": None,
    "payment_intent": None,
    "payment_link": None,
    "payment_method_configuration_details": None,
    "payment_method_options": {"card": {"request_three_d_secure": "automatic"}},
    "permissions": None,
    "recovered_from": None,
    "setup_intent": None,
    "shipping_cost": None,
    "shipping_options": [],
    "subscription": None,
    "total_details": None,
    "wallet_options": None,
}
"""Fields that a new session does not have yet, and those that the sandbox never sets. Shared,
because objects are never modified in place."""


def customer_creation(given: Json) -> str | None:
    """Guests get no customer by default (stripe-facts 2)."""
    if given.get("customer"):
        return None
    if given["mode"] == "subscription":
        return "always"
    return str(given.get("customer_creation", "if_required"))


def payment_method_collection(given: Json) -> str:
    if given["mode"] == "payment":
        return "if_required"
    return str(given.get("payment_method_collection", "always"))


def collects_method(session: Json) -> bool:
    """Whether the buyer must give a payment method: not for a free order."""
    if session["mode"] == "setup" or session["amount_total"]:
        return True
    return bool(session["payment_method_collection"] == "always")


def payment_method_types(given: Json, currency: str | None) -> list[str]:
    """SEPA debits are available for one-time payments in euros."""
    available = ["card"]
    if given["mode"] == "payment" and currency == "eur":
        available.append("sepa_debit")
    allowed = given.get("allowed_payment_method_types")
    return [type_ for type_ in available if allowed is None or type_ in allowed]


def initial_customer_details(data: DataSet, given: Json) -> Json | None:
    customer = data.get("customer", given.get("customer"))
    if customer:
        details = customer_details(
            customer["email"], customer["name"], customer["address"], customer["phone"]
        )
        return {**details, "tax_exempt": customer["tax_exempt"]}
    if given.get("customer_email"):
        return customer_details(given["customer_email"])
    return None


def customer_details(
    email: str | None,
    name: str | None = None,
    address: Json | None = None,
    phone: str | None = None,
) -> Json:
    return {
        "address": address,
        "business_name": None,
        "email": email,
        "individual_name": None,
        "name": name,
        "phone": phone,
        "tax_exempt": "none",
        "tax_ids": None,
    }


def make_line_item(
    data: DataSet, price: Json, quantity: int | None, adjustable: Json | None, metadata: Json
) -> Json:
    """The item without its amounts."""
    return {
        "id": data.ids.new("item"),
        "object": "item",
        "adjustable_quantity": adjustable,
        "amount_discount": 0,
        "amount_subtotal": 0,
        "amount_tax": 0,
        "amount_total": 0,
        "currency": price["currency"],
        "description": data.need("product", price["product"])["name"],
        "metadata": metadata,
        "price": price,
        "quantity": quantity,
    }
