"""`billhook credits`: billing credits, which pay for metered usage."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from uuid import uuid4

import typer

from billhook.cli.address import connected
from billhook.cli.options import (
    AsJson,
    InEnvironment,
    MetadataOption,
    Url,
    metadata_of,
    plain_digits,
    subject_of,
    utc,
)
from billhook.cli.output import show_json, show_table
from billhook.cli.repeating import repeatable_with
from billhook.money import money

app = typer.Typer(help="Billing credits, which pay for metered usage.", no_args_is_help=True)
Whose = Annotated[
    str | None, typer.Option("--subject", help="The billing subject.", metavar="TYPE:ID")
]
Customer = Annotated[
    str | None, typer.Option("--customer", help="The Stripe customer, instead.", metavar="cus_…")
]
_TIMES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S%z"]


def _one_of(subject: str | None, customer: str | None) -> tuple[str, str] | None:
    if (subject is None) == (customer is None):
        raise typer.BadParameter("pass either --subject or --customer")
    return subject_of(subject)


@app.command(
    epilog="Example: billhook credits grant --subject team:t_42 --amount 5000 --currency usd"
)
def grant(
    amount: Annotated[
        int,
        typer.Option(
            parser=plain_digits,
            metavar="INTEGER",
            help="In the currency's minor unit: 1500 is 15.00 USD, and 1,500 JPY.",
        ),
    ],
    currency: Annotated[str, typer.Option(help="Three letters, such as usd.")],
    subject: Whose = None,
    customer: Customer = None,
    category: Annotated[
        Literal["paid", "promotional"], typer.Option(help="For your books.")
    ] = "paid",
    name: Annotated[str | None, typer.Option(help="Shown in Stripe's Dashboard.")] = None,
    price: Annotated[
        list[str] | None, typer.Option(help="Apply only to this metered price. May be repeated.")
    ] = None,
    priority: Annotated[
        int | None, typer.Option(min=0, max=100, help="Priority; 0 is used first. Default: 50.")
    ] = None,
    expires_at: Annotated[
        datetime | None, typer.Option(formats=_TIMES, help="When they expire (UTC).")
    ] = None,
    metadata: MetadataOption = None,
    idempotency_key: Annotated[
        str | None,
        typer.Option(
            help="Repeating the command with this key grants the credits only once. Default: a new "
            "key."
        ),
    ] = None,
    environment: InEnvironment = "test",
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Grant credits to a subject or a customer."""
    from billhook.models import CreditGrantResponse

    whom = _one_of(subject, customer)
    key = idempotency_key or str(uuid4())
    with connected(url) as client, repeatable_with(key):
        made = client.credits.grant(
            environment,
            amount=amount,
            currency=currency,
            subject=None if whom is None else {"type": whom[0], "id": whom[1]},
            customer_id=customer,
            category=category,
            name=name,
            price_ids=price,
            priority=priority,
            expires_at=utc(expires_at),
            metadata=metadata_of(metadata),
            idempotency_key=key,
        )
    if as_json:
        show_json(CreditGrantResponse(credit_grant=made))
    else:
        print(f"{made.credit_grant_id}: {money(made.amount, made.currency)}")


@app.command("list", epilog="Example: billhook credits list --subject team:t_42")
def list_credits(
    subject: Whose = None,
    customer: Customer = None,
    environment: InEnvironment = "test",
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """List the credits of a subject or a customer, and the remaining balances."""
    whom = _one_of(subject, customer)
    with connected(url) as client:
        found = client.credits.list(environment, subject=whom, customer=customer)
    if as_json:
        show_json(found)
        return
    show_table(
        ["grant", "amount", "category", "name", "expires", "voided", "created"],
        (
            [
                each.credit_grant_id,
                money(each.amount, each.currency),
                each.category,
                each.name,
                each.expires_at,
                each.voided_at,
                each.created_at,
            ]
            for each in found.credit_grants
        ),
        none="No credits were granted.",
    )
    for each in found.balances:
        print(f"Available: {money(each.available, each.currency)}")
