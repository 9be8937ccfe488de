"""The connected Stripe account, from PostgreSQL."""

from __future__ import annotations

from billhook.postgres import Connection
from billhook.settings import Environment

_CONNECTED = "SELECT billhook.connected_account($1)"
# Connecting another account locks the ledger against writers. `load_batch` does this, too.
_HOLD = "LOCK TABLE payments.webhook_events IN ROW EXCLUSIVE MODE"


async def connected_account(connection: Connection, environment: Environment) -> str:
    """Its id; empty if none has been connected."""
    account: str = await connection.fetchval(_CONNECTED, environment)
    return account


async def hold_account(connection: Connection, environment: Environment) -> str:
    """As `connected_account`; it stays the same until the transaction ends."""
    await connection.execute(_HOLD)
    return await connected_account(connection, environment)
