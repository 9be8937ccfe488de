"""The catalog: products with their prices; create, change, archive."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar
from uuid import uuid4

from starlette.responses import Response

from billhook.access.permissions import PRICE, PRODUCT, changes, needs
from billhook.dashboard.pages.exports import exported, text
from billhook.dashboard.rendering import COUNTED
from billhook.dashboard.visit import Visit
from billhook.errors import BillhookError, InvalidInput
from billhook.models import (
    CreatePrice,
    CreateProduct,
    Price,
    Product,
    ProductsQuery,
    ProductWithPrices,
    Request,
    UpdatePrice,
    UpdateProduct,
    parse,
)
from billhook.money import decimal_text, minor_units
from billhook.paths import encoded
from billhook.reports import catalog, lists

R = TypeVar("R", bound=Request)

_PAGE = 20
"""Products per page, each with its prices."""
_PRICES = 10
_PRICES_OF_ONE = 100
_COLUMNS = (
    "product", "name", "description", "status", "price", "amount", "currency", "interval",
    "interval_count", "lookup_key", "price_status",
)  # fmt: skip
_CURRENCIES = (
    ("eur", "Euro"), ("usd", "US dollar"), ("gbp", "British pound"), ("chf", "Swiss franc"),
    ("cad", "Canadian dollar"), ("aud", "Australian dollar"), ("nzd", "New Zealand dollar"),
    ("jpy", "Japanese yen"), ("cny", "Chinese yuan"), ("inr", "Indian rupee"),
    ("sgd", "Singapore dollar"), ("hkd", "Hong Kong dollar"), ("sek", "Swedish krona"),
    ("nok", "Norwegian krone"), ("dkk", "Danish krone"), ("pln", "Polish złoty"),
    ("czk", "Czech koruna"), ("brl", "Brazilian real"), ("mxn", "Mexican peso"),
)  # fmt: skip
"""What the form offers; it takes every currency of Stripe's."""
_FIELDS = {
    "name": "name",
    "description": "description",
    "metadata": "metadata",
    "amount": "amount",
    "unitAmount": "amount",
    "currency": "currency",
    "every": "every",
    "recurring.intervalCount": "every",
    "lookupKey": "lookup_key",
}
"""The fields of the forms, by the names that errors have for them."""


async def listing(visit: Visit) -> Response:
    """Products by name, each with its prices."""
    query = visit.query(ProductsQuery, limit=_PAGE)
    page = await lists.products(
        visit.services.database, visit.environment, query, prices_each=_PRICES + 1, count_to=COUNTED
    )
    return visit.show("products.html", query=query, page=page, most=_PRICES)


async def export(visit: Visit) -> Response:
    """The catalog as CSV: one line per price, and one for a product without any."""
    database, environment = visit.services.database, visit.environment

    async def read(part: ProductsQuery) -> lists.Page[ProductWithPrices]:
        return await lists.products(database, environment, part, prices_each=_PRICES_OF_ONE)

    return exported(visit, "catalog", visit.query(ProductsQuery), _COLUMNS, read, _lines)


async def _lines(rows: Sequence[ProductWithPrices]) -> Iterable[list[str]]:
    lines: list[list[str]] = []
    for each in rows:
        prices: Sequence[Price | None] = each.prices or (None,)
        lines += [_line(each.product, price) for price in prices]
    return lines


def _line(product: Product, price: Price | None) -> list[str]:
    columns: list[object] = [product.product_id, product.name, product.description]
    columns.append("active" if product.active else "archived")
    if price is not None:
        columns += [price.price_id, decimal_text(price.unit_amount, price.currency)]
        columns += [price.currency.upper(), price.recurring_interval]
        columns += [price.recurring_interval_count, price.lookup_key]
        columns.append("active" if price.active else "archived")
    return [text(each) for each in columns + [""] * (len(_COLUMNS) - len(columns))]


async def show(
    visit: Visit,
    *,
    status: int = 200,
    error: BillhookError | None = None,
    form: str = "",
) -> Response:
    """One product; `form` names a form that was rejected with `error`."""
    product_id = visit.request.path_params["product"]
    wanted = visit.request.query_params.get("price") or None
    found = await catalog.product(
        visit.services.database,
        visit.environment,
        product_id,
        price=wanted,
        most=_PRICES_OF_ONE + 1,
    )
    return visit.show(
        "product.html",
        status,
        found=found,
        prices=found.prices[:_PRICES_OF_ONE],
        is_cut=len(found.prices) > _PRICES_OF_ONE,
        wanted=wanted,
        error=error,
        wrong=_wrong(error),
        currencies=_CURRENCIES,
        currency=found.prices[0].currency if found.prices else "",
        form=form,
        key=_key(visit, error),
        typed=visit.field,
        metadata_lines="\n".join(f"{k}={v}" for k, v in sorted(found.product.metadata.items())),
        value=visit.field if form == "price" else _nothing,
    )


@needs("admin")
async def new_product(visit: Visit) -> Response:
    """The form for a product."""
    return visit.show(
        "product_new.html", error=None, wrong=_wrong(None), key=_key(visit), value=_nothing
    )


@changes("product.create", made=("productId",))
async def create_product(visit: Visit) -> Response:
    """Create a product in Stripe."""
    body: dict[str, Any] = {
        "name": visit.field("name"),
        "description": visit.field("description") or None,
        "idempotencyKey": visit.field("key"),
    }
    try:
        order = _read(CreateProduct, body, metadata=visit.field("metadata"))
        services = visit.services
        made = await catalog.create_product(
            services.database, services.gateway, visit.environment, order
        )
    except BillhookError as error:
        _raise_if_ours(error)
        return visit.show(
            "product_new.html",
            error.status,
            error=error,
            wrong=_wrong(error),
            key=_key(visit, error),
            value=visit.field,
        )
    visit.made = made.model_dump(mode="json", by_alias=True)
    return await visit.go(
        f"/catalog/{encoded(made.product_id)}", f"{made.name} was created. Add a price."
    )


