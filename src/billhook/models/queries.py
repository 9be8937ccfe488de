"""Query strings of admin routes: which part of a list (contract section 3.2).

Times are UTC.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)
from pydantic_core import PydanticCustomError

from billhook.models.wire import NO_NUL, TRIM, Id, WireModel


def _moment(value: object) -> object:
    if not isinstance(value, str) or not _ISO.fullmatch(value):
        raise PydanticCustomError("moment", "must be a time such as 2026-05-28T20:26:42Z")
    return value


def _as_utc(value: datetime) -> datetime:
    # The first and the last year are a day too close to what Python can express.
    if not 1 < value.year < 9999:
        raise PydanticCustomError("moment", "must be a time from the year 2 to 9998")
    return value.astimezone(UTC)


# With its zone: a time without one would mean another moment on each server.
_ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:\d\d)")
Moment = Annotated[datetime, BeforeValidator(_moment), AfterValidator(_as_utc)]
Cursor = Annotated[str, StringConstraints(min_length=1, max_length=4000)]
Search = Annotated[str, StringConstraints(min_length=1, max_length=200), TRIM, NO_NUL]


class Query(WireModel):
    """A query string: text that is read as numbers and times, no unknown keys."""

    model_config = ConfigDict(
        extra="forbid", validate_by_name=False, validate_by_alias=True, frozen=True
    )


class PricesQuery(Query):
    """Query of `GET …/catalog/prices`."""

    product_id: Id | None = None


class NoQuery(Query):
    """A route without a query string."""


class ListQuery(Query):
    """The size and start of a page. `startingAfter` is the cursor in the response's
    `Link: <…>; rel="next"`, `endingBefore` that in its `rel="prev"`."""

    limit: Annotated[int, Field(ge=1, le=100)] = 50
    starting_after: Cursor | None = None
    ending_before: Cursor | None = None

    @model_validator(mode="after")
    def _one_direction(self) -> Self:
        if self.starting_after is not None and self.ending_before is not None:
            raise PydanticCustomError(
                "direction",
                "startingAfter and endingBefore must not be given together",
                {"path": "endingBefore"},
            )
        return self


class CustomersQuery(ListQuery):
    """Query of `GET …/customers`. `search`: the beginning of an email or name, or a customer's
    id. `since` ≤ when it was created < `until`."""

    since: Moment | None = None
    until: Moment | None = None
    email: Id | None = None
    customer: Id | None = None
    search: Search | None = None
    order: Literal["name", "newest", "oldest"] = "name"


class OfSubject(ListQuery):
    """Of one subject, or of one customer."""

    subject_type: (
        Annotated[str, StringConstraints(min_length=1, max_length=500), TRIM, NO_NUL] | None
    ) = None
    subject_id: (
        Annotated[str, StringConstraints(min_length=1, max_length=500), TRIM, NO_NUL] | None
    ) = None
    customer: Id | None = None

    @model_validator(mode="after")
    def _whole_subject(self) -> Self:
        if (self.subject_type is None) != (self.subject_id is None):
            raise PydanticCustomError(
                "subject",
                "subjectType and subjectId must be given together",
                {"path": "subjectId" if self.subject_id is None else "subjectType"},
            )
        return self


TransactionType = Literal["one_time_payment", "subscription_invoice", "refund", "failed_payment"]
TransactionStatus = Literal["succeeded", "failed", "pending", "refunded", "partially_refunded"]
SubscriptionStatus = Literal[
    "incomplete",
    "incomplete_expired",
    "trialing",
    "active",
    "past_due",
    "canceled",
    "unpaid",
    "paused",
]
ProcessingStatus = Literal["pending", "processed", "failed", "ignored"]


TransactionFigure = Literal["payments", "refunds", "failed", "recovered", "lost"]
Currency = Annotated[str, StringConstraints(pattern=r"^[a-z]{3}$")]


class TransactionsQuery(OfSubject):
    """Query of `GET …/transactions`. `since` ≤ time < `until`. `search`: a Stripe id of the
    payment, the customer's email, or its subject as `type:id`. `figure`: only what this figure of
    `GET …/business` counts; `since` and `until` then apply to the time at which it counts."""

    figure: TransactionFigure | None = None
    currency: Currency | None = None
    type: TransactionType | None = None
    status: TransactionStatus | None = None
    since: Moment | None = None
    until: Moment | None = None
    search: Search | None = None
    order: Literal["newest", "oldest", "largest"] = "newest"

    @model_validator(mode="after")
    def _by_time(self) -> Self:
        if self.figure is not None and self.order == "largest":
            raise PydanticCustomError(
                "order", "order=largest and figure must not be given together", {"path": "order"}
            )
        return self


class SubscriptionsQuery(OfSubject):
    """Query of `GET …/subscriptions`. `search`: its id or the customer's, the customer's email, or
    its subject as `type:id`. `order=renewal`: the period that ends soonest comes first.
    `renewsFrom` ≤ the end of the period < `renewsUntil`: only paid subscriptions that are going to
    renew then. `paying`: only those that count in MRR, or only the others."""

    status: SubscriptionStatus | None = None
    currency: Currency | None = None
    paying: bool | None = None
    renews_from: Moment | None = None
    renews_until: Moment | None = None
    search: Search | None = None
    order: Literal["changed", "renewal"] = "changed"


class ProductsQuery(ListQuery):
    """Which products. `search`: what the name begins with, an id of the product or of one of its
    prices, or a price's lookup key."""

    search: Search | None = None
    active: bool | None = None


class EventsQuery(ListQuery):
    """Query of `GET …/webhook-events`. `deadLetter=true`: only failed events that are no longer
    retried automatically. `search`: the id of the event or of its object, or a type, also with a
    wildcard: `customer.subscription.*`."""

    type: Id | None = None
    status: ProcessingStatus | None = None
    object_id: Id | None = None
    dead_letter: bool = False
    since: Moment | None = None
    until: Moment | None = None
    search: Search | None = None
    order: Literal["newest", "oldest"] = "newest"
