"""Both clients against a running server: what an app's backend does with them."""

from __future__ import annotations

import asyncio

import pytest

from api import Api
from billhook import ApiError, AsyncClient, Client
from http_tokens import ADMIN_KEY, ANONYMOUS_KEY, USER, token
from stripe_events import customer, event, invoice, session


def test_an_operator_sells_and_a_user_buys_and_manages(api: Api) -> None:
    with Client(api.url, ADMIN_KEY) as admin:
        product = admin.products.create("test", name="Tea", metadata={"shelf": "3"})
        price = admin.prices.create(
            "test", product_id=product.product_id, currency="EUR", unit_amount=1500
        )
        assert (price.currency, price.unit_amount, price.active) == ("eur", 1500, True)
        found = admin.products.get("test", product.product_id)
        assert [each.price_id for each in found.prices] == [price.price_id]
        assert found.product.metadata == {"shelf": "3"}
        assert found.product in admin.catalog("test").products
    with Client(api.url, token()) as user:
        order = user.create_checkout_session(
            "test",
            mode="payment",
            line_items=[{"price_id": price.price_id, "quantity": 2}],
            success_url="https://shop.test/done",
            cancel_url="https://shop.test/cart",
            subject={"type": "user", "id": USER},
            idempotency_key="order-of-the-client",
        )
        assert order.status == "open"
        assert order.url is not None
        with pytest.raises(ApiError) as caught:
            user.create_customer_portal_session("test", subject={"type": "user", "id": USER})
        assert (caught.value.status, caught.value.code) == (404, "PAYMENT_NOT_FOUND")
        with pytest.raises(ApiError) as refused:
            user.status()
        assert refused.value.status == 403

        buyer = api.stripe.v1.customers.create({"email": "ada@example.com"}).id
        claim = session("cs_9", customer=buyer, metadata={"insforge_checkout_mode": "payment"}) | {
            "client_reference_id": str(order.id)
        }
        claim["metadata"] |= {"insforge_subject_type": "user", "insforge_subject_id": USER}
        assert api.deliver(event("checkout.session.completed", claim)).is_success
        portal = user.create_customer_portal_session(
            "test", subject={"type": "user", "id": USER}, return_url="https://shop.test/account"
        )
        assert (portal.status, portal.customer_id) == ("created", buyer)
        assert portal.url is not None


def test_a_guest_may_open_a_checkout_and_nothing_else(api: Api) -> None:
    with Client(api.url, ANONYMOUS_KEY) as guest:
        with pytest.raises(ApiError) as caught:
            guest.config.show()
        assert caught.value.status == 401
        assert guest.health().status == "ok"


def test_lists_are_walked_while_others_are_asked(api: Api) -> None:
    for n in range(3):
        assert api.deliver(event("customer.created", customer(f"cus_{n}"))).is_success
    paid = invoice("in_1", customer="cus_1")
    assert api.deliver(event("invoice.paid", paid)).is_success

    async def work() -> tuple[list[str], list[str], int]:
        async with AsyncClient(api.url, ADMIN_KEY) as client:
            customers = [c.provider_customer_id async for c in client.customers.all("test")]
            events, transactions = await asyncio.gather(
                client.events.page("test", limit=1), client.transactions.page("test")
            )
            assert events.next_cursor is not None
            rest = await client.events.page("test", starting_after=events.next_cursor)
            kinds = [each.event_type for each in (*events.items, *rest.items)]
            return customers, kinds, len(transactions.items)

    customers, kinds, payments = asyncio.run(work())
    assert customers == ["cus_0", "cus_1", "cus_2"]
    assert kinds == ["invoice.paid", *["customer.created"] * 3]
    assert payments == 1


def test_a_sync_is_joined_and_its_progress_told(api: Api) -> None:
    api.stripe.v1.products.create({"name": "Tea"})

    async def work() -> None:
        async with AsyncClient(api.url, ADMIN_KEY) as client:
            one, two = await asyncio.gather(client.sync("test"), client.sync("test"))
            assert one.connection.last_sync_status == "succeeded"
            assert two.connection.last_sync_counts == one.connection.last_sync_counts
            progress = await client.sync_progress("test")
            assert not progress.running

    asyncio.run(work())


def test_events_are_replayed(api: Api) -> None:
    assert api.deliver(event("customer.created", customer(), id="evt_1")).is_success
    api.books.execute("DELETE FROM payments.customers")
    with Client(api.url, ADMIN_KEY) as admin:
        assert admin.events.get("test", "evt_1").payload["id"] == "evt_1"
        assert admin.events.replay("test", "evt_1").processing_status == "processed"
        assert [c.provider_customer_id for c in admin.customers.all("test")] == ["cus_1"]
        done = admin.events.replay_many("test", status="processed", type="customer.created")
        assert (done.replayed, done.failed) == (1, [])
