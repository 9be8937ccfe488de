"""What signed-in users read and change of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, TypeVar

from pydantic import Field, StringConstraints, create_model

from billhook.models.mirrored import LISTS, MirroredQuery, MirroredRow
from billhook.models.queries import ListQuery
from billhook.models.runtime import ActAs
from billhook.models.wire import NO_NUL, TRIM, Request, WireModel, without_null

Q = TypeVar("Q", bound=MirroredQuery)


class OwnQuery(ListQuery):
    """Query of `GET …/my/…`: the subject whose objects are listed."""

    subject_type: Annotated[
        str, StringConstraints(min_length=1, max_length=100), TRIM, NO_NUL, Field(examples=["team"])
    ]
    subject_id: Annotated[
        str, StringConstraints(min_length=1, max_length=255), TRIM, NO_NUL, Field(examples=["t_42"])
    ]

    def of(self, query: type[Q]) -> Q:
        """The same as the query of a list."""
        return query(**self.model_dump(by_alias=True, exclude_none=True))


class ChangePaymentMethod(Request):
    """Body of `POST …/payment-methods/{paymentMethodId}/default` and `/detach`; may be left out."""

    act_as: ActAs | None = Field(
        None,
        json_schema_extra=without_null,
        description="The user whose policies apply. Only allowed with an admin key. Without it, no "
        "policies apply to an admin key.",
    )


if TYPE_CHECKING:

    class PaymentMethodResponse(WireModel):
        """The payment method that was changed or removed."""

        payment_method: MirroredRow

else:  # its fields follow from the kind's declaration
    PaymentMethodResponse = create_model(
        "PaymentMethodResponse",
        __base__=WireModel,
        __doc__="The payment method that was changed or removed.",
        payment_method=LISTS["payment_methods"].row,
    )
