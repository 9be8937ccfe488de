"""What the runtime routes accept, and how they say what is wrong."""

from __future__ import annotations

import importlib
import pkgutil
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from billhook import models
from billhook.errors import InvalidInput
from billhook.models import (
    CreateCheckoutSession,
    CreateCustomerPortalSession,
    CreatePrice,
    CreateProduct,
    ReplayEvents,
    SetKey,
    UpdatePrice,
    iso,
    parse,
)
from billhook.models.wire import Request

ORDER: dict[str, Any] = {
    "mode": "payment",
    "lineItems": [{"priceId": "price_1"}],
    "successUrl": "https://shop.example/done",
    "cancelUrl": "https://shop.example/cart",
}


def message_of(body: Any, model: Any = CreateCheckoutSession) -> str:
    with pytest.raises(InvalidInput) as refused:
        parse(model, body)
    assert (refused.value.status, refused.value.code) == (400, "INVALID_INPUT")
    return refused.value.message


def test_the_smallest_order_gets_the_defaults() -> None:
    order = parse(CreateCheckoutSession, ORDER)
    assert order.line_items[0].quantity == 1
    assert (order.subject, order.customer_email, order.metadata) == (None, None, None)


def test_every_problem_is_named_with_its_path() -> None:
    message = message_of(
        {
            **ORDER,
            "mode": "gift",
            "lineItems": [{"priceId": "", "quantity": 1000}, {"priceId": "p", "colour": "red"}],
        }
    )
    assert message.split(", ") == [
        "mode: must be 'payment'",
        "'subscription' or 'setup'",
        "lineItems.0.priceId: must have at least 1 character",
        "lineItems.0.quantity: must be less than or equal to 999",
        "lineItems.1.colour: is not a known field",
    ]


@pytest.mark.parametrize("body", [None, [], "text", 1, True])
def test_a_body_that_is_no_object_is_refused(body: Any) -> None:
    assert message_of(body) == "body: must be a JSON object"


@pytest.mark.parametrize("quantity", ["1", True, 1.0, 1.5, None, 0, -1, 1000, [1]])
def test_a_quantity_is_a_whole_number_from_1_to_999_and_nothing_else(quantity: Any) -> None:
    body = {**ORDER, "lineItems": [{"priceId": "p", "quantity": quantity}]}
    assert message_of(body).startswith("lineItems.0.quantity: ")


@pytest.mark.parametrize("count", [0, 101])
def test_there_are_1_to_100_line_items(count: int) -> None:
    body = {**ORDER, "lineItems": [{"priceId": "p"}] * count}
    assert message_of(body).startswith("lineItems: ")


def test_texts_are_trimmed_as_javascript_does_before_they_are_measured() -> None:
    order = parse(
        CreateCheckoutSession,
        {
            **ORDER,
            "lineItems": [{"priceId": "\ufeff price_1\u2003"}],
            "successUrl": " https://shop.example/done\n",
            "idempotencyKey": " " + "k" * 200 + " ",
            "subject": {"type": " team ", "id": "\t42 "},
        },
    )
    assert order.line_items[0].price_id == "price_1"
    assert order.success_url == "https://shop.example/done"
    assert len(order.idempotency_key or "") == 200
    assert order.subject is not None
    assert (order.subject.type, order.subject.id) == ("team", "42")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("idempotencyKey", "   "),
        ("idempotencyKey", "k" * 201),
        ("subject", {"type": "t" * 101, "id": "1"}),
        ("subject", {"type": "team", "id": "1" * 256}),
        ("subject", {"type": "team"}),
        ("subject", {"type": "team", "id": "1", "name": "x"}),
        ("subject", "team"),
        ("metadata", {"a": 1}),
        ("metadata", {"a": None}),
        ("metadata", ["a"]),
        ("metadata", {"": "a"}),
        ("metadata", {"k" * 41: "a"}),
        ("metadata", {"k": "v" * 501}),
        ("metadata", {"a[b]": "c"}),
        ("metadata", {"a]": "c"}),
        ("metadata", {str(n): "v" for n in range(51)}),
        ("metadata", {str(n): "v" for n in range(49)}),  # and two of ours
        ("lineItems", [{"priceId": "p" * 256}]),
        ("successUrl", "https://shop.example/" + "a" * 5_000),
        ("cancelUrl", "https://shop.example/" + "a" * 5_000),
        ("customerEmail", "a" * 510 + "@b.io"),
        ("customerEmail", "nobody"),
        ("customerEmail", 3),
    ],
)
def test_a_value_of_the_wrong_kind_or_length_is_refused(field: str, value: Any) -> None:
    assert message_of({**ORDER, field: value}).startswith(field)


