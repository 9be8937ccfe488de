"""`billhook doctor`: checks what a support engineer would ask about first.

With the settings of the server, it checks the database and Stripe; with a URL and a key, it uses
the API; with both, it does both.
"""

from __future__ import annotations

from datetime import datetime

import asyncpg

from billhook.access.api_keys import ApiKeys
from billhook.access.secrets import SecretStore
from billhook.account.connections import Connections
from billhook.client import AsyncClient
from billhook.doctor import database as in_database
from billhook.doctor import server as at_server
from billhook.doctor import settings as at_settings
from billhook.doctor import stripe as at_stripe
from billhook.doctor.finding import Finding, Report, failure, report
from billhook.doctor.usage import usage
from billhook.errors import DatabaseUnavailable
from billhook.postgres import Database
from billhook.settings import ENVIRONMENTS, STRIPE_API_BASE, Environment, Settings
from billhook.stripe.gateway import Gateway
from billhook.usage.state import usage_state

__all__ = ["Finding", "Report", "examine"]


async def examine(
    settings: Settings | None,
    client: AsyncClient | None,
    now: datetime,
    *,
    api_base: str | None = None,
) -> Report:
    """Check everything that can be checked from here.

    Args:
        settings: the server's, with its database; None if they are not available.
        client: for the running server; None if it is not known.
        now: the time of this machine.
        api_base: the server's STRIPE_API_BASE, if the settings are not available.
    """
    api_base = settings.stripe_api_base if settings else api_base or STRIPE_API_BASE
    found: list[Finding] = []
    clock = status = None
    # Clocks are compared first, because the other checks may take a while.
    if settings is not None:
        clock = at_stripe.clock(await at_stripe.stripe_time(api_base), now, api_base)
    if client is not None:
        server, time_there = await at_server.answers(client)
        found.append(server)
        if time_there is not None:
            theirs = await at_stripe.stripe_time(api_base)
            clock = at_stripe.clock(theirs, time_there, api_base)
            key, status = await at_server.takes_key(client)
            found.append(key)
    if settings is not None:
        found += [at_settings.ineffective(notice) for notice in settings.notices]
        if settings.jwks_url is not None:
            found.append(await at_settings.jwks(settings, settings.jwks_url))
        found += await _database(settings, now)
    elif client is not None and status is not None:
        found.append(at_server.policies())
        for each in status.connections:
            found += [finding async for finding in at_server.connection(client, each, now)]
    return report(found if clock is None else [*found, clock])


async def _database(settings: Settings, now: datetime) -> list[Finding]:
    finding, database = await in_database.reachable(settings)
    found = [finding]
    if database is None:
        return found
    try:
        # First: reading objects that another user created may run their code.
        if owners := [each async for each in in_database.owners(database)]:
            return found + owners
        schema = await in_database.migrated(database)
        found.append(schema)
        if schema is in_database.ABSENT:
            return found + await _before_first_start(settings)
        found += [each async for each in in_database.roles(database)]
        if schema.state == "broken":
            return found
        found += [each async for each in in_database.user(database)]
        found += [each async for each in in_database.forced(database)]
        found += [each async for each in in_database.opened(database)]
        found += [each async for each in in_database.foreign_keys(database)]
        found += [each async for each in in_database.policies(database)]
        found.append(await in_database.changes(database))
        secrets = SecretStore(database, settings)
        found += [each async for each in at_settings.adopted_keys(ApiKeys(database, secrets))]
        found.append(await at_settings.encryption(secrets, settings))
        return found + await _environments(settings, database, now)
    except asyncpg.PostgresError as error:
        # Most likely a user without the privileges that Billhook needs.
        return [*found, in_database.refused(error)]
    except DatabaseUnavailable as error:
        return [*found, failure("database", error)]
    finally:
        await database.close()


async def _before_first_start(settings: Settings) -> list[Finding]:
    """The keys of the settings, which the server will store."""
    gateway = Gateway(_no_key, settings.stripe_api_base)
    try:
        found = [
            await at_stripe.key_of_settings(gateway, settings, environment)
            for environment in ENVIRONMENTS
        ]
    finally:
        await gateway.close()
    return [each or at_stripe.no_key(env) for env, each in zip(ENVIRONMENTS, found, strict=True)]


async def _no_key(_environment: Environment) -> None:
    """Nothing is stored yet."""


async def _environments(settings: Settings, database: Database, now: datetime) -> list[Finding]:
    secrets = SecretStore(database, settings)
    gateway = Gateway(secrets.stripe_key, settings.stripe_api_base)
    found: list[Finding] = []
    try:
        for environment in ENVIRONMENTS:
            found += await _environment(settings, database, secrets, gateway, environment, now)
    finally:
        await gateway.close()
    if all(each.state == "skipped" for each in found if each.check == "stripe key"):
        found.append(
            Finding(
                check="stripe key",
                state="broken",
                message="Neither environment has a Stripe key, so nothing can be sold.",
                next_actions="billhook config set --environment test",
            )
        )
    return found


async def _environment(
    settings: Settings,
    database: Database,
    secrets: SecretStore,
    gateway: Gateway,
    environment: Environment,
    now: datetime,
) -> list[Finding]:
    connection = await Connections(database, secrets).get(environment)
    key = await at_stripe.key(gateway, secrets, environment, connection)
    found = [key]
    if key.state == "skipped":
        if settings.stripe_secret_key(environment) and not await secrets.would_seed(environment):
            return [at_stripe.key_not_stored(environment)]
        return [await at_stripe.key_of_settings(gateway, settings, environment) or key]
    # Without a working key, further requests to Stripe would fail as well.
    if key.state == "ok":
        endpoint = at_stripe.Endpoint(gateway, database, secrets, settings, environment, connection)
        found += [each async for each in endpoint.findings()]
        found.append(await at_stripe.missed(gateway, database, environment, connection, now))
    sandbox = settings.stripe_api_base != STRIPE_API_BASE
    ledger = in_database.ledger(database, environment, now, sandbox=sandbox)
    found += [each async for each in ledger]
    return [*found, *usage(await usage_state(database, environment))]
