"""`/_sandbox`: the controls for tests. They only accept requests from this machine."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import fields
from itertools import islice
from typing import Any, get_args

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from billhook_sandbox import payment_outcomes
from billhook_sandbox.api_versions import set_default_version
from billhook_sandbox.clock_lookup import find_test_clock
from billhook_sandbox.delivery_policy import DeliveryPolicy
from billhook_sandbox.errors import StripeError
from billhook_sandbox.fault_injection import Access, Fault
from billhook_sandbox.flows import (
    payment_intent_lifecycle,
    setup_intent_lifecycle,
    subscription_renewal,
)
from billhook_sandbox.flows.checkout_payment import Authentication, pay
from billhook_sandbox.flows.checkout_sample_buyer import sample_buyer
from billhook_sandbox.flows.refund_lifecycle import require_action
from billhook_sandbox.keys import parse_key
from billhook_sandbox.objects.account import set_account_name
from billhook_sandbox.objects.payment_method import find_method
from billhook_sandbox.options import API_VERSION
from billhook_sandbox.seed import SeedCounts, Seeder
from billhook_sandbox.signing import roll_secret
from billhook_sandbox.state import SandboxState
from billhook_sandbox.store import Cause, DataSet, Json

LOOPBACK = ("127.0.0.1", "::1", "localhost")
DEFAULT_KEY = "sk_test_sandbox"
SEED_BATCH = 5000
"""Objects between two pauses that let other requests run."""


class Controls:
    def __init__(self, state: SandboxState) -> None:
        self.state = state

    def routes(self) -> list[Route]:
        queries = {"health": self.health, "stats": self.stats}
        commands: dict[str, Callable[[Json], Json | Awaitable[Json]]] = {
            "account": self.account,
            "advance": self.advance,
            "api_version": self.api_version,
            "authenticate": self.authenticate,
            "catch_up": self.catch_up,
            "delivery": self.delivery,
            "extra_keys": self.extra_keys,
            "fault": self.fault,
            "latency": self.latency,
            "outcome": self.outcome,
            "pay": self.pay,
            "recover": self.recover,
            "refund_action": self.refund_action,
            "renew": self.renew,
            "reset": self.reset,
            "restrict_key": self.restrict_key,
            "revoke_key": self.revoke_key,
            "roll_secret": self.roll_secret,
            "seed": self.seed,
            "settle": self.settle,
        }
        return [
            *(
                Route(f"/_sandbox/{name}", get_endpoint(act), methods=["GET"])
                for name, act in queries.items()
            ),
            *(
                Route(f"/_sandbox/{name}", post_endpoint(act), methods=["POST"])
                for name, act in commands.items()
            ),
            Route("/_sandbox/dump", self.dump, methods=["GET"]),
        ]

    def health(self) -> Json:
        return {"status": "ok", "api_version": API_VERSION, "now": self.state.clock.now()}

    def stats(self) -> Json:
        """Counts of objects and deliveries, per account and mode."""
        sets = [
            {
                "account": data.account,
                "livemode": data.livemode,
                "deliveries_waiting": len(data.all("_delivery").rows),
                "deliveries_failed": sum(d["attempt"] for d in data.all("_delivery").rows.values()),
                "objects": {k: len(c.rows) for k, c in data.collections.items() if k[0] != "_"},
            }
            for data in self.state.data_sets.values()
        ]
        dispatcher = self.state.dispatcher
        return {
            "data_sets": sets,
            "deliveries": {
                "delivered": dispatcher.delivered,
                "failed_tries": dispatcher.failed,
                "waiting": dispatcher.waiting(),
            },
            "jobs_waiting": len(self.state.schedule.queue),
        }

    async def dump(self, request: Request) -> Response:
        """All objects as JSON lines with their account and mode; `key` selects one account."""
        local_only(request)
        key = request.query_params.get("key")
        data_sets = [self.data_set_of(key)] if key else list(self.state.data_sets.values())
        return StreamingResponse(dump_lines(data_sets), media_type="application/x-ndjson")

    def reset(self, _: Json) -> Json:
        self.state.reset()
        return {"reset": True}

    def advance(self, given: Json) -> Json:
        seconds = number(given, "seconds")
        self.state.advance(seconds)
        return {"now": self.state.clock.now()}

    def catch_up(self, _: Json) -> Json:
        self.state.catch_up()
        return {"now": self.state.clock.now()}

    async def settle(self, given: Json) -> Json:
        """Advances time by a few seconds and waits until all due deliveries are done."""
        self.state.advance(number(given, "seconds", 10))
        await self.state.dispatcher.wait_until_idle()
        return {"now": self.state.clock.now(), "waiting": self.state.dispatcher.waiting()}

    def latency(self, given: Json) -> Json:
        """Delays every response for paths with that prefix; 0 removes the delay."""
        latency, prefix = self.state.fault_injector.latency, given.get("path_prefix", "/v1/")
        latency[prefix] = number(given, "seconds")
        return {"latency": latency}

    def fault(self, given: Json) -> Json:
        fault = Fault(**given)
        reject_if(fault.problem())
        self.state.fault_injector.faults.append(fault)
        return {"faults": len(self.state.fault_injector.faults)}

    def recover(self, _: Json) -> Json:
        """Removes all faults."""
        self.state.fault_injector.faults.clear()
        return {"faults": 0}

    def revoke_key(self, given: Json) -> Json:
        self.state.fault_injector.revoked.add(str(given["key"]))
        self.state.save_settings()
        return {"revoked": len(self.state.fault_injector.revoked)}

    def restrict_key(self, given: Json) -> Json:
        """Sets a restricted key's access: {"customers": "none", "products": "read"}."""
        key, access = str(given["key"]), dict(given["access"])
        found = parse_key(key)
        if found is None or not found.restricted:
            reject_if("`key` must be a restricted key, such as rk_test_sandbox.")
        if not all(granted in get_args(Access) for granted in access.values()):
            reject_if(f"Access must be one of {', '.join(get_args(Access))}.")
        self.state.fault_injector.access[key] = access
        self.state.save_settings()
        return {"key": key, "access": access}

    def extra_keys(self, given: Json) -> Json:
        self.state.fault_injector.extra_keys = bool(given.get("on", True))
        return {"extra_keys": self.state.fault_injector.extra_keys}

    def account(self, given: Json) -> Json:
        """Sets the name of the account, which customers see on the pages and their invoices."""
        name = str(given.get("name") or "").strip()
        reject_if("" if name else "Give the name of the account, such as name=Acme.")
        data = self.data_set_of(given.get("key", DEFAULT_KEY))
        set_account_name(data, name)
        self.state.commit(data)
        return {"account": data.account, "name": name}

    def api_version(self, given: Json) -> Json:
        """The account's default version: for its events, and for requests that name no version."""
        data = self.data_set_of(given.get("key", DEFAULT_KEY))
        set_default_version(data, str(given.get("version", API_VERSION)))
        self.state.commit(data)
        return {"account": data.account, "version": given.get("version", API_VERSION)}

    def delivery(self, given: Json) -> Json:
        """Changes the given parts of the delivery policy."""
        before = self.state.dispatcher.policy
        values = {each.name: getattr(before, each.name) for each in fields(DeliveryPolicy)}
        if given.get("retries") is not None:
            given = {**given, "retries": tuple(given["retries"])}
        policy = DeliveryPolicy(**(values | given))
        reject_if(policy.problem())
        self.state.dispatcher.set_policy(policy)
        return {"delivery": given}

    def roll_secret(self, given: Json) -> Json:
        """The old secret stays valid for `overlap_seconds`, by default one day."""
        data, endpoint = self.find("webhook_endpoint", given.get("endpoint"))
        overlap = number(given, "overlap_seconds", 86400)
        secret = roll_secret(data, endpoint, overlap)
        self.state.commit(data)
        return {"endpoint": endpoint["id"], "secret": secret}

    def authenticate(self, given: Json) -> Json:
        """Completes an intent in `requires_action`, as the customer: `confirmed` or `denied`."""
        intent_id = str(given.get("intent"))
        setup = intent_id.startswith("seti_")
        data, intent = self.find("setup_intent" if setup else "payment_intent", intent_id)
        decision = given.get("decision", "confirmed")
        if decision not in ("confirmed", "denied"):
            reject_if("`decision` must be confirmed or denied.")
        authenticate = (setup_intent_lifecycle if setup else payment_intent_lifecycle).authenticate
        return self.run_on_test_clock(
            data, intent, lambda: authenticate(data, intent, decision == "confirmed")
        )

    def outcome(self, given: Json) -> Json:
        """Makes the next payments behave as with a test card, whatever their card is."""
        data = self.data_set_of(given.get("key", DEFAULT_KEY))
        times, customer = int(given.get("times", 1)), given.get("customer")
        if times < 1:
            reject_if("`times` must be at least 1.")
        outcome = payment_outcomes.set_next_outcome(data, str(given.get("card")), times, customer)
        self.state.commit(data)
        return {"card": outcome["card"], "customer": customer, "times": times}

    def pay(self, given: Json) -> Json:
        """Pays as the checkout page does, with a sample buyer who fills in what the session asks
        for. Required authentication is confirmed by default."""
        data, session = self.find("checkout.session", given.get("session"))
        authentication = given.get("authentication", "confirmed")
        if authentication not in get_args(Authentication):
            reject_if(f"`authentication` must be one of {', '.join(get_args(Authentication))}.")
        return self.run_on_test_clock(
            data,
            session,
            lambda: pay(
                data,
                session,
                self.method(data, given.get("payment_method") or "pm_card_visa"),
                sample_buyer(data, session, given),
                authentication,
            ),
        )

    def method(self, data: DataSet, token: str) -> Json:
        """Test tokens work in live mode too, since the sandbox accepts no real cards."""
        return find_method(data, token, "payment_method", live_tokens=True)

    def refund_action(self, given: Json) -> Json:
        """A pending refund then waits for the customer: `requires_action`."""
        data, refund = self.find("refund", given.get("refund"))
        return self.run_on_test_clock(data, refund, lambda: require_action(data, refund))

    def renew(self, given: Json) -> Json:
        data, subscription = self.find("subscription", given.get("subscription"))
        outcome = given.get("outcome")
        if outcome is not None and outcome not in get_args(subscription_renewal.Outcome):
            reject_if(
                f"`outcome` must be one of {', '.join(get_args(subscription_renewal.Outcome))}."
            )
        return self.run_on_test_clock(
            data, subscription, lambda: subscription_renewal.renew(data, subscription, outcome)
        )

    async def seed(self, given: Json) -> Json:
        data = self.data_set_of(given.get("key", DEFAULT_KEY))
        counts = SeedCounts(**{k: v for k, v in given.items() if k != "key"})
        reject_if(counts.problem())
        created, start = 0, time.perf_counter()
        objects = Seeder(data, counts).objects()
        while batch := list(islice(objects, SEED_BATCH)):
            for obj in batch:
                data.put(obj)
            created += len(batch)
            self.state.commit(data)
            await asyncio.sleep(0)
        seconds = time.perf_counter() - start
        return {
            "objects": created,
            "seconds": round(seconds, 3),
            "per_second": round(created / seconds),
        }

    def data_set_of(self, key: object) -> DataSet:
        found = parse_key(str(key))
        if found is None:
            raise HTTPException(400, "`key` must be an API key, such as sk_test_sandbox.")
        return self.state.data_set(found.account, found.livemode)

    def find(self, kind: str, object_id: Any) -> tuple[DataSet, Json]:
        found = self.state.find(kind, str(object_id))
        if found is None:
            raise HTTPException(404, f"No such {kind}: {object_id!r}")
        return found

    def run_on_test_clock(self, data: DataSet, obj: Json, act: Callable[[], Json]) -> Json:
        """Runs `act` on the object's test clock, if any. A declined payment is saved too."""
        data.cause = Cause()
        try:
            with data.all_or_nothing(), data.on_clock(find_test_clock(data, obj, {})):
                return act()
        finally:
            self.state.commit(data)


