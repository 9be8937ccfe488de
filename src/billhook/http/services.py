"""What the routes work with: built once in `billhook.app`, handed in through the application."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from billhook.auth import Auth
from billhook.db import Database
from billhook.stripe.gateway import Gateway
from billhook.stripe.signing import SigningSecrets


@dataclass(frozen=True, slots=True)
class Services:
    database: Database
    gateway: Gateway
    auth: Auth
    signing: SigningSecrets


def _services(request: Request) -> Services:
    services = request.app.state.services
    assert isinstance(services, Services)
    return services


ServicesOf = Annotated[Services, Depends(_services)]
