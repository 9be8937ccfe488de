# Generated from _async/catalog.py by `python src/billhook/client/generate.py`; don't edit.
"""Products and prices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias
from uuid import uuid4

from billhook.client._sync.transport import SyncTransport
from billhook.client.inputs import UNSET, RecurringInput, Unset, camel, changed, given
from billhook.client.request import Call, path
from billhook.models import (
    ArchivedPrice,
    DeletedProduct,
    Price,
    PriceResponse,
    Prices,
    Product,
    ProductResponse,
    Products,
    ProductWithPrices,
)
from billhook.settings import Environment

# Inside a class that has a method `list`, that name is the method's.
ProductList: TypeAlias = list[Product]
PriceList: TypeAlias = list[Price]
TaxBehavior = Literal["exclusive", "inclusive", "unspecified"]


class SyncProducts:
    """Stripe Products: read from the mirror, changed in Stripe."""

    def __init__(self, transport: SyncTransport) -> None:
        self._transport = transport

    def list(self, environment: Environment) -> ProductList:
        """All products, by name and id."""
        call = Call("GET", path(environment, "catalog", "products"), Products, repeatable=True)
        return (self._transport.send(call)).model.products

    def get(self, environment: Environment, product_id: str) -> ProductWithPrices:
        """One product with its prices."""
        route = path(environment, "catalog", "products", product_id)
        call = Call("GET", route, ProductWithPrices, repeatable=True)
        return (self._transport.send(call)).model

    def create(
        self,
        environment: Environment,
        *,
        name: str,
        description: str | None = None,
        active: bool | None = None,
        metadata: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> Product:
        """Create a product. Without an `idempotency_key`, one is generated for retries."""
        body = given(
            name=name,
            description=description,
            active=active,
            metadata=metadata,
            idempotencyKey=idempotency_key or str(uuid4()),
        )
        route = path(environment, "catalog", "products")
        call = Call("POST", route, ProductResponse, body=body, repeatable=True)
        return (self._transport.send(call)).model.product

    def update(
        self,
        environment: Environment,
        product_id: str,
        *,
        name: str | Unset = UNSET,
        description: str | Unset | None = UNSET,
        active: bool | Unset = UNSET,
        metadata: Mapping[str, str] | Unset = UNSET,
    ) -> Product:
        """Change the given fields; `description=None` removes it."""
        fields = {"name": name, "description": description, "active": active, "metadata": metadata}
        route = path(environment, "catalog", "products", product_id)
        call = Call("PATCH", route, ProductResponse, body=changed(fields), repeatable=True)
        return (self._transport.send(call)).model.product

    def delete(self, environment: Environment, product_id: str) -> DeletedProduct:
        """Delete a product. Stripe refuses one that has prices: set `active=False` instead."""
        # Not repeated: the second time, Stripe would respond that it does not exist.
        route = path(environment, "catalog", "products", product_id)
        return (self._transport.send(Call("DELETE", route, DeletedProduct))).model


class SyncPrices:
    """Stripe Prices: read from the mirror, changed in Stripe."""

    def __init__(self, transport: SyncTransport) -> None:
        self._transport = transport

    def list(self, environment: Environment, *, product_id: str | None = None) -> PriceList:
        """All prices, or those of one product, by product and id."""
        route = path(environment, "catalog", "prices")
        query = {} if product_id is None else {"productId": product_id}
        call = Call("GET", route, Prices, query=query, repeatable=True)
        return (self._transport.send(call)).model.prices

    def get(self, environment: Environment, price_id: str) -> Price:
        """One price."""
        route = path(environment, "catalog", "prices", price_id)
        call = Call("GET", route, PriceResponse, repeatable=True)
        return (self._transport.send(call)).model.price

    def create(
        self,
        environment: Environment,
        *,
        product_id: str,
        currency: str,
        unit_amount: int,
        recurring: RecurringInput | None = None,
        lookup_key: str | None = None,
        active: bool | None = None,
        tax_behavior: TaxBehavior | None = None,
        metadata: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> Price:
        """Create a price. Without an `idempotency_key`, one is generated for retries.

        Args:
            unit_amount: in the currency's minor unit: 1500 is 15.00 USD, and 1,500 JPY.
        """
        body = given(
            productId=product_id,
            currency=currency,
            unitAmount=unit_amount,
            recurring=None if recurring is None else camel(recurring),
            lookupKey=lookup_key,
            active=active,
            taxBehavior=tax_behavior,
            metadata=metadata,
            idempotencyKey=idempotency_key or str(uuid4()),
        )
        route = path(environment, "catalog", "prices")
        call = Call("POST", route, PriceResponse, body=body, repeatable=True)
        return (self._transport.send(call)).model.price

    def update(
        self,
        environment: Environment,
        price_id: str,
        *,
        active: bool | Unset = UNSET,
        lookup_key: str | Unset | None = UNSET,
        tax_behavior: TaxBehavior | Unset = UNSET,
        metadata: Mapping[str, str] | Unset = UNSET,
    ) -> Price:
        """Change the given fields. Amount and currency cannot change: create a new price."""
        fields = {
            "active": active,
            "lookupKey": lookup_key,
            "taxBehavior": tax_behavior,
            "metadata": metadata,
        }
        route = path(environment, "catalog", "prices", price_id)
        call = Call("PATCH", route, PriceResponse, body=changed(fields), repeatable=True)
        return (self._transport.send(call)).model.price

    def archive(self, environment: Environment, price_id: str) -> ArchivedPrice:
        """Archive a price: Stripe cannot delete prices."""
        route = path(environment, "catalog", "prices", price_id)
        call = Call("DELETE", route, ArchivedPrice, repeatable=True)
        return (self._transport.send(call)).model