def dump_lines(data_sets: list[DataSet]) -> Iterator[bytes]:
    """Leaves out internal records, which include signing secrets."""
    for data in data_sets:
        owner = {"account": data.account, "livemode": data.livemode}
        for kind, collection in list(data.collections.items()):
            if kind.startswith("_"):
                continue
            for obj in list(collection.rows.values()):
                yield orjson.dumps({**owner, "object": obj}, option=orjson.OPT_APPEND_NEWLINE)


def reject_if(problem: str | None) -> None:
    if problem:
        raise HTTPException(400, problem)


def number(given: Json, name: str, default: float | None = None) -> float:
    value = given.get(name, default)
    if not isinstance(value, int | float) or isinstance(value, bool) or value < 0:
        raise HTTPException(400, f"`{name}` must be a number of seconds, zero or more.")
    return value


def local_only(request: Request) -> None:
    """Refuse other machines; `LocalAccess` refuses other websites."""
    if request.client is None or request.client.host not in LOOPBACK:
        raise HTTPException(403, "The controls can only be used from this machine.")


def get_endpoint(act: Callable[[], Json]) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        local_only(request)
        return as_json(act())

    return endpoint


def post_endpoint(
    act: Callable[[Json], Json | Awaitable[Json]],
) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        local_only(request)
        body = await request.body()
        try:
            result = act(orjson.loads(body or b"{}"))
            return as_json(await result if isinstance(result, Awaitable) else result)
        except StripeError as error:
            return as_json(error.body(""), error.status)
        except (KeyError, TypeError, ValueError) as error:
            raise HTTPException(400, f"Invalid request: {error}") from error
        finally:
            # Lets deliveries and API requests run between many controls in a row.
            await asyncio.sleep(0)

    return endpoint


def as_json(body: Json, status: int = 200) -> Response:
    return Response(orjson.dumps(body), status, media_type="application/json")
