"""Saved payment methods: the default one of a customer, and detaching one.

Three short steps: check the caller's rights, change Stripe, write Stripe's response to the mirror.
No connection or lock is held while Stripe works. All of it can be repeated.
"""

from __future__ import annotations

from typing import Any

import asyncpg

from billhook.access.auth import Caller
from billhook.checkout.live_reader import REPEAT, mirroring
from billhook.errors import BillhookError, Forbidden, PaymentNotFound
from billhook.kinds.customers import CUSTOMER
from billhook.kinds.payment_methods import PAYMENT_METHOD
from billhook.mirror.fetching import (
    StripeReader,
    delete,
    facts_in,
    path_of,
    reader_of_account,
    write,
)
from billhook.models import LISTS, MirroredRow
from billhook.postgres import Database
from billhook.postgres.own_rows import as_user, may_change
from billhook.postgres.refusals import unfinished
from billhook.settings import Environment
from billhook.stripe.gateway import Gateway, refusal_of

TABLE = f"payments.{PAYMENT_METHOD.table}"
_CUSTOMERS = f"payments.{CUSTOMER.table}"
_ROW = LISTS["payment_methods"].row
_FIND = f"""
SELECT {", ".join(_ROW.model_fields)},
    extract(epoch FROM provider_event_at)::bigint AS shown_at
FROM {TABLE}
WHERE environment = $1 AND payment_method_id = $2
"""  # noqa: S608


async def make_default(
    database: Database,
    gateway: Gateway,
    environment: Environment,
    payment_method_id: str,
    caller: Caller | None,
) -> MirroredRow:
    """Make a payment method the default of its customer's invoices and subscriptions.

    Args:
        caller: whose rights decide; None: an administrator.

    Raises:
        PaymentNotFound: there is no such payment method, or the caller may not see it.
        Forbidden: the caller may see, but not change it, or row-level security is off.
        PaymentConfigInvalid, PaymentMethodDeclined, RateLimited, UpstreamFailure: from Stripe.
        LeaseLost: another account was connected in the meantime.
        DatabaseRefused: a rule of the app rejects the row; Stripe has made the change.
        DatabaseBusy: another transaction locks the row for too long.
        DatabaseUnavailable: PostgreSQL is unavailable; the same request may be sent again.
    """
    row, _ = await _permitted(database, environment, payment_method_id, caller)
    reader = await reader_of_account(database, gateway, environment)
    changed = await gateway.post(
        environment,
        path_of(CUSTOMER, row["customer_id"]),
        {
            "invoice_settings": {"default_payment_method": payment_method_id},
            "expand": list(CUSTOMER.expand),
        },
        key=reader.key,
    )
    what = f"{payment_method_id} is the default payment method of {row['customer_id']} at Stripe"
    with unfinished("change of the default payment method"), mirroring(what, _CUSTOMERS, REPEAT):
        await write(reader, facts_in(CUSTOMER, [changed.data], changed.at))
    return _ROW(**row)


async def detach(
    database: Database,
    gateway: Gateway,
    environment: Environment,
    payment_method_id: str,
    caller: Caller | None,
) -> MirroredRow:
    """Detach a payment method from its customer. Arguments and errors as of `make_default`.

    Returns:
        The payment method as it was.
    """
    row, shown_at = await _permitted(database, environment, payment_method_id, caller)
    reader = await reader_of_account(database, gateway, environment)
    path = f"{path_of(PAYMENT_METHOD, payment_method_id)}/detach"
    try:
        at = (await gateway.post(environment, path, {}, key=reader.key)).at
    except BillhookError as error:
        if not await _is_detached(reader, payment_method_id, error):
            raise
        at = (await reader.get("account", "/v1/account", {})).at
    what = f"Stripe has detached {payment_method_id}"
    with unfinished("removal of the payment method"), mirroring(what, TABLE, REPEAT):
        # It can't be attached again, so nothing that the row shows is newer.
        await delete(reader, PAYMENT_METHOD, payment_method_id, max(at, shown_at or at))
    return _ROW(**row)


async def _is_detached(reader: StripeReader, payment_method_id: str, error: BillhookError) -> bool:
    """Whether Stripe refuses because it is detached already: the response was lost before."""
    refusal = refusal_of(error)
    if refusal is None or refusal.status not in (400, 404):
        return False
    found = await reader.find(PAYMENT_METHOD.name, path_of(PAYMENT_METHOD, payment_method_id))
    return found is None or not PAYMENT_METHOD.exists(found.data)


async def _permitted(
    database: Database, environment: Environment, payment_method_id: str, caller: Caller | None
) -> tuple[dict[str, Any], int | None]:
    """The row, and the time of the state that it shows, if the caller may change it."""
    asked = (environment, payment_method_id)
    row: asyncpg.Record | None
    if caller is None:
        async with database.connection() as connection:
            row = await connection.fetchrow(_FIND, *asked)
    else:
        async with as_user(database, caller.database_role, caller.claims, TABLE) as connection:
            row = await connection.fetchrow(_FIND, *asked)
            if row and not await may_change(connection, TABLE, "payment_method_id", *asked):
                raise Forbidden(
                    f"The RLS policies of {TABLE} do not allow this.",
                    next_actions="Sign in as a user who may change this payment method, or create "
                    f"an UPDATE policy on {TABLE}.",
                )
    if row is None:
        raise PaymentNotFound(
            f"There is no payment method {payment_method_id} in the {environment} environment, or "
            "the caller may not see it.",
            next_actions="GET …/my/payment-methods lists those of a subject.",
        )
    found = dict(row)
    shown_at: int | None = found.pop("shown_at")
    return found, shown_at
