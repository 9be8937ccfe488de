"""Options of a checkout: what is accepted, and what is sent to Stripe."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import pytest
from stripe._encode import _api_encode

from billhook.checkout.at_stripe import Terms, stripe_params
from billhook.checkout.line_items import as_sent, items_of
from billhook.checkout.options import refuse_server_only
from billhook.checkout.rows import canonical, options_of
from billhook.errors import Forbidden, InvalidInput
from billhook.models import CheckoutOptions, CreateCheckoutSession, SafeOptions, parse
from billhook.models.wire import request_hash
from billhook_sandbox.params import decode
from billhook_sandbox.sdk_params import type_of
from billhook_sandbox.sdk_types import read_text

ROW = UUID("11111111-1111-4111-8111-111111111111")
ACCEPTED = type_of(
    read_text("stripe.params.checkout._session_create_params", '"SessionCreateParams"')
)
ITEMS = [{"priceId": "price_1"}]


def order(mode: str = "payment", **more: Any) -> CreateCheckoutSession:
    body = {
        "mode": mode,
        **({} if mode == "setup" else {"lineItems": ITEMS}),
        "successUrl": "https://shop.example/done",
        "cancelUrl": "https://shop.example/cart",
        **({} if mode == "payment" else {"subject": {"type": "team", "id": "t_1"}}),
        **more,
    }
    return parse(CreateCheckoutSession, {k: v for k, v in body.items() if v is not ...})


def sent(
    of: CreateCheckoutSession, customer: str | None = None, *, with_trial: bool = True
) -> dict[str, Any]:
    """The parameters, which Stripe's SDK declares."""
    terms = Terms(of.options, with_trial)
    params = stripe_params(of, items_of("test", as_sent(of)), ROW, customer, {}, terms)
    ACCEPTED(decode(urlencode(list(_api_encode(params)))), "")
    return params


def added(options: dict[str, Any], mode: str = "payment", **more: Any) -> dict[str, Any]:
    """What the options change in the parameters."""
    customer = more.pop("customer", None)
    with_options = sent(order(mode, options=options, **more), customer)
    without = sent(order(mode, **more), customer)
    return {k: v for k, v in with_options.items() if without.get(k) != v}


METADATA = {
    "insforge_checkout_mode": "payment",
    "insforge_checkout_session_id": str(ROW),
}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {}),
        ({"allowPromotionCodes": True}, {"allow_promotion_codes": True}),
        ({"allowPromotionCodes": False}, {"allow_promotion_codes": False}),
        ({"automaticTax": True}, {"automatic_tax": {"enabled": True}}),
        ({"taxIdCollection": True}, {"tax_id_collection": {"enabled": True}}),
        (
            {"taxIdCollection": True, "taxIdRequired": True},
            {"tax_id_collection": {"enabled": True, "required": "if_supported"}},
        ),
        ({"phoneNumberCollection": True}, {"phone_number_collection": {"enabled": True}}),
        ({"billingAddressCollection": "required"}, {"billing_address_collection": "required"}),
        (
            {"shippingAddressCollection": {"allowedCountries": ["AT"]}},
            {"shipping_address_collection": {"allowed_countries": ["AT"]}},
        ),
        ({"locale": "pt-BR"}, {"locale": "pt-BR"}),
        (
            {"consentCollection": {"termsOfService": "required", "promotions": "auto"}},
            {"consent_collection": {"terms_of_service": "required", "promotions": "auto"}},
        ),
        (
            {"customText": {"submit": "Ships on Monday.", "afterSubmit": "Thanks"}},
            {
                "custom_text": {
                    "submit": {"message": "Ships on Monday."},
                    "after_submit": {"message": "Thanks"},
                }
            },
        ),
        (
            {"invoiceCreation": True},
            {"invoice_creation": {"enabled": True, "invoice_data": {"metadata": METADATA}}},
        ),
        (
            {"savePaymentMethod": "always"},
            {
                "payment_intent_data": {
                    "metadata": METADATA,
                    "setup_future_usage": "off_session",
                },
                "customer_creation": "always",
            },
        ),
        (
            {"savePaymentMethod": "ask"},
            {
                "saved_payment_method_options": {"payment_method_save": "enabled"},
                "customer_creation": "always",
            },
        ),
        ({"discounts": [{"coupon": "C"}]}, {"discounts": [{"coupon": "C"}]}),
        (
            {"discounts": [{"promotionCode": "promo_1"}]},
            {"discounts": [{"promotion_code": "promo_1"}]},
        ),
        (
            {"shippingOptions": [{"shippingRate": "shr_1"}]},
            {"shipping_options": [{"shipping_rate": "shr_1"}]},
        ),
        (
            {"captureMethod": "manual"},
            {"payment_intent_data": {"metadata": METADATA, "capture_method": "manual"}},
        ),
        ({"expiresAt": "2026-12-01T00:00:00+01:00"}, {"expires_at": 1796079600}),
        ({"allowedPaymentMethodTypes": ["card"]}, {"allowed_payment_method_types": ["card"]}),
    ],
)
def test_each_option_becomes_a_parameter(options: dict[str, Any], expected: dict[str, Any]) -> None:
    assert added(options) == expected


