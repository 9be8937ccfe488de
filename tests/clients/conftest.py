"""`api`: the whole of Billhook, running."""

from api import api

__all__ = ["api"]
