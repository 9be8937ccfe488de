"""The options of a checkout as Stripe's parameters, and which of them only the app's server may
decide (docs/how-to/checkout-options.md)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from billhook.checkout.line_items import Item
from billhook.errors import Forbidden
from billhook.models import CheckoutOptions, CustomField
from billhook.models import CreateCheckoutSession as Order
from billhook.models.checkout_options import SERVER_ONLY, wire_name

# Named as at Stripe.
_AS_THEY_ARE = (
    "allow_promotion_codes",
    "billing_address_collection",
    "locale",
    "ui_mode",
    "return_url",
    "redirect_on_completion",
    "payment_method_collection",
    "allowed_payment_method_types",
    "currency",
)


def refuse_server_only(order: Order) -> None:
    """Make sure that a browser does not decide what only the app's server may.

    Raises:
        Forbidden: names the fields.
    """
    given = order.options.model_fields_set if order.options else frozenset()
    fields = [f"options.{wire_name(name)}" for name in SERVER_ONLY if name in given]
    fields += [
        f"lineItems.{number}.priceData"
        for number, item in enumerate(order.line_items or ())
        if item.price_data is not None
    ]
    if fields:
        raise Forbidden(
            f"Only your server may decide about {', '.join(fields)}.",
            code="FORBIDDEN",
            next_actions="Send the request from your backend with an admin key (ik_…) and actAs. "
            "Or define an offer with these options, and send its name: billhook offers set NAME …",
        )


def items_at_stripe(items: Sequence[Item], metered: Mapping[str, bool]) -> list[dict[str, Any]]:
    """The line items as Stripe takes them.

    Args:
        metered: which prices are. Their quantity is what will be used.
    """
    return [_item(item, is_metered=metered.get(item.price_id or "", False)) for item in items]


def _item(item: Item, *, is_metered: bool) -> dict[str, Any]:
    if item.price_data is None:
        found: dict[str, Any] = {"price": item.price_id}
    else:
        found = {"price_data": _price_data(item.price_data)}
    if is_metered:
        return found
    found["quantity"] = item.quantity
    if item.adjustable is not None:
        found["adjustable_quantity"] = {"enabled": True, **item.adjustable}
    return found


def _price_data(given: Mapping[str, Any]) -> dict[str, Any]:
    recurring = given.get("recurring")
    product = {"name": given.get("name"), "description": given.get("description")}
    return _known(
        currency=given["currency"],
        unit_amount=given["unitAmount"],
        product=given.get("productId"),
        product_data=_known(**product) or None,
        recurring=recurring
        and _known(interval=recurring["interval"], interval_count=recurring.get("intervalCount")),
        tax_behavior=given.get("taxBehavior"),
    )


def add_options(
    params: dict[str, Any],
    options: CheckoutOptions,
    order: Order,
    customer: str | None,
    *,
    with_trial: bool,
) -> None:
    """Add the options to the parameters of a session.

    Args:
        with_trial: whether the subject gets the trial of the options.
    """
    given = options.model_dump(exclude_none=True)
    params.update({name: given[name] for name in _AS_THEY_ARE if name in given})
    for name, convert in _CONVERTED.items():
        if name in given:
            params[name] = convert(getattr(options, name))
    if options.tax_id_required:
        params["tax_id_collection"]["required"] = "if_supported"
    if "invoice_creation" in params and options.invoice_creation:
        params["invoice_creation"]["invoice_data"] = {"metadata": params["metadata"]}
    if order.mode == "subscription":
        params["subscription_data"].update(_subscription_data(options, with_trial=with_trial))
    elif order.mode == "payment":
        params["payment_intent_data"].update(_payment_intent_data(options))
    if options.save_payment_method is not None:
        _save_payment_method(params, options, order, customer)
    if customer is not None and (updated := _updated_customer(options)):
        params["customer_update"] = updated


def _subscription_data(options: CheckoutOptions, *, with_trial: bool) -> dict[str, Any]:
    anchor = options.billing_cycle_anchor
    data = _known(
        billing_cycle_anchor=anchor and int(anchor.timestamp()),
        proration_behavior=options.proration_behavior,
    )
    if with_trial:
        settings, end = options.trial_settings, options.trial_end
        data |= _known(
            trial_period_days=options.trial_days,
            trial_end=end and int(end.timestamp()),
            trial_settings=settings and settings.model_dump(),
        )
    return data


def _payment_intent_data(options: CheckoutOptions) -> dict[str, Any]:
    usage = "off_session" if options.save_payment_method == "always" else None
    return _known(capture_method=options.capture_method, setup_future_usage=usage)


def _save_payment_method(
    params: dict[str, Any], options: CheckoutOptions, order: Order, customer: str | None
) -> None:
    if options.save_payment_method == "ask":
        params["saved_payment_method_options"] = {"payment_method_save": "enabled"}
    if order.mode == "payment" and customer is None:
        params["customer_creation"] = "always"  # a payment method is saved with a customer


def _updated_customer(options: CheckoutOptions) -> dict[str, str]:
    """What Stripe requires the checkout of an existing customer to update."""
    updated = {}
    if options.automatic_tax:
        updated["address"] = "auto"
        if options.shipping_address_collection is not None:
            updated["shipping"] = "auto"
    if options.tax_id_collection:
        updated["name"] = "auto"
        updated["address"] = "auto"
    return updated


def _enabled(value: bool) -> dict[str, Any]:
    return {"enabled": value}


def _custom_field(field: CustomField) -> dict[str, Any]:
    details = _known(
        options=field.options and [each.model_dump() for each in field.options],
        minimum_length=field.minimum_length,
        maximum_length=field.maximum_length,
        default_value=field.default_value,
    )
    found = {
        "key": field.key,
        "label": {"type": "custom", "custom": field.label},
        "type": field.type,
        **_known(optional=field.optional),
    }
    return {**found, field.type: details} if details else found


def _texts(texts: Any) -> dict[str, Any]:
    found: dict[str, str] = texts.model_dump(exclude_none=True)
    return {name: {"message": text} for name, text in found.items()}


def _dumped(value: Any) -> Any:
    return value.model_dump(exclude_none=True)


_CONVERTED: dict[str, Callable[[Any], Any]] = {
    "automatic_tax": _enabled,
    "tax_id_collection": _enabled,
    "phone_number_collection": _enabled,
    "invoice_creation": _enabled,
    "shipping_address_collection": _dumped,
    "consent_collection": _dumped,
    "custom_fields": lambda fields: [_custom_field(each) for each in fields],
    "custom_text": _texts,
    "discounts": lambda discounts: [_dumped(each) for each in discounts],
    "shipping_options": lambda options: [_dumped(each) for each in options],
    "expires_at": lambda moment: int(moment.timestamp()),
}


def _known(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
