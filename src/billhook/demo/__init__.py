"""The demo shop: an app developer's app, which uses Billhook only as any app would.

Its server part keeps orders in a schema of its own and knows its users; its pages call Billhook's
HTTP API with the user's token; its triggers (`schema.sql`) fulfil what was paid. It imports
nothing of Billhook.
"""

from billhook.demo.application import DemoConfig, open_demo
from billhook.demo.catalog import PRODUCTS, Price, Product, lookup_key, offer

__all__ = ["PRODUCTS", "DemoConfig", "Price", "Product", "lookup_key", "offer", "open_demo"]
