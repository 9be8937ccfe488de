"""Checkout, portal and webhook: what the app's frontend and Stripe send (contract section 3.1)."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, Self
from uuid import UUID

from pydantic import (
    Field,
    StringConstraints,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from billhook.models.checkout_options import (
    AdjustableQuantity,
    CheckoutOptions,
    Mode,
    PriceData,
    misplaced,
)
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
    without_null,
)
from billhook.settings import Environment

_ACT_AS = "The user for whom the session is created. Only allowed with an admin key."
OfferName = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,100}$"), Field(examples=["launch"])
]
_ACT_AS_SIGNED_IN = f"{_ACT_AS} The `anon` role gets a 401."


_MOST_BY_DEFAULT = 99  # Stripe's maximum of an adjustable quantity


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


# The default of a field whose presence another field decides: this object, not an equal text.
_ABSENT: Final = "".join(("left ", "out"))


def _without_default(schema: dict[str, Any]) -> None:
    """The JSON Schema of a field that is required or must be left out, and is never null."""
    if "anyOf" in schema:
        without_null(schema)
    else:
        del schema["default"]


def _conditional(**more: Any) -> Any:
    """A field that is required or forbidden, depending on others."""
    return Field(_ABSENT, validate_default=True, json_schema_extra=_without_default, **more)


class LineItem(Request):
    """A price and its quantity."""

    price_id: Id | None = Field(None, json_schema_extra=without_null, examples=["price_1QxYz"])
    lookup_key: LookupKey | None = Field(
        None,
        json_schema_extra=without_null,
        description="Selects the active mirrored price with this lookup key, instead of `priceId`.",
        examples=["team_monthly"],
    )
    price_data: PriceData | None = Field(
        None,
        json_schema_extra=without_null,
        description="Instead of `priceId`: an amount of your own. Only your server may send it.",
    )
    quantity: Annotated[int, Field(ge=1, le=999)] = 1
    adjustable_quantity: AdjustableQuantity | None = Field(None, json_schema_extra=without_null)

    @model_validator(mode="after")
    def _names_one_price(self) -> Self:
        if (self.price_id, self.lookup_key, self.price_data).count(None) != 2:
            raise PydanticCustomError("price", "must have either a priceId or a lookupKey")
        bounds = self.adjustable_quantity
        if bounds is not None and not (
            (bounds.minimum or 0) <= self.quantity <= (bounds.maximum or _MOST_BY_DEFAULT)
        ):
            raise PydanticCustomError(
                "quantity",
                "quantity must be within the bounds of adjustableQuantity (by default 0 to 99)",
            )
        return self


class CreateCheckoutSession(Request):
    """Body of `POST /payments/stripe/{environment}/checkout-sessions`."""

    mode: Mode
    # Before the fields that it decides about.
    options: CheckoutOptions | None = Field(None, json_schema_extra=without_null)
    line_items: Annotated[list[LineItem], Field(min_length=1, max_length=100)] = _conditional(
        description="Required, except in the mode `setup`, which has none."
    )
    success_url: Address | None = _conditional(
        description="Required, unless `options.uiMode` says that the buyer pays on your page.",
        examples=["https://shop.example/done?session={CHECKOUT_SESSION_ID}"],
    )
    cancel_url: Address | None = _conditional(
        description="Like `successUrl`.", examples=["https://shop.example/cart"]
    )
    offer: OfferName | None = Field(
        None, json_schema_extra=without_null, description="Terms that your server has defined."
    )
    subject: BillingSubject | None = Field(None, json_schema_extra=without_null)
    customer_email: Email | None = None
    metadata: Metadata | None = Field(None, json_schema_extra=without_null)
    idempotency_key: (
        Annotated[str, StringConstraints(min_length=1, max_length=200), TRIM, NO_NUL] | None
    ) = Field(None, json_schema_extra=without_null)
    act_as: ActAs | None = Field(None, json_schema_extra=without_null, description=_ACT_AS)

    @field_validator("line_items", mode="wrap")
    @classmethod
    def _items_unless_setup(
        cls, value: object, validate: ValidatorFunctionWrapHandler, info: ValidationInfo
    ) -> object:
        is_setup = info.data.get("mode") == "setup"
        return _decided(
            info, value, validate, "is not possible in the mode setup" if is_setup else None
        )

    @field_validator("success_url", "cancel_url", mode="wrap")
    @classmethod
    def _urls_of_hosted_pages(
        cls, value: object, validate: ValidatorFunctionWrapHandler, info: ValidationInfo
    ) -> object:
        if value is None:
            raise PydanticCustomError("string_type", "must be a string")
        options: CheckoutOptions | None = info.data.get("options")
        forbidden = None
        if options is not None and not options.is_hosted:
            forbidden = f"is not possible with the uiMode {options.ui_mode}"
        return _decided(info, value, validate, forbidden)

    @model_validator(mode="after")
    def _has_a_subject_if_needed(self) -> Self:
        if self.mode != "payment" and self.subject is None:
            raise PydanticCustomError(
                "subject_missing",
                f"a {self.mode} checkout needs a billing subject",
                {"path": "subject"},
            )
        return self

    @model_validator(mode="after")
    def _options_fit_the_mode(self) -> Self:
        if self.options is not None and (problem := misplaced(self.options, self.mode)):
            name, _, message = problem.partition(": ")
            raise PydanticCustomError(
                "option", "{reason}", {"path": f"options.{name}", "reason": message}
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


def _decided(
    info: ValidationInfo,
    value: object,
    validate: ValidatorFunctionWrapHandler,
    forbidden: str | None,
) -> Any:
    """A `_conditional` field: required, or forbidden for a reason."""
    path = {"path": to_camel(str(info.field_name))}
    if value is _ABSENT:
        if forbidden is None:
            raise PydanticCustomError("missing", "is required", path)
        return None
    if forbidden is not None:
        raise PydanticCustomError("forbidden", "{reason}", {**path, "reason": forbidden})
    return validate(value)


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


class CheckoutSession(WireModel):
    """A Checkout Session."""

    id: UUID
    environment: Environment
    mode: Mode
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
    """The response with a checkout's state."""

    checkout_session: CheckoutSession


class CreatedCheckoutSession(CheckoutSession):
    """A checkout as it was created."""

    client_secret: str | None = Field(
        None,
        json_schema_extra=without_null,
        description="Only if the buyer pays on your page (`options.uiMode`), and only while the "
        "session is open: for Stripe's JavaScript.",
    )
    trial_granted: bool | None = Field(
        None,
        json_schema_extra=without_null,
        description="Only if a trial was requested: false if the subject has had one.",
    )


class CreatedCheckoutSessionResponse(WireModel):
    """The 201 response of the checkout route."""

    checkout_session: CreatedCheckoutSession

    def wire(self) -> bytes:
        """The JSON body, without the additions that do not apply."""
        additions = {"client_secret", "trial_granted"}
        absent = {each for each in additions if getattr(self.checkout_session, each) is None}
        excluded = {"checkout_session": absent}
        return self.model_dump_json(by_alias=True, exclude=excluded).encode()


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
