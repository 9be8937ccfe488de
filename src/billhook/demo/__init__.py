"""The demo shop: an example app that uses Billhook as any app would. Its server stores orders in
its own schema and has its own users; its pages call Billhook's HTTP API with the user's token; its
triggers (`schema.sql`) fulfill paid orders. It imports nothing from Billhook.
"""

from billhook.demo.application import DemoConfig, open_demo
from billhook.demo.catalog import PRODUCTS, SHOP_NAME, Price, Product, lookup_key, offer

__all__ = [
    "PRODUCTS",
    "SHOP_NAME",
    "DemoConfig",
    "Price",
    "Product",
    "lookup_key",
    "offer",
    "open_demo",
]
