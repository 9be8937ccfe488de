"""Usage, meters and billing credits (beyond the contract)."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    PlainSerializer,
    Strict,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from billhook.models.admin import IdempotencyKey, StoredMetadata
from billhook.models.catalog_fields import Currency, Name
from billhook.models.mirrored import LISTS
from billhook.models.queries import Moment, OfSubject, Query
from billhook.models.runtime import BillingSubject
from billhook.models.wire import (
    NO_NUL,
    TRIM,
    Id,
    Metadata,
    Request,
    Timestamp,
    WireModel,
    leave_room,
    without_null,
)
from billhook.settings import Environment

UsageStatus = Literal["pending", "waiting", "sending", "sent", "failed", "uncertain"]
EventName = Annotated[
    str,
    StringConstraints(min_length=1, max_length=100),
    TRIM,
    NO_NUL,
    Field(examples=["api_calls"]),
]
"""The event name of a meter."""
Identifier = Annotated[str, StringConstraints(min_length=1, max_length=100), TRIM, NO_NUL]
_OURS = 1  # insforge_credit_request
_LARGEST = 999_999_999_999_999
MOST_RECORDED = 1_000
_Key = Annotated[str, StringConstraints(min_length=1, max_length=100), NO_NUL]
_Text = Annotated[str, StringConstraints(max_length=500), NO_NUL]


StrictMoment = Annotated[Moment, Strict(False)]
"""A time in a body, where types are strict."""


def _number(value: Decimal) -> int | float:
    return int(value) if value == value.to_integral_value() else float(value)


Quantity = Annotated[
    Decimal,
    PlainSerializer(_number, return_type=int | float),
    WithJsonSchema({"type": "number"}),
]
"""A sum of usage, which may be larger than any single value."""


def _need_owner(subject: object, customer: object) -> None:
    if (subject is None) == (customer is None):
        raise PydanticCustomError(
            "owner", "either subject or customerId is required", {"path": "subject"}
        )


class UsageInput(Request):
    """Usage to record, for a subject or for a Stripe customer."""

    meter: EventName
    subject: BillingSubject | None = Field(None, json_schema_extra=without_null)
    customer_id: Id | None = Field(None, json_schema_extra=without_null)
    value: Annotated[int, Field(ge=-_LARGEST, le=_LARGEST, examples=[3])] = 1
    payload: Annotated[dict[_Key, _Text], Field(max_length=50)] | None = Field(
        None, json_schema_extra=without_null, description="Additional keys for the meter event."
    )
    occurred_at: StrictMoment | None = Field(
        None, json_schema_extra=without_null, description="When the usage occurred. Default: now."
    )
    identifier: Identifier | None = Field(
        None,
        json_schema_extra=without_null,
        description="Usage with an identifier that already exists is not recorded again.",
    )

    @model_validator(mode="after")
    def _has_an_owner(self) -> Self:
        _need_owner(self.subject, self.customer_id)
        return self


class RecordUsage(Request):
    """Body of `POST …/usage`."""

    usage: Annotated[list[UsageInput], Field(min_length=1, max_length=MOST_RECORDED)]


class RecordedUsage(WireModel):
    """The 201 response of `POST …/usage`.

    Attributes:
        recorded: number of new entries.
        duplicates: number of entries that were already recorded.
    """

    recorded: int
    duplicates: int


def _texts_or_none(value: object) -> dict[str, str] | None:
    return value if isinstance(value, dict) else None


class Usage(WireModel):
    """A row of `payments.usage`."""

    id: int
    environment: Environment
    meter: str
    subject_type: str | None
    subject_id: str | None
    customer_id: str | None
    value: int
    payload: Annotated[dict[str, str] | None, BeforeValidator(_texts_or_none)]
    occurred_at: Timestamp
    identifier: str
    status: UsageStatus
    sent_at: Timestamp | None
    sent_as: str | None
    last_error: str | None
    created_at: Timestamp


class UsageList(WireModel):
    """The 200 response of `GET …/usage`."""

    usage: list[Usage]


class UsageQuery(OfSubject):
    """Query of `GET …/usage`."""

    status: UsageStatus | None = None
    meter: EventName | None = None


class UsageTotalsQuery(Query):
    """Query of `GET …/usage/totals`."""

    subject_type: Annotated[str, StringConstraints(min_length=1, max_length=100), TRIM, NO_NUL]
    subject_id: Annotated[str, StringConstraints(min_length=1, max_length=255), TRIM, NO_NUL]
    meter: EventName | None = None


class UsageTotal(WireModel):
    """A row of `payments.usage_totals`: what a subject has used of a meter in its current period.

    Attributes:
        subscription_id: the subscription whose period it is; null for a calendar month.
        quantity: what Stripe bills, according to the meter's formula.
        unsent: the part of `sum` that has not been sent to Stripe yet.
    """

    environment: Environment
    subject_type: str
    subject_id: str
    meter: str
    subscription_id: str | None
    period_start: Timestamp
    period_end: Timestamp
    quantity: Quantity
    count: int
    sum: Quantity
    last: int | None
    unsent: Quantity


class UsageTotals(WireModel):
    """The 200 response of `GET …/usage/totals`."""

    totals: list[UsageTotal]


class UsageState(WireModel):
    """The state of sending usage to Stripe.

    Attributes:
        unsent: rows that will be sent, excluding `waiting` ones. At most a million are counted.
        lag_seconds: how long the oldest unsent row has been waiting.
        waiting: rows whose subject has no Stripe customer yet. At most a million are counted.
        failed: rows that Stripe rejected.
        uncertain: rows that Stripe may or may not have counted.
        error_reports: events of the last 30 days in which Stripe reports usage that it could not
            count.
    """

    environment: Environment
    unsent: int
    lag_seconds: int
    waiting: int
    failed: int
    uncertain: int
    error_reports: int


class UsageStateResponse(WireModel):
    """The 200 response of `GET …/usage/status`."""

    usage: UsageState


class RetryUsage(Request):
    """Body of `POST …/usage/retry`."""

    status: Literal["failed", "uncertain"] = "failed"
    ids: Annotated[list[int], Field(min_length=1, max_length=1_000)] | None = Field(
        None, json_schema_extra=without_null, description="Only these rows."
    )
    meter: EventName | None = Field(
        None, json_schema_extra=without_null, description="Only usage of this meter."
    )
    counted: bool = Field(
        False,
        description="Stripe has counted the usage, so don't send it again. Only for `uncertain` "
        "usage.",
    )
    limit: Annotated[int, Field(ge=1, le=10_000)] = 1_000

    @model_validator(mode="after")
    def _only_uncertain_may_be_counted(self) -> Self:
        if self.counted and self.status != "uncertain":
            raise PydanticCustomError(
                "counted", "is only for usage whose status is uncertain", {"path": "counted"}
            )
        return self


class RetriedUsage(WireModel):
    """The 200 response of `POST …/usage/retry`: the number of rows."""

    retried: int


class CreateMeter(Request):
    """Body of `POST …/meters`."""

    event_name: EventName
    display_name: Annotated[Name, Field(examples=["API calls"])]
    formula: Literal["count", "last", "sum"] = "sum"
    customer_key: _Key | None = Field(None, json_schema_extra=without_null)
    value_key: _Key | None = Field(None, json_schema_extra=without_null)
    event_time_window: Literal["day", "hour"] | None = Field(None, json_schema_extra=without_null)
    idempotency_key: IdempotencyKey | None = Field(None, json_schema_extra=without_null)


Meter = LISTS["meters"].row


class MeterResponse(WireModel):
    """One meter."""

    meter: Meter  # type: ignore[valid-type]


class GrantCredits(Request):
    """Body of `POST …/credit-grants`: credits for a subject or a Stripe customer."""

    subject: BillingSubject | None = Field(None, json_schema_extra=without_null)
    customer_id: Id | None = Field(None, json_schema_extra=without_null)
    amount: Annotated[int, Field(gt=0, le=2**53 - 1, examples=[5000])]
    currency: Currency
    category: Literal["paid", "promotional"] = "paid"
    name: Annotated[str, StringConstraints(min_length=1, max_length=100), TRIM, NO_NUL] | None = (
        Field(None, json_schema_extra=without_null)
    )
    price_ids: Annotated[list[Id], Field(min_length=1, max_length=20)] | None = Field(
        None,
        json_schema_extra=without_null,
        description="The metered prices that the credits apply to. Default: all.",
    )
    priority: Annotated[int, Field(ge=0, le=100)] | None = Field(
        None, json_schema_extra=without_null
    )
    effective_at: StrictMoment | None = Field(None, json_schema_extra=without_null)
    expires_at: StrictMoment | None = Field(None, json_schema_extra=without_null)
    metadata: Metadata | None = Field(None, json_schema_extra=without_null)
    idempotency_key: IdempotencyKey

    @model_validator(mode="after")
    def _has_an_owner_and_leaves_room_for_ours(self) -> Self:
        _need_owner(self.subject, self.customer_id)
        leave_room(self.metadata, _OURS)
        return self


class CreditGrant(WireModel):
    """Credits granted to a customer. Amounts are in the currency's minor unit."""

    credit_grant_id: str
    customer_id: str
    amount: int
    currency: str
    category: str
    name: str | None
    price_ids: list[str] | None
    priority: int | None
    effective_at: Timestamp | None
    expires_at: Timestamp | None
    voided_at: Timestamp | None
    metadata: StoredMetadata
    created_at: Timestamp


