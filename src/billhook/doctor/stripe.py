"""Checks with Stripe: the key, the webhook endpoint, missed events, the time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import stripe

from billhook.access.secrets import SecretStore, stripe_key_name, webhook_secret_name
from billhook.account.endpoint import LEFT_ALONE, is_managed
from billhook.account.endpoint_events import Received, received
from billhook.doctor.finding import Finding, State, failure
from billhook.errors import BillhookError, SecretUnreadable
from billhook.kinds.reading import objects
from billhook.mirror import event_list
from billhook.models import Connection
from billhook.postgres import Database
from billhook.settings import STRIPE_API_BASE, Environment, Settings
from billhook.stripe.gateway import Gateway, StripeObject
from billhook.stripe.signature import TOLERANCE
from billhook.stripe.signing_secrets import owners_of

_GRACE = timedelta(minutes=5)
"""A newer event may still be in transit."""
_SUSPICIOUS = 30.0  # seconds that the clocks may differ without a warning

_CONNECTED = "SELECT since FROM billhook.pulls WHERE environment = $1"
_KNOWN = """
SELECT provider_event_id FROM payments.webhook_events
WHERE provider = 'stripe' AND environment = $1 AND provider_event_id = ANY ($2::text[])
"""


async def key(
    gateway: Gateway, secrets: SecretStore, environment: Environment, connection: Connection
) -> Finding:
    """Whether the stored key belongs to the mirrored account."""
    try:
        if await secrets.stripe_key(environment) is None:
            return no_key(environment)
        account = (await gateway.account(environment)).data
    except BillhookError as error:
        return failure("stripe key", error, environment)
    if connection.account_id not in (None, account.get("id")):
        return Finding(
            check="stripe key",
            environment=environment,
            state="broken",
            message=f"The key is for {account.get('id')}, the mirror for {connection.account_id}.",
            next_actions=f"Set the key again: billhook config set --environment {environment}",
        )
    message = f"Stripe accepts the key {connection.masked_key} ({account.get('id')})."
    return Finding(check="stripe key", environment=environment, state="ok", message=message)


async def key_of_settings(
    gateway: Gateway, settings: Settings, environment: Environment
) -> Finding | None:
    """Whether Stripe accepts the key of the settings, which the next start of the server stores;
    None if the settings have none."""
    value = settings.stripe_secret_key(environment)
    if value is None:
        return None
    name = stripe_key_name(environment)
    try:
        account = (await gateway.account(environment, key=value)).data
    except BillhookError as error:
        return failure("stripe key", error, environment)
    return Finding(
        check="stripe key",
        environment=environment,
        state="ok",
        message=f"Stripe accepts {name} ({account.get('id')}). The next start of the server stores "
        "it.",
    )


def key_not_stored(environment: Environment) -> Finding:
    """The settings have a key, which the server does not store (`SecretStore.seed`)."""
    return Finding(
        check="stripe key",
        environment=environment,
        state="skipped",
        message="No Stripe key is in use. The server does not store "
        f"{stripe_key_name(environment)}, because the stored key was removed or has expired.",
        next_actions=f"To use it: billhook config set --environment {environment}",
    )


def no_key(environment: Environment) -> Finding:
    """An environment that is not in use, which is fine."""
    return Finding(
        check="stripe key",
        environment=environment,
        state="skipped",
        message="No Stripe key is set.",
        next_actions=f"To use it: billhook config set --environment {environment}",
    )


class Endpoint:
    """The checks of one environment's webhook endpoint."""

    def __init__(
        self,
        gateway: Gateway,
        database: Database,
        secrets: SecretStore,
        settings: Settings,
        environment: Environment,
        connection: Connection,
    ) -> None:
        self._database = database
        self._gateway = gateway
        self._secrets = secrets
        self._settings = settings
        self._environment = environment
        self._connection = connection
        self._path = f"/api/webhooks/stripe/{environment}"
        self._configure = f"billhook webhooks configure --environment {environment}"

    async def findings(self) -> AsyncIterator[Finding]:
        """Whether Stripe sends the needed events to this server, and whether they are accepted."""
        try:
            endpoints = await self._at_stripe()
        except BillhookError as error:
            yield await self._signing()
            yield failure("webhook endpoint", error, self._environment)
            return
        managed = self._connection.webhook_endpoint_id
        endpoint = self._ours(endpoints)
        if endpoint is None and managed is None and self._settings.reachable_url is None:
            yield self._found("ok", "Not needed: events are pulled.", check="signing secret")
            yield self._pulled()
            return
        yield await self._signing()
        if endpoint is None:
            yield self._none()
            return
        yield self._judged(endpoint, await received(self._database, self._environment))
        if others := self._others(endpoints, endpoint):
            named = ", ".join(f"{each['id']} ({each.get('url')})" for each in others)
            yield self._found(
                "warning",
                f"The account has managed endpoints with other URLs: {named}.",
                LEFT_ALONE,
                check="other endpoints",
            )

    def _pulled(self) -> Finding:
        return self._found(
            "ok",
            "No public URL is set, so events are pulled from Stripe's list every "
            f"{self._settings.pull_every:g} seconds.",
            "To receive them immediately: set BILLHOOK_PUBLIC_URL to a URL that Stripe can "
            f"reach, then: {self._configure}",
        )

    async def _signing(self) -> Finding:
        name = webhook_secret_name(self._environment)
        by_hand = self._settings.stripe_webhook_secrets(self._environment)
        try:
            stored = await self._secrets.get_with_old(name)
        except SecretUnreadable as error:
            return failure("signing secret", error, self._environment)
        if not stored and not by_hand:
            return self._found(
                "broken",
                "There is no signing secret, so every event is rejected.",
                f"{self._configure}, or set {name} for an endpoint that you manage.",
                check="signing secret",
            )
        owners = await owners_of(
            self._database, self._environment, [*by_hand, *(each.value for each in stored)]
        )
        connected = self._connection.account_id
        others = [each for each in owners.values() if each not in (None, connected)]
        count = len(owners) - len(others)
        accepted = "1 signing secret is" if count == 1 else f"{count} signing secrets are"
        sources = f"{len(by_hand)} from {name}, {len(stored)} stored"
        message = f"{accepted} accepted ({sources})."
        if not others:
            return self._found("ok", message, check="signing secret")
        whose = ", ".join(sorted({str(each) for each in others}))
        return self._found(
            "warning" if count else "broken",
            f"{message} {len(others)} signed events of {whose}; deliveries with "
            f"{'it' if len(others) == 1 else 'them'} are refused while {connected} is connected.",
            f"Set {name} to the signing secret of the endpoint in {connected}. If that is the one "
            "that is set, roll it in Stripe first. Disable endpoints of other accounts.",
            check="signing secret",
        )

    async def _at_stripe(self) -> list[StripeObject]:
        listed = await self._gateway.get(self._environment, "/v1/webhook_endpoints", {"limit": 100})
        return list(objects(listed.data))

    def _ours(self, endpoints: list[StripeObject]) -> StripeObject | None:
        """The managed endpoint, else another one that points to this environment."""
        managed = self._connection.webhook_endpoint_id
        if managed is not None:
            return next((each for each in endpoints if each["id"] == managed), None)
        ours = (e for e in endpoints if str(e.get("url", "")).endswith(self._path))
        return next(ours, None)

    def _others(self, endpoints: list[StripeObject], ours: StripeObject) -> list[StripeObject]:
        """Enabled endpoints of other deployments, or of this one before its URL changed."""
        return [
            each
            for each in endpoints
            if is_managed(each, self._environment)
            and each.get("status") == "enabled"
            and each.get("url") != ours.get("url")
        ]

    def _none(self) -> Finding:
        if self._connection.webhook_endpoint_id is not None:
            message = (
                f"The endpoint {self._connection.webhook_endpoint_id} no longer exists in Stripe."
            )
            return self._found("broken", message, self._configure)
        return self._found("broken", "Stripe has no endpoint that points here.", self._configure)

    def _judged(self, endpoint: dict[str, Any], types: Received) -> Finding:
        name = endpoint["id"]
        public = self._settings.reachable_url
        expected = public and f"{public}{self._path}"
        events = set(endpoint.get("enabled_events") or ())
        missing = () if "*" in events else tuple(each for each in types.all if each not in events)
        if endpoint.get("status") != "enabled":
            return self._found("broken", f"Stripe has disabled {name}.", self._configure)
        if expected and endpoint.get("url") != expected:
            message = f"{name} points to {endpoint.get('url')}, not to {expected}."
            return self._found(
                "broken", message, f"To create one for this URL: {self._configure}\n{LEFT_ALONE}"
            )
        if missing:
            message = f"{name} does not receive {', '.join(missing)}."
            return self._found("broken", message, self._configure)
        if endpoint.get("api_version") not in (None, stripe.api_version):
            message = f"{name} uses API version {endpoint['api_version']}."
            return self._found("warning", message, self._configure)
        return self._found("ok", f"{name} is enabled and points to {endpoint.get('url')}.")

    def _found(
        self,
        state: State,
        message: str,
        next_actions: str | None = None,
        *,
        check: str = "webhook endpoint",
    ) -> Finding:
        return Finding(
            check=check,
            environment=self._environment,
            state=state,
            message=message,
            next_actions=next_actions,
        )


