"""Lives of customers, drawn by hypothesis and lived in a sandbox inside this process."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import uvicorn
from hypothesis import strategies as st

from billhook_sandbox.app import create_sandbox

KEY = "sk_test_sandbox"
HOUR = 3600
DAY = 24 * HOUR
CARDS = ("pm_card_visa", "pm_card_chargeDeclined", "pm_card_refundFail", "pm_card_pendingRefund")
DEBITS = {"pm_card_visa": "AT611904300234573201"}
FAILING_DEBIT = "AT861904300235473202"
METER = "api_calls"
USED, PER_CALL = 3, 7
DEEDS = (
    "buy",
    "leave",
    *("hold",) * 2,  # by another integration
    *("refund", "part") * 3,  # each of their four ways
    "debit",
    "contest",
    "subscribe",
    "trial",
    "coupon",
    "pause",
    "meter",
    "renew",
    "fail",
    "upgrade",
    "cancel",
    "end",
    "rename",
    "forget",
    "withdraw",
    "hour",
    "day",
)

Deed = tuple[str, int, str]
"""What is done, by which customer, with which card."""

deeds = st.lists(
    st.tuples(st.sampled_from(DEEDS), st.integers(0, 2), st.sampled_from(CARDS)),
    min_size=3,
    max_size=8,
)

Meanwhile = Callable[[list[dict[str, Any]]], Awaitable[None]]
"""What happens elsewhere after each deed, with the events that are new."""

FULL_LIVES: tuple[list[Deed], ...] = (
    [
        ("part", 2, "pm_card_chargeDeclined"),
        ("cancel", 1, "pm_card_visa"),
        ("upgrade", 2, "pm_card_visa"),
        ("part", 2, "pm_card_refundFail"),
        ("hold", 2, "pm_card_refundFail"),
        ("rename", 1, "pm_card_chargeDeclined"),
        ("part", 1, "pm_card_pendingRefund"),
    ],
    [
        ("fail", 2, "pm_card_refundFail"),
        ("forget", 1, "pm_card_pendingRefund"),
        ("subscribe", 0, "pm_card_chargeDeclined"),
        ("day", 1, "pm_card_visa"),
        ("buy", 0, "pm_card_refundFail"),
        ("hour", 1, "pm_card_pendingRefund"),
        ("fail", 1, "pm_card_pendingRefund"),
        ("hold", 0, "pm_card_refundFail"),
    ],
    [
        ("withdraw", 0, "pm_card_refundFail"),
        ("hold", 1, "pm_card_pendingRefund"),
        ("end", 2, "pm_card_pendingRefund"),
        ("refund", 0, "pm_card_pendingRefund"),
        ("buy", 1, "pm_card_pendingRefund"),
        ("hour", 0, "pm_card_pendingRefund"),
    ],
    [
        ("contest", 0, "pm_card_visa"),
        ("trial", 1, "pm_card_visa"),
        ("contest", 2, "pm_card_chargeDeclined"),
        ("debit", 0, "pm_card_chargeDeclined"),
        ("meter", 2, "pm_card_visa"),
        ("coupon", 0, "pm_card_visa"),
        ("pause", 1, "pm_card_visa"),
        ("debit", 1, "pm_card_visa"),
    ],
)
"""Together, everything of WANTED happens in them."""

# What many lives together have to have, so that they say something.
WANTED = frozenset(
    {
        "billing.meter.created",
        "charge.dispute.closed, lost",
        "charge.dispute.closed, won",
        "charge.failed",
        "charge.refunded",
        "charge.refunded, in part",
        "checkout.session.async_payment_failed",
        "checkout.session.async_payment_succeeded",
        "checkout.session.completed, payment",
        "checkout.session.completed, subscription",
        "checkout.session.completed, subscription, discounted",
        "checkout.session.expired",
        "customer.deleted",
        "customer.subscription.deleted",
        "customer.subscription.trial_will_end",
        "customer.subscription.updated, past_due",
        "customer.subscription.updated, paused",
        "customer.subscription.updated, upgraded",
        "customer.updated",
        "invoice.paid, subscription_create",
        "invoice.paid, subscription_cycle",
        "invoice.paid, subscription_cycle, of usage",
        "invoice.paid, subscription_update",
        "invoice.payment_failed, subscription_cycle",
        "invoice.voided",
        "payment_intent.canceled",
        "payment_intent.payment_failed",
        "payment_intent.succeeded, in part",
        "product.deleted",
        "refund.created, pending",
        "refund.failed",
        "refund.updated",
    }
)


def told(event: dict[str, Any]) -> str:
    """An event's type, and what it makes of it for whom it concerns."""
    name, shown = event["type"], event["data"]["object"]
    match name:
        case "charge.refunded":
            return str(name if shown["refunded"] else f"{name}, in part")
        case "payment_intent.succeeded":
            whole = shown["amount_received"] == shown["amount"]
            return str(name if whole else f"{name}, in part")
        case "checkout.session.completed":
            discounted = shown["total_details"]["amount_discount"] > 0
            return f"{name}, {shown['mode']}" + ", discounted" * discounted
        case "charge.dispute.closed":
            return f"{name}, {shown['status']}"
        case "refund.created":
            return f"{name}, {shown['status']}"
        case "invoice.paid" | "invoice.payment_failed":
            of_usage = shown["amount_due"] == USED * PER_CALL
            return f"{name}, {shown['billing_reason']}" + ", of usage" * of_usage
        case "customer.subscription.updated":
            before = (event["data"].get("previous_attributes") or {}).get("items", shown["items"])
            if shown["pause_collection"]:
                return f"{name}, paused"
            prices = [each["data"][0]["price"]["id"] for each in (before, shown["items"])]
            return f"{name}, {'upgraded' if prices[0] != prices[1] else shown['status']}"
    return str(name)