def test_custom_fields_are_nested_as_stripe_takes_them() -> None:
    fields = [
        {"key": "engraving", "label": "Engraving", "type": "text", "maximumLength": 20},
        {"key": "age", "label": "Age", "type": "numeric", "optional": True},
        {
            "key": "size",
            "label": "Size",
            "type": "dropdown",
            "options": [{"label": "Large", "value": "l"}],
            "defaultValue": "l",
        },
    ]
    assert added({"customFields": fields})["custom_fields"] == [
        {
            "key": "engraving",
            "label": {"type": "custom", "custom": "Engraving"},
            "type": "text",
            "text": {"maximum_length": 20},
        },
        {
            "key": "age",
            "label": {"type": "custom", "custom": "Age"},
            "type": "numeric",
            "optional": True,
        },
        {
            "key": "size",
            "label": {"type": "custom", "custom": "Size"},
            "type": "dropdown",
            "dropdown": {"options": [{"label": "Large", "value": "l"}], "default_value": "l"},
        },
    ]


def test_a_trial_and_its_terms_are_part_of_the_subscription() -> None:
    options = {
        "trialDays": 14,
        "trialOncePerSubject": True,
        "trialSettings": {"endBehavior": {"missingPaymentMethod": "cancel"}},
        "paymentMethodCollection": "if_required",
        "billingCycleAnchor": "2027-01-01T00:00:00Z",
        "prorationBehavior": "none",
    }
    found = added(options, "subscription")
    metadata = found["subscription_data"].pop("metadata")
    assert metadata["insforge_subject_id"] == "t_1"
    assert found == {
        "payment_method_collection": "if_required",
        "subscription_data": {
            "trial_period_days": 14,
            "trial_settings": {"end_behavior": {"missing_payment_method": "cancel"}},
            "billing_cycle_anchor": 1798761600,
            "proration_behavior": "none",
        },
    }
    without = sent(order("subscription", options=options), with_trial=False)
    assert without["subscription_data"].keys() == {
        "metadata",
        "billing_cycle_anchor",
        "proration_behavior",
    }


@pytest.mark.parametrize(
    ("options", "updated"),
    [
        ({"automaticTax": True}, {"address": "auto"}),
        (
            {
                "automaticTax": True,
                "shippingAddressCollection": {"allowedCountries": ["AT"]},
            },
            {"address": "auto", "shipping": "auto"},
        ),
        ({"taxIdCollection": True}, {"address": "auto", "name": "auto"}),
        ({"locale": "de"}, None),
    ],
)
def test_an_existing_customer_is_updated_where_stripe_requires_it(
    options: dict[str, Any], updated: dict[str, str] | None
) -> None:
    assert added(options, customer="cus_1").get("customer_update") == updated
    assert "customer_update" not in added(options)


def test_a_saved_payment_method_of_a_known_customer_needs_no_new_one() -> None:
    assert "customer_creation" not in added({"savePaymentMethod": "always"}, customer="cus_1")


@pytest.mark.parametrize(
    "options",
    [
        {"uiMode": "embedded_page", "returnUrl": "https://shop.example/back"},
        {"uiMode": "elements", "returnUrl": "https://shop.example/back"},
        {"uiMode": "embedded_page", "redirectOnCompletion": "never"},
    ],
)
def test_a_session_on_the_apps_own_page_has_no_urls_of_stripes_page(
    options: dict[str, Any],
) -> None:
    params = sent(order(options=options, successUrl=..., cancelUrl=...))
    assert {"success_url", "cancel_url"}.isdisjoint(params)
    assert params["ui_mode"] == options["uiMode"]
    assert params.get("return_url") == options.get("returnUrl")


def test_setup_saves_a_card_unless_a_currency_is_given() -> None:
    params = sent(order("setup"))
    assert "line_items" not in params
    assert params["allowed_payment_method_types"] == ["card"]
    assert params["customer_creation"] == "always"
    assert params["setup_intent_data"]["metadata"]["insforge_subject_id"] == "t_1"
    in_euros = sent(order("setup", options={"currency": "EUR"}), "cus_1")
    assert (in_euros["currency"], in_euros["customer"]) == ("eur", "cus_1")
    assert {"allowed_payment_method_types", "customer_creation"}.isdisjoint(in_euros)


