"""Refunds: what is asked for, and what Stripe made of it. Amounts are in the currency's minor
unit."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from billhook.models.admin import IdempotencyKey, StoredMetadata, Transaction
from billhook.models.wire import (
    Id,
    Metadata,
    Request,
    WireModel,
    leave_room,
    without_null,
)

MovedAmount = Annotated[int, Field(ge=1, le=2**53 - 1, examples=[500])]
"""An amount of money that moves."""
RefundReason = Literal["duplicate", "fraudulent", "requested_by_customer"]
_OURS = 1  # insforge_refund_request_id


class RefundLineItem(Request):
    """A line of the checkout or invoice that was paid."""

    line_item_id: Id | None = Field(
        None,
        json_schema_extra=without_null,
        description="Id in Stripe, `li_…` or `il_…`; `shipping` for a checkout's shipping.",
    )
    price_id: Id | None = Field(
        None,
        json_schema_extra=without_null,
        description="Instead of `lineItemId`, if only one line has this price.",
        examples=["price_1QxYz"],
    )
    quantity: Annotated[int, Field(ge=1)] | None = Field(
        None,
        json_schema_extra=without_null,
        description="Number of units. Default: all that have not been refunded.",
    )

    @model_validator(mode="after")
    def _names_one_line(self) -> Self:
        if (self.line_item_id is None) == (self.price_id is None):
            raise PydanticCustomError("line", "must have either a lineItemId or a priceId")
        return self


class PreviewRefund(Request):
    """Body of `POST …/refunds/preview`."""

    payment: Annotated[Id, Field(examples=["pi_3QxYz"])] = Field(
        description="The id of the payment's PaymentIntent, charge, Checkout Session or invoice."
    )
    amount: MovedAmount | None = Field(
        None,
        json_schema_extra=without_null,
        description="Default: everything that is left, or the total of `lineItems`. If both are "
        "sent, they must match.",
    )
    line_items: Annotated[list[RefundLineItem], Field(min_length=1, max_length=100)] | None = Field(
        None, json_schema_extra=without_null
    )


class CreateRefund(PreviewRefund):
    """Body of `POST …/refunds`."""

    reason: RefundReason | None = Field(None, json_schema_extra=without_null)
    metadata: Metadata | None = Field(None, json_schema_extra=without_null)
    idempotency_key: IdempotencyKey | None = Field(
        None,
        json_schema_extra=without_null,
        description="Repeating the request with this key refunds only once. Without a key, the "
        "same request within a minute counts as a repeat.",
    )

    @model_validator(mode="after")
    def _metadata_leaves_room_for_ours(self) -> Self:
        leave_room(self.metadata, _OURS)
        return self


class RefundedLineItem(WireModel):
    """A line, and the part of it that is refunded."""

    line_item_id: str
    price_id: str | None
    quantity: int
    amount: int


class RefundPreview(WireModel):
    """What a refund would return, and what is left of the payment before it.

    Attributes:
        amount: what would be refunded.
        amount_paid: what was paid through Stripe.
        amount_pending: what Stripe has not confirmed yet.
        amount_disputed: what was lost to disputes.
        amount_left: what can still be refunded, before this refund.
    """

    amount: int
    currency: str | None
    line_items: list[RefundedLineItem]
    payment_intent_id: str | None
    charge_id: str | None
    amount_paid: int
    amount_refunded: int
    amount_pending: int
    amount_disputed: int
    amount_left: int


class RefundPreviewResponse(WireModel):
    preview: RefundPreview


class Refund(Transaction):
    """A refund: its transaction, and its state in Stripe.

    Attributes:
        status: `pending` until Stripe has confirmed it; then `refunded`, or `failed`.
        provider_status: Stripe's status: `pending`, `requires_action`, `succeeded`, `failed` or
            `canceled`.
        line_items: the refunded lines, if the refund was requested by line.
    """

    refund_id: str
    provider_status: str | None
    payment_intent_id: str | None
    charge_id: str | None
    reason: str | None
    failure_reason: str | None
    metadata: StoredMetadata
    line_items: list[RefundedLineItem]


class RefundResponse(WireModel):
    """A refund, and the state of its payment afterward.

    Attributes:
        payment: null until Billhook has recorded it.
        repeated: whether the request repeats an earlier one, which created this refund.
    """

    refund: Refund
    payment: Transaction | None
    repeated: bool = False
