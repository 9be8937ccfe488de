"""Options of a checkout: Stripe's parameters in camelCase, in two groups. Browsers may send those
of `SafeOptions`. The others decide what is paid, and when, so only the app's server may send them
(docs/how-to/checkout-options.md).

The values of enumerations are Stripe's own, at the pinned API version.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    PlainSerializer,
    StringConstraints,
    model_validator,
)
from pydantic_core import PydanticCustomError

from billhook.models.catalog_fields import (
    Amount,
    Currency,
    Description,
    Name,
    Recurring,
    TaxBehavior,
)
from billhook.models.queries import Moment
from billhook.models.wire import (
    NO_NUL,
    TRIM,
    Address,
    Id,
    Request,
    iso,
    without_null,
)

Mode = Literal["payment", "subscription", "setup"]

_MOST_FIELDS_OF_STRIPE = 3  # custom fields
_Text = Annotated[str, StringConstraints(min_length=1, max_length=1200), NO_NUL]
_Label = Annotated[str, StringConstraints(min_length=1, max_length=100), TRIM, NO_NUL]
_Country = Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}$")]
_Time = Annotated[Moment, Field(strict=False), PlainSerializer(iso, return_type=str)]
_Locale = Annotated[str, StringConstraints(pattern=r"^(auto|[a-z]{2,3}(-[A-Z0-9]{2,3})?)$")]


def _absent(**more: Any) -> Any:
    """A field that may be left out, but is never null."""
    return Field(None, json_schema_extra=without_null, **more)


class AdjustableQuantity(Request):
    """The buyer may change the quantity on Stripe's page, within these bounds."""

    minimum: Annotated[int, Field(ge=0, le=999_999)] | None = _absent()
    maximum: Annotated[int, Field(ge=1, le=999_999)] | None = _absent()

    @model_validator(mode="after")
    def _has_room(self) -> Self:
        if None not in (self.minimum, self.maximum) and self.minimum > self.maximum:  # type: ignore[operator]
            raise PydanticCustomError("bounds", "minimum must not be greater than maximum")
        return self


class PriceData(Request):
    """A custom amount for one checkout. Only the app's server may send it.

    `unitAmount` is in the currency's minor unit.
    """

    currency: Currency
    unit_amount: Annotated[Amount, Field(examples=[1500])]
    name: Name | None = _absent(
        description="Name of a new product; alternatively, send `productId`."
    )
    description: Description | None = _absent()
    product_id: Id | None = _absent()
    recurring: Recurring | None = _absent()
    tax_behavior: TaxBehavior | None = _absent()

    @model_validator(mode="after")
    def _names_what_is_sold(self) -> Self:
        if (self.name is None) == (self.product_id is None):
            raise PydanticCustomError("product", "must have either a name or a productId")
        if self.description is not None and self.name is None:
            raise PydanticCustomError("description", "a description needs a name")
        return self


class ShippingAddressCollection(Request):
    """The countries that the app ships to, as two-letter codes."""

    allowed_countries: Annotated[
        list[_Country], Field(min_length=1, max_length=250, examples=[["AT", "DE"]])
    ]


class DropdownOption(Request):
    """One option of a dropdown."""

    label: _Label
    value: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]{1,100}$")]


class CustomField(Request):
    """A custom field on Stripe's page. The answer is in the session's `custom_fields`."""

    key: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]{1,200}$")]
    label: _Label
    type: Literal["text", "numeric", "dropdown"]
    optional: bool | None = _absent()
    options: Annotated[list[DropdownOption], Field(min_length=1, max_length=200)] | None = _absent(
        description="The options of a dropdown."
    )
    minimum_length: Annotated[int, Field(ge=0)] | None = _absent()
    maximum_length: Annotated[int, Field(ge=1)] | None = _absent()
    default_value: Annotated[str, StringConstraints(max_length=255), NO_NUL] | None = _absent()

    @model_validator(mode="after")
    def _fits_its_type(self) -> Self:
        if (self.type == "dropdown") != (self.options is not None):
            raise PydanticCustomError("options", "a dropdown has options, and only a dropdown")
        if self.type == "dropdown" and {self.minimum_length, self.maximum_length} != {None}:
            raise PydanticCustomError("lengths", "a dropdown has no minimum or maximum length")
        return self


class CustomText(Request):
    """Custom text on Stripe's page, up to 1,200 characters each."""

    submit: _Text | None = _absent()
    shipping_address: _Text | None = _absent()
    after_submit: _Text | None = _absent()
    terms_of_service_acceptance: _Text | None = _absent()


