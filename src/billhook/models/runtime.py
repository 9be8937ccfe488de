"""Checkout, portal and webhook: what the app's frontend and Stripe send (contract section 3.1)."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import Field, StringConstraints, field_validator, model_validator
from pydantic_core import PydanticCustomError

from billhook.models.portal_flows import FlowData
from billhook.models.wire import (
    MOST_METADATA_KEYS,
    NO_NUL,
    TRIM,
    Address,
    Email,
    Id,
    LookupKey,
    Metadata,
    Request,
    Timestamp,
    WireModel,
    not_null,
    without_null,
)
from billhook.settings import Environment

_ACT_AS = "The user for whom the session is created. Only allowed with an admin key."
_ACT_AS_SIGNED_IN = f"{_ACT_AS} The `anon` role gets a 401."


class BillingSubject(Request):
    """Who is billed: a user, a team, or anything else that the app sells to."""

    type: Annotated[
        str, StringConstraints(min_length=1, max_length=100), TRIM, NO_NUL, Field(examples=["team"])
    ]
    id: Annotated[
        str, StringConstraints(min_length=1, max_length=255), TRIM, NO_NUL, Field(examples=["t_42"])
    ]


class ActAs(Request):
    """The user for whom an admin key creates a session: the database role, and the claims that the
    user's token would have. The policies can read both, and decide."""

    role: Literal["anon", "authenticated"] = "authenticated"
    claims: dict[str, Any] = Field(
        default_factory=dict,
        max_length=100,
        description="`sub` is the user's id; `anon` has no claims.",
        examples=[{"sub": "11111111-1111-4111-8111-111111111111"}],
    )

    @model_validator(mode="after")
    def _fits_the_role(self) -> Self:
        sub = self.claims.get("sub")
        if self.role == "anon" and self.claims:
            problem = ("claims", "must be empty for the role anon")
        elif self.role == "authenticated" and not (isinstance(sub, str) and sub):
            problem = ("claims.sub", "must be the id of the user, a string")
        elif self.claims.get("role", self.role) != self.role:
            problem = ("claims.role", "must be the role of actAs, or left out")
        else:
            return self
        path, message = problem
        raise PydanticCustomError("act_as", message, {"path": f"actAs.{path}"})


class LineItem(Request):
    """A price and its quantity."""

    price_id: Id | None = Field(None, json_schema_extra=without_null, examples=["price_1QxYz"])
    lookup_key: LookupKey | None = Field(
        None,
        json_schema_extra=without_null,
        description="Selects the active mirrored price with this lookup key, instead of `priceId`.",
        examples=["team_monthly"],
    )
    quantity: Annotated[int, Field(ge=1, le=999)] = 1

    _not_null = field_validator("price_id", "lookup_key", mode="before")(not_null)

    @model_validator(mode="after")
    def _names_one_price(self) -> Self:
        if (self.price_id is None) == (self.lookup_key is None):
            raise PydanticCustomError("price", "must have either a priceId or a lookupKey")
        return self


class CreateCheckoutSession(Request):
    """Body of `POST /payments/stripe/{environment}/checkout-sessions`."""

    mode: Literal["payment", "subscription"]
    line_items: Annotated[list[LineItem], Field(min_length=1, max_length=100)]
    success_url: Annotated[
        Address, Field(examples=["https://shop.example/done?session={CHECKOUT_SESSION_ID}"])
    ]
    cancel_url: Annotated[Address, Field(examples=["https://shop.example/cart"])]
    subject: BillingSubject | None = Field(None, json_schema_extra=without_null)
    customer_email: Email | None = None
    metadata: Metadata | None = Field(None, json_schema_extra=without_null)
    idempotency_key: (
        Annotated[str, StringConstraints(min_length=1, max_length=200), TRIM, NO_NUL] | None
    ) = Field(None, json_schema_extra=without_null)
    act_as: ActAs | None = Field(None, json_schema_extra=without_null, description=_ACT_AS)

    _not_null = field_validator("subject", "metadata", "idempotency_key", "act_as", mode="before")(
        not_null
    )

    @model_validator(mode="after")
    def _subscription_has_a_subject(self) -> Self:
        if self.mode == "subscription" and self.subject is None:
            raise PydanticCustomError(
                "subject_missing",
                "a subscription checkout needs a billing subject",
                {"path": "subject"},
            )
        return self

    @model_validator(mode="after")
    def _metadata_leaves_room_for_ours(self) -> Self:
        """Stripe counts them together."""
        ours = 4 if self.subject else 2
        most = MOST_METADATA_KEYS - ours
        if self.metadata is not None and len(self.metadata) > most:
            raise PydanticCustomError(
                "too_many_keys",
                "must have at most {most} keys: Stripe allows {all}, and Billhook adds {ours} to a "
                "checkout {which} a subject",
                {
                    "path": "metadata",
                    "most": most,
                    "all": MOST_METADATA_KEYS,
                    "ours": ours,
                    "which": "with" if self.subject else "without",
                },
            )
        return self


class CreateCustomerPortalSession(Request):
    """Body of `POST /payments/stripe/{environment}/customer-portal-sessions`."""

    subject: BillingSubject
    return_url: Address | None = Field(
        None, json_schema_extra=without_null, examples=["https://shop.example/account"]
    )
    configuration: Id | None = Field(None, json_schema_extra=without_null)
    flow_data: FlowData | None = Field(
        None,
        json_schema_extra=without_null,
        description="A deep link: the portal offers only this action.",
    )
    act_as: ActAs | None = Field(
        None, json_schema_extra=without_null, description=_ACT_AS_SIGNED_IN
    )

    _not_null = field_validator(
        "return_url", "configuration", "flow_data", "act_as", mode="before"
    )(not_null)


class CheckoutSession(WireModel):
    """A Checkout Session."""

    id: UUID
    environment: Environment
    mode: Literal["payment", "subscription"]
    status: Literal["initialized", "open", "completed", "expired", "failed"]
    payment_status: Literal["paid", "unpaid", "no_payment_required"] | None
    subject_type: str | None
    subject_id: str | None
    customer_email: str | None
    checkout_session_id: str | None
    customer_id: str | None
    payment_intent_id: str | None
    subscription_id: str | None
    url: str | None
    last_error: str | None
    created_at: Timestamp
    updated_at: Timestamp


class CheckoutSessionResponse(WireModel):
    """The response of both checkout routes."""

    checkout_session: CheckoutSession


class CustomerPortalSession(WireModel):
    """A customer portal session."""

    id: UUID
    environment: Environment
    status: Literal["initialized", "created", "failed"]
    subject_type: str
    subject_id: str
    customer_id: str | None
    return_url: str | None
    configuration: str | None
    url: str | None
    last_error: str | None
    created_at: Timestamp
    updated_at: Timestamp


class CustomerPortalSessionResponse(WireModel):
    """The 201 response of the portal route."""

    customer_portal_session: CustomerPortalSession


class WebhookEvent(WireModel):
    """An entry in the event ledger."""

    environment: Environment
    event_id: str
    event_type: str
    livemode: bool
    account_id: str | None
    object_type: str | None
    object_id: str | None
    processing_status: Literal["pending", "processed", "failed", "ignored"]
    attempt_count: int
    last_error: str | None
    received_at: Timestamp
    processed_at: Timestamp | None
    created_at: Timestamp
    updated_at: Timestamp


class WebhookReceipt(WireModel):
    """The 200 response of the webhook route. `handled` is false for a repeated delivery."""

    received: bool
    handled: bool
    event: WebhookEvent
