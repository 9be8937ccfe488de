"""Charges of a saved payment method, without the customer. Amounts are in the currency's minor
unit."""

from __future__ import annotations

from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from billhook.models.admin import IdempotencyKey
from billhook.models.catalog_fields import Currency
from billhook.models.refunds import MovedAmount
from billhook.models.runtime import BillingSubject
from billhook.models.wire import (
    NO_NUL,
    TRIM,
    Address,
    Id,
    Metadata,
    Request,
    Timestamp,
    WireModel,
    leave_room,
    without_null,
)
from billhook.settings import Environment

_OURS = 4
_Description = Annotated[str, StringConstraints(min_length=1, max_length=1000), TRIM, NO_NUL]


class CreateCharge(Request):
    """Body of `POST …/charges`."""

    subject: BillingSubject | None = Field(
        None,
        json_schema_extra=without_null,
        description="The subject whose Stripe customer is charged.",
    )
    customer_id: Id | None = Field(
        None,
        json_schema_extra=without_null,
        description="The Stripe customer to charge, instead of `subject`.",
        examples=["cus_QxYz"],
    )
    amount: MovedAmount
    currency: Currency
    payment_method_id: Id | None = Field(
        None,
        json_schema_extra=without_null,
        description="A payment method saved by the customer. Default: the customer's default.",
        examples=["pm_1QxYz"],
    )
    description: _Description | None = Field(None, json_schema_extra=without_null)
    metadata: Metadata | None = Field(None, json_schema_extra=without_null)
    return_url: Address | None = Field(
        None,
        json_schema_extra=without_null,
        description="Where to send the customer after authentication. If omitted, there is no "
        "`confirmUrl`.",
        examples=["https://shop.example/account"],
    )
    idempotency_key: Annotated[IdempotencyKey, Field(examples=["usage-2026-05-t_42"])] = Field(
        description="Repeating the request with this key charges only once."
    )

    @model_validator(mode="after")
    def _names_one_customer(self) -> Self:
        if (self.subject is None) == (self.customer_id is None):
            raise PydanticCustomError(
                "customer", "must have either a subject or a customerId", {"path": "subject"}
            )
        leave_room(self.metadata, _OURS)
        return self


class Charge(WireModel):
    """A charge that was not declined.

    Attributes:
        status: `succeeded`; `processing`: a bank debit, which takes days; `requires_action`: the
            customer must authenticate.
        confirm_url: where the customer authenticates, if they must and `returnUrl` was sent.
        client_secret: for Stripe.js; only while the customer must authenticate.
    """

    id: UUID
    environment: Environment
    status: Literal["succeeded", "processing", "requires_action"]
    amount: int
    currency: str
    customer_id: str
    subject_type: str | None
    subject_id: str | None
    payment_intent_id: str
    payment_method_id: str
    description: str | None
    confirm_url: str | None
    client_secret: str | None
    created_at: Timestamp


class ChargeResponse(WireModel):
    """The 201 response of `POST …/charges`."""

    charge: Charge
