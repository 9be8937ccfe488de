# Generated from _async/__init__.py by `python src/billhook/client/generate.py`; don't edit.
"""The synchronous client."""

from billhook.client._sync.client import Client

__all__ = ["Client"]
