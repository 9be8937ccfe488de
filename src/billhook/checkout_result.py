"""Reading one's writes: the page after a checkout asks how it ended, and never guesses.

The answer comes as soon as the session's event was applied. Where the webhook is late, Stripe is
asked whether the session has ended, and its event is pulled through the usual pipeline: so the
app's triggers have run when the page hears of it.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from urllib.parse import quote
from uuid import UUID

import asyncpg

from billhook.auth import Caller
from billhook.checkout import TABLE
from billhook.db import Database
from billhook.db.leases import LeaseLost
from billhook.db.refusals import acting_as_caller
from billhook.errors import BillhookError, PaymentNotFound
from billhook.models import CheckoutSession
from billhook.recovery.pulling import pull_due
from billhook.settings import Environment
from billhook.stripe.gateway import Gateway

# Polled, not notified: NOTIFY takes a lock that all of PostgreSQL's commits would queue for, and
# LISTEN needs a connection of its own, which a pooler doesn't give (docs/decisions/0006).
_LOOK_EVERY = 0.2
_ASK_STRIPE_AFTER = 1.5
_ASK_STRIPE_EVERY = 3.0

_COLUMNS = ", ".join(CheckoutSession.model_fields)
_BY_ROW = f"SELECT {_COLUMNS} FROM {TABLE} WHERE environment = $1 AND id = $2"  # noqa: S608
_BY_STRIPE = f"""
SELECT {_COLUMNS} FROM {TABLE} WHERE environment = $1 AND checkout_session_id = $2
"""  # noqa: S608


async def checkout_result(
    database: Database,
    gateway: Gateway,
    environment: Environment,
    session_id: str,
    caller: Caller,
    wait: float,
) -> CheckoutSession:
    """The caller's Checkout Session, once it is no longer open or `wait` seconds have passed.

    Args:
        session_id: the row's id, or Stripe's (`{CHECKOUT_SESSION_ID}` of the success URL).

    Raises:
        PaymentNotFound: the caller may see no such session.
    """
    now = asyncio.get_running_loop().time
    end = now() + wait
    ask_at = now() + min(_ASK_STRIPE_AFTER, wait / 2)
    while True:
        session = await _read(database, environment, session_id, caller)
        if session.status not in ("initialized", "open") or now() >= end:
            return session
        if now() >= ask_at:
            await _pull_its_event(database, gateway, environment, session)
            ask_at = now() + _ASK_STRIPE_EVERY
        else:
            await asyncio.sleep(min(_LOOK_EVERY, max(end - now(), 0)))


async def _read(
    database: Database, environment: Environment, session_id: str, caller: Caller
) -> CheckoutSession:
    row: asyncpg.Record | None
    async with acting_as_caller(database, caller.database_role, caller.claims, TABLE) as connection:
        try:
            row = await connection.fetchrow(_BY_ROW, environment, UUID(session_id))
        except ValueError:
            row = await connection.fetchrow(_BY_STRIPE, environment, session_id)
    if row is None:
        raise PaymentNotFound(
            "There is no such Checkout Session, or it is not yours.",
            next_actions="Ask with the token of the user who created it; where row-level security "
            f"is on, {TABLE} needs a SELECT policy for them.",
        )
    return CheckoutSession(**dict(row))


async def _pull_its_event(
    database: Database, gateway: Gateway, environment: Environment, session: CheckoutSession
) -> None:
    """Ask Stripe whether the session has ended; if so, its event must be in Stripe's list."""
    if session.checkout_session_id is None:
        return
    path = f"/v1/checkout/sessions/{quote(session.checkout_session_id, safe='')}"
    # That Stripe cannot be asked is no reason to fail: the webhook may still come.
    with suppress(BillhookError, LeaseLost):
        if (await gateway.get(environment, path)).data.get("status") != "open":
            await pull_due(database, gateway, environment, every=None)
