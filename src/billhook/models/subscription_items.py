"""What an item of a subscription is changed to."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from billhook.models.wire import Id, LookupKey, Request, without_null

MOST_UNITS = 1_000_000


class ItemChange(Request):
    """A new price, a new quantity, or both, of one item of a subscription."""

    price_id: Id | None = Field(
        None, json_schema_extra=without_null, description="The new price.", examples=["price_1QxYz"]
    )
    lookup_key: LookupKey | None = Field(
        None,
        json_schema_extra=without_null,
        description="Lookup key of an active mirrored price, instead of `priceId`.",
        examples=["team_yearly"],
    )
    quantity: Annotated[int, Field(ge=1, le=MOST_UNITS)] | None = Field(
        None,
        json_schema_extra=without_null,
        description="The new quantity. If omitted, it stays the same.",
    )
    subscription_item_id: Id | None = Field(
        None,
        json_schema_extra=without_null,
        description="The item to change. Required if the subscription has several items.",
        examples=["si_1QxYz"],
    )

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        if self.price_id is not None and self.lookup_key is not None:
            raise PydanticCustomError("price", "must have either a priceId or a lookupKey")
        if self.price_id is None and self.lookup_key is None and self.quantity is None:
            raise PydanticCustomError("change", "must have a priceId, a lookupKey or a quantity")
        return self
