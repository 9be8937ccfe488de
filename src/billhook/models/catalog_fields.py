"""Fields of products and prices, in the catalog and in checkouts."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints

from billhook.models.wire import NO_NUL, TRIM, Request, without_null

Description = Annotated[str, StringConstraints(max_length=5000), TRIM, NO_NUL]
Currency = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z]{3}$"),
    TRIM,
    NO_NUL,
    AfterValidator(str.lower),
    Field(examples=["usd"]),
]
Amount = Annotated[int, Field(ge=0, le=2**53 - 1)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=5000), TRIM, NO_NUL]
TaxBehavior = Literal["exclusive", "inclusive", "unspecified"]


class Recurring(Request):
    """How often a price is charged."""

    interval: Literal["day", "week", "month", "year"]
    interval_count: Annotated[int, Field(gt=0)] | None = Field(None, json_schema_extra=without_null)
