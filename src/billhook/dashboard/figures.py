"""The figures of the overview: what each shows, what it is compared with, and the list of what it
counts. docs/explanation/business-figures.md defines them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal
from urllib.parse import urlencode

from billhook.models import Business, BusinessOfCurrency, Flow, MovementKind, iso
from billhook.money import money

PERIODS = {
    "7d": "7 days",
    "30d": "30 days",
    "90d": "90 days",
    "12m": "12 months",
    "this_month": "This month",
    "last_month": "Last month",
    "this_year": "This year",
}
"""The periods to choose from."""


@dataclass(frozen=True, slots=True)
class Change:
    """How a figure compares with the period before.

    Attributes:
        text: such as `12%`; None if it was 0 before.
        before: the figure of the period before.
        is_good: None if neither is better.
    """

    direction: Literal["up", "down", "same"]
    text: str | None
    before: str
    is_good: bool | None


@dataclass(frozen=True, slots=True)
class Tile:
    """One figure.

    Attributes:
        meaning: its definition, in a sentence.
        path: the list of what it counts, below the environment's pages.
    """

    name: str
    text: str
    meaning: str
    change: Change | None = None
    path: str | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """One kind of movement of MRR."""

    name: str
    amount: str
    number: int
    path: str


def of_payments(found: Business, of: BusinessOfCurrency) -> list[Tile]:
    """What was paid, and what was not."""
    now, before = of.total, of.previous

    def listed(figure: str) -> str:
        return _path("/transactions", figure=figure, currency=of.currency, **_moments(found))

    return [
        Tile(
            "Net volume",
            money(now.net_volume, of.currency),
            "Successful payments, minus refunds and lost disputes. Stripe's fees are not deducted.",
            _amount(now.net_volume, before.net_volume, of.currency),
            note=f"{money(now.payments, of.currency)} paid",
        ),
        Tile(
            "Successful payments",
            f"{now.succeeded:,}",
            "Payments that succeeded in this period, including those refunded later.",
            _number(now.succeeded, before.succeeded),
            path=listed("payments"),
        ),
        Tile(
            "Failed payments",
            f"{now.failed:,}",
            "Payments that failed in this period and are still unpaid.",
            _number(now.failed, before.failed, more_is_good=False),
            path=listed("failed"),
        ),
        Tile(
            "Recovered payments",
            f"{now.recovered:,}",
            "Payments that succeeded in this period after they had failed.",
            _number(now.recovered, before.recovered),
            note=money(now.recovered_amount, of.currency),
            path=listed("recovered"),
        ),
        Tile(
            "Refunds",
            money(now.refunds, of.currency),
            "What was refunded in this period.",
            _amount(now.refunds, before.refunds, of.currency, more_is_good=False),
            note=f"{now.refunded:,} refund{'' if now.refunded == 1 else 's'}",
            path=listed("refunds"),
        ),
        Tile(
            "Disputes",
            f"{now.disputes_opened:,}",
            "Disputes that were opened in this period, including inquiries.",
            _number(now.disputes_opened, before.disputes_opened, more_is_good=False),
            note=f"{now.disputes_lost:,} lost, {money(now.lost, of.currency)}",
            path=_path("/disputes", currency=of.currency, **_moments(found)),
        ),
    ]


def of_subscriptions(found: Business, of: BusinessOfCurrency, at: datetime) -> list[Tile]:
    """What recurs."""
    now, before = of.total, of.previous
    soon = of.renewals_30_days
    # The list shows what is paid for now, so it fits only a period that ends today.
    paying = _path("/subscriptions", paying="true", currency=of.currency)
    return [
        Tile(
            "MRR",
            money(now.mrr_end, of.currency),
            "Monthly recurring revenue at the end of the period: what all paid subscriptions are "
            "worth per month.",
            _amount(now.mrr_end, before.mrr_end, of.currency),
            path=paying if found.until == at.date() else None,
        ),
        Tile(
            "Subscribers",
            f"{now.subscribers_end:,}",
            "Customers with MRR at the end of the period.",
            _number(now.subscribers_end, before.subscribers_end),
            note=f"{found.trialing_customers:,} in trial now",
        ),
        Tile(
            "Churn rate",
            _percent(now.subscriber_churn_rate),
            "Customers who lost their last paid subscription, divided by the subscribers at the "
            "start of the period plus the new ones.",
            _rate(now.subscriber_churn_rate, before.subscriber_churn_rate),
            note="" if now.mrr_churn_rate is None else f"{_percent(now.mrr_churn_rate)} of MRR",
            path=_movements(found, of.currency, "churn"),
        ),
        Tile(
            "Revenue per subscriber",
            "–" if now.arpu is None else money(now.arpu, of.currency),
            "MRR divided by the number of subscribers.",
            _amount(now.arpu or 0, before.arpu or 0, of.currency),
        ),
        Tile(
            "Renewals in 30 days",
            money(soon.amount, of.currency),
            "The amount that subscriptions renew for within 30 days, before tax.",
            note=f"{soon.number:,} subscription{'' if soon.number == 1 else 's'}",
            path=_path(
                "/subscriptions",
                renewsFrom=iso(at),
                renewsUntil=iso(at + timedelta(days=30)),
                currency=of.currency,
                order="renewal",
            ),
        ),
    ]


def of_customers(found: Business) -> Tile:
    """New customers, in any currency."""
    counted = found.new_customers
    return Tile(
        "New customers",
        f"{counted.total:,}",
        "Customers who were created in Stripe in this period.",
        _number(counted.total, counted.previous),
        path=_path("/customers", order="newest", **_moments(found)),
    )


def movements(found: Business, of: BusinessOfCurrency) -> list[Line]:
    """How MRR changed, kind by kind."""
    flow: Flow = of.total
    kinds: tuple[tuple[MovementKind, str, int, int], ...] = (
        ("new", "New", flow.mrr_new, flow.subscribers_new),
        ("reactivation", "Reactivation", flow.mrr_reactivation, flow.subscribers_reactivated),
        ("expansion", "Expansion", flow.mrr_expansion, flow.expanded),
        ("contraction", "Contraction", flow.mrr_contraction, flow.contracted),
        ("churn", "Churn", flow.mrr_churn, flow.subscribers_churned),
    )
    return [
        Line(name, money(amount, of.currency), number, _movements(found, of.currency, kind))
        for kind, name, amount, number in kinds
    ]


def _moments(found: Business) -> dict[str, str]:
    return {"since": str(found.since), "until": str(found.until + timedelta(days=1))}


def _movements(found: Business, currency: str, kind: MovementKind) -> str:
    days = {"since": str(found.since), "until": str(found.until)}
    return _path("/mrr-movements", kind=kind, currency=currency, **days)


def _path(page: str, **query: str) -> str:
    return f"{page}?{urlencode(query)}"


def _number(now: int, before: int, *, more_is_good: bool = True) -> Change:
    return _change(now, before, f"{before:,}", more_is_good)


def _amount(now: int, before: int, currency: str, *, more_is_good: bool = True) -> Change:
    return _change(now, before, money(before, currency), more_is_good)


def _change(now: float, before: float, shown: str, more_is_good: bool) -> Change:
    if now == before:
        return Change("same", None, shown, None)
    text = f"{abs(now - before) / abs(before):.0%}" if before else None
    return Change("up" if now > before else "down", text, shown, (now > before) is more_is_good)


def _rate(now: float | None, before: float | None) -> Change | None:
    """Without a percentage: one of a percentage would be misread."""
    if now is None or before is None:
        return None
    return replace(_change(now, before, _percent(before), False), text=None)


def _percent(rate: float | None) -> str:
    return "–" if rate is None else f"{rate:.1%}"
