"""`billhook business` and `billhook mrr-movements`: the figures of a business."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from billhook.cli.address import connected
from billhook.cli.options import (
    All,
    AsJson,
    CustomerOption,
    InEnvironment,
    Limit,
    StartingAfter,
    Url,
)
from billhook.cli.output import gather, nothing, pairs, show_json, show_table
from billhook.models.business import Bucket, MovementKind, PeriodName
from billhook.money import money

if TYPE_CHECKING:
    from billhook.models import BusinessOfCurrency, Flow

_DAY = ["%Y-%m-%d"]
_Since = Annotated[
    datetime | None, typer.Option("--since", formats=_DAY, help="The first day, in UTC.")
]
_Until = Annotated[
    datetime | None, typer.Option("--until", formats=_DAY, help="The last day, in UTC.")
]


def business(
    period: Annotated[
        PeriodName | None,
        typer.Option("--period", help="Default: 30d. Or give --since and --until."),
    ] = None,
    since: _Since = None,
    until: _Until = None,
    bucket: Annotated[
        Bucket | None, typer.Option("--bucket", help="Length of the parts that --json lists.")
    ] = None,
    environment: InEnvironment = "test",
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Show MRR, subscribers, payments and disputes, compared with the previous period.

    `--json` also lists them by day, week or month, in UTC.
    """
    from billhook.models import BusinessResponse

    with connected(url) as client:
        found = client.business(
            environment,
            period=period,
            since=since and since.date(),
            until=until and until.date(),
            bucket=bucket,
        )
    if as_json:
        show_json(BusinessResponse(business=found))
        return
    now, before = f"{found.since} to {found.until}", "previous period"
    for of in found.currencies:
        show_table(
            [of.currency.upper(), now, before],
            (
                [name, *(_shown(each, field, of.currency) for each in (of.total, of.previous))]
                for name, field in _ROWS
            ),
            none="",
        )
        print(f"{_renewals(of)}\n")
    if not found.currencies:
        print("No payments or subscriptions.")
    customers = found.new_customers
    print(f"New customers: {customers.total} (previous period: {customers.previous})")
    if found.subscriptions:
        print(f"Subscriptions: {pairs(found.subscriptions)}")


_ROWS = (
    ("net volume", "net_volume"),
    ("payments", "payments"),
    ("refunds", "refunds"),
    ("lost disputes", "lost"),
    ("successful payments", "succeeded"),
    ("failed payments", "failed"),
    ("recovered payments", "recovered"),
    ("new disputes", "disputes_opened"),
    ("MRR before", "mrr_start"),
    ("  new", "mrr_new"),
    ("  reactivation", "mrr_reactivation"),
    ("  expansion", "mrr_expansion"),
    ("  contraction", "mrr_contraction"),
    ("  churn", "mrr_churn"),
    ("MRR after", "mrr_end"),
    ("subscribers", "subscribers_end"),
    ("subscriber churn rate", "subscriber_churn_rate"),
    ("MRR churn rate", "mrr_churn_rate"),
    ("MRR per subscriber", "arpu"),
)
_NUMBERS = frozenset({"succeeded", "failed", "recovered", "disputes_opened", "subscribers_end"})


def _shown(flow: Flow, field: str, currency: str) -> object:
    value = getattr(flow, field)
    if value is None or field in _NUMBERS:
        return value
    return f"{value:.1%}" if field.endswith("_rate") else money(value, currency)


def _renewals(of: BusinessOfCurrency) -> str:
    parts = (
        f"{each.number} in {days} days ({money(each.amount, of.currency)})"
        for each, days in ((of.renewals_7_days, 7), (of.renewals_30_days, 30))
    )
    return f"Renewals: {', '.join(parts)}. Paying subscriptions: {of.paying_subscriptions}"


def mrr_movements(
    kind: Annotated[MovementKind | None, typer.Option(help="Only this kind.")] = None,
    currency: Annotated[str | None, typer.Option(help="Only this currency.")] = None,
    customer: CustomerOption = None,
    since: _Since = None,
    until: _Until = None,
    limit: Limit = 50,
    everything: All = False,
    starting_after: StartingAfter = None,
    environment: InEnvironment = "test",
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """List how the MRR of customers changed, by day, newest first."""
    from billhook.models import MrrMovements

    with connected(url) as client:
        found = gather(
            lambda size, cursor: client.mrr_movements.page(
                environment,
                limit=size,
                starting_after=cursor,
                kind=kind,
                currency=currency,
                customer=customer,
                since=since and since.date(),
                until=until and until.date(),
            ),
            limit,
            everything,
            starting_after,
        )
    if as_json:
        show_json(MrrMovements(mrr_movements=found))
        return
    show_table(
        ["day", "kind", "amount", "MRR", "customer", "email"],
        (
            [
                each.day,
                each.kind,
                money(each.amount, each.currency),
                money(each.mrr, each.currency),
                each.customer_id,
                each.customer_email,
            ]
            for each in found
        ),
        none=nothing("movements", kind, currency, customer, since, until, starting_after),
    )
