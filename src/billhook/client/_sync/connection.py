# Generated from _async/connection.py by `python src/billhook/client/generate.py`; don't edit.
"""Keys and the webhook endpoint."""

from __future__ import annotations

from collections.abc import Sequence

from billhook.client._sync.transport import SyncTransport
from billhook.client.request import Call, path
from billhook.models import Config, Connection, ConnectionResponse, EndpointEvents
from billhook.settings import Environment


class SyncConfig:
    """The Stripe keys of both environments."""

    def __init__(self, transport: SyncTransport) -> None:
        self._transport = transport

    def show(self) -> Config:
        """Which environments have a key; masked."""
        return (self._transport.send(Call("GET", path("config"), Config, repeatable=True))).model

    def set(
        self, environment: Environment, secret_key: str, *, replace_account: bool = True
    ) -> Config:
        """Set a Stripe key: check it with Stripe, store it, set up the endpoint and sync.

        Another account's key archives the rows of the previous account; with
        `replace_account=False` it is rejected instead: `ApiError` with the status 409.
        """
        call = Call(
            "PUT",
            path(environment, "config"),
            Config,
            body={"secretKey": secret_key, "replaceAccount": replace_account},
            repeatable=True,
            slow=True,
        )
        return (self._transport.send(call)).model

    def remove(self, environment: Environment) -> Config:
        """Remove the key and the managed webhook endpoint. Mirrored rows stay."""
        # Not repeated: the second time, the server would respond that there is none.
        call = Call("DELETE", path(environment, "config"), Config)
        return (self._transport.send(call)).model


class SyncWebhooks:
    """The webhook endpoint that Billhook manages in Stripe."""

    def __init__(self, transport: SyncTransport) -> None:
        self._transport = transport

    def configure(self, environment: Environment) -> Connection:
        """Create the endpoint, or repair it if its settings are not as they should be."""
        call = Call("POST", path(environment, "webhook"), ConnectionResponse, repeatable=True)
        return (self._transport.send(call)).model.connection

    def events(self, environment: Environment) -> EndpointEvents:
        """The event types that Billhook receives."""
        call = Call("GET", path(environment, "webhook", "events"), EndpointEvents, repeatable=True)
        return (self._transport.send(call)).model

    def add_events(self, environment: Environment, types: Sequence[str]) -> EndpointEvents:
        """Receive more event types, so that the app's triggers see them."""
        call = Call(
            "POST",
            path(environment, "webhook", "events"),
            EndpointEvents,
            body={"types": list(types)},
            repeatable=True,
        )
        return (self._transport.send(call)).model

    def remove_event(self, environment: Environment, event_type: str) -> EndpointEvents:
        """Stop receiving an event type that was added."""
        call = Call(
            "DELETE",
            path(environment, "webhook", "events", event_type),
            EndpointEvents,
            repeatable=True,
        )
        return (self._transport.send(call)).model
