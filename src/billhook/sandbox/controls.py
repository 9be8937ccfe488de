"""`/_sandbox`: what a test may do to the world. Answers only to this machine."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import fields
from typing import Any, get_args

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from billhook.sandbox.errors import StripeError
from billhook.sandbox.fates import Manner
from billhook.sandbox.flows import renewal
from billhook.sandbox.flows.checkout import Authentication, Buyer, pay
from billhook.sandbox.objects.payment_methods import find_method
from billhook.sandbox.options import API_VERSION
from billhook.sandbox.store import Cause, DataSet, Json
from billhook.sandbox.trouble import Fault
from billhook.sandbox.world import World

LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Controls:
    def __init__(self, world: World) -> None:
        self.world = world

    def routes(self) -> list[Route]:
        reading = {"health": self.health, "stats": self.stats}
        acting: dict[str, Callable[[Json], Json]] = {
            "advance": self.advance,
            "delivery": self.delivery,
            "fault": self.fault,
            "latency": self.latency,
            "pay": self.pay,
            "renew": self.renew,
            "reset": self.reset,
            "revoke_key": self.revoke_key,
        }
        return [
            *(
                Route(f"/_sandbox/{name}", answering(act), methods=["GET"])
                for name, act in reading.items()
            ),
            *(
                Route(f"/_sandbox/{name}", obeying(act), methods=["POST"])
                for name, act in acting.items()
            ),
        ]

    def health(self) -> Json:
        return {"status": "ok", "api_version": API_VERSION, "now": self.world.clock.now()}

    def stats(self) -> Json:
        """How much there is, per account and mode."""
        sets = [
            {
                "account": data.account,
                "livemode": data.livemode,
                "deliveries_waiting": len(data.all("_delivery").rows),
                "deliveries_failed": sum(d["attempt"] for d in data.all("_delivery").rows.values()),
                "objects": {k: len(c.rows) for k, c in data.collections.items() if k[0] != "_"},
            }
            for data in self.world.data_sets.values()
        ]
        courier = self.world.courier
        return {
            "data_sets": sets,
            "deliveries": {
                "delivered": courier.delivered,
                "failed_tries": courier.failed,
                "waiting": courier.waiting(),
            },
            "jobs_waiting": len(self.world.schedule.queue),
        }

    def reset(self, _: Json) -> Json:
        self.world.reset()
        return {"reset": True}

    def advance(self, given: Json) -> Json:
        seconds = number(given, "seconds")
        self.world.advance(seconds)
        return {"now": self.world.clock.now()}

    def latency(self, given: Json) -> Json:
        """Seconds before every answer whose path begins so; 0 takes it back."""
        trouble, prefix = self.world.trouble, given.get("path_prefix", "/v1/")
        trouble.latency[prefix] = number(given, "seconds")
        return {"latency": trouble.latency}

    def fault(self, given: Json) -> Json:
        if "status" not in given:
            raise HTTPException(400, "`status` is needed")
        self.world.trouble.faults.append(Fault(**given))
        return {"faults": len(self.world.trouble.faults)}

    def revoke_key(self, given: Json) -> Json:
        self.world.trouble.revoked.add(str(given["key"]))
        self.world.keep_settings()
        return {"revoked": len(self.world.trouble.revoked)}

    def delivery(self, given: Json) -> Json:
        """`on`; `off` holds deliveries back until `on`; `drop` loses them for good."""
        if given.get("mode", "on") not in ("on", "off", "drop"):
            raise HTTPException(400, "`mode` is on, off or drop")
        if given.get("order", "created") not in ("created", "shuffled"):
            raise HTTPException(400, "`order` is created or shuffled")
        if int(given.get("concurrency", 1)) < 1:
            raise HTTPException(400, "`concurrency` is at least 1")
        known = {f.name: getattr(self.world.courier.manner, f.name) for f in fields(Manner)}
        if given.get("retries") is not None:
            given = {**given, "retries": tuple(given["retries"])}
        self.world.courier.set_manner(Manner(**(known | given)))
        return {"delivery": given}

    def pay(self, given: Json) -> Json:
        """Pays as the page does; a card that asks for authentication gets it."""
        data, session = self.found("checkout.session", given.get("session"))
        authentication = given.get("authentication", "confirmed")
        if authentication not in get_args(Authentication):
            raise HTTPException(400, f"`authentication` is one of {get_args(Authentication)}")
        who = Buyer(given.get("email", "buyer@example.com"), given.get("name", "Sandbox Buyer"))
        token = given.get("payment_method", "pm_card_visa")
        return self.within(
            data,
            lambda: pay(data, session, self.method(data, token), who, authentication),
        )

    def method(self, data: DataSet, token: str) -> Json:
        """Here test tokens work in live mode too: nobody has a real card for the sandbox."""
        return find_method(data, token, "payment_method", live_tokens=True)

    def renew(self, given: Json) -> Json:
        data, subscription = self.found("subscription", given.get("subscription"))
        outcome = given.get("outcome", "succeeded")
        if outcome not in get_args(renewal.Outcome):
            raise HTTPException(400, f"`outcome` is one of {get_args(renewal.Outcome)}")
        return self.within(data, lambda: renewal.renew(data, subscription, outcome))

    def found(self, kind: str, name: Any) -> tuple[DataSet, Json]:
        found = self.world.find(kind, str(name))
        if found is None:
            raise HTTPException(404, f"no {kind} {name!r}")
        return found

    def within(self, data: DataSet, act: Callable[[], Json]) -> Json:
        """What a refused payment did is kept as well."""
        data.cause = Cause()
        try:
            return act()
        finally:
            self.world.commit(data)


def number(given: Json, name: str) -> float:
    value = given.get(name)
    if not isinstance(value, int | float) or isinstance(value, bool) or value < 0:
        raise HTTPException(400, f"`{name}` is a number of seconds, not negative")
    return value


def local_only(request: Request) -> None:
    if request.client is None or request.client.host not in LOOPBACK:
        raise HTTPException(403, "the controls answer only to this machine")


def answering(act: Callable[[], Json]) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        local_only(request)
        return as_json(act())

    return endpoint


def obeying(act: Callable[[Json], Json]) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        local_only(request)
        body = await request.body()
        try:
            given = orjson.loads(body or b"{}")
            return as_json(act(given))
        except StripeError as error:
            return as_json(error.body(""), error.status)
        except (KeyError, TypeError, orjson.JSONDecodeError) as error:
            raise HTTPException(400, f"not understood: {error}") from error
        finally:
            # Thousands of controls in a row leave room for deliveries and API requests.
            await asyncio.sleep(0)

    return endpoint


def as_json(body: Json, status: int = 200) -> Response:
    return Response(orjson.dumps(body), status, media_type="application/json")
