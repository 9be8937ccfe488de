"""Ids in Stripe's format: a prefix for the kind of object, then random base62 characters."""

import os
from collections.abc import Callable

ALPHABET = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
BASE62 = bytes(ALPHABET[i % 62] for i in range(256))

# Kind of object -> prefix, number of random characters.
FORMS: dict[str, tuple[str, int]] = {
    "account": ("acct_1", 15),
    "balance_transaction": ("txn_3", 23),
    "billing_portal.configuration": ("bpc_1", 23),
    "billing_portal.session": ("bps_1", 23),
    "charge": ("ch_3", 23),
    "customer": ("cus_", 14),
    "dispute": ("du_1", 23),
    "entitlements.active_entitlement": ("ent_", 24),
    "entitlements.feature": ("feat_", 24),
    "event": ("evt_1", 23),
    "invoice": ("in_1", 23),
    "invoice_payment": ("inpay_1", 23),
    "invoiceitem": ("ii_1", 23),
    "item": ("li_1", 23),
    "line_item": ("il_1", 23),
    "mandate": ("mandate_1", 23),
    "payment_intent": ("pi_3", 23),
    "payment_method": ("pm_1", 23),
    "payment_record": ("pr_1", 23),
    "price": ("price_1", 23),
    "product": ("prod_", 14),
    "product_feature": ("prodft_", 14),
    "promotion_code": ("promo_1", 23),
    "refund": ("re_3", 23),
    "request": ("req_", 14),
    "setup_attempt": ("setatt_1", 23),
    "setup_intent": ("seti_1", 23),
    "subscription": ("sub_1", 23),
    "subscription_item": ("si_", 14),
    "test_helpers.test_clock": ("clock_1", 23),
    "webhook_endpoint": ("we_1", 23),
}


class Ids:
    def __init__(self, entropy: Callable[[int], bytes] = os.urandom) -> None:
        self.entropy = entropy

    def random(self, length: int) -> str:
        return self.entropy(length).translate(BASE62).decode()

    def new(self, kind: str) -> str:
        prefix, length = FORMS[kind]
        return prefix + self.random(length)

    def checkout_session(self, livemode: bool) -> str:
        return f"cs_{'live' if livemode else 'test'}_a1{self.random(56)}"

    def secret(self, owner: str) -> str:
        """The client secret of an object."""
        return f"{owner}_secret_{self.random(25)}"

    def signing_secret(self) -> str:
        return "whsec_" + self.random(32)
