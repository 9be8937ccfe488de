"""A small shop that uses the sandbox, and a server that receives its events."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any, NamedTuple

import httpx
import stripe

PATIENCE = 60.0
"""Seconds to wait for a condition before the test fails."""

_accounts = count(1)

web = httpx.Client(timeout=30)
"""Shared, because creating a client takes longer than a request."""


class Sandbox(NamedTuple):
    url: str

    def control(self, name: str, /, **given: Any) -> Any:
        answer = web.post(f"{self.url}/_sandbox/{name}", json=given)
        if answer.is_error:
            raise Refused(answer)
        return answer.json()

    def stats(self) -> Any:
        return web.get(f"{self.url}/_sandbox/stats").json()

    def dump(self, key: str) -> list[str]:
        """All objects of the key's account, each as JSON."""
        return web.get(f"{self.url}/_sandbox/dump", params={"key": key}).text.splitlines()

    def shop(self, mode: str = "test") -> Shop:
        """A shop with its own account, so that tests are independent."""
        return Shop(self, f"sk_{mode}_shop{next(_accounts)}")


def wait_until(condition: Callable[[], bool]) -> None:
    """Polls for something that happens in another process."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not come true in time"


class Refused(Exception):
    def __init__(self, answer: httpx.Response) -> None:
        super().__init__(f"{answer.status_code}: {answer.text}")
        self.status = answer.status_code
        self.error: Any = answer.json()["error"] if answer.text.startswith("{") else answer.text


class Shop:
    def __init__(self, sandbox: Sandbox, key: str) -> None:
        self.sandbox = sandbox
        self.key = key
        self.client = stripe.StripeClient(
            key, base_addresses={"api": sandbox.url}, max_network_retries=0
        )
        # Dicts that tests build are not the typed dicts of the SDK.
        self.v1: Any = self.client.v1

    def raw(self, method: str, path: str, headers: Any = None, **form: str) -> httpx.Response:
        """A request without the SDK, for the raw response."""
        where: Any = {"data": form} if method == "POST" else {"params": form}
        auth = {"Authorization": f"Bearer {self.key}"}
        url = self.sandbox.url + path
        return web.request(method, url, headers={**auth, **(headers or {})}, **where)

    def get(self, path: str, **params: str) -> Any:
        answer = self.raw("GET", path, **params)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def price(self, amount: int = 1500, currency: str = "usd", interval: str | None = None) -> str:
        given: dict[str, Any] = {
            "currency": currency,
            "unit_amount": amount,
            "product_data": {"name": "Tea"},
        }
        if interval:
            given["recurring"] = {"interval": interval}
        return self.v1.prices.create(given).id

    def session(self, mode: str = "payment", **given: Any) -> stripe.checkout.Session:
        if "line_items" not in given:
            price = self.price(interval="month" if mode == "subscription" else None)
            given["line_items"] = [{"price": price, "quantity": 1}]
        defaults = {
            "mode": mode,
            "success_url": "https://shop.example/thanks?session={CHECKOUT_SESSION_ID}",
            "cancel_url": "https://shop.example/basket",
        }
        return self.v1.checkout.sessions.create({**defaults, **given})

    def pay(self, session: str, card: str = "pm_card_visa", **given: Any) -> Any:
        return self.sandbox.control("pay", session=session, payment_method=card, **given)

    def paid(self, mode: str = "payment", card: str = "pm_card_visa", **given: Any) -> Any:
        """A session that was paid."""
        return self.pay(self.session(mode, **given).id, card)

    def events(self, *prefixes: str) -> list[Any]:
        """Oldest first; all, or only those of the given families."""
        data = self.get("/v1/events", limit="100")["data"][::-1]
        return [event for event in data if not prefixes or event["type"].startswith(prefixes)]

    def types(self, *prefixes: str) -> list[str]:
        return [event["type"] for event in self.events(*prefixes)]

    def stats(self) -> Any:
        account = self.key.split("_")[2]
        sets = self.sandbox.stats()["data_sets"]
        return next(found for found in sets if found["account"] == account)

    def settle(self) -> None:
        """Advances past everything that follows a payment or refund within seconds."""
        self.sandbox.control("advance", seconds=10)


PURCHASE = ("charge", "payment_intent", "checkout", "customer", "invoice", "payment_method")


class Delivery(NamedTuple):
    path: str
    signature: str
    body: bytes

    @property
    def event(self) -> Any:
        return json.loads(self.body)


class Receiver:
    """A server that stores deliveries; `answers` has the statuses of its next responses. With
    `together`, a delivery is stored when so many have arrived at the same time."""

    def __init__(self) -> None:
        self.deliveries: list[Delivery] = []
        self.answers: list[int] = []
        self.together = threading.Barrier(1)
        self.arrived = threading.Condition()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self.handler())
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                signature = self.headers["Stripe-Signature"]
                receiver.together.wait(PATIENCE)
                with receiver.arrived:
                    receiver.deliveries.append(Delivery(self.path, signature, body))
                    status = receiver.answers.pop(0) if receiver.answers else 200
                    receiver.arrived.notify_all()
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        return Handler

    def wait(self, condition: Callable[[list[Delivery]], bool]) -> list[Delivery]:
        with self.arrived:
            assert self.arrived.wait_for(lambda: condition(self.deliveries), PATIENCE), [
                delivery.event["type"] for delivery in self.deliveries
            ]
            return list(self.deliveries)

    def wait_for(self, number: int) -> list[Delivery]:
        return self.wait(lambda deliveries: len(deliveries) >= number)

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
