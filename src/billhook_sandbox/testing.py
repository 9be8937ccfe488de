"""A sandbox for the tests of an app: started as a process, asked by methods."""

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
    """The sandbox did not do what it was asked for; a declined payment is one case."""

    def __init__(self, answer: httpx.Response) -> None:
        super().__init__(answer.text)
        is_json = answer.headers.get("content-type", "").startswith("application/json")
        self.status = answer.status_code
        self.error: Json = answer.json()["error"] if is_json else {"message": answer.text}


class Webhook(NamedTuple):
    """A signed delivery, ready to be posted to the app under test."""

    body: bytes
    headers: dict[str, str]

    @property
    def event(self) -> Json:
        found: Json = orjson.loads(self.body)
        return found


class Clock:
    """The sandbox's time. It moves with real time, and forward on request."""

    def __init__(self, sandbox: "Sandbox") -> None:
        self.sandbox = sandbox

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.sandbox.ask("health")["now"], UTC)

    def advance(
        self, *, days: float = 0, hours: float = 0, minutes: float = 0, seconds: float = 0
    ) -> datetime:
        """What falls due meanwhile (renewals, expiry, refunds) happens in its order."""
        span = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
        answer = self.sandbox.control("advance", seconds=span.total_seconds())
        return datetime.fromtimestamp(answer["now"], UTC)


class Sandbox:
    """A running sandbox, seen by the owner of one key."""

    def __init__(self, url: str, key: str = DEFAULT_KEY) -> None:
        self.url = url
        self.key = key
        self.web = httpx.Client(base_url=url, timeout=TIMEOUT_SECONDS, trust_env=False)
        self.clock = Clock(self)
        self.client = stripe.StripeClient(key, base_addresses={"api": url})
        self.taken: set[str] = set()

    def with_key(self, key: str) -> "Sandbox":
        """The same sandbox for another key, and so for another account."""
        return Sandbox(self.url, key)

    def ask(self, name: str) -> Json:
        return self.read(self.web.get(f"/_sandbox/{name}"))

    def control(self, name: str, /, **given: Any) -> Json:
        """Any of the controls by its name; see docs/sandbox.md."""
        return self.read(self.web.post(f"/_sandbox/{name}", json=given))

    def read(self, answer: httpx.Response) -> Json:
        if answer.is_error:
            raise ControlRefused(answer)
        found: Json = answer.json()
        return found

    def pay(self, session: str, card: str = "pm_card_visa", **given: Any) -> Json:
        """Pay a Checkout session as its page does; answers the session."""
        return self.control("pay", session=session, payment_method=card, **given)

    def set_next_outcome(self, card: str, *, times: int = 1, customer: str | None = None) -> None:
        """The next payments go as with that test card, whatever the card is."""
        self.control("outcome", key=self.key, card=card, times=times, customer=customer)

    def fault(self, **given: Any) -> None:
        """Let requests fail: `status=429, reason="global-rate"`, `cut=True`, `seconds=2`, …"""
        self.control("fault", **given)

    def seed(self, **amounts: int) -> int:
        """Make many objects at once; answers how many."""
        return int(self.control("seed", key=self.key, **amounts)["objects"])

    def settle(self) -> None:
        """Until what follows within seconds has happened and was delivered and answered."""
        self.control("settle")

    def deliver_to(self, url: str, *types: str) -> str:
        """Have events posted to a server; answers the secret that signs them."""
        given: Any = {"url": url, "enabled_events": list(types) or ["*"]}
        return str(self.client.v1.webhook_endpoints.create(given).secret)

    def webhooks(self, *types: str, secret: str) -> list[Webhook]:
        """New events since the last call, oldest first, signed: for an app without a server."""
        events = self.client.v1.events.list({"limit": 100}).auto_paging_iter()
        new = [event for event in events if event.id not in self.taken][::-1]
        self.taken.update(event.id for event in new)
        return [self.signed(event.id, secret) for event in new if not types or event.type in types]

    def signed(self, event: str, secret: str) -> Webhook:
        # Asked for again as bytes: the SDK's objects are not what a webhook receives.
        answer = self.web.get(f"/v1/events/{event}", auth=(self.key, ""))
        body = orjson.dumps(self.read(answer), option=orjson.OPT_INDENT_2)
        key = parse_key(self.key)
        livemode = bool(key and key.livemode)
        header = signature_header([secret], body, int(time.time()), livemode)
        return Webhook(body, {"Stripe-Signature": header, "Content-Type": "application/json"})

    def reset(self) -> None:
        """As new: no objects, no faults, real time."""
        self.control("reset")
        self.taken.clear()


@contextmanager
def running_sandbox(*arguments: str) -> Iterator[Sandbox]:
    """A sandbox process on a free port; it ends with the block, or with us."""
    command = [sys.executable, "-m", "billhook_sandbox", "--port", "0", "--until-stdin-closes"]
    with subprocess.Popen(  # noqa: S603 - our own module, with the caller's options
        [*command, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            if not line.startswith(READY):
                raise RuntimeError("the Stripe sandbox did not start; its message is above")
            yield Sandbox(line.removeprefix(READY).strip())
        finally:
            process.terminate()
            process.wait(STOP_TIMEOUT_SECONDS)
