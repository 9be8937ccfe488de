"""The figures of an overview (beyond the contract). Amounts are minor units; days are UTC."""

from __future__ import annotations

from datetime import date
from typing import Annotated

from pydantic import Field

from billhook.models.queries import Query
from billhook.models.wire import WireModel
from billhook.settings import Environment


class OverviewQuery(Query):
    """Query of `GET …/overview`: the last so many days, today included."""

    days: Annotated[int, Field(ge=1, le=366)] = 30


class Figures(WireModel):
    """What came in and went back in some time.

    Attributes:
        payments: the amount of the payments that succeeded, refunded since or not.
        refunds: the amount that went back.
        succeeded: how many payments `payments` is made of.
        refunded: how many refunds `refunds` is made of.
        failed: how many payments failed.
    """

    payments: int = 0
    refunds: int = 0
    succeeded: int = 0
    refunded: int = 0
    failed: int = 0


class DayFigures(Figures):
    """The figures of one day."""

    day: date


class CurrencyFigures(WireModel):
    """The figures of one currency.

    Attributes:
        total: of the whole period.
        previous: of the period of the same length before it.
        days: every day of the period in order, those on which nothing happened as well.
    """

    currency: str
    total: Figures
    previous: Figures
    days: list[DayFigures]


class Overview(WireModel):
    """An environment's figures over some days.

    Attributes:
        since: the first day of the period, `until` the last.
        currencies: those in which something happened in the period or the one before it; the one
            with the most payments first.
        subscriptions: how many there are now in each status that occurs.
    """

    environment: Environment
    since: date
    until: date
    currencies: list[CurrencyFigures]
    subscriptions: dict[str, int]


class OverviewResponse(WireModel):
    """200 of `GET …/overview`."""

    overview: Overview
