"""The application: everything is built here and handed in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from billhook import __version__, logs
from billhook.api_keys import ApiKeys
from billhook.auth import Auth
from billhook.db import Database
from billhook.db.migrate import migrate
from billhook.http import checkout, cors, docs, errors, health, webhooks
from billhook.http.services import Services
from billhook.jwks import Jwks
from billhook.secrets import SecretStore
from billhook.settings import Settings, load_settings
from billhook.stripe.gateway import Gateway
from billhook.stripe.signing import SigningSecrets


def create_app(settings: Settings) -> FastAPI:
    """Billhook's API as an ASGI application.

    At start it brings the database up to date, stores the keys that the settings bring where none
    is stored, and re-encrypts secrets of an older format. It raises `BillhookError` then when the
    database cannot be reached or migrated.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with _services(settings) as services:
            app.state.services = services
            yield

    app = FastAPI(title="Billhook", version=__version__, docs_url=None, lifespan=lifespan)
    for routes in (checkout, webhooks, health):
        app.include_router(routes.router)
    docs.install(app)
    errors.install(app)
    app.add_middleware(errors.Unexpected)
    cors.install(app)
    return app


def from_environment() -> FastAPI:
    """`create_app` with the settings of the environment: what `billhook serve` runs."""
    settings = load_settings()
    logs.configure(settings)
    return create_app(settings)


@asynccontextmanager
async def _services(settings: Settings) -> AsyncIterator[Services]:
    dsn = settings.database_url.get_secret_value()
    await migrate(dsn)
    database = Database(dsn, pool_size=settings.pool_size)
    await database.open()
    store = SecretStore(database, settings)
    await store.reencrypt_all()
    await store.seed()
    api_keys = ApiKeys(database, store)
    await api_keys.seed(settings)
    gateway = Gateway(store.stripe_key, settings.stripe_api_base)
    jwks = Jwks(settings.jwks_url) if settings.jwks_url else None
    try:
        yield Services(
            database=database,
            gateway=gateway,
            auth=Auth(settings, api_keys, jwks),
            signing=SigningSecrets(store, settings),
        )
    finally:
        if jwks is not None:
            await jwks.close()
        await gateway.close()
        await database.close()
