"""Billhook: Stripe payments on your own PostgreSQL.

Each public name is loaded when it is used: who needs a client loads no server, and the command
line starts fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from billhook.app import create_app, running
    from billhook.client import ApiError, AsyncClient, Client
    from billhook.postgres import prepare_connection
    from billhook.settings import Settings

__all__ = [
    "ApiError",
    "AsyncClient",
    "Client",
    "Settings",
    "create_app",
    "prepare_connection",
    "running",
]
__version__ = "0.1.0"

_HOMES = {
    "ApiError": "billhook.client",
    "AsyncClient": "billhook.client",
    "Client": "billhook.client",
    "Settings": "billhook.settings",
    "create_app": "billhook.app",
    "prepare_connection": "billhook.postgres",
    "running": "billhook.app",
}


if not TYPE_CHECKING:  # else a misspelt name would pass as Any

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
