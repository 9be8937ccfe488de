"""Products and prices (contract section 3.2)."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from billhook.access.permissions import PRICE, PRODUCT, changes
from billhook.http.body import read_json
from billhook.http.openapi import body_of, errors
from billhook.http.routes import ADMIN, NO_QUERY, AdminRoute, PathId, answer
from billhook.models import (
    ArchivedPrice,
    Catalog,
    CreatePrice,
    CreateProduct,
    DeletedProduct,
    PriceResponse,
    Prices,
    PricesQuery,
    ProductResponse,
    Products,
    ProductWithPrices,
    UpdatePrice,
    UpdateProduct,
)
from billhook.reports import catalog
from billhook.services import ServicesOf
from billhook.settings import Environment

router = APIRouter(
    prefix="/api/payments/stripe/{environment}/catalog",
    tags=["Catalog"],
    dependencies=ADMIN,
    route_class=AdminRoute,
)
_READ = errors(400, 401, 403, 503)
_READ_ONE = errors(400, 401, 403, 404, 503)
_CREATE = errors(400, 401, 403, 413, 429, 502, 503)
_CHANGE = errors(400, 401, 403, 404, 413, 429, 502, 503)


@router.get("", dependencies=NO_QUERY, response_model=Catalog, responses=_READ)
async def whole(environment: Environment, services: ServicesOf) -> Response:
    """List all products and all prices, active or not."""
    return answer(await catalog.catalog(services.database, environment))


@router.get("/products", dependencies=NO_QUERY, response_model=Products, responses=_READ)
async def products(environment: Environment, services: ServicesOf) -> Response:
    """List all products, sorted by name and id."""
    return answer(Products(products=await catalog.products(services.database, environment)))


@router.get(
    "/products/{product_id}",
    dependencies=NO_QUERY,
    response_model=ProductWithPrices,
    responses=_READ_ONE,
)
async def product(environment: Environment, product_id: PathId, services: ServicesOf) -> Response:
    """Get a product with its prices."""
    return answer(await catalog.product(services.database, environment, product_id))


@router.post(
    "/products",
    status_code=201,
    dependencies=NO_QUERY,
    response_model=ProductResponse,
    responses=_CREATE,
    openapi_extra=body_of(CreateProduct),
)
@changes("product.create", made=("product", "productId"))
async def create_product(
    environment: Environment, request: Request, services: ServicesOf
) -> Response:
    """Create a product in Stripe. Safe to repeat with an `idempotencyKey`."""
    order = await read_json(request, CreateProduct)
    made = await catalog.create_product(services.database, services.gateway, environment, order)
    return answer(ProductResponse(product=made), 201)


@router.patch(
    "/products/{product_id}",
    dependencies=NO_QUERY,
    response_model=ProductResponse,
    responses=_CHANGE,
    openapi_extra=body_of(UpdateProduct),
)
@changes("product.update", target="product_id", row=PRODUCT)
async def update_product(
    environment: Environment, product_id: PathId, request: Request, services: ServicesOf
) -> Response:
    """Change a product in Stripe. Omitted fields keep their values."""
    order = await read_json(request, UpdateProduct)
    changed = await catalog.update_product(
        services.database, services.gateway, environment, product_id, order
    )
    return answer(ProductResponse(product=changed))


@router.delete(
    "/products/{product_id}",
    dependencies=NO_QUERY,
    response_model=DeletedProduct,
    responses=_CHANGE,
)
@changes("product.delete", target="product_id", row=PRODUCT)
async def delete_product(
    environment: Environment, product_id: PathId, services: ServicesOf
) -> Response:
    """Delete a product in Stripe. Products that have prices cannot be deleted: archive them
    instead."""
    return answer(
        await catalog.delete_product(services.database, services.gateway, environment, product_id)
    )


@router.get(
    "/prices",
    response_model=Prices,
    responses=_READ,
)
async def prices(
    environment: Environment, services: ServicesOf, query: Annotated[PricesQuery, Query()]
) -> Response:
    """List all prices, or those of one product, sorted by product and id."""
    found = await catalog.prices(services.database, environment, query.product_id)
    return answer(Prices(prices=found))


@router.get(
    "/prices/{price_id}", dependencies=NO_QUERY, response_model=PriceResponse, responses=_READ_ONE
)
async def price(environment: Environment, price_id: PathId, services: ServicesOf) -> Response:
    """Get a price."""
    found = await catalog.price(services.database, environment, price_id)
    return answer(PriceResponse(price=found))


@router.post(
    "/prices",
    status_code=201,
    dependencies=NO_QUERY,
    response_model=PriceResponse,
    responses=_CREATE,
    openapi_extra=body_of(CreatePrice),
)
@changes("price.create", made=("price", "priceId"))
async def create_price(
    environment: Environment, request: Request, services: ServicesOf
) -> Response:
    """Create a price in Stripe. Safe to repeat with an `idempotencyKey`."""
    order = await read_json(request, CreatePrice)
    made = await catalog.create_price(services.database, services.gateway, environment, order)
    return answer(PriceResponse(price=made), 201)


@router.patch(
    "/prices/{price_id}",
    dependencies=NO_QUERY,
    response_model=PriceResponse,
    responses=_CHANGE,
    openapi_extra=body_of(UpdatePrice),
)
@changes("price.update", target="price_id", row=PRICE)
async def update_price(
    environment: Environment, price_id: PathId, request: Request, services: ServicesOf
) -> Response:
    """Change a price in Stripe. Its amount and currency cannot change: create a new price."""
    order = await read_json(request, UpdatePrice)
    changed = await catalog.update_price(
        services.database, services.gateway, environment, price_id, order
    )
    return answer(PriceResponse(price=changed))


@router.delete(
    "/prices/{price_id}", dependencies=NO_QUERY, response_model=ArchivedPrice, responses=_CHANGE
)
@changes("price.update", target="price_id", row=PRICE)
async def archive_price(
    environment: Environment, price_id: PathId, services: ServicesOf
) -> Response:
    """Archive a price (make it inactive): Stripe cannot delete prices."""
    return answer(
        await catalog.archive_price(services.database, services.gateway, environment, price_id)
    )
