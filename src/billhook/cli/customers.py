"""`billhook customers`: customers and their total spend."""

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
    StartingAfter,
    Url,
)
from billhook.cli.output import gather, nothing, show_json, show_table
from billhook.money import money


def customers(
    email: Annotated[
        str | None, typer.Option(help="Only customers with this email address.")
    ] = None,
    customer: CustomerOption = None,
    limit: Limit = 50,
    everything: All = False,
    starting_after: StartingAfter = None,
    environment: InEnvironment = "test",
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """List customers, sorted by email address, with their total spend."""
    from billhook.models import Customers

    with connected(url) as client:
        found = gather(
            lambda size, cursor: client.customers.page(
                environment, limit=size, starting_after=cursor, email=email, customer=customer
            ),
            limit,
            everything,
            starting_after,
        )
    if as_json:
        show_json(Customers(customers=found))
        return
    show_table(
        ["customer", "email", "name", "payments", "spent", "last payment", "payment method"],
        (
            [
                c.provider_customer_id,
                c.email,
                f"{c.name or ''} (deleted)".strip() if c.deleted else c.name,
                c.payments_count,
                money(c.total_spend, c.total_spend_currency),
                c.last_payment_at,
                c.payment_method_last4
                and f"{c.payment_method_brand or ''} {c.payment_method_last4}".strip(),
            ]
            for c in found
        ),
        none=nothing("customers", email, customer, starting_after),
    )
