"""What Stripe answered to a request of ours → rows of the mirror. Pure, as the events are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal

from billhook.projections.catalog import price_row, product_row
from billhook.projections.changes import MirrorRow, row_as_json
from billhook.projections.customers import customer_row
from billhook.projections.shapes import StripeObject
from billhook.projections.subscriptions import subscription_row

Kind = Literal["product", "price", "customer", "subscription"]

_ROWS: Mapping[Kind, Callable[[StripeObject], MirrorRow | None]] = MappingProxyType(
    {
        "product": product_row,
        "price": price_row,
        "customer": customer_row,
        "subscription": subscription_row,
    }
)
# Within its second a fetch counts as an update; what breaks the tie is in 0005_mirror.sql.
_RANK = 1


def fetched_rows(kind: Kind, objects: Sequence[StripeObject], at: int) -> list[dict[str, Any]]:
    """The rows of fetched objects, as `billhook.project_fetched` takes them.

    Args:
        at: epoch seconds at which Stripe certainly knew them so.

    Raises:
        UnreadableObject: one lacks what its row cannot be without.
    """
    read = _ROWS[kind]
    return [
        row_as_json(row) | {"at": at, "rank": _RANK, "raw": each}
        for each in objects
        if (row := read(each)) is not None
    ]