def test_an_own_amount_and_an_adjustable_quantity_are_line_items() -> None:
    items = [
        {
            "priceData": {
                "name": "Donation",
                "description": "For the roof",
                "unitAmount": 2500,
                "currency": "EUR",
                "recurring": {"interval": "month", "intervalCount": 3},
                "taxBehavior": "inclusive",
            },
            "quantity": 2,
            "adjustableQuantity": {"minimum": 1, "maximum": 10},
        },
        {"priceData": {"productId": "prod_1", "unitAmount": 0, "currency": "eur"}},
        {"priceId": "price_1", "adjustableQuantity": {}},
    ]
    assert sent(order("subscription", lineItems=items))["line_items"] == [
        {
            "price_data": {
                "currency": "eur",
                "unit_amount": 2500,
                "product_data": {"name": "Donation", "description": "For the roof"},
                "recurring": {"interval": "month", "interval_count": 3},
                "tax_behavior": "inclusive",
            },
            "quantity": 2,
            "adjustable_quantity": {"enabled": True, "minimum": 1, "maximum": 10},
        },
        {
            "price_data": {"currency": "eur", "unit_amount": 0, "product": "prod_1"},
            "quantity": 1,
        },
        {"price": "price_1", "quantity": 1, "adjustable_quantity": {"enabled": True}},
    ]


EMBEDDED = {"uiMode": "embedded_page", "returnUrl": "https://shop.example/back"}
NO_URLS = {"successUrl": ..., "cancelUrl": ...}


@pytest.mark.parametrize(
    ("mode", "more", "problem"),
    [
        ("payment", {"options": {"locale": None}}, "options.locale: must not be null"),
        ("payment", {"options": {"locale": "german"}}, "options.locale: "),
        ("payment", {"options": {"surprise": 1}}, "options.surprise: is not a known field"),
        ("payment", {"options": {"automaticTax": "yes"}}, "options.automaticTax: must be true"),
        ("payment", {"options": {"trialDays": 3}}, "options.trialDays: is only possible in the"),
        ("subscription", {"options": {"invoiceCreation": True}}, "options.invoiceCreation: is"),
        ("subscription", {"options": {"trialDays": 0}}, "options.trialDays: "),
        (
            "subscription",
            {"options": {"trialDays": 3, "trialEnd": "2027-01-01T00:00:00Z"}},
            "options.trialEnd: must not be combined",
        ),
        (
            "subscription",
            {"options": {"trialOncePerSubject": True}},
            "options.trialOncePerSubject: needs trialDays",
        ),
        (
            "subscription",
            {"options": {"savePaymentMethod": "always"}},
            "options.savePaymentMethod: a subscription always",
        ),
        ("subscription", {"options": {"prorationBehavior": "none"}}, "prorationBehavior: needs"),
        ("payment", {"options": {"discounts": []}}, "options.discounts: "),
        ("payment", {"options": {"discounts": [{}]}}, "options.discounts.0: must have either"),
        (
            "payment",
            {"options": {"discounts": [{"coupon": "C"}], "allowPromotionCodes": True}},
            "options.discounts: must not be combined",
        ),
        ("payment", {"options": {"taxIdRequired": True}}, "options.taxIdRequired: needs"),
        ("payment", {"options": {"expiresAt": "tomorrow"}}, "options.expiresAt: must be a time"),
        ("payment", {"options": {"currency": "eur"}}, "options.currency: is only possible in the"),
        ("payment", {"options": EMBEDDED}, "successUrl: is not possible with the uiMode"),
        ("payment", {"options": {"uiMode": "elements"}, **NO_URLS}, "options.returnUrl: is req"),
        ("payment", {"options": {"returnUrl": "https://a.example"}}, "options.returnUrl: needs"),
        (
            "payment",
            {"options": {**EMBEDDED, "redirectOnCompletion": "never"}, **NO_URLS},
            "options.returnUrl: must be left out",
        ),
        (
            "payment",
            {
                "options": {**EMBEDDED, "uiMode": "elements", "customText": {"submit": "x"}},
                **NO_URLS,
            },
            "options.customText: is not possible with the uiMode elements",
        ),
        (
            "payment",
            {"options": {"customFields": [{"key": "a", "label": "A", "type": "text"}] * 2}},
            "options.customFields: must have different keys",
        ),
        (
            "payment",
            {"options": {"customFields": [{"key": "a", "label": "A", "type": "dropdown"}]}},
            "options.customFields.0: a dropdown has options",
        ),
        ("payment", {"lineItems": ...}, "lineItems: is required"),
        ("payment", {"successUrl": ...}, "successUrl: is required"),
        ("payment", {"successUrl": None}, "successUrl: must be a string"),
        ("setup", {"lineItems": ITEMS}, "lineItems: is not possible in the mode setup"),
        ("setup", {"subject": ...}, "subject: a setup checkout needs a billing subject"),
        ("setup", {"options": {"automaticTax": True}}, "options.automaticTax: is only possible"),
        (
            "payment",
            {"lineItems": [{"priceId": "p", "adjustableQuantity": {"minimum": 5, "maximum": 2}}]},
            "lineItems.0.adjustableQuantity: minimum must not",
        ),
        (
            "payment",
            {"lineItems": [{"priceId": "p", "quantity": 3, "adjustableQuantity": {"maximum": 2}}]},
            "lineItems.0: quantity must be within",
        ),
        (
            "payment",
            {"lineItems": [{"priceId": "p", "priceData": {"currency": "eur", "unitAmount": 1}}]},
            "lineItems.0.priceData: must have either a name or a productId",
        ),
        (
            "payment",
            {
                "lineItems": [
                    {
                        "priceId": "p",
                        "priceData": {"currency": "eur", "unitAmount": 1, "name": "x"},
                    }
                ]
            },
            "lineItems.0: must have either a priceId or a lookupKey",
        ),
    ],
)
def test_what_does_not_fit_is_named(mode: str, more: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidInput) as error:
        order(mode, **more)
    assert problem in error.value.message


