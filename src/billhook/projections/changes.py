"""What an event changes: small typed values, made by the projections, written by the ledger.

Amounts are integers in the currency's minor unit, times are epoch seconds (UTC). Field names are
those that the SQL functions of `db/functions` read.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
from enum import IntEnum
from functools import cache
from typing import Any, ClassVar, Literal

from billhook.projections.shapes import StripeObject

Rank = Literal[0, 1, 2]
"""Within one second: created < updated < deleted (docs/ordering.md)."""


@dataclass(frozen=True, slots=True)
class Event:
    """A Stripe event, decoded and not yet interpreted."""

    id: str
    type: str
    created: int
    object: StripeObject
    previous: StripeObject | None = None
    account: str | None = None
    """The connected account that it is of (Connect); None for the account itself."""

    @property
    def rank(self) -> Rank:
        if self.type.endswith(".created"):
            return 0
        return 2 if self.type.endswith(".deleted") else 1


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomerRow:
    table: ClassVar[str] = "customers"
    customer_id: str
    email: str | None
    name: str | None
    phone: str | None
    deleted: bool
    metadata: dict[str, str]
    created: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductRow:
    table: ClassVar[str] = "stripe_products"
    product_id: str
    name: str
    description: str | None
    active: bool
    default_price_id: str | None
    metadata: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceRow:
    table: ClassVar[str] = "stripe_prices"
    price_id: str
    product_id: str | None
    active: bool
    currency: str
    unit_amount: int | None
    unit_amount_decimal: str | None
    type: str
    lookup_key: str | None
    billing_scheme: str | None
    tax_behavior: str | None
    recurring_interval: str | None
    recurring_interval_count: int | None
    metadata: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionItemRow:
    subscription_item_id: str
    product_id: str | None
    price_id: str | None
    quantity: int | None
    metadata: dict[str, str]
    raw: StripeObject


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionRow:
    table: ClassVar[str] = "stripe_subscriptions"
    subscription_id: str
    customer_id: str
    subject_type: str | None
    subject_id: str | None
    status: str
    current_period_start: int | None
    current_period_end: int | None
    cancel_at_period_end: bool
    cancel_at: int | None
    canceled_at: int | None
    trial_start: int | None
    trial_end: int | None
    pause_collection: dict[str, Any] | None
    latest_invoice_id: str | None
    metadata: dict[str, str]
    items: list[SubscriptionItemRow]
    items_complete: bool
    """False where Stripe sent only the first page of items."""


MirrorRow = CustomerRow | ProductRow | PriceRow | SubscriptionRow


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckoutSessionChange:
    """A Checkout Session moved on; ours is found by `session_id`, else by `row_id`."""

    session_id: str
    row_id: str | None
    status: Literal["completed", "expired"]
    payment_status: str | None
    customer_id: str | None
    payment_intent_id: str | None
    subscription_id: str | None
    url: str | None
    rank: Rank


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A customer pays for a subject: said by a finished checkout (which overrides), or by the
    metadata of an invoice or subscription (which only fills what is missing)."""

    customer_id: str
    subject_type: str
    subject_id: str
    kind: Literal["checkout", "metadata"]
    ref: str = ""
    """The Checkout Session; empty for metadata."""


class Place(IntEnum):
    """Whose facts of a payment count first, where several objects know them.

    An invoice comes before a PaymentIntent that only pays it, and after one of a checkout of ours.
    """

    OUR_PAYMENT_INTENT = 1
    INVOICE = 2
    PAYMENT_INTENT = 3
    CHECKOUT_SESSION = 4
    INVOICE_PAYMENT = 5
    CHARGE = 6


Outcome = Literal["succeeded", "canceled", "failed", "pending"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentSource:
    """What one object knows of a payment (contract §5, where a transaction's columns come from)."""

    object_type: Literal[
        "payment_intent", "invoice", "checkout_session", "invoice_payment", "charge"
    ]
    object_id: str
    outcome: Outcome
    place: Place
    type: Literal["one_time_payment", "subscription_invoice", "failed_payment"]
    subject_type: str | None = None
    subject_id: str | None = None
    customer_id: str | None = None
    email: str | None = None
    amount: int | None
    """What was taken; what was due, if it was not."""
    full_amount: int | None = None
    """What was asked for in all, where that is not `amount`."""
    currency: str | None
    presentment_amount: int | None = None
    presentment_currency: str | None = None
    """The same in the buyer's currency (adaptive pricing)."""
    out_of_band: bool = False
    """Whether it was paid past Stripe."""
    description: str | None = None
    happened_at: int | None
    """When it was paid, failed or was canceled."""
    created: int | None
    related: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundFacts:
    """Money that went back: a Refund, or what a Charge says of all its refunds."""

    object_type: Literal["refund", "charge"]
    object_id: str
    status: Literal["pending", "refunded", "failed"]
    amount: int
    currency: str | None
    presentment_amount: int | None = None
    presentment_currency: str | None = None
    description: str | None = None
    payment_intent_id: str | None
    charge_id: str | None
    created: int | None
    rank: Rank
    """Within one second: pending < refunded < failed, the way a refund can go."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentChange:
    """Objects that belong to one payment, and what one of them tells."""

    refs: dict[str, list[str]]
    """Ids by object type."""
    source: PaymentSource | None = None
    refund: RefundFacts | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletedCatalogRow:
    object_type: Literal["product", "price"]
    object_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """All that one event changes. None at all: the event is `ignored`."""

    mirror: MirrorRow | None = None
    checkout_session: CheckoutSessionChange | None = None
    claim: Claim | None = None
    payment: PaymentChange | None = None
    deleted_customer: str | None = None
    deleted_catalog: DeletedCatalogRow | None = None


NOTHING = Changes()


def as_json(changes: Changes, event: Event) -> dict[str, Any]:
    """`changes` as `billhook.apply_changes` takes them, each versioned by its event."""
    found: dict[str, Any] = _known(changes)
    version = {"at": event.created, "event_id": event.id}
    if changes.mirror is not None:
        found["mirror"] |= version | {"table": changes.mirror.table, "rank": event.rank}
        if event.previous:
            found["mirror"]["previous"] = event.previous
    if changes.checkout_session is not None:
        found["checkout_session"] |= version
    return found


def row_as_json(row: MirrorRow) -> dict[str, Any]:
    """A mirrored row as the SQL functions take it, still without its version."""
    found: dict[str, Any] = _known(row)
    return found


_PLAIN = frozenset({str, int, bool, dict})


def _known(value: Any) -> Any:
    """A change as JSON, without what is None: the SQL side asks whether a key is there."""
    if isinstance(value, list):
        return [_known(entry) for entry in value]
    names = _field_names(value.__class__)
    if names is None:
        return value
    return {
        name: entry if entry.__class__ in _PLAIN else _known(entry)
        for name in names
        if (entry := getattr(value, name)) is not None
    }


@cache  # a sync asks for every field of every object
def _field_names(kind: type) -> tuple[str, ...] | None:
    """The fields of a dataclass; None of anything else."""
    return tuple(each.name for each in fields(kind)) if is_dataclass(kind) else None