def live(life: list[Deed]) -> list[dict[str, Any]]:
    """The events of a life, oldest first."""
    transport = httpx.ASGITransport(create_sandbox())
    web = httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1")
    return asyncio.run(Living(web).live(life))


async def live_at(url: str, life: list[Deed], meanwhile: Meanwhile) -> list[dict[str, Any]]:
    """The same at a sandbox that listens, with what happens meanwhile."""
    return await Living(httpx.AsyncClient(base_url=url, timeout=60), meanwhile).live(life)


@contextmanager
def listening() -> Iterator[str]:
    """A Stripe for one life, over HTTP."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(create_sandbox(), log_level="error", date_header=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join(10)


async def nothing(_: list[dict[str, Any]]) -> None:
    pass


class Living:
    """Customers of one shop. Who does what needs a payment or a subscription has one first."""

    def __init__(self, web: httpx.AsyncClient, meanwhile: Meanwhile = nothing) -> None:
        self.web = web
        self.meanwhile = meanwhile
        self.events: dict[str, dict[str, Any]] = {}
        self.once = self.monthly = self.dearer = self.metered = ""

    async def live(self, life: list[Deed]) -> list[dict[str, Any]]:
        async with self.web:
            product = await self.made("products", {"name": "Gold"})
            price = {"product": product["id"], "currency": "eur", "unit_amount": "900"}
            month = {"recurring[interval]": "month"}
            self.once = (await self.made("prices", price))["id"]
            self.monthly = (await self.made("prices", price | month))["id"]
            dearer = price | month | {"unit_amount": "2900"}
            self.dearer = (await self.made("prices", dearer))["id"]
            customers = [(await self.made("customers", {"name": n}))["id"] for n in "ABC"]
            for deed, who, card in life:
                await getattr(self, deed)(customers[who], card)
                await self.listen()
            await self.advance(HOUR)  # what follows within seconds has followed
            await self.listen()
            return list(self.events.values())

    async def listen(self) -> None:
        """Stripe lists events for thirty days only: so before a month passes, too."""
        listed = (await self.all("events", {}))[::-1]
        new = [each for each in listed if each["id"] not in self.events]
        self.events |= {each["id"]: each for each in new}
        await self.meanwhile(new)

    async def advance(self, seconds: int) -> None:
        """In steps, so that Stripe still lists what happens on the way."""
        while seconds > 0:
            await self.listen()
            step = min(seconds, 20 * DAY)
            await self.control("advance", {"seconds": step})
            seconds -= step

    async def buy(self, who: str, card: str) -> None:
        await self.pay(who, card, "payment", self.once)

    async def leave(self, who: str, card: str) -> None:
        """Opens a checkout and goes. Some tell the shop; the others just close the page."""
        opened = await self.open(who, "payment", self.once)
        if opened and card in CARDS[:2]:
            await self.ask("POST", f"checkout/sessions/{opened}/expire", {})

    async def hold(self, who: str, card: str) -> None:
        """Another shop of the account authorizes a payment, and captures it, all or in part, or
        releases it; some of it is refunded."""
        given = {"amount": "900", "currency": "usd", "customer": who, "payment_method": card}
        given |= {"confirm": "true", "capture_method": "manual", "metadata[order]": "77"}
        held = (await self.ask("POST", "payment_intents", given)).json()
        if held.get("object") != "payment_intent":
            return  # declined
        path = f"payment_intents/{held['id']}"
        await self.listen()
        if card == "pm_card_refundFail":
            await self.ask("POST", f"{path}/cancel", {})
            return
        part = {"amount_to_capture": "600"} if card == "pm_card_pendingRefund" else {}
        await self.ask("POST", f"{path}/capture", part)
        await self.ask("POST", "refunds", {"payment_intent": held["id"], "amount": "200"})

    async def refund(self, who: str, card: str, amount: str | None = None) -> None:
        for intent in await self.payments(who, card):
            given = {"payment_intent": intent["id"]} | ({"amount": amount} if amount else {})
            await self.ask("POST", "refunds", given)

    async def part(self, who: str, card: str) -> None:
        await self.refund(who, card, "100")

    async def subscribe(self, who: str, card: str) -> None:
        await self.pay(who, card, "subscription", self.monthly)

    async def debit(self, who: str, card: str) -> None:
        """Paid from a bank account, which takes until the next deed, and may fail."""
        iban = DEBITS.get(card, FAILING_DEBIT)
        given = {"type": "sepa_debit", "sepa_debit[iban]": iban}
        method = await self.made("payment_methods", given)
        await self.pay(who, method["id"], "payment", self.once)
        await self.listen()
        await self.advance(HOUR)

    async def contest(self, who: str, card: str) -> None:
        """The customer disputes a payment. The shop accepts it, or submits evidence, or waits; an
        inquiry takes no money."""
        inquiry = card == "pm_card_pendingRefund"
        disputing = "pm_card_createDisputeInquiry" if inquiry else "pm_card_createDispute"
        known = {each["id"] for each in await self.all("disputes", {})}
        await self.pay(who, disputing, "payment", self.once)
        await self.listen()
        for each in await self.all("disputes", {}):
            if each["id"] in known:
                continue
            if card == "pm_card_visa":
                await self.ask("POST", f"disputes/{each['id']}/close", {})
            elif card == "pm_card_chargeDeclined":
                evidence = {"evidence[uncategorized_text]": "winning_evidence", "submit": "true"}
                await self.ask("POST", f"disputes/{each['id']}", evidence)
                await self.advance(HOUR)

    async def trial(self, who: str, card: str) -> None:
        """Free for a week, then paid."""
        free = {"subscription_data[trial_period_days]": "7"}
        await self.pay(who, card, "subscription", self.monthly, free)
        await self.advance(8 * DAY)

    async def coupon(self, who: str, card: str) -> None:
        """The first month costs less, or nothing."""
        percent = "25" if card in CARDS[:2] else "100"
        made = await self.made("coupons", {"percent_off": percent, "duration": "once"})
        cheaper = {"discounts[0][coupon]": made["id"]}
        await self.pay(who, card, "subscription", self.monthly, cheaper)

    async def pause(self, who: str, card: str) -> None:
        """For a month, invoices are voided; then they are collected again."""
        for mine in await self.subscriptions(who):
            path = f"subscriptions/{mine['id']}"
            await self.ask("POST", path, {"pause_collection[behavior]": "void"})
            await self.advance(31 * DAY + HOUR)
            await self.ask("POST", path, {"pause_collection": ""})

    async def meter(self, who: str, card: str) -> None:
        """Pays for what was used in a month."""
        metered = await self.metered_price()
        await self.pay(who, CARDS[0], "subscription", metered, {"line_items[0][quantity]": ""})
        used = {
            "event_name": METER,
            "payload[stripe_customer_id]": who,
            "payload[value]": str(USED),
        }
        await self.ask("POST", "billing/meter_events", used)
        await self.advance(31 * DAY + HOUR)

    async def metered_price(self) -> str:
        if not self.metered:
            given = {"display_name": METER, "event_name": METER}
            given |= {"default_aggregation[formula]": "sum"}
            meter = await self.made("billing/meters", given)
            price = {
                "product_data[name]": "Calls",
                "currency": "eur",
                "unit_amount": str(PER_CALL),
                "recurring[interval]": "month",
                "recurring[usage_type]": "metered",
                "recurring[meter]": meter["id"],
            }
            self.metered = (await self.made("prices", price))["id"]
        return self.metered

    async def renew(self, who: str, card: str) -> None:
        await self.subscriptions(who)
        await self.advance(31 * DAY + HOUR)

    async def fail(self, who: str, card: str) -> None:
        """The renewal is declined, and tried again until the shop gives up."""
        await self.subscriptions(who)
        failing = {"card": "pm_card_chargeDeclined", "customer": who, "key": KEY}
        await self.control("outcome", failing)
        await self.advance(31 * DAY + HOUR)

    async def upgrade(self, who: str, card: str) -> None:
        """To the dearer price, billed at once; from there back, billed with the next invoice."""
        for mine in await self.subscriptions(who):
            item = mine["items"]["data"][0]
            up = item["price"]["id"] == self.monthly
            changed = {
                "items[0][id]": item["id"],
                "items[0][price]": self.dearer if up else self.monthly,
                "proration_behavior": "always_invoice" if up else "create_prorations",
            }
            await self.ask("POST", f"subscriptions/{mine['id']}", changed)

    async def cancel(self, who: str, card: str) -> None:
        for mine in await self.subscriptions(who):
            await self.ask("DELETE", f"subscriptions/{mine['id']}", {})

    async def end(self, who: str, card: str) -> None:
        """With the period that is paid."""
        for mine in await self.subscriptions(who):
            ending = {"cancel_at_period_end": "true"}
            await self.ask("POST", f"subscriptions/{mine['id']}", ending)

    async def rename(self, who: str, card: str) -> None:
        await self.ask("POST", f"customers/{who}", {"name": card})

    async def forget(self, who: str, card: str) -> None:
        await self.ask("DELETE", f"customers/{who}", {})

    async def withdraw(self, who: str, card: str) -> None:
        product = await self.made("products", {"name": card})
        await self.ask("DELETE", f"products/{product['id']}", {})

    async def hour(self, who: str, card: str) -> None:
        await self.advance(HOUR)

    async def day(self, who: str, card: str) -> None:
        await self.advance(DAY + HOUR)

    async def payments(self, who: str, card: str) -> list[dict[str, Any]]:
        """The newest payment. Where there is none, or this card's refunds are what matters, one is
        made first."""
        for again in (False, True) if card in CARDS[:2] else (True,):
            if again:
                await self.pay(who, card, "payment", self.once)
            found = await self.all("payment_intents", {"customer": who})
            if paid := [each for each in found if each["status"] == "succeeded"]:
                return paid[:1]
        return []

    async def subscriptions(self, who: str) -> list[dict[str, Any]]:
        """The newest subscription; a new one, if there is none."""
        for again in (False, True):
            if again:
                await self.pay(who, CARDS[0], "subscription", self.monthly)
            if found := await self.all("subscriptions", {"customer": who}):
                return found[:1]
        return []

    async def pay(
        self, who: str, card: str, mode: str, price: str, more: dict[str, str] | None = None
    ) -> None:
        if opened := await self.open(who, mode, price, more):
            payment = {"session": opened, "payment_method": card}
            await self.web.post("/_sandbox/pay", json=payment)  # May be declined: a life has that.

    async def open(
        self, who: str, mode: str, price: str, more: dict[str, str] | None = None
    ) -> str | None:
        given = {"mode": mode, "customer": who, "success_url": "https://shop.example/thanks"}
        subject = {"insforge_subject_type": "user", "insforge_subject_id": who}
        given |= {f"metadata[{name}]": value for name, value in subject.items()}
        given |= {"line_items[0][price]": price, "line_items[0][quantity]": "1", **(more or {})}
        given = {name: value for name, value in given.items() if value}
        made = await self.ask("POST", "checkout/sessions", given)
        return str(made.json()["id"]) if made.is_success else None

    async def control(self, name: str, given: dict[str, Any]) -> None:
        (await self.web.post(f"/_sandbox/{name}", json=given)).raise_for_status()

    async def ask(self, method: str, path: str, given: dict[str, str]) -> httpx.Response:
        """A refusal (nothing to refund, a customer that is gone) is part of a life too."""
        answer = await self.web.request(method, f"/v1/{path}", data=given, auth=(KEY, ""))
        assert answer.status_code < 500, answer.text
        return answer

    async def made(self, path: str, given: dict[str, str]) -> dict[str, Any]:
        answer = (await self.ask("POST", path, given)).raise_for_status()
        found: dict[str, Any] = answer.json()
        return found

    async def all(self, path: str, given: dict[str, str]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        more: dict[str, str] = {}
        while True:
            asked = given | {"limit": "100"} | more
            answer = await self.web.get(f"/v1/{path}", params=asked, auth=(KEY, ""))
            page = answer.raise_for_status().json()
            found += page["data"]
            if not page["has_more"]:
                return found
            more = {"starting_after": found[-1]["id"]}