class CreditBalance(WireModel):
    """A customer's remaining credits in one currency, in its minor unit.

    Attributes:
        available: the amount that can be applied to upcoming invoices.
        ledger: the credits' balance, without subtracting what invoices have reserved.
    """

    currency: str
    available: int
    ledger: int


class CreditGrantResponse(WireModel):
    """The 201 response of `POST …/credit-grants`."""

    credit_grant: CreditGrant


class Credits(WireModel):
    """The 200 response of `GET …/credit-grants`: the newest 100 grants, and the balances."""

    credit_grants: list[CreditGrant]
    balances: list[CreditBalance]


class CreditsQuery(Query):
    """Query of `GET …/credit-grants`: of a subject, or of a customer."""

    subject_type: (
        Annotated[str, StringConstraints(min_length=1, max_length=100), TRIM, NO_NUL] | None
    ) = None
    subject_id: (
        Annotated[str, StringConstraints(min_length=1, max_length=255), TRIM, NO_NUL] | None
    ) = None
    customer: Id | None = None

    @model_validator(mode="after")
    def _has_an_owner(self) -> Self:
        if (self.subject_type is None) != (self.subject_id is None):
            raise PydanticCustomError(
                "subject",
                "subjectType and subjectId must be given together",
                {"path": "subjectId" if self.subject_id is None else "subjectType"},
            )
        if (self.subject_id is None) == (self.customer is None):
            raise PydanticCustomError(
                "owner", "either a subject or a customer is required", {"path": "customer"}
            )
        return self
