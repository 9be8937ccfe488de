"""Deep links into the customer portal: one action, then back to the app."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from billhook.models.subscription_items import ItemChange
from billhook.models.wire import NO_NUL, TRIM, Address, Id, Request, without_null

FlowType = Literal[
    "payment_method_update",
    "subscription_cancel",
    "subscription_update",
    "subscription_update_confirm",
]

_Message = Annotated[str, StringConstraints(min_length=1, max_length=500), TRIM, NO_NUL]


class AfterCompletion(Request):
    """What the portal shows when the action is done."""

    type: Literal["redirect", "hosted_confirmation", "portal_homepage"]
    return_url: Address | None = Field(
        None,
        json_schema_extra=without_null,
        description="For `redirect`: where the browser is sent.",
        examples=["https://app.example/billing?done"],
    )
    message: (
        Annotated[str, StringConstraints(min_length=1, max_length=500), TRIM, NO_NUL] | None
    ) = Field(
        None,
        json_schema_extra=without_null,
        description="For `hosted_confirmation`: the text of the page.",
    )

    @model_validator(mode="after")
    def _fits_its_type(self) -> Self:
        if (self.return_url is not None) != (self.type == "redirect"):
            raise PydanticCustomError(
                "return_url",
                "is required for the type redirect, and only for it",
                {"path": "flowData.afterCompletion.returnUrl"},
            )
        if self.message is not None and self.type != "hosted_confirmation":
            raise PydanticCustomError(
                "message",
                "is only for the type hosted_confirmation",
                {"path": "flowData.afterCompletion.message"},
            )
        return self


class FlowData(Request):
    """The single action of a portal session."""

    type: FlowType
    subscription_id: Id | None = Field(
        None,
        json_schema_extra=without_null,
        description="The subscription, which must belong to the subject's customer. Required, "
        "except for `payment_method_update`.",
        examples=["sub_1QxYz"],
    )
    items: Annotated[list[ItemChange], Field(min_length=1, max_length=1)] | None = Field(
        None,
        json_schema_extra=without_null,
        description="The change that `subscription_update_confirm` asks the customer to confirm. "
        "Stripe allows one item.",
    )
    after_completion: AfterCompletion | None = Field(None, json_schema_extra=without_null)

    @model_validator(mode="after")
    def _has_what_its_type_needs(self) -> Self:
        if (self.subscription_id is not None) != (self.type != "payment_method_update"):
            raise PydanticCustomError(
                "subscription",
                "is required, except for the type payment_method_update, which has none",
                {"path": "flowData.subscriptionId"},
            )
        if (self.items is not None) != (self.type == "subscription_update_confirm"):
            raise PydanticCustomError(
                "items",
                "is required for the type subscription_update_confirm, and only for it",
                {"path": "flowData.items"},
            )
        return self
