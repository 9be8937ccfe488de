"""Whether a change whose response was lost has reached Stripe and only waits for its payment."""

from __future__ import annotations

from typing import Any

import pytest

from billhook.checkout.subscriptions.plans import is_made
from billhook.checkout.subscriptions.requests import Call


def item(name: str, price: str, quantity: int) -> dict[str, Any]:
    return {"id": name, "price": {"id": price}, "quantity": quantity}


@pytest.mark.parametrize(
    ("pending", "made"),
    [
        (None, False),
        ([item("si_1", "gold", 3), item("si_2", "seat", 1)], True),
        ([item("si_1", "gold", 3)], True),
        ([item("si_1", "gold", 2)], False),
        ([item("si_1", "basic", 3)], False),
        ([item("si_2", "gold", 3)], False),  # a change of another item
        ([], False),
    ],
)
def test_a_pending_change_counts_as_made_only_if_it_is_the_same(
    pending: list[dict[str, Any]] | None, made: bool
) -> None:
    items = [item("si_1", "basic", 1), item("si_2", "seat", 1)]
    update = None if pending is None else {"expires_at": 1, "subscription_items": pending}
    subscription = {"items": {"data": items, "has_more": False}, "pending_update": update}
    call = Call("post", {"items": [{"id": "si_1", "price": "gold", "quantity": 3}]})
    assert is_made(call, subscription) is made


def test_a_change_is_not_made_while_another_one_of_its_item_is_pending() -> None:
    subscription = {
        "items": {"data": [item("si_1", "gold", 3)], "has_more": False},
        "pending_update": {"expires_at": 1, "subscription_items": [item("si_1", "basic", 1)]},
    }
    call = Call("post", {"items": [{"id": "si_1", "price": "gold", "quantity": 3}]})
    assert is_made(call, subscription) is False
