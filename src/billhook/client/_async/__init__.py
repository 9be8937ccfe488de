"""The asynchronous client."""

from billhook.client._async.client import AsyncClient

__all__ = ["AsyncClient"]