@changes("product.update", target="product", row=PRODUCT)
async def update_product(visit: Visit) -> Response:
    """Change a product's name, description and metadata in Stripe."""
    body = {"name": visit.field("name"), "description": visit.field("description") or None}

    async def change(product_id: str) -> str:
        services = visit.services
        known = await catalog.product(services.database, visit.environment, product_id, most=0)
        order = _read(
            UpdateProduct,
            body,
            metadata=visit.field("metadata"),
            before=known.product.metadata,
        )
        changed = await catalog.update_product(
            services.database, services.gateway, visit.environment, product_id, order
        )
        return f"{changed.name} was saved."

    return await _change(visit, "product", change)


@changes("product.update", target="product", row=PRODUCT)
async def set_status(visit: Visit) -> Response:
    """Archive or activate a product."""
    active = visit.field("active") == "true"

    async def change(product_id: str) -> str:
        services = visit.services
        changed = await catalog.update_product(
            services.database,
            services.gateway,
            visit.environment,
            product_id,
            parse(UpdateProduct, {"active": active}),
        )
        return f"{changed.name} is {'active again' if active else 'archived'}."

    return await _change(visit, "status", change)


@changes("price.create", made=("priceId",))
async def create_price(visit: Visit) -> Response:
    """Add a price to a product in Stripe. Amounts are entered in the major unit."""

    async def change(product_id: str) -> str:
        currency = visit.field("currency").lower()
        body: dict[str, Any] = {
            "productId": product_id,
            "currency": currency,
            "unitAmount": minor_units(visit.field("amount"), currency),
            "lookupKey": visit.field("lookup_key") or None,
            "idempotencyKey": visit.field("key"),
        }
        if (interval := visit.field("interval")) != "":
            body["recurring"] = {"interval": interval, "intervalCount": _whole(visit, "every")}
        services = visit.services
        made = await catalog.create_price(
            services.database, services.gateway, visit.environment, parse(CreatePrice, body)
        )
        visit.made = made.model_dump(mode="json", by_alias=True)
        return f"The price {made.price_id} was created."

    return await _change(visit, "price", change)


@changes("price.update", target="price", row=PRICE)
async def update_price(visit: Visit) -> Response:
    """Archive or activate a price, or change its lookup key."""
    body: dict[str, Any] = {}
    if active := visit.field("active"):
        body["active"] = active == "true"
    if "lookup_key" in visit.request.state.form:
        body["lookupKey"] = visit.field("lookup_key") or None

    async def change(_product_id: str) -> str:
        services = visit.services
        changed = await catalog.update_price(
            services.database,
            services.gateway,
            visit.environment,
            visit.request.path_params["price"],
            parse(UpdatePrice, body),
        )
        return f"The price {changed.price_id} was saved."

    return await _change(visit, "prices", change)


async def _change(visit: Visit, form: str, change: Any) -> Response:
    """Execute it, and show the product again with a notice, or with what is wrong with the
    input."""
    product_id = visit.request.path_params["product"]
    try:
        done = await change(product_id)
    except BillhookError as error:
        _raise_if_ours(error)
        return await show(visit, status=error.status, error=error, form=form)
    return await visit.go(f"/catalog/{encoded(product_id)}", done)


def _key(visit: Visit, error: BillhookError | None = None) -> str:
    """The idempotency key of a form: two clicks create one object. It is kept if Stripe's outcome
    is unknown; after a refusal by Stripe, the next attempt is a new request."""
    unknown = error is not None and error.status >= 500
    return (visit.field("key") if unknown else "") or str(uuid4())


def _raise_if_ours(error: BillhookError) -> None:
    """An error that the visitor cannot fix in the form has its own page."""
    if error.status >= 500 and error.code == "INTERNAL_ERROR":
        raise error


def _read(
    model: type[R], body: dict[str, Any], *, metadata: str, before: Mapping[str, str] | None = None
) -> R:
    """The form as a request of the API. Metadata is entered as lines of `key=value`; a key of
    `before` that is in no line is removed."""
    pairs = dict.fromkeys(before or {}, "")
    for line in filter(None, map(str.strip, metadata.splitlines())):
        key, equals, value = line.partition("=")
        if not equals or not key.strip():
            raise InvalidInput(f"metadata: “{line}” does not look like key=value")
        pairs[key.strip()] = value.strip()
    return parse(model, {**body, "metadata": pairs})


def _whole(visit: Visit, name: str) -> int:
    text = visit.field(name) or "1"
    if not (text.isascii() and text.isdigit()) or len(text) > 9:
        raise InvalidInput(f"{name}: must be a whole number")
    return int(text)


def _wrong(error: BillhookError | None) -> tuple[str, str]:
    """The field of the form that an error names, and what is wrong with it; empty if it names
    none."""
    if isinstance(error, InvalidInput):
        name, colon, problem = error.message.partition(": ")
        field = _FIELDS.get(name, name)
        if colon and field in _FIELDS.values():
            said = f"{problem[:1].upper()}{problem[1:]}."
            return field, f"{said} {error.next_actions}" if error.next_actions else said
    return "", ""


def _nothing(_name: str) -> str:
    """The value of a field in an empty form."""
    return ""
