"""Checkout Sessions, and the internal record of each."""

from billhook_sandbox.objects.pricing import amount_for
from billhook_sandbox.store import DataSet, Json

LIFETIME_SECONDS = 24 * 3600


def make_session(data: DataSet, given: Json, items: list[Json], base_url: str) -> Json:
    session_id = data.ids.checkout_session(data.livemode)
    setup = given["mode"] == "setup"
    total = None if setup else sum(item["amount_total"] for item in items)
    now = data.clock.now()
    currency = items[0]["currency"] if items else given.get("currency")
    data.put(
        {
            "id": session_id,
            "object": "_checkout",
            "line_items": items,
            "payment_intent_data": given.get("payment_intent_data", {}),
            "subscription_data": given.get("subscription_data", {}),
            "payment_intent": None,
        }
    )
    return data.put(
        {
            "id": session_id,
            "object": "checkout.session",
            **settings(given),
            "allowed_payment_method_types": given.get("allowed_payment_method_types"),
            "amount_subtotal": None if setup else sum(item["amount_subtotal"] for item in items),
            "amount_total": total,
            "client_reference_id": given.get("client_reference_id"),
            "created": now,
            "currency": currency,
            "customer": given.get("customer"),
            "customer_creation": customer_creation(given),
            "customer_details": initial_customer_details(data, given),
            "customer_email": given.get("customer_email"),
            "expires_at": given.get("expires_at", now + LIFETIME_SECONDS),
            # Subscription, invoice and intent are created after the payment (stripe-facts 1, 10).
            "invoice": None,
            "invoice_creation": invoice_creation(given["mode"]),
            "livemode": data.livemode,
            "managed_payments": None,
            "metadata": given.get("metadata") or {},
            "mode": given["mode"],
            "payment_intent": None,
            "payment_method_collection": "always" if given["mode"] != "payment" else "if_required",
            "payment_method_types": payment_method_types(given, currency),
            "payment_status": "no_payment_required" if setup else "unpaid",
            "status": "open",
            "subscription": None,
            "total_details": None
            if setup
            else {
                "amount_discount": sum(item["amount_discount"] for item in items),
                "amount_shipping": 0,
                "amount_tax": 0,
            },
            "url": f"{base_url}/c/pay/{session_id}",
        }
    )


def settings(given: Json) -> Json:
    """Fields that only affect the page, with their given values."""
    phone = given.get("phone_number_collection", {"enabled": False})
    return {
        "adaptive_pricing": {"enabled": False},
        "after_expiration": None,
        "allow_promotion_codes": given.get("allow_promotion_codes"),
        "automatic_tax": {"enabled": False, "liability": None, "provider": None, "status": None},
        "billing_address_collection": given.get("billing_address_collection"),
        "cancel_url": given.get("cancel_url"),
        "client_secret": None,
        "collected_information": None,
        "consent": None,
        "consent_collection": None,
        "currency_conversion": None,
        "custom_fields": [],
        "custom_text": {
            "after_submit": None,
            "shipping_address": None,
            "submit": None,
            "terms_of_service_acceptance": None,
        },
        "customer_account": None,
        "discounts": [
            {"coupon": None, "promotion_code": None, **each} for each in given.get("discounts", [])
        ],
        "integration_identifier": None,
        "locale": given.get("locale"),
        "origin_context": None,
        "payment_link": None,
        "payment_method_configuration_details": None,
        "payment_method_options": {"card": {"request_three_d_secure": "automatic"}},
        "permissions": None,
        "phone_number_collection": phone,
        "recovered_from": None,
        "saved_payment_method_options": None,
        "setup_intent": None,
        "shipping_address_collection": None,
        "shipping_cost": None,
        "shipping_options": [],
        "submit_type": given.get("submit_type"),
        "success_url": given.get("success_url"),
        "ui_mode": "hosted_page",
        "wallet_options": None,
    }


def customer_creation(given: Json) -> str | None:
    """Guests get no customer by default (stripe-facts 2)."""
    if given.get("customer"):
        return None
    if given["mode"] == "subscription":
        return "always"
    return str(given.get("customer_creation", "if_required"))


def invoice_creation(mode: str) -> Json | None:
    if mode != "payment":
        return None
    return {
        "enabled": False,
        "invoice_data": {
            "account_tax_ids": None,
            "custom_fields": None,
            "description": None,
            "footer": None,
            "issuer": None,
            "metadata": {},
            "rendering_options": None,
        },
    }


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
        return customer_details(
            customer["email"], customer["name"], customer["address"], customer["phone"]
        )
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


def make_line_item(data: DataSet, price: Json, quantity: int | None) -> Json:
    amount = 0 if quantity is None else amount_for(data, price, quantity)
    return {
        "id": data.ids.new("item"),
        "object": "item",
        "adjustable_quantity": None,
        "amount_discount": 0,
        "amount_subtotal": amount,
        "amount_tax": 0,
        "amount_total": amount,
        "currency": price["currency"],
        "description": data.need("product", price["product"])["name"],
        "metadata": {},
        "price": price,
        "quantity": quantity,
    }
