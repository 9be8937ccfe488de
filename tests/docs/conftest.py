from api import api, price

__all__ = ["api", "price"]
