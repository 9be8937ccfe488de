"""The figures of a business (beyond the contract): docs/explanation/business-figures.md defines
each. Amounts are minor units; days are UTC."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from billhook.models.queries import Currency, ListQuery, Query
from billhook.models.wire import Id, WireModel
from billhook.settings import Environment

PeriodName = Literal[
    "today",
    "7d",
    "30d",
    "90d",
    "12m",
    "this_week",
    "last_week",
    "this_month",
    "last_month",
    "this_quarter",
    "last_quarter",
    "this_year",
    "last_year",
]
Bucket = Literal["day", "week", "month"]
MovementKind = Literal["new", "reactivation", "expansion", "contraction", "churn"]
LONGEST = 1096
"""Days of a period: three years, one of them a leap year."""


def _day(value: object) -> object:
    try:
        return date.fromisoformat(value) if isinstance(value, str) and len(value) == 10 else None
    except ValueError:
        return None


def _some_day(value: object) -> object:
    if (found := value if isinstance(value, date) else _day(value)) is None:
        raise PydanticCustomError("day", "must be a day such as 2026-05-28")
    if not date(2000, 1, 1) <= found <= date(2999, 12, 31):  # type: ignore[operator]
        raise PydanticCustomError("day", "must be a day from 2000 to 2999")
    return found


Day = Annotated[date, BeforeValidator(_some_day)]


class BusinessQuery(Query):
    """Query of `GET …/business`: a `period` (default `30d`), or the days `since` to `until`. A
    period that is not over ends today. `bucket`: the length of its parts; by default, it depends on
    the length of the period."""

    period: PeriodName | None = None
    since: Day | None = None
    until: Day | None = None
    bucket: Bucket | None = None

    @model_validator(mode="after")
    def _one_period(self) -> Self:
        if (self.since is None) != (self.until is None):
            raise PydanticCustomError(
                "period",
                "since and until must be given together",
                {"path": "until" if self.until is None else "since"},
            )
        if self.since is None or self.until is None:
            return self
        if self.period is not None:
            raise PydanticCustomError(
                "period", "period and since must not be given together", {"path": "period"}
            )
        if not 0 <= (self.until - self.since).days < LONGEST:
            raise PydanticCustomError(
                "period",
                f"until must not be before since, and at most {LONGEST} days are possible",
                {"path": "until"},
            )
        return self


class Flow(WireModel):
    """What happened in a period, in one currency.

    Attributes:
        payments: the total amount of successful payments, including those refunded later.
        refunds: the total amount refunded.
        lost: the total amount of lost disputes, on the days on which they were created.
        net_volume: `payments` − `refunds` − `lost`.
        succeeded: the number of payments in `payments`.
        refunded: the number of refunds in `refunds`.
        failed: the number of payments that failed and are still unpaid.
        recovered: the number of payments that succeeded after they had failed.
        recovered_amount: their total amount, which is part of `payments`.
        disputes_opened: the number of new disputes, including inquiries.
        amount_disputed: their total amount.
        disputes_lost: the number of payments in `lost`.
        mrr_start, mrr_end: monthly recurring revenue before the first day, and after the last.
        mrr_new, mrr_reactivation, mrr_expansion: by how much it grew.
        mrr_contraction, mrr_churn: by how much it fell, as negative amounts. `mrr_start` and all
            five are `mrr_end`.
        subscribers_start, subscribers_end: the number of customers with MRR.
        subscribers_new, subscribers_reactivated, subscribers_churned: how it changed.
        expanded, contracted: how many movements `mrr_expansion` and `mrr_contraction` consist of.
        subscriber_churn_rate: `subscribers_churned` / (`subscribers_start` + `subscribers_new`).
        mrr_churn_rate: what `mrr_contraction` and `mrr_churn` lost, / `mrr_start`.
        arpu: `mrr_end` / `subscribers_end`.
    """

    payments: int = 0
    refunds: int = 0
    lost: int = 0
    net_volume: int = 0
    succeeded: int = 0
    refunded: int = 0
    failed: int = 0
    recovered: int = 0
    recovered_amount: int = 0
    disputes_opened: int = 0
    amount_disputed: int = 0
    disputes_lost: int = 0
    mrr_start: int = 0
    mrr_new: int = 0
    mrr_reactivation: int = 0
    mrr_expansion: int = 0
    mrr_contraction: int = 0
    mrr_churn: int = 0
    mrr_end: int = 0
    subscribers_start: int = 0
    subscribers_new: int = 0
    subscribers_reactivated: int = 0
    subscribers_churned: int = 0
    subscribers_end: int = 0
    expanded: int = 0
    contracted: int = 0
    subscriber_churn_rate: float | None = None
    mrr_churn_rate: float | None = None
    arpu: int | None = None


class FlowOfBucket(Flow):
    """The same of one day, week or month of the period."""

    since: date
    until: date


class Renewals(WireModel):
    """Paid subscriptions whose period ends soon, and the amount that they renew for: before tax,
    and after discounts that apply forever."""

    number: int = 0
    amount: int = 0


class BusinessOfCurrency(WireModel):
    """The figures of one currency.

    Attributes:
        total: the whole period.
        previous: the period that it is compared with.
        buckets: the parts of the period, in order.
        previous_buckets: the parts of the previous period, in order.
        paying_subscriptions: the current number of paid subscriptions.
        renewals_7_days: those that renew within 7 days from now.
        renewals_30_days: those that renew within 30 days from now.
    """

    currency: str
    total: Flow
    previous: Flow
    buckets: list[FlowOfBucket]
    previous_buckets: list[FlowOfBucket]
    paying_subscriptions: int = 0
    renewals_7_days: Renewals = Field(default_factory=Renewals, alias="renewals7Days")
    renewals_30_days: Renewals = Field(default_factory=Renewals, alias="renewals30Days")


class NewCustomers(WireModel):
    """The number of customers created in the period, in the one before, and in their parts."""

    total: int
    previous: int
    buckets: list[int]
    previous_buckets: list[int]


class Business(WireModel):
    """The figures of an environment for a period.

    Attributes:
        period: its name; null if the request named days.
        since: its first day.
        until: its last day.
        previous_since: the first day of the period that it is compared with.
        previous_until: the last day of that period.
        currencies: the currency with the most successful payments comes first.
        subscriptions: the current number of subscriptions, by status.
        trialing_customers: how many customers have a subscription in its trial.
    """

    environment: Environment
    period: PeriodName | None
    since: date
    until: date
    previous_since: date
    previous_until: date
    bucket: Bucket
    currencies: list[BusinessOfCurrency]
    new_customers: NewCustomers
    subscriptions: dict[str, int]
    trialing_customers: int


class BusinessResponse(WireModel):
    """The 200 response of `GET …/business`."""

    business: Business


class MovementsQuery(ListQuery):
    """Query of `GET …/mrr-movements`. `since` ≤ day ≤ `until`."""

    kind: MovementKind | None = None
    currency: Currency | None = None
    customer: Id | None = None
    since: Day | None = None
    until: Day | None = None


class MrrMovement(WireModel):
    """How a customer's MRR changed within a day.

    Attributes:
        amount: by how much; negative for contraction and churn.
        mrr: the customer's MRR when the day ended.
        customer_email: as mirrored.
        customer_name: as mirrored.
    """

    environment: Environment
    customer_id: str
    customer_email: str | None
    customer_name: str | None
    currency: str
    day: date
    kind: MovementKind
    amount: int
    mrr: int


class MrrMovements(WireModel):
    """The 200 response of `GET …/mrr-movements`."""

    mrr_movements: list[MrrMovement]
