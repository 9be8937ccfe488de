"""What an event changes: small typed values, made by the projections, written by the ledger.

Amounts are integers in the currency's minor unit, times are epoch seconds (UTC).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

from billhook.kinds import Kind, Row
from billhook.kinds.reading import StripeObject, Subject

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
class MirroredObject:
    """The state of an object that the schema mirrors.

    Attributes:
        row: its columns, by the kind's declaration.
        subject: the one that the object names itself.
    """

    kind: Kind
    object_id: str
    row: Row
    subject: Subject | None = None


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
class ClaimChange:
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

    object_type: Literal["refund", "charge", "transaction"]
    """`transaction`: what an adopted row said, until a charge of it tells."""
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
class Changes:
    """All that one event changes. None at all: the event is `ignored`."""

    mirror: MirroredObject | None = None
    checkout_session: CheckoutSessionChange | None = None
    claim: ClaimChange | None = None
    payment: PaymentChange | None = None
    deleted: tuple[str, str] | None = None
    """The kind's name and the id of an object that Stripe no longer has."""


NOTHING = Changes()
