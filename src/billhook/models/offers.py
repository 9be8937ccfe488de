"""Offers: terms of checkouts that an administrator defines and a browser names
(docs/how-to/offers.md)."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import Field, PlainSerializer, model_validator
from pydantic_core import PydanticCustomError

from billhook.models.checkout_options import NOT_IN_OFFERS, CheckoutOptions, wire_name
from billhook.models.queries import Moment
from billhook.models.runtime import OfferName
from billhook.models.wire import (
    Id,
    LookupKey,
    Request,
    Timestamp,
    WireModel,
    iso,
    without_null,
)
from billhook.settings import Environment

_MOST_PRICES = 100


class SetOffer(Request):
    """Body of `PUT …/offers/{name}`: the whole offer. It replaces an existing one."""

    options: CheckoutOptions = Field(
        default_factory=CheckoutOptions,
        description="The options that the offer sets. They take precedence over the request.",
        examples=[{"trialDays": 14, "trialOncePerSubject": True}],
    )
    price_ids: Annotated[list[Id], Field(max_length=_MOST_PRICES)] = Field(
        default_factory=list,
        description="If this or `lookupKeys` is not empty, the offer applies only to checkouts "
        "with these prices.",
    )
    lookup_keys: Annotated[list[LookupKey], Field(max_length=_MOST_PRICES)] = Field(
        default_factory=list
    )
    active: bool = True
    redeem_by: (
        Annotated[Moment, Field(strict=False), PlainSerializer(iso, return_type=str)] | None
    ) = Field(None, json_schema_extra=without_null, description="When the offer ends.")
    max_redemptions: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = Field(
        None,
        json_schema_extra=without_null,
        description="Maximum number of checkouts. Open ones count, expired ones do not.",
    )

    @model_validator(mode="after")
    def _decides_about_any_checkout(self) -> Self:
        for name in NOT_IN_OFFERS:
            if name in self.options.model_fields_set:
                raise PydanticCustomError(
                    "option",
                    "belongs to one checkout, so an offer cannot decide it",
                    {"path": f"options.{wire_name(name)}"},
                )
        return self


class Offer(WireModel):
    """An offer, and how often it is used."""

    environment: Environment
    name: OfferName
    active: bool
    options: dict[str, Any]
    price_ids: list[str]
    lookup_keys: list[str]
    redeem_by: Timestamp | None
    max_redemptions: int | None
    redemptions: Annotated[int, Field(description="Number of open or completed checkouts.")]
    created_at: Timestamp
    updated_at: Timestamp


class OfferResponse(WireModel):
    """The response with one offer."""

    offer: Offer


class Offers(WireModel):
    """The response of `GET …/offers`, sorted by name."""

    offers: list[Offer]


class DeletedOffer(WireModel):
    """The response of `DELETE …/offers/{name}`."""

    name: str
    deleted: bool
