"""Refunds by line of a checkout or an invoice."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from api import Api
from buying import Buying, refunded, selling, transactions


@pytest.fixture
def shop(database_url: str, sandbox: str) -> Iterator[Buying]:
    with selling(database_url, sandbox) as found:
        yield found


@pytest.fixture
def api(shop: Buying) -> Api:
    return shop.api


def by_price(price: str, quantity: int | None = None) -> dict[str, Any]:
    return {"priceId": price} | ({} if quantity is None else {"quantity": quantity})


def test_a_line_is_refunded_with_its_discount_and_all_lines_are_the_total(
    api: Api, shop: Buying
) -> None:
    mug, tea = shop.price(999), shop.price(350)
    coupon = shop.v1.coupons.create({"percent_off": 15, "duration": "once"}).id
    session = shop.paid((mug, 3), (tea, 1), discounts=[{"coupon": coupon}])
    listed = shop.v1.checkout.sessions.line_items.list(session.id).data
    paid = {line.price.id: line.amount_total for line in listed if line.price}
    total = session.amount_total
    assert sum(paid.values()) == total < 3 * 999 + 350
    shop.deliver()
    one = refunded(api, session.id, lineItems=[by_price(mug, 1)])["refund"]
    assert one["amount"] == round(paid[mug] / 3)
    assert one["lineItems"] == [
        {"lineItemId": listed[0].id, "priceId": mug, "quantity": 1, "amount": one["amount"]}
    ]
    of_tea = refunded(api, session.payment_intent, lineItems=[by_price(tea)])
    assert of_tea["refund"]["amount"] == paid[tea]
    rest = refunded(api, session.id, lineItems=[by_price(mug)])
    assert rest["payment"]["status"] == "refunded"
    assert rest["payment"]["amountRefunded"] == total
    refused = refunded(api, session.id, 409, lineItems=[by_price(mug, 1)], idempotencyKey="more")
    assert "0 of 3 units" in refused["message"]
    read = api.admin("GET", f"/test/refunds/{one['refundId']}").json()["refund"]
    assert read["lineItems"] == one["lineItems"]


def test_a_line_of_an_invoice_is_what_was_paid_for_it(api: Api, shop: Buying) -> None:
    customer = shop.customer()
    seat = shop.price(1000, recurring={"interval": "month"})
    setup = shop.price(500, recurring={"interval": "month"})
    subscription = shop.v1.subscriptions.create(
        {
            "customer": customer.id,
            "items": [{"price": seat, "quantity": 3}, {"price": setup}],
        }
    )
    invoice = str(subscription.latest_invoice)
    shop.deliver()
    two = refunded(api, invoice, lineItems=[by_price(seat, 2)])["refund"]
    assert two["amount"] == 2000
    assert two["lineItems"][0]["lineItemId"].startswith("il_")
    rest = refunded(api, invoice, lineItems=[by_price(seat), by_price(setup)])
    assert rest["refund"]["amount"] == 1500
    assert rest["payment"]["amountRefunded"] == 3500


def test_a_credit_on_the_invoice_reduces_what_was_paid_for_each_line(
    api: Api, shop: Buying
) -> None:
    customer = shop.customer()
    for amount in (2000, 1001, -500):
        item: Any = {"customer": customer.id, "amount": amount, "currency": "eur"}
        shop.v1.invoice_items.create(item)
    draft: Any = {
        "customer": customer.id,
        "currency": "eur",
        "pending_invoice_items_behavior": "include",
    }
    invoice = str(shop.v1.invoices.create(draft).id)
    shop.v1.invoices.finalize_invoice(invoice)
    assert shop.v1.invoices.pay(invoice).amount_paid == 2501
    shop.deliver()
    lines = [str(line.id) for line in shop.v1.invoices.line_items.list(invoice).data]
    charged = {
        line: refunded(api, invoice, lineItems=[{"lineItemId": line}])["refund"]["amount"]
        for line in lines
        if shop_line(shop, invoice, line) > 0
    }
    assert sum(charged.values()) == 2501
    assert all(
        abs(amount - shop_line(shop, invoice, line) * 2501 / 3001) < 1
        for line, amount in charged.items()
    )
    credit = next(line for line in lines if line not in charged)
    assert refunded(api, invoice, 409, lineItems=[{"lineItemId": credit}])


def shop_line(shop: Buying, invoice: str, line: str) -> int:
    listed = shop.v1.invoices.line_items.list(invoice).data
    return next(each.amount for each in listed if each.id == line)


def test_two_requests_for_one_unit_at_once_refund_it_once(api: Api, shop: Buying) -> None:
    mug = shop.price(1000)
    session = shop.paid((mug, 1), (shop.price(2000), 1))
    shop.deliver()
    shop.control("latency", seconds=0.3, path_prefix="/v1/refunds")

    def one(key: int) -> int:
        body = {"payment": session.id, "lineItems": [by_price(mug)], "idempotencyKey": f"k{key}"}
        return api.admin("POST", "/test/refunds", body).status_code

    with ThreadPoolExecutor(4) as many:
        assert sorted(many.map(one, range(4))) == [201, 409, 409, 409]
    assert [t["amount_refunded"] for t in transactions(api)] == [1000, 1000]


def test_units_of_a_failed_refund_can_be_refunded_again(api: Api, shop: Buying) -> None:
    mug = shop.price(333)
    session = shop.paid((mug, 3), card="pm_card_refundFail")
    shop.deliver()
    refunded(api, session.id, lineItems=[by_price(mug, 2)])
    refunded(api, session.id, 409, lineItems=[by_price(mug, 2)], idempotencyKey="again")
    shop.settle()
    shop.deliver()
    again = refunded(api, session.id, lineItems=[by_price(mug, 2)], idempotencyKey="yet again")
    assert again["refund"]["amount"] == 666


def test_an_amount_beside_lines_must_be_theirs(api: Api, shop: Buying) -> None:
    mug = shop.price(1000)
    session = shop.paid((mug, 2))
    preview = api.admin(
        "POST", "/test/refunds/preview", {"payment": session.id, "lineItems": [by_price(mug, 1)]}
    ).json()["preview"]
    assert (preview["amount"], preview["amountLeft"]) == (1000, 2000)
    assert preview["lineItems"][0]["quantity"] == 1
    body: dict[str, Any] = {"lineItems": [by_price(mug, 1)]}
    refused = refunded(api, session.id, 400, amount=999, **body)
    assert "amount: the lines of this refund are 10.00 EUR, not 9.99 EUR" in refused["message"]
    assert refunded(api, session.id, amount=1000, **body)["refund"]["amount"] == 1000


def test_lines_cannot_exceed_what_a_refund_by_amount_has_left(api: Api, shop: Buying) -> None:
    mug = shop.price(1000)
    session = shop.paid((mug, 2))
    refunded(api, session.id, amount=1500)
    refused = refunded(api, session.id, 409, lineItems=[by_price(mug, 1)])
    assert "10.00 EUR cannot be refunded: 5.00 EUR of" in refused["message"]
    assert refunded(api, session.id)["refund"]["amount"] == 500


def test_unknown_lines_and_payments_without_lines_are_refused(api: Api, shop: Buying) -> None:
    session = shop.paid()
    unknown = refunded(api, session.id, 400, lineItems=[by_price("price_unknown")])
    assert "lineItems.0: the payment has no line price_unknown" in unknown["message"]
    given: Any = {
        "amount": 2000,
        "currency": "eur",
        "payment_method": "pm_card_visa",
        "confirm": True,
    }
    bare = shop.v1.payment_intents.create(given)
    refused = refunded(api, str(bare.id), 409, lineItems=[by_price("price_unknown")])
    assert "without a checkout or an invoice" in refused["message"]
