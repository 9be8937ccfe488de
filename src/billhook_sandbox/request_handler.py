"""The HTTP surface of `/v1`: key, idempotency, operation, answer."""

import base64
from email.utils import formatdate
from typing import NamedTuple

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from billhook_sandbox import idempotency
from billhook_sandbox.api_versions import accept, check_version, default_version, render
from billhook_sandbox.clock_lookup import clock_of
from billhook_sandbox.connection_abort import cut
from billhook_sandbox.errors import InvalidRequest, StripeError, Unauthorized, unknown_route
from billhook_sandbox.expansion import expand
from billhook_sandbox.fault_injection import Fault
from billhook_sandbox.idempotency import Answer, Reservation
from billhook_sandbox.keys import masked, parse_key
from billhook_sandbox.object_validation import validate_response
from billhook_sandbox.options import API_VERSION
from billhook_sandbox.params import decode
from billhook_sandbox.routing import Call, Match, Routes
from billhook_sandbox.sdk_params import read_params
from billhook_sandbox.state import SandboxState
from billhook_sandbox.store import Cause, DataSet, Json


class ConnectionCut(Exception):
    """The client is to see its connection end instead of an answer."""


class Incoming(NamedTuple):
    request: Request
    id: str
    version: str
    params: Json

    @property
    def path(self) -> str:
        return self.request.url.path

    @property
    def idempotency_key(self) -> str | None:
        """Only a POST may carry one; others ignore it (stripe-facts 37)."""
        found = self.request.headers.get("idempotency-key")
        return found if self.request.method == "POST" else None


class RequestHandler:
    def __init__(self, state: SandboxState, routes: Routes) -> None:
        self.state = state
        self.routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        request_id = self.state.ids.new("request")
        try:
            answer = await self.answer(request, request_id)
        except ConnectionCut:
            await cut(scope, receive)
            return
        except StripeError as error:
            answer = self.failure(error, request_id)
        headers = {
            "Request-Id": request_id,
            "Stripe-Version": request.headers.get("stripe-version", API_VERSION),
            # Readers order what they fetch by this header, so it follows the sandbox's clock.
            "Date": formatdate(self.state.clock.now(), usegmt=True),
        }
        if answer.replayed:
            headers["Idempotent-Replayed"] = "true"
        if answer.status == 409:
            headers["Stripe-Should-Retry"] = "true"
        response = Response(answer.body, answer.status, {**headers, **answer.headers}, JSON)
        await response(scope, receive, send)

    async def answer(self, request: Request, request_id: str) -> Answer:
        if not request.url.path.startswith("/v1/"):
            raise unknown_route(request.method, request.url.path)
        data = self.authenticate(request)
        encoded = request.url.query
        if request.method == "POST":
            encoded = (await request.body()).decode()
        version = check_version(request.headers.get("stripe-version", default_version(data)))
        params = accept(version, request.method, request.url.path, decode(encoded))
        incoming = Incoming(request, request_id, version, params)
        fault = self.state.fault_injector.fault_for(request.method, incoming.path)
        if fault and fault.fails and not fault.after_effect:
            await self.state.fault_injector.delay(incoming.path, fault)
            return faulty(fault)
        match = self.routes.match(request.method, incoming.path)
        ticket = None
        if incoming.idempotency_key:
            found = idempotency.begin(
                data, incoming.idempotency_key, incoming.path, incoming.params
            )
            if isinstance(found, Answer):
                return found
            ticket = found
        try:
            answer = self.execute(data, match, incoming, ticket, fault)
            # The effect is there before the answer: a client that gave up must find it.
            await self.state.fault_injector.delay(incoming.path, fault)
            return faulty(fault) if fault and fault.fails else answer
        finally:
            if ticket:
                ticket.release()

    def execute(
        self,
        data: DataSet,
        match: Match,
        incoming: Incoming,
        ticket: Reservation | None,
        fault: Fault | None,
    ) -> Answer:
        """Without a pause inside: one request after the other, each whole."""
        data.cause = Cause(incoming.id, incoming.idempotency_key)
        try:
            params = read_params(match.sdk, match.operation.form, incoming.params)
            call = Call(data, params, match.path, self.site(incoming.request))
            with data.on_clock(clock_of(data, params, match.path)):
                done = match.operation.answer(call)
            body = expand(data, done, params.get("expand", []))
            validate_response(match.sdk, body, data.validated)
            shown = self.state.fault_injector.with_requested_extras(
                render(data, body, incoming.version)
            )
            answer, stored = Answer(200, orjson.dumps(shown)), True
        except StripeError as error:
            answer, stored = self.failure(error, incoming.id), error.stored
        if ticket and stored:
            keep_fault = fault and fault.stored and not fault.cut
            ticket.store(faulty(fault) if fault and keep_fault else answer)
        data.cause = Cause()
        self.state.commit(data)
        return answer

    def failure(self, error: StripeError, request_id: str) -> Answer:
        log_url = f"https://dashboard.stripe.com/test/logs/{request_id}"
        return Answer(error.status, orjson.dumps(error.body(log_url)))

    def site(self, request: Request) -> str:
        address = self.state.options.public_url or str(request.base_url)
        return address.rstrip("/")

    def authenticate(self, request: Request) -> DataSet:
        key = read_key(request.headers.get("authorization", ""))
        if not key:
            raise Unauthorized(
                "You did not provide an API key. You need to provide your API key in the "
                "Authorization header, using Bearer auth (e.g. 'Authorization: Bearer "
                "YOUR_SECRET_KEY'). See https://stripe.com/docs/api#authentication for details."
            )
        found = parse_key(key)
        if found is None or key in self.state.fault_injector.revoked:
            raise Unauthorized(f"Invalid API Key provided: {masked(key)}")
        if found.livemode and not self.state.options.allow_live:
            raise Unauthorized(
                f"This is the Billhook sandbox, and {masked(key)} is a LIVE key. Never send one "
                "here. To try live mode with an invented key, start the sandbox with --allow-live."
            )
        if found.restricted:
            self.state.fault_injector.check_access(key, request.method, request.url.path)
        return self.state.data_set(found.account, found.livemode)


JSON = "application/json"


def faulty(fault: Fault) -> Answer:
    if fault.status is None or fault.cut:
        raise ConnectionCut
    return Answer(fault.status, orjson.dumps(fault.answer()), headers=fault.all_headers())


def read_key(header: str) -> str:
    """Bearer, or Basic with the key as the user's name."""
    scheme, _, credentials = header.partition(" ")
    if scheme.lower() == "bearer":
        return credentials.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(credentials, validate=True).decode().partition(":")[0]
        except ValueError as error:
            raise InvalidRequest("Invalid Basic authorization.", status=401) from error
    return ""