def test_metadata_may_be_as_large_as_stripe_takes_it_beside_ours() -> None:
    metadata = {f"{n:040}": "é" * 500 for n in range(48)}
    assert parse(CreateCheckoutSession, {**ORDER, "metadata": metadata}).metadata == metadata
    body = {**ORDER, "subject": {"type": "team", "id": "42"}}
    assert message_of({**body, "metadata": metadata}) == (
        "metadata: must have at most 46 keys: Stripe allows 50, and Billhook adds 4 to a checkout "
        "with a subject"
    )
    metadata = dict(list(metadata.items())[:46])
    assert parse(CreateCheckoutSession, {**body, "metadata": metadata}).metadata == metadata


@pytest.mark.parametrize(
    ("model", "field", "value"),
    [
        (CreateProduct, "name", "n" * 5_001),
        (CreateProduct, "description", "n" * 5_001),
        (CreateProduct, "metadata", {"a[": "b"}),
        (CreateProduct, "metadata", {str(n): "v" for n in range(51)}),
        (CreatePrice, "productId", "p" * 256),
        (CreatePrice, "lookupKey", "p" * 201),
        (UpdatePrice, "metadata", {"k": "v" * 501}),
        (SetKey, "secretKey", "s" * 256),
        (ReplayEvents, "type", "s" * 256),
    ],
)
def test_administrators_fields_have_a_maximum_length_too(
    model: Any, field: str, value: Any
) -> None:
    assert f"{field}" in message_of({field: value}, model)
    assert "must" in message_of({field: value}, model)


@pytest.mark.parametrize(
    "more",
    [
        {str(n): 1 for n in range(100_000)},
        {"k" * 900_000: 1},
        {"metadata": {"k" * 900_000: "a"}},
        {"metadata": {str(n): 1 for n in range(100_000)}},
        {"lineItems": [{}] * 100},
        {"lineItems": [{str(n): 1 for n in range(1_000)}] * 100},
    ],
)
def test_however_much_is_wrong_the_message_is_short(more: Any) -> None:
    assert len(message_of({**ORDER, **more})) < 5_000


@pytest.mark.parametrize("field", ["subject", "metadata", "idempotencyKey"])
def test_what_may_be_absent_may_still_not_be_null(field: str) -> None:
    assert message_of({**ORDER, field: None}) == f"{field}: must not be null; omit it instead"


def test_the_e_mail_address_alone_may_be_null() -> None:
    assert parse(CreateCheckoutSession, {**ORDER, "customerEmail": None}).customer_email is None


@pytest.mark.parametrize("address", ["a@b.test", "a.b+c@sub.shop.example", "o'neil@x.io", "_@x.co"])
def test_usual_e_mail_addresses_are_taken(address: str) -> None:
    assert parse(CreateCheckoutSession, {**ORDER, "customerEmail": address}).customer_email


@pytest.mark.parametrize("address", ["a@b", "a@@b.io", ".a@b.io", "a..b@c.io", "a b@c.io", "@b.io"])
def test_what_is_no_e_mail_address_is_refused(address: str) -> None:
    assert message_of({**ORDER, "customerEmail": address}).startswith("customerEmail: ")


@pytest.mark.parametrize(
    "url",
    [
        "https://shop.example/done?session={CHECKOUT_SESSION_ID}",
        "http://localhost:3000",
        "myapp://billing/done",
        "com.example.app:/done",
        "https://müller.example/ä",
    ],
)
def test_web_addresses_and_an_apps_own_schemes_are_kept_to_the_letter(url: str) -> None:
    assert parse(CreateCheckoutSession, {**ORDER, "successUrl": url}).success_url == url


