"""Links to Stripe's Dashboard, and to the pages of this one."""

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


# The same for this dashboard, within an environment.
_OURS = {
    "pi": "transactions",
    "ch": "transactions",
    "py": "transactions",
    "re": "transactions",
    "pyr": "transactions",
    "cs": "transactions",
    "in": "invoices",
    "cus": "customers",
    "sub": "subscriptions",
    "prod": "catalog",
    "evt": "events",
    "dp": "disputes",
    "du": "disputes",
    "pdp": "disputes",
}


def page_of(object_id: str | None) -> str | None:
    """The page of an object in this dashboard, without its environment."""
    prefix, underscore, rest = (object_id or "").partition("_")
    page = _OURS.get(prefix) if underscore and rest else None
    return f"/{page}/{encoded(object_id or '')}" if page else None


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
