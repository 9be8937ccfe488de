"""The account of an API key."""

import hashlib

from billhook_sandbox.store import DataSet, Json

CREATED_AT = 1735689600
"""All accounts were created on 1 January 2025."""


def account_id(name: str) -> str:
    """The same for all keys of an account, in both modes, even after a reset."""
    return "acct_1" + hashlib.sha256(name.encode()).hexdigest()[:15].upper()


def account_name(data: DataSet) -> str:
    """What customers see: the name set with the `account` control, else one made of the key."""
    named = data.get("_account", data.account)
    return str(named["name"]) if named else f"Sandbox {data.account}"


def set_account_name(data: DataSet, name: str) -> None:
    data.put({"id": data.account, "object": "_account", "name": name})


def account_object(data: DataSet) -> Json:
    return {
        "id": account_id(data.account),
        "object": "account",
        "business_profile": {
            "annual_revenue": None,
            "estimated_worker_count": None,
            "mcc": "5734",
            "name": account_name(data),
            "product_description": None,
            "support_address": None,
            "support_email": None,
            "support_phone": None,
            "support_url": None,
            "url": None,
        },
        "business_type": "company",
        "capabilities": {"card_payments": "active", "sepa_debit_payments": "active"},
        "charges_enabled": True,
        "controller": {"type": "account"},
        "country": "US",
        "created": CREATED_AT,
        "default_currency": "usd",
        "details_submitted": True,
        "email": f"{data.account.lower()}@sandbox.example",
        "metadata": {},
        "payouts_enabled": True,
        "settings": settings(account_name(data)),
        "type": "standard",
    }


def settings(name: str) -> Json:
    return {
        "branding": {"icon": None, "logo": None, "primary_color": None, "secondary_color": None},
        "card_payments": {
            "statement_descriptor_prefix": None,
            "statement_descriptor_prefix_kana": None,
            "statement_descriptor_prefix_kanji": None,
        },
        "dashboard": {"display_name": name, "timezone": "Etc/UTC"},
        "payments": {
            "statement_descriptor": "BILLHOOK SANDBOX",
            "statement_descriptor_kana": None,
            "statement_descriptor_kanji": None,
        },
    }
