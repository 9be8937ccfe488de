"""Refunds: decided and stored, created at Stripe, written to the mirror.

Three short steps, and no connection or lock is held while Stripe works. Stripe's response goes
through the same reducers as its events, so `payments.transactions` shows the refund when the caller
gets the response, and nothing counts twice when the events arrive. A request that a crash
interrupted is completed by its repetition; if nobody repeats it, the next refund of the payment
finds out what became of it.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import asyncpg

from billhook.checkout import refund_requests
from billhook.checkout.live_reader import (
    MOVED,
    REPEAT,
    LiveReader,
    live_reader,
    mirroring,
    rejected,
)
from billhook.checkout.refund_balance import balance_of, decide
from billhook.checkout.refund_lines import lines_of
from billhook.checkout.refund_requests import RefundRequest, claim, lock_payment
from billhook.checkout.refund_target import NotRefundable, Target, find_target
from billhook.errors import BillhookError, PaymentNotFound, RateLimited, UpstreamFailure
from billhook.kinds.reading import hash_of, id_of, metadata, text, timestamp
from billhook.mirror.refreshes import show_refund
from billhook.models import (
    CreateRefund,
    PreviewRefund,
    Refund,
    RefundPreview,
    RefundResponse,
    Transaction,
)
from billhook.paths import encoded
from billhook.postgres import Database, repeat_collisions
from billhook.postgres.refusals import unfinished
from billhook.reports.lists.transactions import TRANSACTION_COLUMNS
from billhook.settings import Environment
from billhook.stripe.gateway import (
    Fetched,
    Gateway,
    StripeObject,
    is_rejected,
    is_stored_failure,
    refusal_of,
)
from billhook.stripe.list_pages import list_pages

_REQUEST = "insforge_refund_request_id"
"""The metadata of a refund that names its request."""
_NOTHING_LEFT = frozenset(("charge_already_refunded", "charge_disputed", "charge_not_refundable"))

_REFUND = f"""
SELECT {TRANSACTION_COLUMNS}, t.related_object_ids, t.raw, t.payment_id
FROM payments.transactions AS t
WHERE t.provider = 'stripe' AND t.environment = $1 AND t.type = 'refund'
  AND t.provider_object_type = 'refund' AND t.provider_object_id = $2