SAFE = {
    "allowPromotionCodes",
    "automaticTax",
    "taxIdCollection",
    "taxIdRequired",
    "phoneNumberCollection",
    "billingAddressCollection",
    "shippingAddressCollection",
    "locale",
    "customFields",
    "customText",
    "consentCollection",
    "invoiceCreation",
    "savePaymentMethod",
    "currency",
    "oneSubscription",
    "uiMode",
    "returnUrl",
    "redirectOnCompletion",
}


def test_the_options_that_a_browser_may_send_are_listed_here_too() -> None:
    """An option that is added is not safe by accident."""
    assert {each.alias for each in SafeOptions.model_fields.values()} == SAFE
    assert SafeOptions.model_fields.keys() < CheckoutOptions.model_fields.keys()


@pytest.mark.parametrize(
    ("of", "named"),
    [
        (order("subscription", options={"trialDays": 3}), ["options.trialDays"]),
        (order(options={"discounts": [{"coupon": "C"}]}), ["options.discounts"]),
        (
            order(options={"captureMethod": "manual", "locale": "de"}),
            ["options.captureMethod"],
        ),
        (
            order(
                lineItems=[
                    {"priceId": "p"},
                    {"priceData": {"currency": "eur", "unitAmount": 1, "name": "x"}},
                ]
            ),
            ["lineItems.1.priceData"],
        ),
    ],
)
def test_a_browser_that_asks_for_more_is_told_what_and_what_to_do(
    of: CreateCheckoutSession, named: list[str]
) -> None:
    with pytest.raises(Forbidden) as error:
        refuse_server_only(of)
    assert error.value.code == "FORBIDDEN"
    assert all(name in error.value.message for name in named)
    assert "locale" not in error.value.message
    assert "offer" in str(error.value.next_actions)


def test_what_is_safe_is_not_refused() -> None:
    refuse_server_only(order(options={"locale": "de", "automaticTax": True}))
    refuse_server_only(order("setup"))


def test_options_are_stored_as_they_came() -> None:
    given = {"locale": "de", "allowPromotionCodes": False}
    assert options_of(order(options=given)) == given
    assert options_of(order()) == options_of(order(options={})) == {}


def test_a_request_without_options_keeps_its_hash() -> None:
    """The hash of its row may be an older version's."""
    before = {
        "mode": "payment",
        "lineItems": [{"priceId": "price_1", "quantity": 1}],
        "successUrl": "https://shop.example/done",
        "cancelUrl": "https://shop.example/cart",
        "subject": None,
        "customerEmail": None,
        "metadata": {},
    }
    assert canonical(order()) == canonical(order(options={})) == before
    assert request_hash(before) == (
        "08a832651ee2a32345df38e09edec604c260e6970f59760dc1af8a25edda2848"
    )


def test_options_and_offers_are_part_of_the_hash() -> None:
    found = [
        order(),
        order(options={"locale": "de"}),
        order(options={"locale": "fr"}),
        order(offer="launch"),
        order(offer="summer"),
        order(lineItems=[{"priceId": "price_1", "adjustableQuantity": {"maximum": 5}}]),
    ]
    assert len({request_hash(canonical(each)) for each in found}) == len(found)
