"""Links into Stripe's own dashboard."""

from __future__ import annotations

from dataclasses import dataclass

from billhook.paths import encoded
from billhook.settings import Environment

_SITE = "https://dashboard.stripe.com"
# What an object's id begins with, and the page that shows it. Objects without a page of their own
# (a Checkout Session, a refund) are shown on their payment's.
_PAGES = {
    "pi_": "payments",
    "ch_": "payments",
    "py_": "payments",
    "in_": "invoices",
    "cus_": "customers",
    "sub_": "subscriptions",
    "prod_": "products",
    "price_": "prices",
    "evt_": "events",
    "we_": "webhooks",
}


@dataclass(frozen=True, slots=True)
class StripeLinks:
    """`environment` None: it is not Stripe that we talk to, so there is nothing to link to."""

    environment: Environment | None

    def of(self, object_id: str | None) -> str | None:
        """The page of an object, if it has one."""
        if self.environment is None or not object_id:
            return None
        prefix, underscore, _ = object_id.partition("_")
        page = _PAGES.get(prefix + underscore)
        mode = "/test" if self.environment == "test" else ""
        return f"{_SITE}{mode}/{page}/{encoded(object_id)}" if page else None