@pytest.mark.parametrize("scheme", ["javascript", "data", "vbscript", "file"])
@pytest.mark.parametrize("disguise", ["{}:x", "  {}:x", "\x01{}:x", "{}:x\n", "\t{}:x"])
def test_an_address_that_runs_code_or_opens_files_is_refused(scheme: str, disguise: str) -> None:
    for written in (scheme, scheme.upper(), scheme[0] + "\n" + scheme[1:], scheme.title()):
        assert message_of({**ORDER, "cancelUrl": disguise.format(written)}).startswith("cancelUrl:")


@pytest.mark.parametrize("url", ["", "shop/done", "/done", "//shop.example", "https://", "no url"])
def test_what_is_no_address_is_refused(url: str) -> None:
    assert message_of({**ORDER, "successUrl": url}).startswith("successUrl: ")


def test_metadata_of_billhooks_own_is_refused() -> None:
    body = {**ORDER, "metadata": {"insforge_subject_id": "somebody else"}}
    assert message_of(body).startswith("metadata: ")


def test_a_subscription_without_subject_is_refused() -> None:
    assert message_of({**ORDER, "mode": "subscription"}).startswith("subject: ")


@pytest.mark.parametrize(
    "more",
    [
        {"subject": {"type": "te\0am", "id": "1"}},
        {"metadata": {"a": "\0"}},
        {"metadata": {"a\0": "b"}},
        {"successUrl": "https://shop.example/\0"},
        {"idempotencyKey": "a\0b"},
        {"lineItems": [{"priceId": "price\0"}]},
        {"customerEmail": "a\0@b.io"},
    ],
)
def test_nul_characters_are_refused_since_postgresql_cannot_hold_them(more: Any) -> None:
    assert "\0" not in message_of({**ORDER, **more})


def test_the_portal_takes_a_subject_and_optionally_where_to_return() -> None:
    subject = {"type": "team", "id": "42"}
    order = parse(CreateCustomerPortalSession, {"subject": subject, "returnUrl": "https://a.io"})
    assert order.return_url == "https://a.io"
    assert message_of({}, CreateCustomerPortalSession) == "subject: is required"
    for field in ("returnUrl", "configuration"):
        body = {"subject": subject, field: None}
        assert message_of(body, CreateCustomerPortalSession).startswith(f"{field}: ")


def test_times_are_utc_with_milliseconds_and_z() -> None:
    moment = datetime(2026, 5, 13, 0, 41, 7, 123999, timezone(timedelta(hours=2)))
    assert iso(moment) == "2026-05-12T22:41:07.123Z"
    assert iso(datetime(2026, 1, 1, tzinfo=UTC)) == "2026-01-01T00:00:00.000Z"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.dictionaries(st.sampled_from([*ORDER, "subject", "metadata", "x"]), json_values))
def test_whatever_comes_is_either_taken_or_refused_with_a_message(change: dict[str, Any]) -> None:
    refusal = None
    try:
        parse(CreateCheckoutSession, {**ORDER, **change})
    except InvalidInput as refused:
        refusal = refused.message
    assert refusal is None or (": " in refusal and "\0" not in refusal)


def bodies() -> list[type[Request]]:
    """All models of requests, and of their parts."""
    for each in pkgutil.iter_modules(models.__path__):
        importlib.import_module(f"{models.__name__}.{each.name}")
    found, left = [], [Request]
    while left:
        found.append(each := left.pop())
        left += each.__subclasses__()
    return sorted({*found} - {Request}, key=lambda each: each.__name__)


@pytest.mark.parametrize("body", bodies(), ids=lambda body: body.__name__)
def test_a_field_may_be_null_only_if_the_schema_says_so(body: type[Request]) -> None:
    fields = body.model_json_schema(by_alias=True).get("properties", {})
    nullable = {name for name, schema in fields.items() if {"type": "null"} in any_of(schema)}
    with pytest.raises(ValidationError) as refused:
        body.model_validate(dict.fromkeys(fields, None) | {"noSuchField": 1})
    wrong = {str(each["loc"][0]) for each in refused.value.errors()}
    assert wrong == {*fields, "noSuchField"} - nullable


def any_of(schema: dict[str, Any]) -> list[Any]:
    found: list[Any] = schema.get("anyOf", [])
    return found
