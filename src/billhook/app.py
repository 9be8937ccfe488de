"""The application: everything is built and wired together here."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from threading import Thread

import asyncpg
import structlog
from fastapi import FastAPI

from billhook import __version__, dashboard, logs
from billhook.access.api_keys import ApiKeys
from billhook.access.audit import AuditLog
from billhook.access.auth import Auth
from billhook.access.jwks import Jwks
from billhook.access.policies import NO_SUPERUSER, session_tables, superuser
from billhook.access.secrets import SecretStore
from billhook.account.connections import Connections
from billhook.account.endpoint import WebhookEndpoint
from billhook.account.stripe_keys import StripeKeys
from billhook.bodies import Bodies
from billhook.checkout.result import CheckoutResults
from billhook.errors import BillhookError
from billhook.http import (
    audit,
    business,
    catalog,
    charges,
    checkout,
    connections,
    cors,
    customers,
    docs,
    errors,
    events,
    granted,
    health,
    limits,
    lists,
    offers,
    openapi,
    overview,
    own,
    public_catalog,
    refresh,
    refunds,
    subscriptions,
    usage,
    webhooks,
)
from billhook.http import metrics as metrics_route
from billhook.ledger import Ledger
from billhook.metrics import Metrics
from billhook.mirror.history import History
from billhook.mirror.sync import Sync
from billhook.paths import EncodedSlashes
from billhook.postgres import Database
from billhook.postgres.migrate import migrate
from billhook.recovery import Recovery
from billhook.reports.public_catalog import PublicCatalogs
from billhook.services import Services
from billhook.settings import ENVIRONMENTS, Environment, Settings, load_settings
from billhook.stripe.gateway import Gateway
from billhook.stripe.governor import Governor
from billhook.stripe.signing_secrets import SigningSecrets

_log = structlog.get_logger(__name__)


def create_app(settings: Settings, *, pool: asyncpg.Pool[asyncpg.Record] | None = None) -> FastAPI:
    """Billhook's API as an ASGI application.

    At startup it migrates the database, stores the keys from the settings if there are none, and
    re-encrypts secrets of an older format. Startup raises `BillhookError` if the database cannot be
    reached or migrated. It does not change the process's logging, except that an unconfigured
    structlog shows no variables in tracebacks: call `billhook.logs.configure` for lines
    without secrets.

    Mounted in another application, it does not see the server start and stop: that application's
    lifespan must enter `running(app)`.

    Args:
        pool: an asyncpg pool for `settings.database_url`, created with `init=prepare_connection`,
            which the caller opens and closes. Without it, Billhook creates its own.
    """
    logs.show_no_variables()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with _services(settings, pool) as services:
            app.state.services = services
            dashboard.hand_over(pages, services)
            yield

    app = FastAPI(
        title="Billhook",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.router.routes.insert(0, webhooks.route)  # the busiest first: routes are tried in order
    for routes in (
        *(checkout, subscriptions, connections, catalog, public_catalog, lists, customers),
        *(own, offers, refunds, charges, usage, overview, business, events, audit),
        *(granted, refresh, health, metrics_route, docs),
    ):
        # include_router would rebuild every route for each application (0.1 s).
        app.router.routes += routes.router.routes
    pages = dashboard.install(app)
    openapi.install(app)
    errors.install(app)
    app.add_middleware(EncodedSlashes)
    app.add_middleware(errors.Unexpected)
    app.add_middleware(limits.Limits)
    cors.install(app)
    return app


@asynccontextmanager
async def running(app: FastAPI) -> AsyncIterator[None]:
    """Run the result of `create_app` while the block lasts: use it in the lifespan of the
    application that Billhook is mounted in."""
    async with app.router.lifespan_context(app):
        yield


def from_environment() -> FastAPI:
    """`create_app` with the settings of the environment: what `billhook serve` runs."""
    settings = load_settings()
    logs.configure(settings)
    _stop_with_supervisor()
    return create_app(settings)


def _stop_with_supervisor() -> None:
    """In a worker of `serve --workers`: shut down when the process that started it is gone."""
    if (supervisor := multiprocessing.parent_process()) is None:
        return

    def wait() -> None:
        supervisor.join()
        os.kill(os.getpid(), signal.SIGTERM)

    Thread(target=wait, daemon=True).start()


async def recover() -> None:
    """Run the recovery worker alone, until SIGTERM or until it is cancelled: what `billhook worker`
    does."""
    settings = load_settings(recovery=True)
    logs.configure(settings)
    stopping = asyncio.Event()
    async with _services(settings):
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
        await stopping.wait()


async def _warn_where_unguarded(database: Database) -> None:
    """Warn if callers may bill any subject, or the database user is a superuser. Problems here
    don't prevent the start."""
    with suppress(BillhookError, asyncpg.PostgresError):
        tables = [table.name for table in await session_tables(database) if not table.is_on]
        if tables:
            _log.warning(
                "row-level security is off: anyone may bill any subject, even without signing in",
                tables=tables,
                next_actions="Enable it and create policies; `billhook doctor` shows examples.",
            )
        if name := await superuser(database):
            _log.warning("DATABASE_URL names a superuser", user=name, next_actions=NO_SUPERUSER)


