"""What an event changes: small typed values, created by projections, written by the ledger.

Amounts are integers in the currency's minor unit, times are epoch seconds (UTC).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Literal, NamedTuple

from billhook.kinds import Kind, Row
from billhook.kinds.reading import StripeObject, Subject
from billhook.kinds.recurring import Terms

Rank = Literal[0, 1, 2]
"""Within one second: created < updated < deleted (docs/explanation/ordering.md)."""


@dataclass(frozen=True, slots=True)
class Event:
    """A Stripe event, decoded and not yet interpreted."""

    id: str
    type: str
    created: int
    object: StripeObject
    previous: StripeObject | None = None
    account: str | None = None
    """The connected account (Connect) that it belongs to; None for the account itself."""

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
        subject: the one in the object's own metadata.
    """

    kind: Kind
    object_id: str
    row: Row
    subject: Subject | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckoutSessionChange:
    """A change of a Checkout Session; Billhook's row is found by `session_id`, else by `row_id`."""

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
    """A customer pays for a subject, according to a completed checkout (which overrides) or the
    metadata of an invoice or subscription (which only fills gaps)."""

    customer_id: str
    subject_type: str
    subject_id: str
    kind: Literal["checkout", "metadata"]
    ref: str = ""
    """The Checkout Session; empty for metadata."""


class Place(IntEnum):
    """The precedence of sources, if several objects have a value.

    An invoice comes before a PaymentIntent that only pays it, and after a checkout of Billhook.
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
    """What one object reports about a payment (contract §5, sources of a transaction's columns)."""

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
    """The amount paid; the amount due if it was not paid."""
    full_amount: int | None = None
    """The total amount requested, if that is not `amount`."""
    currency: str | None
    presentment_amount: int | None = None
    presentment_currency: str | None = None
    """The same in the buyer's currency (adaptive pricing)."""
    out_of_band: bool = False
    """Whether it was paid outside Stripe."""
    description: str | None = None
    happened_at: int | None
    """When it was paid, failed or was canceled."""
    created: int | None
    related: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundFacts:
    """Refunded money: a Refund, or the total refunds that a Charge reports."""

    object_type: Literal["refund", "charge", "transaction"]
    """`transaction`: what an adopted row said, until a charge reports its total."""
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
    """Within one second: pending < refunded < failed, as a refund can proceed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentChange:
    """Objects that belong to one payment, and what one of them reports."""

    refs: dict[str, list[str]]
    """Ids by object type."""
    source: PaymentSource | None = None
    refund: RefundFacts | None = None


Record = Literal["always", "if changed", "never"]


class Value(NamedTuple):
    """What may differ between two states of a subscription. Stored as text."""

    gross: int
    period_amount: int
    discounts: tuple[str, ...]

    @classmethod
    def of(cls, text: str) -> Value:
        gross, period_amount, *discounts = text.split(" ")
        return cls(int(gross), int(period_amount), tuple(discounts))

    def __str__(self) -> str:
        return " ".join([str(self.gross), str(self.period_amount), *self.discounts])


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionState:
    """From `at` on, a subscription is worth so much a month.

    Attributes:
        period_amount: what its items cost each period.
        gross: its MRR before discounts; 0 if it does not count.
        discounts: their ids.
        before: the `value` of the state before, if an event says so.
        had, had_from, had_to: before this state, it was worth so much, since and until when. It
            counts only if no earlier state is known.
        terms: of those discounts that the object contains in full.
        record: what was fetched again without a change is not recorded, and what a rebuild shows
            again was recorded before.
    """

    subscription_id: str
    at: int
    customer_id: str
    currency: str
    period_amount: int
    gross: int
    discounts: tuple[str, ...] = ()
    before: Value | None = None
    had: int = 0
    had_from: int | None = None
    had_to: int | None = None
    terms: tuple[Terms, ...] = ()
    record: Record = "always"

    @property
    def value(self) -> Value:
        return Value(self.gross, self.period_amount, self.discounts)

    @property
    def past(self) -> Value:
        """What it was worth before, as `had`."""
        return self.before or Value(self.had, self.period_amount, self.discounts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """Everything that one event changes. If that is nothing, the event is `ignored`."""

    mirror: MirroredObject | None = None
    recurring: SubscriptionState | None = None
    checkout_session: CheckoutSessionChange | None = None
    claim: ClaimChange | None = None
    payment: PaymentChange | None = None
    deleted: tuple[str, str] | None = None
    """The kind's name and the id of an object that was deleted at Stripe."""


NOTHING = Changes()
