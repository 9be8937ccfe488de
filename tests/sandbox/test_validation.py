"""An invalid object fails the request that created it; the error names the field."""

from __future__ import annotations

import time
from copy import deepcopy
from typing import Any

import pytest

from billhook_sandbox.errors import SchemaMismatch
from billhook_sandbox.object_validation import validate_object, validate_response
from billhook_sandbox.sdk_operations import operations, sdk_operation
from billhook_sandbox.sdk_types import Record, fields, object_classes, read_text
from sandbox.shop import Shop


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda obj: obj.update(invented=1), "invented is not a field"),
        (lambda obj: obj.pop("amount"), "amount is missing (stripe._charge:Charge.amount: int)"),
        (lambda obj: obj.update(amount="12"), "amount is not an int"),
        (lambda obj: obj.update(paid=1), "paid is not a bool"),
        (lambda obj: obj.update(status="lost"), "status is 'lost', not one of"),
        (
            lambda obj: obj["billing_details"].update(nickname="A"),
            "billing_details.nickname is not a field (stripe._charge:Charge.BillingDetails)",
        ),
        (lambda obj: obj["metadata"].update(a=1), "metadata.a is not a str"),
    ],
)
def test_an_invalid_object_is_reported_with_its_field_and_annotation(
    shop: Shop, change: Any, problem: str
) -> None:
    shop.paid()
    charge = shop.get("/v1/charges")["data"][0]
    wrong = deepcopy(charge)
    change(wrong)
    validate_object(charge)
    with pytest.raises(SchemaMismatch) as caught:
        validate_object(wrong)
    assert problem in caught.value.message
    assert charge["id"] in caught.value.message
    assert (caught.value.status, caught.value.code) == (500, "sandbox_wrong_shape")


def test_a_response_is_validated_against_its_own_operation(shop: Shop) -> None:
    """A valid customer is not a valid response of an operation that returns a charge."""
    customer = shop.raw("POST", "/v1/customers").json()
    validate_response(sdk_operation("POST", "/v1/customers"), customer, {})
    with pytest.raises(SchemaMismatch):
        validate_response(sdk_operation("GET", "/v1/charges/ch_1"), customer, {})
    deleted = shop.raw("DELETE", f"/v1/customers/{customer['id']}").json()
    validate_response(sdk_operation("DELETE", f"/v1/customers/{customer['id']}"), deleted, {})


def test_every_annotation_of_the_installed_sdk_can_be_read() -> None:
    """So new operations are validated without more work."""
    seen: set[Record] = set(object_classes().values())
    for operation in operations():
        for text in (operation.response, f'"{operation.params}"'):
            seen |= records(read_text(operation.module, text))
    waiting = list(seen)
    while waiting:
        for field in fields(waiting.pop()).values():
            fresh = records(field.type) - seen
            seen |= fresh
            waiting += fresh
    assert len(seen) > 5000


def records(type_: Any) -> set[Record]:
    if isinstance(type_, Record):
        return {type_}
    inner = getattr(type_, "options", None) or [getattr(type_, "item", None)]
    return {found for part in inner if part is not None for found in records(part)}


def test_validation_takes_far_less_than_a_millisecond(shop: Shop) -> None:
    subscription = shop.paid("subscription")["subscription"]
    obj = shop.get(f"/v1/subscriptions/{subscription}")
    validate_object(obj)
    began = time.process_time()
    for _ in range(1000):
        validate_object(obj)
    assert time.process_time() - began < 0.5, "seconds for a thousand"
