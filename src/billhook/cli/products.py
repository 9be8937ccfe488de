"""`billhook products`: show and change Stripe Products."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from billhook.cli import asking
from billhook.cli.address import connected
from billhook.cli.catalog import asked, charged
from billhook.cli.options import AsJson, InEnvironment, MetadataOption, Url, Yes, metadata_of
from billhook.cli.output import pairs, show_details, show_json, show_table

if TYPE_CHECKING:
    from billhook.models import Product

app = typer.Typer(help="Products: read from the mirror, changed in Stripe.", no_args_is_help=True)

ProductId = Annotated[str, typer.Argument(metavar="PRODUCT", help="The product's id.")]
Active = Annotated[bool | None, typer.Option("--active/--inactive", help="Whether it can be sold.")]


@app.command("list", epilog="Example: billhook products list --environment live")
def list_products(
    environment: InEnvironment = "test", url: Url = None, as_json: AsJson = False
) -> None:
    """List all products, sorted by name."""
    from billhook.models import Products

    with connected(url) as client:
        found = client.products.list(environment)
    if as_json:
        show_json(Products(products=found))
        return
    show_table(
        ["product", "name", "active", "description"],
        ([p.product_id, p.name, p.active, p.description] for p in found),
        none="There are no products yet: billhook sync, or billhook products create",
    )


@app.command(epilog="Example: billhook products get prod_QxYz")
def get(
    product: ProductId,
    environment: InEnvironment = "test",
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Show a product and its prices."""
    with connected(url) as client:
        found = client.products.get(environment, product)
    if as_json:
        show_json(found)
        return
    _show(found.product)
    print()
    show_table(
        ["price", "amount", "charged", "active", "lookup key"],
        ([p.price_id, asked(p), charged(p), p.active, p.lookup_key] for p in found.prices),
        none="It has no prices yet: billhook prices create",
    )


@app.command(epilog="Example: billhook products create --name Tea --metadata shelf=3")
def create(
    name: Annotated[str, typer.Option(help="Shown to buyers.")],
    description: Annotated[str | None, typer.Option(help="Shown to buyers.")] = None,
    active: Active = None,
    metadata: MetadataOption = None,
    idempotency_key: Annotated[
        str | None,
        typer.Option(help="Repeating a request with this key does not create a second product."),
    ] = None,
    environment: InEnvironment = "test",
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Create a product in Stripe."""
    with connected(url) as client:
        made = client.products.create(
            environment,
            name=name,
            description=description,
            active=active,
            metadata=metadata_of(metadata),
            idempotency_key=idempotency_key,
        )
    _answer(made, as_json)


@app.command(epilog="Example: billhook products update prod_QxYz --name 'Green tea' --inactive")
def update(
    product: ProductId,
    name: Annotated[str | None, typer.Option(help="A new name.")] = None,
    description: Annotated[
        str | None, typer.Option(help="A new description; '' removes it.")
    ] = None,
    active: Active = None,
    metadata: MetadataOption = None,
    environment: InEnvironment = "test",
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Change a product in Stripe. Omitted fields keep their values; metadata KEY= removes a key."""
    from billhook.client import UNSET

    changes = metadata_of(metadata)
    if (name, description, active, changes) == (None, None, None, None):
        raise typer.BadParameter("pass at least one option to change")
    with connected(url) as client:
        changed = client.products.update(
            environment,
            product,
            name=UNSET if name is None else name,
            description=UNSET if description is None else description or None,
            active=UNSET if active is None else active,
            metadata=UNSET if changes is None else changes,
        )
    _answer(changed, as_json)


@app.command(epilog="Example: billhook products delete prod_QxYz --yes")
def delete(
    product: ProductId,
    yes: Yes = False,
    environment: InEnvironment = "test",
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Delete a product in Stripe. A product that has prices can only be archived."""
    asking.confirm(f"Permanently delete {product} ({environment}) in Stripe?", yes)
    with connected(url) as client:
        gone = client.products.delete(environment, product)
    if as_json:
        show_json(gone)
    else:
        print(f"{gone.product_id} is deleted.")


def _answer(product: Product, as_json: bool) -> None:
    from billhook.models import ProductResponse

    if as_json:
        show_json(ProductResponse(product=product))
    else:
        _show(product)


def _show(product: Product) -> None:
    show_details(
        {
            "product": product.product_id,
            "name": product.name,
            "description": product.description,
            "active": product.active,
            "default price": product.default_price_id,
            "metadata": pairs(product.metadata),
        }
    )
