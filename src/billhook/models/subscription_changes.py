"""Changes of subscriptions by their users, and previews of what a change costs.

Amounts are in the currency's minor unit, times are UTC.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from billhook.models.admin import Subscription
from billhook.models.queries import Moment
from billhook.models.runtime import ActAs
from billhook.models.subscription_items import ItemChange
from billhook.models.wire import (
    NO_NUL,
    TRIM,
    Request,
    Timestamp,
    WireModel,
    without_null,
)
from billhook.settings import Environment

_ACT_AS = (
    "The user on whose behalf the request is made. Only allowed with an admin key. Without it, an "
    "admin key may change any subscription."
)
_Time = Annotated[Moment, Field(strict=False, json_schema_extra={"format": "date-time"})]
_Comment = Annotated[str, StringConstraints(min_length=1, max_length=500), TRIM, NO_NUL]

Feedback = Literal[
    "customer_service",
    "low_quality",
    "missing_features",
    "other",
    "switched_service",
    "too_complex",
    "too_expensive",
    "unused",
]
ProrationBehavior = Literal["create_prorations", "always_invoice", "none"]
PaymentBehavior = Literal[
    "allow_incomplete", "default_incomplete", "error_if_incomplete", "pending_if_incomplete"
]
PauseBehavior = Literal["keep_as_draft", "mark_uncollectible", "void"]


class ChangeRequest(Request):
    """The fields that all changes of a subscription have."""

    idempotency_key: (
        Annotated[str, StringConstraints(min_length=1, max_length=200), TRIM, NO_NUL] | None
    ) = Field(
        None,
        json_schema_extra=without_null,
        description="Repeating a request with this key has no further effect.",
    )
    act_as: ActAs | None = Field(None, json_schema_extra=without_null, description=_ACT_AS)


class ChangeSubscription(ItemChange, ChangeRequest):
    """Body of `POST …/subscriptions/{subscriptionId}/change`, and of its preview."""

    proration_behavior: ProrationBehavior = Field(
        "create_prorations",
        description="Whether the difference for the current period is added to the next invoice "
        "(`create_prorations`), billed now (`always_invoice`), or not billed (`none`, which a "
        "user's own token may not choose).",
    )
    payment_behavior: PaymentBehavior | None = Field(
        None,
        json_schema_extra=without_null,
        description="What happens if a payment is due now and fails. `pending_if_incomplete` "
        "changes nothing until it is paid. `error_if_incomplete` changes nothing. Stripe's "
        "default, `allow_incomplete`, makes the change anyway. Has no effect on a preview.",
    )
    proration_date: _Time | None = Field(
        None,
        json_schema_extra=without_null,
        description="The `prorationDate` from a preview, to bill exactly the amounts shown there. "
        "With a user's own token, it must be from the last hour.",
    )

    @model_validator(mode="after")
    def _dates_prorations_only(self) -> Self:
        if self.proration_behavior == "none" and self.proration_date is not None:
            raise PydanticCustomError(
                "proration_date",
                "has no meaning with the prorationBehavior none",
                {"path": "prorationDate"},
            )
        return self


class CancelSubscription(ChangeRequest):
    """Body of `POST …/subscriptions/{subscriptionId}/cancel`."""

    at_period_end: bool = Field(
        True,
        description="Whether to cancel at the end of the paid period. If false, cancel "
        "immediately, without a refund.",
    )
    comment: _Comment | None = Field(
        None, json_schema_extra=without_null, description="The reason, in the user's own words."
    )
    feedback: Feedback | None = Field(None, json_schema_extra=without_null)


class ResumeSubscription(ChangeRequest):
    """Body of `POST …/subscriptions/{subscriptionId}/resume`."""


class PauseSubscription(ChangeRequest):
    """Body of `POST …/subscriptions/{subscriptionId}/pause`."""

    behavior: PauseBehavior = Field(
        description="What happens to invoices during the pause: they are kept as drafts that can "
        "be collected later (`keep_as_draft`), written off (`mark_uncollectible`), or voided "
        "(`void`).",
    )
    resumes_at: _Time | None = Field(
        None,
        json_schema_extra=without_null,
        description="When collection resumes. If omitted, it stays paused until you resume it.",
    )


class PaymentAction(WireModel):
    """A payment that the customer must complete on Stripe's page.

    Attributes:
        reason: `requires_action`: it must be confirmed, for example with 3-D Secure;
            `requires_payment_method`: it failed, or no payment method is known.
        url: Stripe's page for the invoice.
        expires_at: when the change expires if it has not been paid; null if the change has already
            been made.
    """

    reason: Literal["requires_action", "requires_payment_method"]
    invoice_id: str
    amount_due: int
    currency: str
    url: str | None
    expires_at: Timestamp | None


class SubscriptionResponse(WireModel):
    """The 200 response of the routes that change a subscription: its new state."""

    subscription: Subscription
    payment_action: PaymentAction | None = Field(
        description="Set if the customer must complete a payment for the latest invoice."
    )


class PreviewLine(WireModel):
    """A line of a previewed invoice. A negative amount is a credit."""

    description: str | None
    amount: int
    quantity: int | None
    price_id: str | None
    proration: bool
    period_start: Timestamp | None
    period_end: Timestamp | None


class PreviewInvoice(WireModel):
    """An invoice that does not exist yet.

    Attributes:
        date: when it will be created.
        tax: the part of `total` that is tax.
        total: after discounts and including tax; negative if more is credited than charged.
        amount_due: what is charged, after applying the customer's balance.
    """

    date: Timestamp | None
    subtotal: int
    tax: int
    total: int
    amount_due: int
    lines: list[PreviewLine]


class SubscriptionPreview(WireModel):
    """What a change would cost.

    Attributes:
        proration_date: send it along with the change to bill exactly these amounts.
        prorations: the credits and charges for the rest of the current period.
        proration_amount: their sum, without discounts and tax; negative if it is a credit.
        amount_due_now: what is charged immediately.
        invoice_now: the invoice for it, if the change creates one.
        next_invoice: the first invoice after that; null if the subscription ends earlier.
    """

    environment: Environment
    subscription_id: str
    currency: str
    proration_date: Timestamp
    prorations: list[PreviewLine]
    proration_amount: int
    amount_due_now: int
    invoice_now: PreviewInvoice | None
    next_invoice: PreviewInvoice | None


class SubscriptionPreviewResponse(WireModel):
    """The 200 response of the preview route."""

    preview: SubscriptionPreview
