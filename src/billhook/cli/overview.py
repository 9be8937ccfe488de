"""`billhook overview`: payments, refunds, failures, and the number of subscriptions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from billhook.cli.address import connected
from billhook.cli.options import AsJson, InEnvironment, Url
from billhook.cli.output import pairs, show_json, show_table
from billhook.money import money

if TYPE_CHECKING:
    from billhook.models import Figures


def overview(
    days: Annotated[
        int, typer.Option("--days", min=1, max=366, help="Number of days, including today.")
    ] = 30,
    environment: InEnvironment = "test",
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Show payments, refunds and failures per currency, compared with the previous period.

    `--json` also lists them by day, in UTC.
    """
    from billhook.models import OverviewResponse

    with connected(url) as client:
        found = client.overview(environment, days=days)
    if as_json:
        show_json(OverviewResponse(overview=found))
        return
    show_table(
        ["period", "payments", "paid", "refunds", "refunded", "failed", "disputes lost", "lost"],
        (
            row
            for each in found.currencies
            for row in (
                _row(f"{found.since} to {found.until}", each.total, each.currency),
                _row("previous period", each.previous, each.currency),
            )
        ),
        none="No payments in this period.",
    )
    if found.subscriptions:
        print(f"\nSubscriptions: {pairs(found.subscriptions)}")


def _row(time: str, figures: Figures, currency: str) -> list[object]:
    return [
        time,
        figures.succeeded,
        money(figures.payments, currency),
        figures.refunded,
        money(figures.refunds, currency),
        figures.failed,
        figures.disputes_lost,
        money(figures.lost, currency),
    ]
