"""`billhook transactions`: payments and refunds."""

from __future__ import annotations

from typing import Annotated

import typer

from billhook.cli.address import connected
from billhook.cli.options import (
    All,
    AsJson,
    CustomerOption,
    InEnvironment,
    Limit,
    Since,
    StartingAfter,
    SubjectOption,
    Until,
    Url,
    subject_of,
    utc,
)
from billhook.cli.output import gather, nothing, show_json, show_table
from billhook.models.queries import TransactionFigure, TransactionStatus, TransactionType
from billhook.money import money


def transactions(
    type: Annotated[TransactionType | None, typer.Option(help="Only this type.")] = None,
    status: Annotated[TransactionStatus | None, typer.Option(help="Only this status.")] = None,
    subject: SubjectOption = None,
    customer: CustomerOption = None,
    since: Since = None,
    until: Until = None,
    figure: Annotated[
        TransactionFigure | None,
        typer.Option(help="Only what this figure of `billhook business` counts."),
    ] = None,
    currency: Annotated[str | None, typer.Option(help="Only this currency.")] = None,
    limit: Limit = 50,
    everything: All = False,
    starting_after: StartingAfter = None,
    environment: InEnvironment = "test",
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """List payments and refunds, newest first."""
    from billhook.models import Transactions

    whom = subject_of(subject)
    with connected(url) as client:
        found = gather(
            lambda size, cursor: client.transactions.page(
                environment,
                limit=size,
                starting_after=cursor,
                subject=whom,
                customer=customer,
                type=type,
                status=status,
                since=utc(since),
                until=utc(until),
                figure=figure,
                currency=currency,
            ),
            limit,
            everything,
            starting_after,
        )
    if as_json:
        show_json(Transactions(transactions=found))
        return
    show_table(
        [
            *("time", "type", "status", "amount", "refunded", "outside Stripe", "canceled"),
            *("subject", "email", "reference"),
        ],
        (
            [
                t.provider_created_at or t.created_at,
                t.type,
                t.status,
                money(t.amount, t.currency),
                money(t.amount_refunded, t.currency) if t.amount_refunded else "",
                money(t.amount_out_of_band, t.currency) if t.amount_out_of_band else "",
                t.canceled_at,
                t.subject_id and f"{t.subject_type}:{t.subject_id}",
                t.customer_email_snapshot,
                t.provider_reference_id,
            ]
            for t in found
        ),
        none=nothing(
            *("transactions", type, status, subject, customer, since, until, figure, currency),
            starting_after,
        ),
    )
