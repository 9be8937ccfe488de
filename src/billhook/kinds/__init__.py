"""The mirrored kinds: one declaration each."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from billhook.kinds.catalog import PRICE, PRODUCT
from billhook.kinds.customers import CUSTOMER
from billhook.kinds.disputes import DISPUTE
from billhook.kinds.invoices import INVOICE
from billhook.kinds.kind import Children, Column, Kind, Row, Value, by_name
from billhook.kinds.meters import METER
from billhook.kinds.payment_methods import PAYMENT_METHOD
from billhook.kinds.subscriptions import SUBSCRIPTION

KINDS: Mapping[str, Kind] = MappingProxyType(
    by_name((PRODUCT, PRICE, CUSTOMER, SUBSCRIPTION, INVOICE, DISPUTE, PAYMENT_METHOD, METER))
)
"""By Stripe's name, in the order of a sync."""

TABLES: tuple[str, ...] = tuple(table for kind in KINDS.values() for table in kind.tables)
"""All tables of mirrored objects, without their schema."""

__all__ = [
    "CUSTOMER",
    "DISPUTE",
    "INVOICE",
    "KINDS",
    "METER",
    "PAYMENT_METHOD",
    "PRICE",
    "PRODUCT",
    "SUBSCRIPTION",
    "TABLES",
    "Children",
    "Column",
    "Kind",
    "Row",
    "Value",
]
