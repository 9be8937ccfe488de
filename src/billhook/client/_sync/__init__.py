# Made of _async/__init__.py by `python src/billhook/client/generate.py`. Change that one.
"""The client that doesn't await."""

from billhook.client._sync.client import Client

__all__ = ["Client"]
