"""What Stripe answered to a request of ours → rows of the mirror. Pure, as the events are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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


def row_of(kind: Kind, stripe_object: StripeObject) -> MirrorRow | None:
    """The row of an object, still without its version; None where there is nothing to show.

    Raises:
        UnreadableObject: it lacks what its row cannot be without.
    """
    return _ROWS[kind](stripe_object)


def fetched_row(kind: Kind, stripe_object: StripeObject, at: int) -> dict[str, Any] | None:
    """The row of a fetched object, as `billhook.project_fetched` takes it; None where there is
    nothing to show.

    Args:
        at: epoch seconds at which Stripe certainly knew it so.

    Raises:
        UnreadableObject: it lacks what its row cannot be without.
    """
    row = row_of(kind, stripe_object)
    if row is None:
        return None
    found = row_as_json(row)
    found.update(at=at, rank=_RANK, raw=stripe_object)
    return found
