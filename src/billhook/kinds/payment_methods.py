"""Payment methods of customers: cards and bank accounts that can be charged again.

One that was detached can never be attached again, so its row is removed. Those without a customer
are not mirrored. Stripe lists them for one customer at a time only: a sync reads the default one of
each customer, which the list of customers shows, and events report the others.
"""

from __future__ import annotations

from billhook.kinds import kind
from billhook.kinds.kind import Kind, Listed
from billhook.kinds.reading import (
    StripeObject,
    Subject,
    hash_of,
    id_of,
    small_integer,
    subject_of,
    text,
)


def _details(method: StripeObject) -> StripeObject:
    """What is particular to its type: `card`, `sepa_debit` and so on."""
    return hash_of(method.get(str(method.get("type"))))


def _has_customer(method: StripeObject) -> bool:
    return id_of(method.get("customer")) is not None


def _subject(method: StripeObject) -> Subject | None:
    return subject_of(method.get("metadata"))


PAYMENT_METHOD = Kind(
    name="payment_method",
    table="stripe_payment_methods",
    key="payment_method_id",
    columns=(
        kind.reference("customer_id", "customer", required=True),
        kind.required("type"),
        kind.computed("brand", "text", lambda method: text(_details(method).get("brand"))),
        kind.computed("last4", "text", lambda method: text(_details(method).get("last4"))),
        kind.computed(
            "exp_month", "integer", lambda method: small_integer(_details(method).get("exp_month"))
        ),
        kind.computed(
            "exp_year", "integer", lambda method: small_integer(_details(method).get("exp_year"))
        ),
        kind.metadata(),
        kind.time("provider_created_at", "created"),
    ),
    path="/v1/payment_methods",
    has_list=False,
    changed_by=(
        "payment_method.attached",
        "payment_method.updated",
        "payment_method.automatically_updated",
    ),
    deleted_by=("payment_method.detached",),
    customer="customer_id",
    subject=_subject,
    readable=_has_customer,
    listed=Listed(
        about="Payment methods that customers have saved.",
        references=("customer_id",),
        choice="type",
        choices=(),
        users_read=True,
        summary=(
            "customer_id",
            "type",
            "brand",
            "last4",
            "exp_month",
            "exp_year",
            "provider_created_at",
        ),
    ),
)