async def missed(
    gateway: Gateway,
    database: Database,
    environment: Environment,
    connection: Connection,
    now: datetime,
) -> Finding:
    """Whether Stripe lists events that never arrived, among its last 100."""
    try:
        page = (await gateway.get(environment, "/v1/events", {"limit": 100})).data
    except BillhookError as error:
        return failure("missed events", error, environment)
    async with database.connection() as open_connection:
        connected = await open_connection.fetchval(_CONNECTED, environment)
    # Events from before the endpoint existed, or from before the account was connected, are not
    # expected.
    since = connection.webhook_configured_at or connected or datetime.fromtimestamp(0, UTC)
    types = await received(database, environment)
    due = {
        event["id"]: event["type"]
        for event in event_list.applicable(environment, types, objects(page))
        if types.since(event["type"], since)
        < datetime.fromtimestamp(event["created"], UTC)
        < now - _GRACE
    }
    async with database.connection() as open_connection:
        rows = await open_connection.fetch(_KNOWN, environment, list(due))
    gone = [name for name in due if name not in {row["provider_event_id"] for row in rows}]
    if not gone:
        message = "All relevant events of Stripe's last 100 are recorded."
        return Finding(check="missed events", environment=environment, state="ok", message=message)
    return Finding(
        check="missed events",
        environment=environment,
        state="broken",
        message=f"{len(gone)} of Stripe's last {len(due)} events never arrived, the newest "
        f"{gone[0]} ({due[gone[0]]}).",
        next_actions="Stripe's Dashboard (Developers, Webhooks) shows why they could not be "
        "delivered, and can resend them. To update the mirror until then: "
        f"billhook sync --environment {environment}",
    )


