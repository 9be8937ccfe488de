"""Lives of customers, drawn by hypothesis and lived in a sandbox inside this process."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import uvicorn
from hypothesis import strategies as st

from billhook.sandbox.app import create_sandbox

KEY = "sk_test_sandbox"
CARDS = ("pm_card_visa", "pm_card_chargeDeclined", "pm_card_refundFail", "pm_card_pendingRefund")
DEEDS = ("buy", "subscribe", "refund", "part", "fail", "cancel", "rename", "forget", "month")

Deed = tuple[str, int, str]
"""What is done, by which customer, with which card."""

deeds = st.lists(
    st.tuples(st.sampled_from(DEEDS), st.integers(0, 1), st.sampled_from(CARDS)),
    min_size=2,
    max_size=8,
)


def live(life: list[Deed]) -> list[dict[str, Any]]:
    """The events of a life, oldest first."""
    transport = httpx.ASGITransport(create_sandbox())
    web = httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1")
    return asyncio.run(Living(web).live(life))


def live_at(url: str, life: list[Deed]) -> list[dict[str, Any]]:
    """The same at a sandbox that listens."""
    return asyncio.run(Living(httpx.AsyncClient(base_url=url, timeout=30)).live(life))


@contextmanager
def listening() -> Iterator[str]:
    """A Stripe for one life, over HTTP."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(create_sandbox(), log_level="error"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join(10)


class Living:
    def __init__(self, web: httpx.AsyncClient) -> None:
        self.web = web
        self.customers: list[str] = []
        self.events: dict[str, dict[str, Any]] = {}

    async def live(self, life: list[Deed]) -> list[dict[str, Any]]:
        async with self.web:
            product = await self.made("products", {"name": "Gold"})
            price = {"product": product["id"], "currency": "eur", "unit_amount": "900"}
            once = await self.made("prices", price)
            monthly = await self.made("prices", price | {"recurring[interval]": "month"})
            self.customers = [(await self.made("customers", {"name": n}))["id"] for n in "AB"]
            for deed, who, card in life:
                await self.do(deed, self.customers[who], card, (once["id"], monthly["id"]))
                # At once: Stripe lists events for thirty days only, and a month may pass.
                for event in (await self.all("events", {}))[::-1]:
                    self.events[event["id"]] = event
            return list(self.events.values())

    async def do(self, deed: str, who: str, card: str, prices: tuple[str, str]) -> None:
        match deed:
            case "buy":
                await self.pay(who, card, "payment", prices[0])
            case "subscribe":
                await self.pay(who, card, "subscription", prices[1])
            case "refund" | "part":
                amount = {"amount": "100"} if deed == "part" else {}
                for intent in (await self.all("payment_intents", {"customer": who}))[:1]:
                    await self.ask("POST", "refunds", {"payment_intent": intent["id"]} | amount)
            case "cancel":
                for mine in (await self.all("subscriptions", {"customer": who}))[:1]:
                    await self.ask("DELETE", f"subscriptions/{mine['id']}", {})
            case "rename":
                await self.ask("POST", f"customers/{who}", {"name": card})
            case "forget":
                await self.ask("DELETE", f"customers/{who}", {})
            case "fail":
                given = {"card": "pm_card_chargeDeclined", "customer": who, "key": KEY}
                (await self.web.post("/_sandbox/outcome", json=given)).raise_for_status()
            case "month":
                days = {"seconds": 31 * 86400}
                (await self.web.post("/_sandbox/advance", json=days)).raise_for_status()

    async def pay(self, who: str, card: str, mode: str, price: str) -> None:
        given = {"mode": mode, "customer": who, "success_url": "https://shop.example/thanks"}
        subject = {"insforge_subject_type": "user", "insforge_subject_id": who}
        given |= {f"metadata[{name}]": value for name, value in subject.items()}
        given |= {"line_items[0][price]": price, "line_items[0][quantity]": "1"}
        made = await self.ask("POST", "checkout/sessions", given)
        if made.is_success:
            payment = {"session": made.json()["id"], "payment_method": card}
            await self.web.post("/_sandbox/pay", json=payment)  # May be declined: a life has that.

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
