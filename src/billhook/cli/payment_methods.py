"""`billhook payment-methods default` and `detach`."""

from __future__ import annotations

from typing import Annotated

import typer

from billhook.cli.address import connected
from billhook.cli.asking import confirm
from billhook.cli.options import AsJson, InEnvironment, Url, Yes
from billhook.cli.output import show_json

Id = Annotated[str, typer.Argument(help="Stripe's id.", metavar="PAYMENT_METHOD")]


def add_to(group: typer.Typer) -> None:
    """Add the commands that change one payment method."""
    group.command("default", epilog="Example: billhook payment-methods default pm_123")(default)
    group.command("detach", epilog="Example: billhook payment-methods detach pm_123 --yes")(detach)


def default(
    payment_method: Id,
    environment: InEnvironment = "test",
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Make a payment method the default of its customer's invoices and subscriptions."""
    from billhook.models import PaymentMethodResponse

    with connected(url) as client:
        changed = client.make_default_payment_method(environment, payment_method)
    if as_json:
        show_json(PaymentMethodResponse(payment_method=changed))
    else:
        print(f"{payment_method} is the default payment method of {changed.customer_id}.")


def detach(
    payment_method: Id,
    yes: Yes = False,
    environment: InEnvironment = "test",
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Remove a saved payment method from its customer. It can't be attached again."""
    from billhook.models import PaymentMethodResponse

    with connected(url) as client:
        confirm(f"Detach {payment_method}? It can't be attached again.", yes)
        removed = client.detach_payment_method(environment, payment_method)
    if as_json:
        show_json(PaymentMethodResponse(payment_method=removed))
    else:
        print(f"{payment_method} is no longer saved for {removed.customer_id}.")