async def stripe_time(api_base: str) -> datetime | None:
    """The time in Stripe's responses; a response to a request without a key has it, too."""
    try:
        async with httpx.AsyncClient(timeout=5) as http:
            answer = await http.get(f"{api_base}/v1/account")
        return parsedate_to_datetime(answer.headers["date"])
    except (httpx.HTTPError, KeyError, ValueError):
        return None


def clock(theirs: datetime | None, ours: datetime, api_base: str = STRIPE_API_BASE) -> Finding:
    """Whether the clock is accurate enough for Stripe's signatures.

    Args:
        theirs: Stripe's time; None if it could not be read.
        ours: the time where Billhook runs, at the same moment.
        api_base: the URL that was requested.
    """
    if theirs is None:
        return Finding(
            check="clock",
            state="warning",
            message=f"The time could not be read from Stripe at {api_base}.",
            next_actions="Check that this machine can reach it. If the server has another "
            "STRIPE_API_BASE, set it here as well.",
        )
    apart = abs((ours - theirs).total_seconds())
    if apart < _SUSPICIOUS:
        return Finding(check="clock", state="ok", message="The clock agrees with Stripe's.")
    return Finding(
        check="clock",
        state="broken" if apart >= TOLERANCE else "warning",
        message=f"The clock differs from Stripe's by {apart:.0f} seconds; from {TOLERANCE} on, "
        "every webhook is rejected.",
        next_actions="Synchronize the server's clock with NTP, for example: timedatectl set-ntp "
        "true",
    )
