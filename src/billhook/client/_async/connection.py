"""Keys and the webhook endpoint."""

from __future__ import annotations

from billhook.client._async.transport import AsyncTransport
from billhook.client.request import Call, path
from billhook.models import Config, Connection, ConnectionResponse
from billhook.settings import Environment


class AsyncConfig:
    """The Stripe keys of both environments."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def show(self) -> Config:
        """Which environments have a key; masked."""
        return (
            await self._transport.send(Call("GET", path("config"), Config, repeatable=True))
        ).model

    async def set(
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
        return (await self._transport.send(call)).model

    async def remove(self, environment: Environment) -> Config:
        """Remove the key and the managed webhook endpoint. Mirrored rows stay."""
        # Not repeated: the second time, the server would respond that there is none.
        call = Call("DELETE", path(environment, "config"), Config)
        return (await self._transport.send(call)).model


class AsyncWebhooks:
    """The webhook endpoint that Billhook manages in Stripe."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def configure(self, environment: Environment) -> Connection:
        """Create the endpoint, or repair it if its settings are not as they should be."""
        call = Call("POST", path(environment, "webhook"), ConnectionResponse, repeatable=True)
        return (await self._transport.send(call)).model.connection
