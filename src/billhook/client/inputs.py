"""The inputs of methods, in Python's style, and their conversion to a body or query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from enum import Enum
from typing import Any, Final, Literal, NotRequired, TypedDict
from uuid import uuid4

from pydantic.alias_generators import to_camel

from billhook.models import iso


class _Unset(Enum):
    UNSET = "unset"

    def __repr__(self) -> str:
        return "UNSET"


Unset = Literal[_Unset.UNSET]
UNSET: Final = _Unset.UNSET
"""Keep the value (None removes it)."""


class SubjectInput(TypedDict):
    """Who is billed."""

    type: str
    id: str


class AssignmentInput(TypedDict):
    """A customer, by `customer_id` or by `email`, and the subject that it pays for."""

    customer_id: NotRequired[str]
    email: NotRequired[str]
    subject: SubjectInput


class ActAsInput(TypedDict):
    """For whom an admin key creates a session: the claims that the user's token would have, and
    the role (default `authenticated`)."""

    claims: NotRequired[Mapping[str, Any]]
    role: NotRequired[Literal["anon", "authenticated"]]


class PriceDataInput(TypedDict):
    """An amount of your own, in the currency's minor unit; only with an admin key. It has either
    a `name` or a `product_id`."""

    currency: str
    unit_amount: int
    name: NotRequired[str]
    description: NotRequired[str]
    product_id: NotRequired[str]
    recurring: NotRequired[RecurringInput]
    tax_behavior: NotRequired[Literal["exclusive", "inclusive", "unspecified"]]


class AdjustableQuantityInput(TypedDict):
    """The bounds of a quantity that the buyer may change."""

    minimum: NotRequired[int]
    maximum: NotRequired[int]


class LineItemInput(TypedDict):
    """A price, by its id or its lookup key, and a quantity (default 1)."""

    price_id: NotRequired[str]
    lookup_key: NotRequired[str]
    price_data: NotRequired[PriceDataInput]
    quantity: NotRequired[int]
    adjustable_quantity: NotRequired[AdjustableQuantityInput]


OptionsInput = Mapping[str, Any]
"""Options of a checkout (docs/how-to/checkout-options.md), with names in Python's style:
`{"allow_promotion_codes": True}`. A `datetime` is a time."""


class ItemChangeInput(TypedDict):
    """A new price, by its id or its lookup key, or a new quantity of an item of a subscription."""

    price_id: NotRequired[str]
    lookup_key: NotRequired[str]
    quantity: NotRequired[int]
    subscription_item_id: NotRequired[str]


class AfterCompletionInput(TypedDict):
    """What the portal shows after the action of a `FlowDataInput`: `return_url` goes with the type
    `redirect`, `message` with `hosted_confirmation`."""

    type: Literal["redirect", "hosted_confirmation", "portal_homepage"]
    return_url: NotRequired[str]
    message: NotRequired[str]


class FlowDataInput(TypedDict):
    """The one action of a portal session."""

    type: Literal[
        "payment_method_update",
        "subscription_cancel",
        "subscription_update",
        "subscription_update_confirm",
    ]
    subscription_id: NotRequired[str]
    items: NotRequired[Sequence[ItemChangeInput]]
    after_completion: NotRequired[AfterCompletionInput]


class RecurringInput(TypedDict):
    """How often a price is charged."""

    interval: Literal["day", "week", "month", "year"]
    interval_count: NotRequired[int]


class RefundLineInput(TypedDict):
    """A line of a checkout or invoice, by its id or its price's id, and a quantity (default: all
    units that are not refunded)."""

    line_item_id: NotRequired[str]
    price_id: NotRequired[str]
    quantity: NotRequired[int]


class UsageEntry(TypedDict):
    """Usage of a subject, or of a Stripe customer: a value (default 1) of a meter, which is named
    by its event name."""

    meter: str
    subject: NotRequired[SubjectInput]
    customer_id: NotRequired[str]
    value: NotRequired[int]
    payload: NotRequired[Mapping[str, str]]
    occurred_at: NotRequired[datetime]
    identifier: NotRequired[str]


def camel(given: Mapping[str, Any]) -> dict[str, Any]:
    """An input in the API's style, at every level."""
    return {to_camel(name): deep_camel(value) for name, value in given.items()}


def deep_camel(value: Any) -> Any:
    """A nested input in the API's style."""
    if isinstance(value, Mapping):
        return camel(value)
    if isinstance(value, list | tuple):
        return [deep_camel(each) for each in value]
    return iso(value) if isinstance(value, datetime) else value


def usage_body(entry: UsageEntry) -> dict[str, Any]:
    """An entry in the API's style, with an identifier."""
    names = {"customer_id": "customerId", "occurred_at": "occurredAt"}
    body = {
        names.get(name, name): iso(value) if isinstance(value, datetime) else value
        for name, value in entry.items()
    }
    return {"identifier": str(uuid4()), **body}


def given(**fields: object) -> dict[str, Any]:
    """The fields that were given: neither None nor UNSET."""
    return {name: value for name, value in fields.items() if value not in (None, UNSET)}


def changed(fields: Mapping[str, object]) -> dict[str, Any]:
    """The fields that are to change; None is a value."""
    return {name: value for name, value in fields.items() if value is not UNSET}


def query(**fields: str | int | date | None) -> dict[str, str]:
    """The query parameters that were given."""
    return {
        name: iso(value) if isinstance(value, datetime) else str(value)
        for name, value in fields.items()
        if value is not None
    }
