"""The services that routes use: created once in `billhook.app`, passed through the application."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from billhook.access.api_keys import ApiKeys
from billhook.access.audit import AuditLog
from billhook.access.auth import Auth
from billhook.access.secrets import SecretStore
from billhook.account.connections import Connections
from billhook.account.stripe_keys import StripeKeys
from billhook.bodies import Bodies
from billhook.checkout.result import CheckoutResults
from billhook.ledger import Ledger
from billhook.metrics import Metrics
from billhook.mirror.history import History
from billhook.mirror.sync import Sync
from billhook.postgres import Database
from billhook.reports.public_catalog import PublicCatalogs
from billhook.settings import Settings
from billhook.stripe.gateway import Gateway
from billhook.stripe.signing_secrets import SigningSecrets


@dataclass(frozen=True, slots=True)
class Services:
    """The parts of a running application, at `app.state.services`.

    Attributes:
        stopping: set when the server is about to shut down.
    """

    settings: Settings
    database: Database
    ledger: Ledger
    secrets: SecretStore
    signing: SigningSecrets
    api_keys: ApiKeys
    audit_log: AuditLog
    gateway: Gateway
    auth: Auth
    connections: Connections
    stripe_keys: StripeKeys
    sync: Sync
    history: History
    checkout_results: CheckoutResults
    public_catalogs: PublicCatalogs
    bodies: Bodies
    metrics: Metrics
    stopping: asyncio.Event

    def stop(self) -> None:
        """The server is about to shut down: waiting requests get the current state."""
        self.stopping.set()
        self.checkout_results.stop()
        self.bodies.stop()


async def services_of(request: Request) -> Services:
    """The services of the application that a request came to.

    A coroutine although it awaits nothing: FastAPI runs plain functions in a thread, which costs
    more than the rest of the routing.
    """
    services = request.app.state.services
    assert isinstance(services, Services)
    return services


ServicesOf = Annotated[Services, Depends(services_of)]
