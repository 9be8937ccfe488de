"""The figures of an overview (beyond the contract). Amounts are minor units; days are UTC."""

from __future__ import annotations

from datetime import date
from typing import Annotated

from pydantic import Field

from billhook.models.queries import Query
from billhook.models.wire import WireModel
from billhook.settings import Environment


class OverviewQuery(Query):
    """Query of `GET …/overview`: the number of days, including today."""

    days: Annotated[int, Field(ge=1, le=366)] = 30


class Figures(WireModel):
    """Payments and refunds in a period.

    Attributes:
        payments: the total amount of successful payments, including those refunded later.
        refunds: the total amount refunded.
        lost: the total amount of lost disputes, on the days on which they were created.
        succeeded: the number of payments in `payments`.
        refunded: the number of refunds in `refunds`.
        failed: the number of failed payments.
        disputes_lost: the number of payments in `lost`.
    """

    payments: int = 0
    refunds: int = 0
    lost: int = 0
    succeeded: int = 0
    refunded: int = 0
    failed: int = 0
    disputes_lost: int = 0


class DayFigures(Figures):
    """The figures of one day."""

    day: date


class CurrencyFigures(WireModel):
    """The figures of one currency.

    Attributes:
        total: the figures of the whole period.
        previous: the figures of the previous period of the same length.
        days: every day of the period in order, including days without payments.
    """

    currency: str
    total: Figures
    previous: Figures
    days: list[DayFigures]


class Overview(WireModel):
    """An environment's figures for a number of days.

    Attributes:
        since: the first day of the period.
        until: the last day of the period.
        currencies: the currencies with payments or refunds in this period or the previous one. The
            currency with the most payments comes first.
        subscriptions: the current number of subscriptions, by status.
    """

    environment: Environment
    since: date
    until: date
    currencies: list[CurrencyFigures]
    subscriptions: dict[str, int]


class OverviewResponse(WireModel):
    """The 200 response of `GET …/overview`."""

    overview: Overview
