"""`billhook prices`: show and change Stripe Prices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from billhook.cli import asking
from billhook.cli.address import connected
from billhook.cli.catalog import asked, charged
from billhook.cli.options import (
    AsJson,
    InEnvironment,
    MetadataOption,
    Url,
    Yes,
    metadata_of,
    plain_digits,
)
from billhook.cli.output import pairs, show_details, show_json, show_table

if TYPE_CHECKING:
    from billhook.client import RecurringInput
    from billhook.models import Price

app = typer.Typer(help="Prices: read from the mirror, changed in Stripe.", no_args_is_help=True)

Interval = Literal["day", "week", "month", "year"]
PriceId = Annotated[str, typer.Argument(metavar="PRICE", help="The price's id.")]
Active = Annotated[bool | None, typer.Option("--active/--inactive", help="Whether it can be sold.")]
TaxBehavior = Annotated[
    Literal["exclusive", "inclusive", "unspecified"] | None,
    typer.Option(help="Whether the amount includes tax."),
]


@app.command("list", epilog="Example: billhook prices list --product prod_QxYz")
def list_prices(
    product: Annotated[str | None, typer.Option(help="Only prices of this product.")] = None,
    environment: InEnvironment = "test",
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """List all prices, sorted by product."""
    from billhook.models import Prices

    with connected(url) as client:
        found = client.prices.list(environment, product_id=product)
    if as_json:
        show_json(Prices(prices=found))
        return
    show_table(
        ["price", "product", "amount", "charged", "active", "lookup key"],
        ([p.price_id, p.product_id, asked(p), charged(p), p.active, p.lookup_key] for p in found),
        none="There are no prices: billhook sync, or billhook prices create",
    )


@app.command(epilog="Example: billhook prices get price_1QxYz")
def get(
    price: PriceId, environment: InEnvironment = "test", url: Url = None, as_json: AsJson = False
) -> None:
    """Show a price."""
    with connected(url) as client:
        found = client.prices.get(environment, price)
    _answer(found, as_json)


@app.command(
    epilog="Example: billhook prices create --product prod_QxYz --currency usd "
    "--unit-amount 1500 --interval month"
)
def create(
    product: Annotated[str, typer.Option(help="The product of this price.")],
    currency: Annotated[str, typer.Option(help="Three letters, such as usd.")],
    unit_amount: Annotated[
        int,
        typer.Option(
            parser=plain_digits,
            metavar="INTEGER",
            help="Amount in the currency's minor unit: 1500 is 15.00 USD, or 1,500 JPY.",
        ),
    ],
    interval: Annotated[
        Interval | None, typer.Option(help="Billing interval. Without it, the price is one-time.")
    ] = None,
    interval_count: Annotated[
        int | None, typer.Option(min=1, help="Number of intervals between charges.")
    ] = None,
    lookup_key: Annotated[
        str | None, typer.Option(help="A key that your code can use instead of the price's id.")
    ] = None,
    active: Active = None,
    tax_behavior: TaxBehavior = None,
    metadata: MetadataOption = None,
    idempotency_key: Annotated[
        str | None,
        typer.Option(help="Repeating a request with this key does not create a second price."),
    ] = None,
    environment: InEnvironment = "test",
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Create a price in Stripe."""
    recurring = _recurring(interval, interval_count)
    with connected(url) as client:
        made = client.prices.create(
            environment,
            product_id=product,
            currency=currency,
            unit_amount=unit_amount,
            recurring=recurring,
            lookup_key=lookup_key,
            active=active,
            tax_behavior=tax_behavior,
            metadata=metadata_of(metadata),
            idempotency_key=idempotency_key,
        )
    _answer(made, as_json)


@app.command(epilog="Example: billhook prices update price_1QxYz --lookup-key pro_monthly")
def update(
    price: PriceId,
    active: Active = None,
    lookup_key: Annotated[str | None, typer.Option(help="A new lookup key; '' removes it.")] = None,
    tax_behavior: TaxBehavior = None,
    metadata: MetadataOption = None,
    environment: InEnvironment = "test",
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Change a price in Stripe. Its amount and currency cannot change: create a new price."""
    from billhook.client import UNSET

    changes = metadata_of(metadata)
    if (active, lookup_key, tax_behavior, changes) == (None, None, None, None):
        raise typer.BadParameter("pass at least one option to change")
    with connected(url) as client:
        changed = client.prices.update(
            environment,
            price,
            active=UNSET if active is None else active,
            lookup_key=UNSET if lookup_key is None else lookup_key or None,
            tax_behavior=UNSET if tax_behavior is None else tax_behavior,
            metadata=UNSET if changes is None else changes,
        )
    _answer(changed, as_json)


@app.command(epilog="Example: billhook prices archive price_1QxYz --yes")
def archive(
    price: PriceId,
    yes: Yes = False,
    environment: InEnvironment = "test",
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Archive a price: it can no longer be bought. Existing subscriptions continue."""
    asking.confirm(f"Archive {price} ({environment})?", yes)
    with connected(url) as client:
        found = client.prices.archive(environment, price)
    if as_json:
        show_json(found)
    else:
        print(f"{found.price.price_id} is archived.")


def _recurring(interval: Interval | None, count: int | None) -> RecurringInput | None:
    if interval is None:
        if count is not None:
            raise typer.BadParameter("needs --interval", param_hint="--interval-count")
        return None
    return (
        {"interval": interval}
        if count is None
        else {
            "interval": interval,
            "interval_count": count,
        }
    )


def _answer(price: Price, as_json: bool) -> None:
    from billhook.models import PriceResponse

    if as_json:
        show_json(PriceResponse(price=price))
        return
    show_details(
        {
            "price": price.price_id,
            "product": price.product_id,
            "amount": asked(price),
            "charged": charged(price),
            "active": price.active,
            "lookup key": price.lookup_key,
            "tax": price.tax_behavior,
            "metadata": pairs(price.metadata),
        }
    )