class ConsentCollection(Request):
    """What the buyer is asked to agree to."""

    promotions: Literal["auto", "none"] | None = _absent()
    terms_of_service: Literal["none", "required"] | None = _absent()


class Discount(Request):
    """A coupon, or the id of a promotion code."""

    coupon: Id | None = _absent(examples=["LAUNCH20"])
    promotion_code: Id | None = _absent(examples=["promo_1QxYz"])

    @model_validator(mode="after")
    def _names_one(self) -> Self:
        if (self.coupon is None) == (self.promotion_code is None):
            raise PydanticCustomError("discount", "must have either a coupon or a promotionCode")
        return self


class TrialEndBehavior(Request):
    """What happens at the end of a trial if there is no payment method."""

    missing_payment_method: Literal["cancel", "create_invoice", "pause"]


class TrialSettings(Request):
    """Settings of a trial."""

    end_behavior: TrialEndBehavior


class ShippingOption(Request):
    """A shipping rate that was created in Stripe."""

    shipping_rate: Annotated[Id, Field(examples=["shr_1QxYz"])]


class SafeOptions(Request):
    """The options that browsers may send."""

    allow_promotion_codes: bool | None = _absent(description="Show a field for promotion codes.")
    automatic_tax: bool | None = _absent(description="Calculate tax with Stripe Tax.")
    tax_id_collection: bool | None = _absent(description="Show a field for a business's tax id.")
    tax_id_required: bool | None = _absent(
        description="With `taxIdCollection`: make the field required where Stripe supports it."
    )
    phone_number_collection: bool | None = _absent()
    billing_address_collection: Literal["auto", "required"] | None = _absent()
    shipping_address_collection: ShippingAddressCollection | None = _absent()
    locale: _Locale | None = _absent(description="Stripe's locale code, such as `de` or `pt-BR`.")
    custom_fields: (
        Annotated[list[CustomField], Field(min_length=1, max_length=_MOST_FIELDS_OF_STRIPE)] | None
    ) = _absent()
    custom_text: CustomText | None = _absent()
    consent_collection: ConsentCollection | None = _absent()
    invoice_creation: bool | None = _absent(description="Create an invoice for a one-time payment.")
    save_payment_method: Literal["always", "ask"] | None = _absent(
        description="`always`: save it for later charges by your server, too (one-time payments "
        "only). `ask`: save it for the buyer's next checkouts if they check a box."
    )
    currency: Currency | None = _absent(
        description="Only in `setup` mode: the currency of later charges, for which Stripe "
        "selects payment methods. Default: cards only."
    )
    one_subscription: bool | None = _absent(
        description="If the subject has a subscription or an open checkout for one, respond with "
        "a 409."
    )
    ui_mode: Literal["hosted_page", "embedded_page", "elements"] | None = _absent(
        description="Where the buyer pays: on Stripe's page (default), in Stripe's form on your "
        "page, or in your own form with Stripe Elements. The last two have a `clientSecret` "
        "instead of a `url`, and no `successUrl` or `cancelUrl`."
    )
    return_url: Address | None = _absent(
        description="Where the buyer returns to. Not with the `uiMode` `hosted_page`."
    )
    redirect_on_completion: Literal["always", "if_required", "never"] | None = _absent(
        description="Only with the `uiMode` `embedded_page`."
    )

    @property
    def is_hosted(self) -> bool:
        """Whether the buyer pays on Stripe's page."""
        return self.ui_mode in (None, "hosted_page")

    def as_sent(self) -> dict[str, Any]:
        """The options as JSON, as they came."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class CheckoutOptions(SafeOptions):
    """All options of a checkout. Those that browsers may not send require an admin key or an
    offer."""

    trial_days: Annotated[int, Field(ge=1, le=730)] | None = _absent()
    trial_end: _Time | None = _absent(description="At least 48 hours from now.")
    trial_once_per_subject: bool | None = _absent(
        description="A subject that has already had a trial gets a checkout without one."
    )
    trial_settings: TrialSettings | None = _absent()
    discounts: Annotated[list[Discount], Field(min_length=1, max_length=1)] | None = _absent()
    shipping_options: Annotated[list[ShippingOption], Field(min_length=1, max_length=5)] | None = (
        _absent()
    )
    payment_method_collection: Literal["always", "if_required"] | None = _absent()
    allowed_payment_method_types: (
        Annotated[
            list[Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]{1,50}$")]],
            Field(min_length=1, max_length=50),
        ]
        | None
    ) = _absent()
    capture_method: Literal["automatic", "automatic_async", "manual"] | None = _absent(
        description="`manual` only authorizes a one-time payment; capture it in Stripe."
    )
    billing_cycle_anchor: _Time | None = _absent()
    proration_behavior: Literal["create_prorations", "none"] | None = _absent()
    expires_at: _Time | None = _absent(description="30 minutes to 24 hours from now.")

    @property
    def has_trial(self) -> bool:
        """Whether a trial is asked for."""
        return self.trial_days is not None or self.trial_end is not None

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        for problem in (*_trial_problems(self), *_ui_problems(self), *_other_problems(self)):
            path, reason = problem
            raise PydanticCustomError(
                "option", "{reason}", {"path": f"options.{path}", "reason": reason}
            )
        return self


SERVER_ONLY = tuple(sorted(CheckoutOptions.model_fields.keys() - SafeOptions.model_fields.keys()))
"""The options that browsers may not send."""
NOT_IN_OFFERS = ("ui_mode", "return_url", "redirect_on_completion", "expires_at", "currency")
"""What belongs to one checkout: the page that it is on, and a time."""

_ONLY_IN: dict[str, tuple[Mode, ...]] = {
    **dict.fromkeys(("invoice_creation", "capture_method"), ("payment",)),
    "shipping_options": ("payment",),
    "currency": ("setup",),
    **dict.fromkeys(
        (
            "one_subscription",
            "trial_days",
            "trial_end",
            "trial_once_per_subject",
            "trial_settings",
            "payment_method_collection",
            "billing_cycle_anchor",
            "proration_behavior",
        ),
        ("subscription",),
    ),
    **dict.fromkeys(
        (
            "allow_promotion_codes",
            "automatic_tax",
            "tax_id_collection",
            "tax_id_required",
            "save_payment_method",
            "discounts",
        ),
        ("payment", "subscription"),
    ),
}


def wire_name(name: str) -> str:
    """The name of an option in JSON."""
    return str(CheckoutOptions.model_fields[name].alias)


def misplaced(options: CheckoutOptions, mode: Mode) -> str | None:
    """Why an option does not fit the checkout's mode, as `name: message`; None if all do."""
    for name in sorted(options.model_fields_set):
        modes = _ONLY_IN.get(name, (mode,))
        if mode not in modes:
            return f"{wire_name(name)}: is only possible in the mode {' or '.join(modes)}"
    if mode == "subscription" and options.save_payment_method == "always":
        return "savePaymentMethod: a subscription always saves it; `ask` is possible"
    return None


