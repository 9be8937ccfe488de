"""`billhook verify`: compare the mirror with Stripe, and repair it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from billhook.cli.address import connected
from billhook.cli.options import AsJson, InEnvironment, Url
from billhook.cli.output import show_json, show_table
from billhook.money import money

if TYPE_CHECKING:
    from billhook.models import Drift, Verification


def verify(
    environment: InEnvironment = "test",
    repair: Annotated[bool, typer.Option("--repair", help="Fix differences.")] = False,
    budget: Annotated[
        int | None,
        typer.Option(
            min=1, max=3600, help="Compare only a sample, for this many seconds.", metavar="S"
        ),
    ] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Compare all mirrored objects except payment methods, and all payments, with Stripe.

    The exit code is 1 if something differs from Stripe and was not repaired.
    """
    with connected(url) as client:
        found = client.verify(environment, repair=repair, budget_seconds=budget)
    if as_json:
        from billhook.models import VerificationResponse

        show_json(VerificationResponse(verification=found))
    else:
        _show(found)
    if not found.sound:
        raise typer.Exit(1)


def _show(found: Verification) -> None:
    show_table(
        ["table", "compared", "", "in flight", "drift", "unconfirmed", "error"],
        (
            [
                table.table,
                table.objects,
                "all" if table.complete else "sample",
                table.in_flight or "",
                len(table.drift) or "",
                table.unconfirmed or "",
                table.error,
            ]
            for table in found.tables
        ),
        none="",
    )
    if found.money:
        print()
    show_table(
        [
            *("money", "paid in Stripe", "here", "refunded in Stripe", "refunded here"),
            *("lost in Stripe", "lost here", "difference"),
        ],
        (
            [
                each.currency.upper(),
                money(each.stripe_payments, each.currency),
                money(each.payments, each.currency),
                money(each.stripe_refunds, each.currency),
                money(each.refunds, each.currency),
                money(each.stripe_lost, each.currency),
                money(each.lost, each.currency),
                money(each.difference, each.currency) if each.difference else "none",
            ]
            for each in found.money
        ),
        none="",
    )
    print()
    show_table(
        ["drifted", "object", "problem", "since", "amount", "repaired"],
        ([*_drifted(each)] for each in found.drift),
        none="Everything that was compared matches Stripe.",
    )
    if any(table.unconfirmed for table in found.tables):
        print(f"\nTo fix unconfirmed drift: billhook sync --environment {found.environment}")
    elif not found.sound and not any(each.repaired is not None for each in found.drift):
        print(f"\nTo repair: billhook verify --environment {found.environment} --repair")


def _drifted(drift: Drift) -> list[object]:
    how = drift.problem + (f": {', '.join(drift.fields)}" if drift.fields else "")
    repaired = None if drift.repaired is None else drift.repaired
    return [
        drift.table,
        drift.object_id,
        how,
        drift.since,
        money(drift.amount, drift.currency),
        repaired,
    ]