@asynccontextmanager
async def _services(
    settings: Settings, pool: asyncpg.Pool[asyncpg.Record] | None = None
) -> AsyncIterator[Services]:
    dsn = settings.database_url.get_secret_value()
    for name in await migrate(dsn):
        _log.info("migration applied", migration=name)
    async with AsyncExitStack() as at_end:
        database = Database(dsn, pool_size=settings.pool_size, pool=pool)
        await database.open()
        at_end.push_async_callback(database.close)
        metrics = Metrics()
        ledger = Ledger(database, metrics)
        at_end.push_async_callback(ledger.close)
        secrets = SecretStore(database, settings)
        api_keys = ApiKeys(database, secrets)
        rates: dict[Environment, float] = {
            "test": settings.stripe_test_rate,
            "live": settings.stripe_live_rate,
        }
        governor = Governor(settings.stripe_list_rate, rates, usage=settings.stripe_usage_rate)
        gateway = Gateway(secrets.stripe_key, settings.stripe_api_base, governor, metrics)
        at_end.push_async_callback(gateway.close)
        jwks = Jwks(settings.jwks_url) if settings.jwks_url else None
        if jwks is not None:
            at_end.push_async_callback(jwks.close)
        for notice in settings.notices:
            _log.warning("a setting has no effect", notice=notice)
        seeded = await _prepare(settings, secrets, api_keys)
        await _warn_where_unguarded(database)
        rows = Connections(database, secrets)
        sync = Sync(database, gateway, rows)
        at_end.push_async_callback(sync.close)
        history = History(database, gateway, automatic=settings.import_history)
        at_end.push_async_callback(history.close)
        endpoint = WebhookEndpoint(gateway, secrets, rows, database, settings.reachable_url)
        stripe_keys = StripeKeys(database, secrets, gateway, rows, endpoint, sync.run)
        at_end.push_async_callback(_stopped, _connecting(stripe_keys, seeded))
        checkout_results = CheckoutResults(ledger, gateway)
        at_end.push_async_callback(checkout_results.close)
        if settings.recovery:
            recovery = Recovery(ledger, secrets, gateway, sync, history, settings, metrics)
            at_end.push_async_callback(recovery.close)
            recovery.start()
        services = Services(
            settings=settings,
            database=database,
            ledger=ledger,
            secrets=secrets,
            signing=SigningSecrets(database, secrets, settings),
            api_keys=api_keys,
            audit_log=AuditLog(database),
            gateway=gateway,
            auth=Auth(settings, api_keys, jwks),
            connections=rows,
            stripe_keys=stripe_keys,
            sync=sync,
            history=history,
            checkout_results=checkout_results,
            public_catalogs=PublicCatalogs(database),
            bodies=Bodies(),
            metrics=metrics,
            stopping=asyncio.Event(),
        )
        at_end.callback(services.stop)  # an application's server has not configured this
        yield services


def _connecting(stripe_keys: StripeKeys, seeded: list[Environment]) -> asyncio.Task[None]:
    """Set up the connections while the server already responds: Stripe may be slow."""

    async def work() -> None:
        for environment in ENVIRONMENTS:
            await stripe_keys.prepare(environment, seeded=environment in seeded)

    return asyncio.create_task(work())


async def _stopped(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def _prepare(
    settings: Settings, secrets: SecretStore, api_keys: ApiKeys
) -> list[Environment]:
    """Store the keys from the settings and re-encrypt older formats (contract section 4). Returns
    the environments whose key is new."""
    result = await secrets.reencrypt_all()
    if result.reencrypted:
        _log.info("secrets re-encrypted", count=result.reencrypted)
    for name in result.unreadable:
        _log.warning("a stored secret cannot be read with this ENCRYPTION_KEY", secret=name)
    await api_keys.seed(settings)
    return await secrets.seed()
