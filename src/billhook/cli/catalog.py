"""`billhook catalog`: products with their prices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from billhook import money
from billhook.cli.address import connected
from billhook.cli.options import AsJson, InEnvironment, Url
from billhook.cli.output import show_json, show_table

if TYPE_CHECKING:
    from billhook.models import Price, Product


def catalog(environment: InEnvironment = "test", url: Url = None, as_json: AsJson = False) -> None:
    """Show all mirrored products with their prices."""
    with connected(url) as client:
        found = client.catalog(environment)
    if as_json:
        show_json(found)
        return
    show_table(
        ["product", "name", "price", "amount", "charged", "active"],
        _rows(found.products, found.prices),
        none="There are no products yet: billhook sync, or billhook products create",
    )


def _rows(products: list[Product], prices: list[Price]) -> list[list[object]]:
    of_product: dict[str | None, list[Price]] = {}
    for price in prices:
        of_product.setdefault(price.product_id, []).append(price)
    rows: list[list[object]] = []
    for product in products:
        rows.append([product.product_id, product.name, "", "", "", product.active])
        for price in of_product.pop(product.product_id, []):
            rows.append(["", "", price.price_id, asked(price), charged(price), price.active])
    # Their product was deleted in Stripe, or is not mirrored yet.
    for price in (each for rest in of_product.values() for each in rest):
        of_it = (price.price_id, asked(price), charged(price), price.active)
        rows.append([price.product_id, "", *of_it])
    return rows


def asked(price: Price) -> str:
    """The amount of a price, for people."""
    return money.price(price.unit_amount, price.unit_amount_decimal, price.currency)


def charged(price: Price) -> str:
    """How often a price is charged, for people."""
    if price.recurring_interval is None:
        return "once"
    count = price.recurring_interval_count or 1
    if count == 1:
        return f"every {price.recurring_interval}"
    return f"every {count} {price.recurring_interval}s"
