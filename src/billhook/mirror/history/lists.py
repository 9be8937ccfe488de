"""The lists that an import reads, and what it applies of their objects."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from billhook.kinds.reading import StripeObject
from billhook.projections import Event, fetched


@dataclass(frozen=True, slots=True)
class Listing:
    """One of Stripe's lists.

    Attributes:
        path: where it is.
        events: an object, and the time of Stripe's response, as the events that would have
            reported it.
        params: what is requested, besides the range.
    """

    path: str
    events: Callable[[StripeObject, int], Iterator[Event]]
    params: Mapping[str, Any] = field(default_factory=dict)


# A charge contains its PaymentIntent: together they report the payment and its failed attempts, so
# that the list of PaymentIntents only adds those that were never charged.
LISTINGS: Mapping[str, Listing] = {
    "charges": Listing("/v1/charges", fetched.of_charge, {"expand": ["data.payment_intent"]}),
    "payment_intents": Listing("/v1/payment_intents", fetched.of_uncharged_intent),
    "refunds": Listing("/v1/refunds", fetched.of_refund),
    "checkout_sessions": Listing(
        "/v1/checkout/sessions",
        fetched.of_session,
        {"status": "complete", "expand": ["data.payment_intent", "data.subscription"]},
    ),
    "invoices": Listing("/v1/invoices", fetched.of_invoice),
    "invoice_payments": Listing("/v1/invoice_payments", fetched.of_invoice_payment),
}
"""By name, in the order in which they are shown."""
