"""A sandbox for the tests of an app: a process, controlled through the methods of `Sandbox`."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import httpx
import orjson
import stripe

from billhook_sandbox.controls import DEFAULT_KEY
from billhook_sandbox.keys import parse_key
from billhook_sandbox.signing import signature_header
from billhook_sandbox.store import Json

READY = "billhook sandbox: "
TIMEOUT_SECONDS = 120
STOP_TIMEOUT_SECONDS = 10


class ControlRefused(Exception):
    """The sandbox refused a control, for example because the payment was declined."""

    def __init__(self, response: httpx.Response) -> None:
        super().__init__(response.text)
        is_json = response.headers.get("content-type", "").startswith("application/json")
        self.status = response.status_code
        self.error: Json = response.json()["error"] if is_json else {"message": response.text}


class Webhook(NamedTuple):
    """A signed webhook request, ready to be posted to the app under test."""

    body: bytes
    headers: dict[str, str]

    @property
    def event(self) -> Json:
        found: Json = orjson.loads(self.body)
        return found


class Clock:
    """The sandbox's clock. It follows real time and can be moved forward."""

    def __init__(self, sandbox: "Sandbox") -> None:
        self.sandbox = sandbox

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.sandbox.query("health")["now"], UTC)

    def advance(
        self, *, days: float = 0, hours: float = 0, minutes: float = 0, seconds: float = 0
    ) -> datetime:
        """Runs everything that becomes due (renewals, expirations, refunds), in order."""
        span = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
        response = self.sandbox.control("advance", seconds=span.total_seconds())
        return datetime.fromtimestamp(response["now"], UTC)


class Sandbox:
    """A running sandbox, used with one API key."""

    def __init__(self, url: str, key: str = DEFAULT_KEY) -> None:
        self.url = url
        self.key = key
        self.http = httpx.Client(base_url=url, timeout=TIMEOUT_SECONDS, trust_env=False)
        self.clock = Clock(self)
        self.client = stripe.StripeClient(key, base_addresses={"api": url})
        self.seen: set[str] = set()

    def with_key(self, key: str) -> "Sandbox":
        """The same sandbox with another API key, and so another account."""
        return Sandbox(self.url, key)

    def query(self, name: str) -> Json:
        return self.read(self.http.get(f"/_sandbox/{name}"))

    def control(self, name: str, /, **given: Any) -> Json:
        """Any control by its name; see docs/reference/sandbox.md."""
        return self.read(self.http.post(f"/_sandbox/{name}", json=given))

    def read(self, response: httpx.Response) -> Json:
        if response.is_error:
            raise ControlRefused(response)
        body: Json = response.json()
        return body

    def pay(self, session: str, card: str = "pm_card_visa", **given: Any) -> Json:
        """Pays a Checkout Session as its page does; returns the session.

        A sample buyer fills in what the session asks for. `given` replaces their `email`, `name`,
        `country`, `address`, `phone`, `shipping`, `shipping_rate` (id or name), `custom_fields`,
        `quantities` (by price), `promotion_code`, `tax_id`, `business_name`, `terms_of_service`,
        `promotions` or `save_payment_method`; None leaves something out.
        """
        return self.control("pay", session=session, payment_method=card, **given)

    def set_next_outcome(self, card: str, *, times: int = 1, customer: str | None = None) -> None:
        """Makes the next payments behave as with that test card, whatever their card is."""
        self.control("outcome", key=self.key, card=card, times=times, customer=customer)

    def fault(self, **given: Any) -> None:
        """Makes requests fail: `status=429, reason="global-rate"`, `cut=True`, `seconds=2`, …"""
        self.control("fault", **given)

    def seed(self, **amounts: int) -> int:
        """Creates many objects at once; returns how many."""
        return int(self.control("seed", key=self.key, **amounts)["objects"])

    def settle(self) -> None:
        """Advances a few seconds and waits until all webhooks are delivered."""
        self.control("settle")

    def deliver_to(self, url: str, *types: str) -> str:
        """Creates a webhook endpoint for the URL; returns its signing secret."""
        given: Any = {"url": url, "enabled_events": list(types) or ["*"]}
        return str(self.client.v1.webhook_endpoints.create(given).secret)

    def webhooks(self, *types: str, secret: str) -> list[Webhook]:
        """Signed requests for new events, oldest first: for tests of an app without a server."""
        events = self.client.v1.events.list({"limit": 100}).auto_paging_iter()
        new = [event for event in events if event.id not in self.seen][::-1]
        self.seen.update(event.id for event in new)
        return [self.signed(event.id, secret) for event in new if not types or event.type in types]

    def signed(self, event: str, secret: str) -> Webhook:
        # Fetched again as JSON: the SDK's objects differ from what a webhook receives.
        response = self.http.get(f"/v1/events/{event}", auth=(self.key, ""))
        body = orjson.dumps(self.read(response), option=orjson.OPT_INDENT_2)
        key = parse_key(self.key)
        livemode = bool(key and key.livemode)
        header = signature_header([secret], body, int(time.time()), livemode)
        return Webhook(body, {"Stripe-Signature": header, "Content-Type": "application/json"})

    def reset(self) -> None:
        """Back to the initial state: no objects, no faults, real time."""
        self.control("reset")
        self.seen.clear()


@contextmanager
def running_sandbox(*arguments: str) -> Iterator[Sandbox]:
    """A sandbox process on a free port; it stops with the block, or with the calling process."""
    command = [sys.executable, "-P", "-m", "billhook_sandbox", "--port", "0"]
    command.append("--until-stdin-closes")
    with subprocess.Popen(  # noqa: S603 - our own module, with the caller's options
        [*command, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            if not line.startswith(READY):
                raise RuntimeError("The Stripe sandbox did not start; see its error message above.")
            yield Sandbox(line.removeprefix(READY).strip())
        finally:
            process.terminate()
            process.wait(STOP_TIMEOUT_SECONDS)
