"""`billhook subscriptions`: subscriptions with their prices, and their changes."""

from __future__ import annotations

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
    SubjectOption,
    Url,
    subject_of,
)
from billhook.cli.output import cell, gather, nothing, show_json, show_table
from billhook.models.queries import SubscriptionStatus

if TYPE_CHECKING:
    from billhook.models import Subscription


app = typer.Typer(invoke_without_command=True)


@app.callback(epilog="Example: billhook subscriptions --status past_due")
def subscriptions(
    context: typer.Context,
    status: Annotated[SubscriptionStatus | None, typer.Option(help="Only this status.")] = None,
    subject: SubjectOption = None,
    customer: CustomerOption = None,
    limit: Limit = 50,
    everything: All = False,
    starting_after: StartingAfter = None,
    environment: InEnvironment = "test",
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """List subscriptions with their prices, most recently changed first; or change one."""
    if context.invoked_subcommand is not None:
        return
    from billhook.models import Subscriptions

    whom = subject_of(subject)
    with connected(url) as client:
        found = gather(
            lambda size, cursor: client.subscriptions.page(
                environment,
                limit=size,
                starting_after=cursor,
                subject=whom,
                customer=customer,
                status=status,
            ),
            limit,
            everything,
            starting_after,
        )
    if as_json:
        show_json(Subscriptions(subscriptions=found))
        return
    show_table(
        ["subscription", "status", "subject", "customer", "prices", "renews", "ends"],
        (
            [
                each.subscription_id,
                status_of(each),
                each.subject_id and f"{each.subject_type}:{each.subject_id}",
                each.customer_id,
                items_of(each),
                each.renews_at,
                each.ends_at,
            ]
            for each in found
        ),
        none=nothing("subscriptions", status, subject, customer, starting_after),
    )


def status_of(subscription: Subscription) -> str:
    """Its status, and whether its payments are paused."""
    paused = subscription.pause_collection
    if paused is None:
        return subscription.status
    until = f" until {cell(paused.resumes_at)}" if paused.resumes_at else ""
    return f"{subscription.status}, collection paused{until}"


def items_of(subscription: Subscription) -> str:
    """Its prices and quantities."""
    return ", ".join(
        f"{item.quantity} × {item.price_id}"
        if item.quantity not in (None, 1)
        else str(item.price_id)
        for item in subscription.items
    )
