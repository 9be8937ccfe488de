"""`billhook charge`: charge a saved payment method."""

from __future__ import annotations

from typing import Annotated
from uuid import uuid4

import typer

from billhook.cli import asking
from billhook.cli.address import connected
from billhook.cli.options import (
    AsJson,
    InEnvironment,
    MetadataOption,
    Url,
    Yes,
    metadata_of,
    plain_digits,
    subject_of,
)
from billhook.cli.output import note, show_details, show_json
from billhook.cli.repeating import repeatable_with
from billhook.money import money


def charge(
    amount: Annotated[
        int,
        typer.Option(
            parser=plain_digits,
            metavar="INTEGER",
            help="In the currency's minor unit: 1500 is 15.00 USD, and 1,500 JPY.",
        ),
    ],
    currency: Annotated[str, typer.Option(help="Three letters, such as usd.")],
    subject: Annotated[
        str | None,
        typer.Option(help="Subject whose Stripe customer is charged.", metavar="TYPE:ID"),
    ] = None,
    customer: Annotated[
        str | None, typer.Option(help="Instead: the Stripe customer.", metavar="cus_…")
    ] = None,
    payment_method: Annotated[
        str | None,
        typer.Option(
            help="Saved payment method. Default: the customer's default.",
            metavar="pm_…",
        ),
    ] = None,
    description: Annotated[str | None, typer.Option(help="Shown on the receipt.")] = None,
    return_url: Annotated[
        str | None, typer.Option(help="Where to send the customer after authentication.")
    ] = None,
    metadata: MetadataOption = None,
    idempotency_key: Annotated[
        str | None,
        typer.Option(
            help="Repeating the command with this key charges only once. Default: a new key."
        ),
    ] = None,
    environment: InEnvironment = "test",
    yes: Yes = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Charge a saved payment method while the customer is not present."""
    whom = subject_of(subject)
    if (whom is None) == (customer is None):
        raise typer.BadParameter("pass either --subject or --customer")
    name = f"{whom[0]} {whom[1]}" if whom else str(customer)
    asking.confirm(f"Charge {name} {money(amount, currency)} ({environment})?", yes)
    key = idempotency_key or str(uuid4())
    with connected(url) as client, repeatable_with(key):
        made = client.charges.create(
            environment,
            amount=amount,
            currency=currency,
            idempotency_key=key,
            subject={"type": whom[0], "id": whom[1]} if whom else None,
            customer_id=customer,
            payment_method_id=payment_method,
            description=description,
            metadata=metadata_of(metadata),
            return_url=return_url,
        )
    if as_json:
        show_json(made)
        return
    show_details(
        {
            "status": made.status,
            "amount": money(made.amount, made.currency),
            "payment": made.payment_intent_id,
            "customer": made.customer_id,
            "payment method": made.payment_method_id,
            "confirm at": made.confirm_url,
        }
    )
    if made.status == "requires_action":
        note("The customer must authenticate. " + _next_step(made.confirm_url, key))


def _next_step(confirm_url: str | None, key: str) -> str:
    if confirm_url is None:
        return "For a link that you can send them, charge with --return-url and a new key."
    return f"Send them the link. To see the result, repeat it with --idempotency-key {key}"