"""  # noqa: S608
_PAYMENT = f"""
SELECT {TRANSACTION_COLUMNS} FROM payments.transactions AS t
WHERE t.payment_id = $1 AND t.type <> 'refund'
"""  # noqa: S608


async def create_refund(
    database: Database, gateway: Gateway, environment: Environment, order: CreateRefund
) -> RefundResponse:
    """Refund a payment, or return the refund that an earlier request created.

    Raises:
        PaymentNotFound: neither the mirror nor Stripe has the payment.
        NotRefundable: less is left of it.
        InvalidInput: a line is unknown.
        IdempotencyKeyReused: the key was used for something else.
        PaymentConfigInvalid, RateLimited, UpstreamFailure: from Stripe.
        DatabaseRefused: a rule of the app rejects the row; the refund exists.
        DatabaseUnavailable: PostgreSQL is unavailable; the same request may be sent again.
    """
    reader = await live_reader(database, gateway, environment)
    target = await find_target(reader, order.payment)
    lines = await lines_of(reader, target) if order.line_items else []
    await _resolve(reader, target)
    account = await reader.account_id()

    async def decided() -> RefundRequest:
        async with database.as_service() as connection:
            await reader.check(connection)
            now = await lock_payment(connection, environment, target)
            balance = await balance_of(connection, environment, now)
            return await claim(connection, environment, account, now, balance, order, lines)

    request = await repeat_collisions(decided)
    with unfinished("refund"):
        refund_id = await _at_stripe(reader, request, order)
        answer = await _read_mirrored(database, environment, refund_id)
    return answer.model_copy(update={"repeated": request.earlier})


async def preview_refund(
    database: Database, gateway: Gateway, environment: Environment, order: PreviewRefund
) -> RefundPreview:
    """What a refund would return. Nothing is changed. Raises as `create_refund`."""
    reader = await live_reader(database, gateway, environment)
    target = await find_target(reader, order.payment)
    lines = await lines_of(reader, target) if order.line_items else []
    await _resolve(reader, target, REPEAT)
    async with database.connection() as connection:
        balance = await balance_of(connection, environment, target)
    decision = decide(balance, order, lines)
    part = target.part
    return RefundPreview(
        amount=decision.amount,
        currency=part.currency,
        line_items=decision.lines,
        payment_intent_id=part.object_id if part.object_type == "payment_intent" else None,
        charge_id=part.object_id if part.object_type == "charge" else None,
        amount_paid=part.amount,
        amount_refunded=part.refunded,
        amount_pending=balance.pending,
        amount_disputed=balance.disputed,
        amount_left=balance.left,
    )


async def read_refund(
    database: Database, environment: Environment, refund_id: str
) -> RefundResponse:
    """A refund, and its payment, as mirrored.

    Raises:
        PaymentNotFound: the mirror does not have it.
    """
    payment = None
    async with database.connection() as connection:
        row = await connection.fetchrow(_REFUND, environment, refund_id)
    if row is None:
        raise PaymentNotFound(
            f"There is no refund {refund_id} in the {environment} environment.",
            next_actions="Does it belong to the other environment? If Stripe has it, check "
            "whether its events arrived.",
        )
    if row["payment_id"] is not None:
        async with database.connection() as connection:
            payment = await connection.fetchrow(_PAYMENT, row["payment_id"])
    lines = await refund_requests.lines_refunded(database, environment, refund_id)
    values: dict[str, Any] = {name: row[name] for name in Transaction.model_fields}
    raw, related = hash_of(row["raw"]), row["related_object_ids"]
    return RefundResponse(
        refund=Refund(
            **values,
            refund_id=refund_id,
            provider_status=text(raw.get("status")),
            payment_intent_id=text(related.get("payment_intent")),
            charge_id=text(related.get("charge")),
            reason=text(raw.get("reason")),
            failure_reason=text(raw.get("failure_reason")),
            metadata={k: v for k, v in metadata(raw.get("metadata")).items() if k != _REQUEST},
            line_items=lines,
        ),
        payment=Transaction(**dict(payment)) if payment is not None else None,
    )


async def _read_mirrored(
    database: Database, environment: Environment, refund_id: str, next_actions: str = MOVED
) -> RefundResponse:
    """A refund that was just mirrored.

    Raises:
        DatabaseRefused: a trigger of the app has dropped its row.
    """
    try:
        return await read_refund(database, environment, refund_id)
    except PaymentNotFound as error:
        raise rejected(
            f"The refund {refund_id} exists at Stripe", "a trigger has dropped it", next_actions
        ) from error


async def cancel_refund(
    database: Database, gateway: Gateway, environment: Environment, refund_id: str
) -> RefundResponse:
    """Cancel a refund for which the customer has to act (`requires_action`); Stripe cancels no
    other. Repeating it changes nothing.

    Raises:
        PaymentNotFound: Stripe does not have it.
        NotRefundable: it cannot be canceled.
        PaymentConfigInvalid, RateLimited, UpstreamFailure: from Stripe.
        DatabaseRefused: a rule of the app rejects the row; the refund is canceled.
    """
    reader = await live_reader(database, gateway, environment)
    refund = await _get(reader, refund_id, REPEAT)
    if refund.get("status") != "canceled":
        path = f"/v1/refunds/{encoded(refund_id)}/cancel"
        try:
            canceled = await gateway.post(environment, path, {}, key=reader.key)
        except BillhookError as error:
            if error.status == 400:
                raise NotRefundable(
                    error.message,
                    next_actions="Only refunds that wait for the customer can be canceled "
                    "(providerStatus requires_action).",
                ) from error
            raise
        with unfinished("cancellation of the refund"):
            await _show(reader, canceled.data, canceled.at, REPEAT)
    return await _read_mirrored(database, environment, refund_id, REPEAT)


async def _at_stripe(reader: LiveReader, request: RefundRequest, order: CreateRefund) -> str:
    """Create the refund of a request, unless it exists, and mirror it. Returns its id."""
    refund_id = request.refund_id
    if refund_id is None and request.earlier:
        # Stripe forgets idempotency keys after a day; the refund itself names its request.
        refund_id = await _find(reader, request)
    if refund_id is not None:
        return await _created_before(reader, request, refund_id)
    try:
        answer = await _create(reader, request, order)
    except BillhookError as error:
        if not is_stored_failure(error):
            raise
        refund_id = await _find(reader, request)
        if refund_id is None:
            raise await _failed(reader, request, error) from error
        return await _created_before(reader, request, refund_id)
    refund_id = str(answer.data["id"])
    await refund_requests.created(reader.database, request.id, refund_id)
    # A repeated response of Stripe shows the refund as it was at first: so that is its time.
    await _show(reader, answer.data, timestamp(answer.data.get("created")) or answer.at)
    return refund_id


async def _created_before(reader: LiveReader, request: RefundRequest, refund_id: str) -> str:
    await refund_requests.created(reader.database, request.id, refund_id)
    try:
        await _get(reader, refund_id)
    except (UpstreamFailure, RateLimited) as error:  # then the mirror answers, if it has the refund
        try:
            await read_refund(reader.database, reader.environment, refund_id)
        except PaymentNotFound:
            raise error from None
    return refund_id


async def _failed(
    reader: LiveReader, request: RefundRequest, error: BillhookError
) -> UpstreamFailure:
    """Stripe failed, and has no refund."""
    over = await refund_requests.failed(reader.database, request)
    return UpstreamFailure(
        f"Stripe failed to create the refund: {error.message}",
        status=error.status,
        next_actions="Send the same request again, with its idempotencyKey if it has one."
        if over
        else "Send the same request again in two minutes, with its idempotencyKey if it has one: "
        "Stripe may still create the refund.",
    )


async def _create(reader: LiveReader, request: RefundRequest, order: CreateRefund) -> Fetched:
    kind, object_id = request.target
    params: StripeObject = {
        kind: object_id,
        "amount": request.amount,
        "metadata": {**(order.metadata or {}), _REQUEST: str(request.id)},
    }
    if order.reason is not None:
        params["reason"] = order.reason
    again = "" if request.attempt == 1 else f":{request.attempt}"
    key = f"insforge:{reader.environment}:refund:{request.id}{again}"
    try:
        answer = await reader.post("/v1/refunds", params, key)
    except BillhookError as error:
        refusal = refusal_of(error)
        if refusal is None or not is_rejected(error):
            raise  # it may have been created: a repetition finds out
        await refund_requests.refused(reader.database, request)
        if refusal.code in _NOTHING_LEFT or refusal.param == "amount":
            await _catch_up(reader, request.target)
            raise NotRefundable(
                f"Stripe refused the refund: {error.message}",
                next_actions="The mirror now shows the payment's refunds as Stripe has them.",
            ) from error
        raise
    if id_of(answer.data) is None:
        raise UpstreamFailure("Stripe's response could not be understood.")
    return answer


async def _get(reader: LiveReader, refund_id: str, next_actions: str = MOVED) -> StripeObject:
    """Fetch a refund and mirror it."""
    found = await reader.find("refund", f"/v1/refunds/{encoded(refund_id)}")
    if found is None:
        raise PaymentNotFound(
            f"Stripe has no refund {refund_id} in the {reader.environment} environment.",
            next_actions="Does it belong to the other environment, test or live?",
        )
    await _show(reader, found.data, found.at, next_actions)
    return found.data


async def _show(
    reader: LiveReader, refund: StripeObject, at: int, next_actions: str = MOVED
) -> None:
    with mirroring(f"The refund {refund['id']} exists at Stripe", next_actions=next_actions):
        await show_refund(reader, refund, at)


async def _find(reader: LiveReader, request: RefundRequest) -> str | None:
    """The refund that an earlier attempt of a request created at Stripe."""
    found = await _listed(reader, request.target)
    return next((id for id, of_request in found.items() if of_request == str(request.id)), None)


async def _listed(
    reader: LiveReader, target: tuple[str, str], next_actions: str = MOVED
) -> dict[str, str | None]:
    """Fetch the refunds of a payment from Stripe and mirror them. Returns their requests by id."""
    kind, object_id = target
    found = {}
    async for page in list_pages(reader.get, "refund", "/v1/refunds", {kind: object_id}):
        for each in page.objects:
            await _show(reader, each, page.at, next_actions)
            found[str(each["id"])] = metadata(each.get("metadata")).get(_REQUEST)
    return found


async def _catch_up(reader: LiveReader, target: tuple[str, str]) -> None:
    """The mirror lacks refunds that Stripe has."""
    with suppress(BillhookError, asyncpg.PostgresError):
        await _listed(reader, target)


async def _resolve(reader: LiveReader, target: Target, next_actions: str = MOVED) -> None:
    """Find out what became of old requests that a crash interrupted, and that nobody repeated."""
    async with reader.database.connection() as connection:
        balance = await balance_of(connection, reader.environment, target)
    if not balance.unresolved:
        return
    listed = await _listed(reader, target.key, next_actions)
    found = {request: id for id, request in listed.items() if request}
    for each in balance.unresolved:
        if (refund_id := found.get(str(each))) is not None:
            await refund_requests.created(reader.database, each, refund_id)
        else:
            await refund_requests.abandoned(reader.database, each)
