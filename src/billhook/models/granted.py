"""Who has access: settings, and the answer for one subject. Times are UTC."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from billhook.models.queries import Query
from billhook.models.wire import (
    NO_NUL,
    TRIM,
    Id,
    Request,
    Timestamp,
    WireModel,
    without_null,
)
from billhook.settings import Environment

Grace = Annotated[int, Field(ge=0, le=366 * 86_400)]
"""Seconds."""
SubjectPart = Annotated[str, StringConstraints(min_length=1, max_length=500), TRIM, NO_NUL]


class AccessSettings(WireModel):
    """The settings that apply if a policy does not override them.

    Attributes:
        environment: the environment whose subscriptions count.
        is_chosen: whether an administrator chose the environment. Until then, it becomes `live`
            when a live account is connected.
        grace_seconds: how long a subject keeps access after a payment was due and failed.
    """

    environment: Environment
    is_chosen: bool
    grace_seconds: int


class UpdateAccessSettings(Request):
    """The body of `PATCH …/access`: at least one field."""

    environment: Environment | None = Field(None, json_schema_extra=without_null)
    grace_seconds: Grace | None = Field(None, json_schema_extra=without_null)

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.model_fields_set:
            raise PydanticCustomError("empty", "must have at least one field", {"path": "body"})
        return self


class AccessQuery(Query):
    """Query of `GET …/access/check`. `environment` and `graceSeconds` instead of the settings'."""

    subject_type: SubjectPart
    subject_id: SubjectPart
    what: Id
    environment: Environment | None = None
    grace_seconds: Grace | None = None


class ActiveSubscription(WireModel):
    """An item of a subscription that gives access, as in `payments.active_subscriptions`.

    Attributes:
        until: when access ends unless something else happens first, such as a renewal.
        in_grace: whether a payment was due and failed.
    """

    subscription_id: str
    subscription_item_id: str
    customer_id: str
    product_id: str | None
    product_name: str | None
    product_lookup_key: str | None
    price_id: str | None
    lookup_key: str | None
    quantity: int | None
    status: str
    is_trial: bool
    in_grace: bool
    until: Timestamp | None


class Access(WireModel):
    """Whether a subject has access, and what else it has access to.

    Attributes:
        environment: the environment whose subscriptions counted.
        quantity: the total quantity of the items that give access; 0 if there are none to count;
            null without access.
        subscriptions: all items that give the subject access to anything, with the grace period
            from the settings.
        features: lookup keys of the features that the subject's customer is entitled to in Stripe.
    """

    environment: Environment
    subject_type: str
    subject_id: str
    what: str
    has_access: bool
    quantity: int | None
    subscriptions: list[ActiveSubscription]
    features: list[str]
