"""Handles a request to `/v1` or `/v2`: authentication, idempotency, the operation, the response."""

import base64
from email.utils import formatdate
from typing import NamedTuple

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from billhook_sandbox import idempotency
from billhook_sandbox.api.meter_event_streams import STREAM, data_set_of_token
from billhook_sandbox.api_versions import check_version, default_version, render, to_current_params
from billhook_sandbox.clock_lookup import find_test_clock
from billhook_sandbox.connection_abort import abort_connection
from billhook_sandbox.errors import InvalidRequest, StripeError, Unauthorized, unknown_route
from billhook_sandbox.expansion import expand
from billhook_sandbox.fault_injection import Fault
from billhook_sandbox.idempotency import ApiResponse, Reservation
from billhook_sandbox.json_params import decode_json
from billhook_sandbox.keys import masked, parse_key
from billhook_sandbox.object_validation import validate_response
from billhook_sandbox.options import API_VERSION
from billhook_sandbox.params import decode
from billhook_sandbox.routing import Call, Match, Routes, path_of
from billhook_sandbox.sdk_params import read_params
from billhook_sandbox.state import SandboxState
from billhook_sandbox.store import Cause, DataSet, Json


class AbortConnection(Exception):
    """A fault closes the client's connection without a response."""


class Incoming(NamedTuple):
    request: Request
    id: str
    version: str
    params: Json

    @property
    def path(self) -> str:
        return path_of(self.request)

    @property
    def idempotency_key(self) -> str | None:
        """Only for POST requests; others ignore the header (stripe-facts 37)."""
        key = self.request.headers.get("idempotency-key")
        return key if self.request.method == "POST" else None


class RequestHandler:
    def __init__(self, state: SandboxState, routes: Routes) -> None:
        self.state = state
        self.routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        request_id = self.state.ids.new("request")
        try:
            api_response = await self.respond(request, request_id)
        except AbortConnection:
            await abort_connection(scope, receive)
            return
        except StripeError as error:
            api_response = self.error_response(error, request_id)
        headers = {
            "Request-Id": request_id,
            "Stripe-Version": request.headers.get("stripe-version", API_VERSION),
            # Clients version fetched objects by this header, so it follows the sandbox's clock.
            "Date": formatdate(self.state.clock.now(), usegmt=True),
        }
        if api_response.replayed:
            headers["Idempotent-Replayed"] = "true"
        if api_response.status == 409:
            headers["Stripe-Should-Retry"] = "true"
        headers |= api_response.headers
        response = Response(api_response.body, api_response.status, headers, JSON)
        await response(scope, receive, send)

    async def respond(self, request: Request, request_id: str) -> ApiResponse:
        path = path_of(request)
        if not path.startswith(("/v1/", "/v2/")):
            raise unknown_route(request.method, path)
        data = self.authenticate(request)
        version = check_version(request.headers.get("stripe-version", default_version(data)))
        given = await read_body(request, path)
        params = to_current_params(version, request.method, path, given)
        incoming = Incoming(request, request_id, version, params)
        fault = self.state.fault_injector.fault_for(request.method, incoming.path)
        if fault and not fault.has_effect and (fault.cut or not fault.stored):
            await self.state.fault_injector.delay(incoming.path, fault)
            return fault_response(fault)
        match = self.routes.match(request.method, incoming.path)
        reservation = None
        if incoming.idempotency_key:
            found = idempotency.begin(
                data, incoming.idempotency_key, incoming.path, incoming.params
            )
            if isinstance(found, ApiResponse):
                return found
            reservation = found
        try:
            response = self.execute(data, match, incoming, reservation, fault)
            # The effect precedes the delay: a client that times out must find it done.
            await self.state.fault_injector.delay(incoming.path, fault)
            return fault_response(fault) if fault and fault.fails else response
        finally:
            if reservation:
                reservation.release()

    def execute(
        self,
        data: DataSet,
        match: Match,
        incoming: Incoming,
        reservation: Reservation | None,
        fault: Fault | None,
    ) -> ApiResponse:
        """Never awaits, so that requests are executed one after the other."""
        if fault and not fault.has_effect:
            if reservation:
                reservation.store(fault_response(fault))
                self.state.commit(data)
            return fault_response(fault)
        data.cause = Cause(incoming.id, incoming.idempotency_key)
        try:
            with data.all_or_nothing():
                body = self.result(data, match, incoming)
            response, is_stored = ApiResponse(200, body), True
        except StripeError as error:
            response, is_stored = self.error_response(error, incoming.id), error.stored
        if reservation and is_stored:
            store_fault = fault and fault.stored and not fault.cut
            reservation.store(fault_response(fault) if fault and store_fault else response)
        data.cause = Cause()
        self.state.commit(data)
        return response

    def result(self, data: DataSet, match: Match, incoming: Incoming) -> bytes:
        params = read_params(match.sdk, match.operation.form, incoming.params)
        call = Call(data, params, match.path, self.base_url(incoming.request))
        with data.on_clock(find_test_clock(data, params, match.path)):
            found = match.operation.handler(call)
        body = expand(data, found, params.get("expand", []))
        validate_response(match.sdk, body, data.validated)
        rendered = render(data, body, incoming.version)
        return orjson.dumps(self.state.fault_injector.add_extra_keys(rendered))

    def error_response(self, error: StripeError, request_id: str) -> ApiResponse:
        log_url = f"https://dashboard.stripe.com/test/logs/{request_id}"
        return ApiResponse(error.status, orjson.dumps(error.body(log_url)))

    def base_url(self, request: Request) -> str:
        url = self.state.options.public_url or str(request.base_url)
        return url.rstrip("/")

    def authenticate(self, request: Request) -> DataSet:
        key = read_key(request.headers.get("authorization", ""))
        if path_of(request) == STREAM:
            return data_set_of_token(list(self.state.data_sets.values()), key)
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
                f"This is the Billhook sandbox, and {masked(key)} is a LIVE key. Never send a real "
                "live key here. To test live mode with a made-up key, start the sandbox with "
                "--allow-live."
            )
        if found.restricted:
            self.state.fault_injector.check_access(key, request.method, path_of(request))
        return self.state.data_set(found.account, found.livemode)


async def read_body(request: Request, path: str) -> Json:
    """The decoded parameters: JSON for `/v2`, else Stripe's form encoding."""
    if request.method != "POST":
        return decode(request.url.query)
    body = await request.body()
    return decode_json(body) if path.startswith("/v2/") else decode(body.decode())


JSON = "application/json"


def fault_response(fault: Fault) -> ApiResponse:
    if fault.status is None or fault.cut:
        raise AbortConnection
    return ApiResponse(
        fault.status, orjson.dumps(fault.response_body()), headers=fault.all_headers()
    )


def read_key(header: str) -> str:
    """Bearer authentication, or Basic with the key as the user name."""
    scheme, _, credentials = header.partition(" ")
    if scheme.lower() == "bearer":
        return credentials.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(credentials, validate=True).decode().partition(":")[0]
        except ValueError as error:
            raise InvalidRequest("Invalid Basic authorization.", status=401) from error
    return ""
