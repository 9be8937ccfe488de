from api import api, price
from selling import shop

__all__ = ["api", "price", "shop"]
