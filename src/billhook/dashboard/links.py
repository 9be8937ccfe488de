"""Links to Stripe's Dashboard."""

from __future__ import annotations

from dataclasses import dataclass

from billhook.paths import encoded
from billhook.settings import Environment

_SITE = "https://dashboard.stripe.com"
# Prefixes of ids and the pages that show these objects. Objects without a page
# (Checkout Sessions, refunds) are shown on the page of their payment.
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
    """`environment` is None if the server does not use Stripe itself, so there are no links."""

    environment: Environment | None

    def of(self, object_id: str | None) -> str | None:
        """The page of an object, if it has one."""
        if self.environment is None or not object_id:
            return None
        prefix, underscore, _ = object_id.partition("_")
        page = _PAGES.get(prefix + underscore)
        mode = "/test" if self.environment == "test" else ""
        return f"{_SITE}{mode}/{page}/{encoded(object_id)}" if page else None