def _trial_problems(options: CheckoutOptions) -> list[tuple[str, str]]:
    problems = []
    if options.trial_days is not None and options.trial_end is not None:
        problems.append(("trialEnd", "must not be combined with trialDays"))
    if not options.has_trial:
        for name in ("trial_settings", "trial_once_per_subject"):
            if getattr(options, name):
                problems.append((wire_name(name), "needs trialDays or trialEnd"))
    return problems


def _ui_problems(options: CheckoutOptions) -> list[tuple[str, str]]:
    ui_mode = options.ui_mode or "hosted_page"
    never = options.redirect_on_completion == "never"
    problems = []
    if options.redirect_on_completion is not None and ui_mode != "embedded_page":
        problems.append(("redirectOnCompletion", "needs the uiMode embedded_page"))
    if ui_mode == "hosted_page" and options.return_url is not None:
        problems.append(("returnUrl", "needs the uiMode embedded_page or elements"))
    if ui_mode != "hosted_page" and never == (options.return_url is not None):
        word = "must be left out if redirectOnCompletion is never" if never else "is required"
        problems.append(("returnUrl", word))
    if ui_mode == "elements":
        problems += [
            (wire_name(name), "is not possible with the uiMode elements: your page does this")
            for name in ("custom_fields", "custom_text", "tax_id_required")
            if getattr(options, name)
        ]
    return problems


def _other_problems(options: CheckoutOptions) -> list[tuple[str, str]]:
    problems = []
    if options.tax_id_required and not options.tax_id_collection:
        problems.append(("taxIdRequired", "needs taxIdCollection"))
    if options.allow_promotion_codes is not None and options.discounts is not None:
        problems.append(("discounts", "must not be combined with allowPromotionCodes"))
    if options.proration_behavior is not None and options.billing_cycle_anchor is None:
        problems.append(("prorationBehavior", "needs billingCycleAnchor"))
    keys = [each.key for each in options.custom_fields or ()]
    if len(keys) != len(set(keys)):
        problems.append(("customFields", "must have different keys"))
    return problems
