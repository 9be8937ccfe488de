"""The webhook endpoint that Billhook manages in Stripe (contract section 5, "Managed endpoint").

It is recognized by its metadata, as by InsForge's backend, and by its URL: one that points
elsewhere is never changed or deleted, even if this database created it, because the database may be
a copy. A change never causes a gap: the endpoint is updated in place, or a new one exists and its
secret is accepted before the old one is deleted.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import stripe
import structlog

from billhook.access.secrets import SecretStore, webhook_secret_name
from billhook.account.connections import Connections
from billhook.account.endpoint_events import received
from billhook.errors import BillhookError, PaymentConfigInvalid
from billhook.kinds.reading import objects
from billhook.postgres import Database
from billhook.settings import Environment
from billhook.stripe.gateway import Gateway, StripeObject

log = structlog.get_logger(__name__)

_MANAGED = {"managed_by": "insforge", "insforge_webhook": "stripe_payments"}
_PATH = "/v1/webhook_endpoints"
# Events that Stripe signed with the old secret just before the change may still be in transit.
_OLD_SECRET_LIFE = timedelta(hours=24)

LEFT_ALONE = (
    "If no server uses that URL any more, delete the endpoint in Stripe's Dashboard (Developers, "
    "Webhooks)."
)
"""What to do about an endpoint that points elsewhere."""


class WebhookEndpoint:
    """Maintains the managed endpoint of each environment.

    Args:
        public_url: the URL at which Stripe can reach this server; None if there is none.
    """

    def __init__(
        self,
        gateway: Gateway,
        secrets: SecretStore,
        connections: Connections,
        database: Database,
        public_url: str | None,
    ) -> None:
        self._gateway = gateway
        self._secrets = secrets
        self._connections = connections
        self._database = database
        self._public_url = public_url

    def url(self, environment: Environment) -> str | None:
        """The URL to which Stripe should send the events of `environment`."""
        return self._public_url and f"{self._public_url}{_path(environment)}"

    async def ensure(self, environment: Environment) -> str:
        """Create the endpoint for this server's URL, or fix it. Safe to repeat.

        Returns:
            Its id.

        Raises:
            PaymentConfigInvalid: there is no public URL, no key, or one without the permission.
            UpstreamFailure: Stripe refused: the limit of 16 endpoints, or a URL it can't reach.
        """
        url = self.url(environment)
        if url is None:
            raise PaymentConfigInvalid(
                "Stripe cannot reach this server: no public URL is set.",
                next_actions="Set BILLHOOK_PUBLIC_URL to a URL that Stripe can reach, or "
                "forward events yourself, for example with `stripe listen`.",
            )
        events = (await received(self._database, environment)).all
        wanted = _wanted(environment, url, events)
        known = await self._connections.get(environment)
        ours, others = _by_url(await self._managed(environment), url)
        has_secret = await self._secrets.get(webhook_secret_name(environment)) is not None
        standing = _with_id(ours, known.webhook_endpoint_id)
        if standing and has_secret and standing.get("api_version") == stripe.api_version:
            await self._update(environment, standing, wanted)
            endpoint_id: str = standing["id"]
        else:
            endpoint_id = await self._create(environment, wanted)
        await self._connections.endpoint(environment, endpoint_id, url)
        for superfluous in ours:
            if superfluous["id"] != endpoint_id:
                await self._delete(environment, superfluous["id"])
        if others:
            log.info(
                "the account has managed endpoints with other URLs; they are not changed",
                environment=environment,
                endpoints=[each["url"] for each in others],
            )
        if left := _with_id(others, known.webhook_endpoint_id):
            log.warning(
                "the previous webhook endpoint has another URL: it is left alone, and this URL has "
                "its own",
                environment=environment,
                endpoint=left["id"],
                url=left.get("url"),
                next_actions=LEFT_ALONE,
            )
        return endpoint_id

    async def remove(self, environment: Environment, *, key: str | None = None) -> None:
        """Delete the endpoint in Stripe (best effort), unless it points elsewhere.

        Args:
            key: of the previous account, if another one is already connected.
        """
        try:
            known = await self._connections.get(environment)
            ours, others = _by_url(await self._managed(environment, key=key), self.url(environment))
            for endpoint in ours:
                await self._delete(environment, endpoint["id"], key=key)
            if left := _with_id(others, known.webhook_endpoint_id):
                log.warning(
                    "the managed endpoint has another URL than this server: it is kept",
                    environment=environment,
                    endpoint=left["id"],
                    url=left.get("url"),
                    next_actions=LEFT_ALONE,
                )
        except BillhookError as error:
            log.warning(
                "the managed endpoint could not be deleted in Stripe",
                environment=environment,
                reason=error.message,
            )

    async def _managed(
        self, environment: Environment, *, key: str | None = None
    ) -> list[StripeObject]:
        page = await self._gateway.get(environment, _PATH, {"limit": 100}, key=key)
        return [each for each in objects(page.data) if is_managed(each, environment)]

    async def _update(
        self, environment: Environment, standing: StripeObject, wanted: dict[str, Any]
    ) -> None:
        as_it_is = (
            standing.get("url") == wanted["url"]
            and standing.get("status") == "enabled"
            and set(standing.get("enabled_events") or ()) == set(wanted["enabled_events"])
            and (standing.get("metadata") or {}).items() >= wanted["metadata"].items()
        )
        if not as_it_is:
            change = wanted | {"disabled": False}
            await self._gateway.post(environment, f"{_PATH}/{standing['id']}", change)
            log.info("webhook endpoint updated", environment=environment, url=wanted["url"])

    async def _create(self, environment: Environment, wanted: dict[str, Any]) -> str:
        asked = wanted | {"api_version": stripe.api_version}
        try:
            made = (await self._gateway.post(environment, _PATH, asked)).data
        except BillhookError as error:
            if "16" in error.message or "maximum" in error.message.lower():
                error.next_actions = (
                    "Stripe allows 16 webhook endpoints per account. Delete one that is no longer "
                    "used in Stripe's dashboard (Developers, Webhooks), and try again."
                )
            raise
        secret = made.get("secret")
        if not isinstance(secret, str):
            await self._delete(environment, made["id"])
            raise BillhookError("Stripe returned no signing secret for the new webhook endpoint.")
        await self._secrets.rotate(
            webhook_secret_name(environment), secret, keep_old=_OLD_SECRET_LIFE
        )
        log.info("webhook endpoint created", environment=environment, url=wanted["url"])
        endpoint_id: str = made["id"]
        return endpoint_id

    async def _delete(
        self, environment: Environment, endpoint_id: str, *, key: str | None = None
    ) -> None:
        try:
            await self._gateway.delete(environment, f"{_PATH}/{endpoint_id}", key=key)
        except BillhookError as error:
            if error.status != 404:
                log.warning(
                    "an old webhook endpoint could not be deleted",
                    environment=environment,
                    endpoint=endpoint_id,
                    reason=error.message,
                )


def _path(environment: Environment) -> str:
    return f"/api/webhooks/stripe/{environment}"


def _wanted(environment: Environment, url: str, events: list[str]) -> dict[str, Any]:
    return {
        "url": url,
        "enabled_events": events,
        "metadata": {
            **_MANAGED,
            "insforge_environment": environment,
            "insforge_endpoint_path": _path(environment),
            "insforge_endpoint_url": url,
        },
    }


def is_managed(endpoint: StripeObject, environment: Environment) -> bool:
    """Whether Billhook or InsForge created it, for this server or another."""
    metadata = endpoint.get("metadata") or {}
    return metadata.items() >= (_MANAGED | {"insforge_environment": environment}).items()


def _by_url(
    managed: list[StripeObject], url: str | None
) -> tuple[list[StripeObject], list[StripeObject]]:
    """This server's, and those of other deployments (such as staging) on the same account."""
    ours = [e for e in managed if e.get("url") == url]
    return ours, [e for e in managed if e not in ours]


def _with_id(endpoints: list[StripeObject], endpoint_id: str | None) -> StripeObject | None:
    return next((each for each in endpoints if each["id"] == endpoint_id), None)
