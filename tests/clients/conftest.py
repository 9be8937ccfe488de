"""`api` and `shared_api`: the whole of Billhook, running."""

from api import api, shared_api

__all__ = ["api", "shared_api"]
