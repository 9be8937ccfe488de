"""A year of a shop with renewals, failures, refunds and disputes, after which the money adds up.

`LIFE_CUSTOMERS=1000` runs it in full and prints how long it took (`pytest -s`).
"""

from __future__ import annotations

import json
import os
import time
from collections import defaultdict
from typing import Any

from depth import by_depth
from sandbox.conftest import Launch
from sandbox.shop import Shop, web

CUSTOMERS = int(os.environ.get("LIFE_CUSTOMERS", by_depth(20, 40, 40)))
MONTH = 31 * 86400


def card_of(number: int) -> str:
    """The renewals of one in ten fail."""
    return "pm_card_chargeCustomerFail" if number % 10 == 9 else "pm_card_visa"


def settle_in(shop: Shop, number: int, price: str) -> None:
    customers, methods = shop.v1.customers, shop.v1.payment_methods
    name = customers.create({"email": f"customer{number}@example.com"}).id
    for token in dict.fromkeys(("pm_card_visa", card_of(number))):
        method = methods.attach(token, {"customer": name}).id
        customers.update(name, {"invoice_settings": {"default_payment_method": method}})
        if token == "pm_card_visa":
            items = [{"price": price, "quantity": 1 + number % 3}]
            shop.v1.subscriptions.create({"customer": name, "items": items})


def refund_some(shop: Shop) -> None:
    for charge in shop.get("/v1/charges", limit="20")["data"][::4]:
        if charge["status"] == "succeeded" and not charge["refunded"] and not charge["disputed"]:
            left = charge["amount"] - charge["amount_refunded"]
            shop.v1.refunds.create({"charge": charge["id"], "amount": max(1, left // 2)})


def dispute_some(shop: Shop) -> int:
    """Disputed payments: one for each twenty customers over the year. Returns the total paid."""
    times = 1 + CUSTOMERS // 240
    for _ in range(times):
        payment = {"amount": 700, "currency": "usd", "confirm": True}
        shop.v1.payment_intents.create({**payment, "payment_method": "pm_card_createDispute"})
    return 700 * times


def dump(shop: Shop) -> dict[str, list[Any]]:
    found = defaultdict(list)
    for line in web.get(f"{shop.sandbox.url}/_sandbox/dump", timeout=120).text.splitlines():
        obj = json.loads(line)["object"]
        found[obj["object"]].append(obj)
    return found


def test_the_money_of_a_year_adds_up(launch: Launch) -> None:
    began = time.monotonic()
    _, sandbox = launch()
    shop = sandbox.shop()
    price = shop.price(1500, interval="month")
    for number in range(CUSTOMERS):
        settle_in(shop, number, price)
    by_hand = 0
    for _ in range(12):
        web.post(f"{sandbox.url}/_sandbox/advance", json={"seconds": MONTH}, timeout=120)
        refund_some(shop)
        by_hand += dispute_some(shop)
    shop.settle()
    seconds = time.monotonic() - began
    found = dump(shop)
    print(f"{CUSTOMERS} customers, a year, {len(found['event'])} events: {seconds:.1f} s")

    failing = sum(card_of(number) != "pm_card_visa" for number in range(CUSTOMERS))
    canceled = [one for one in found["subscription"] if one["status"] == "canceled"]
    assert len(canceled) == failing > 0
    for invoice in found["invoice"]:
        lines = invoice["lines"]["data"]
        assert sum(line["amount"] for line in lines) == invoice["total"]
        assert invoice["amount_paid"] + invoice["amount_remaining"] == invoice["amount_due"]

    charged = sum(one["amount"] for one in found["charge"] if one["status"] == "succeeded")
    refunded = sum(one["amount"] for one in found["refund"] if one["status"] == "succeeded")
    assert charged == sum(one["amount_paid"] for one in found["invoice"]) + by_hand
    assert refunded == sum(one["amount_refunded"] for one in found["charge"]) > 0
    balance = sum(one["amount"] for one in found["balance_transaction"])
    disputed = sum(one["amount"] for one in found["dispute"])  # none was answered
    assert disputed == by_hand
    assert balance == charged - refunded - disputed
    good = CUSTOMERS - failing
    paid = [one for one in found["invoice"] if one["billing_reason"] == "subscription_cycle"]
    assert len([one for one in paid if one["status"] == "paid"]) >= good * 12
