"""Charges off session: a saved payment method is charged without the customer.

The PaymentIntent is created first and stored, then confirmed. Stripe lets a PaymentIntent be paid
only once, so a repeated request never charges twice, however long after the first, and wherever a
crash interrupted it: it continues with the PaymentIntent as Stripe has it then. Stripe's responses
go through the same reducers as its events.

No connection or lock is held while Stripe works.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID, uuid4

from billhook.checkout.live_reader import LiveReader, live_reader, mirroring
from billhook.checkout.mappings import customer_of, is_unknown_customer
from billhook.errors import (
    BillhookError,
    IdempotencyKeyReused,
    InvalidInput,
    PaymentMethodDeclined,
    PaymentNotFound,
    UpstreamFailure,
)
from billhook.kinds.reading import hash_of, id_of, text, timestamp
from billhook.mirror.fetching import forget_customer
from billhook.mirror.refreshes import payment_intent, show_event
from billhook.models import Charge, CreateCharge
from billhook.models.wire import request_hash
from billhook.paths import encoded
from billhook.postgres import Database
from billhook.postgres.refusals import unfinished
from billhook.projections import Event
from billhook.settings import Environment
from billhook.stripe.gateway import (
    Fetched,
    Gateway,
    StripeObject,
    details_of,
    is_rejected,
    refusal_of,
)

_FIND = """
SELECT id, request_hash, customer_id, payment_method_id, payment_intent_id, attempt, created_at
FROM billhook.charge_requests
WHERE environment = $1 AND account_id = $2 AND idempotency_key = $3
"""
_INSERT = """
INSERT INTO billhook.charge_requests (id, environment, account_id, idempotency_key, request_hash,
    customer_id, payment_method_id)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT DO NOTHING
"""
_STORE_INTENT = """
UPDATE billhook.charge_requests SET payment_intent_id = coalesce(payment_intent_id, $2)
WHERE id = $1 RETURNING payment_intent_id
"""
# Stripe rejected a PaymentIntent: the same key may be used for a better request.
_FORGET = "DELETE FROM billhook.charge_requests WHERE id = $1 AND payment_intent_id IS NULL"
# Stripe stores its own failures, too, and would repeat one under the same key. Another key does no
# harm: nothing is paid but the stored PaymentIntent, and that only once.
_NEXT_ATTEMPT = "UPDATE billhook.charge_requests SET attempt = attempt + 1 WHERE id = $1"

_AUTHENTICATION = "authentication_required"
# Stripe's status → the event that reports it.
_EVENTS = {
    "succeeded": "payment_intent.succeeded",
    "processing": "payment_intent.processing",
    "requires_payment_method": "payment_intent.payment_failed",
    "canceled": "payment_intent.canceled",
}


class ChargeDeclined(PaymentMethodDeclined):
    """402: the payment method was declined.

    Attributes:
        decline_code: the bank's reason, such as `insufficient_funds`, if Stripe reports it.
    """

    def __init__(
        self, message: str, *, decline_code: str | None = None, payment_intent_id: str | None = None
    ) -> None:
        super().__init__(
            message,
            next_actions="Ask the customer for another payment method, then charge with a new "
            "idempotencyKey.",
        )
        self.decline_code = decline_code
        self.payment_intent_id = payment_intent_id

    def body(self) -> dict[str, Any]:
        """The response body, with `declineCode` and `paymentIntentId` if they are known."""
        added = {"declineCode": self.decline_code, "paymentIntentId": self.payment_intent_id}
        return super().body() | {name: value for name, value in added.items() if value}


@dataclass(frozen=True, slots=True)
class _Request:
    """A stored request: whom and what it charges is decided."""

    id: UUID
    order: CreateCharge
    customer: str
    method: str
    intent_id: str | None
    attempt: int
    created_at: datetime


async def create_charge(
    database: Database, gateway: Gateway, environment: Environment, order: CreateCharge
) -> Charge:
    """Charge a saved payment method, or continue the earlier request with the same key.

    Raises:
        PaymentNotFound: the subject has no Stripe customer, or the customer was deleted.
        InvalidInput: the customer has no default payment method.
        ChargeDeclined: the payment method was declined.
        IdempotencyKeyReused: the key was used for something else.
        PaymentConfigInvalid, RateLimited, UpstreamFailure: from Stripe.
        DatabaseRefused: a rule of the app rejects the payment's row; the PaymentIntent exists.
        DatabaseUnavailable: PostgreSQL is unavailable; the same request may be sent again.
    """
    reader = await live_reader(database, gateway, environment)
    request = await _claim(reader, order)
    with unfinished("charge"):
        intent = await _intent(reader, request)
        if intent.get("status") == "requires_confirmation":
            intent = await _confirm(reader, request, intent, {"off_session": True}, "confirm")
        await _show(reader, intent)
        if _must_authenticate(intent) and order.return_url is not None:
            # The customer is not here: they get a link. Stripe asks for authentication only when
            # the payment is confirmed for a customer who is.
            on_session = {"payment_method": request.method, "off_session": False}
            intent = await _confirm(reader, request, intent, on_session, "on_session")
            await _show(reader, intent)
    return _outcome(environment, request, intent)


async def _claim(reader: LiveReader, order: CreateCharge) -> _Request:
    """Store the request with its customer and payment method, or find the earlier one."""
    account, fingerprint = await reader.account_id(), _hash_of(order)
    if (found := await _stored(reader, account, order, fingerprint)) is not None:
        return found
    customer = order.customer_id or await customer_of(
        reader.database, reader.environment, order.subject
    )
    if customer is None:
        raise _no_customer(reader, order)
    method = order.payment_method_id or await _default_method(reader, order, customer)
    async with reader.database.as_service() as connection:
        await reader.check(connection)
        await connection.execute(
            _INSERT,
            uuid4(),
            reader.environment,
            account,
            order.idempotency_key,
            fingerprint,
            customer,
            method,
        )
    # Ours, or that of a concurrent request.
    found = await _stored(reader, account, order, fingerprint)
    if found is None:
        raise _overtaken()
    return found


async def _stored(
    reader: LiveReader, account: str, order: CreateCharge, fingerprint: str
) -> _Request | None:
    async with reader.database.connection() as connection:
        row = await connection.fetchrow(_FIND, reader.environment, account, order.idempotency_key)
    if row is None:
        return None
    if row["request_hash"] != fingerprint:
        raise IdempotencyKeyReused("charge")
    return _Request(
        id=row["id"],
        order=order,
        customer=row["customer_id"],
        method=row["payment_method_id"],
        intent_id=row["payment_intent_id"],
        attempt=row["attempt"],
        created_at=row["created_at"],
    )


def _hash_of(order: CreateCharge) -> str:
    asked = order.model_dump(by_alias=True, exclude_none=True, exclude={"idempotency_key"})
    return request_hash(asked)


def _no_customer(reader: LiveReader, order: CreateCharge) -> PaymentNotFound:
    whom = (
        f"The {order.subject.type} {order.subject.id} has no Stripe customer"
        if order.subject
        else f"There is no customer {order.customer_id}"
    )
    return PaymentNotFound(
        f"{whom} in the {reader.environment} environment.",
        next_actions="A subject has a customer with a saved payment method after a checkout that "
        "saves it, or a subscription.",
    )


async def _default_method(reader: LiveReader, order: CreateCharge, customer: str) -> str:
    """The customer's default payment method, as Stripe has it now."""
    found = await reader.find("customer", f"/v1/customers/{encoded(customer)}")
    if found is None or found.data.get("deleted") is True:
        await forget_customer(reader, customer)
        raise _no_customer(reader, order)
    settings = hash_of(found.data.get("invoice_settings"))
    method = id_of(settings.get("default_payment_method")) or id_of(
        found.data.get("default_source")
    )
    if method is None:
        raise InvalidInput(
            f"paymentMethodId: the customer {customer} has no default payment method",
            next_actions="Name a payment method that the customer has saved, or let them choose "
            "a default in the customer portal.",
        )
    return method


async def _intent(reader: LiveReader, request: _Request) -> StripeObject:
    """The PaymentIntent of a request as it is now; created if there is none."""
    if request.intent_id is not None:
        return await payment_intent(reader, request.intent_id)
    try:
        answer = await _post(reader, request, "/v1/payment_intents", _params(request), "create")
    except BillhookError as error:
        if is_rejected(error):
            await reader.database.execute(_FORGET, request.id)
        if is_unknown_customer(error):
            await forget_customer(reader, request.customer)
            raise _no_customer(reader, request.order) from error
        raise
    created = id_of(answer.data)
    async with reader.database.as_service() as connection:
        await reader.check(connection)
        stored = await connection.fetchval(_STORE_INTENT, request.id, created)
    if stored is None:  # nobody confirms what is not stored
        raise _overtaken()
    if stored == created and not answer.replayed:
        return answer.data
    # Stripe has repeated an earlier response, and the payment may have continued.
    return await payment_intent(reader, stored)


def _overtaken() -> UpstreamFailure:
    return UpstreamFailure(
        "Stripe refused a concurrent request with the same idempotency key.",
        status=409,
        next_actions="Send the request again.",
    )


def _params(request: _Request) -> StripeObject:
    order = request.order
    metadata = {
        **(order.metadata or {}),
        "insforge_checkout_mode": "payment",
        "insforge_charge_request_id": str(request.id),
    }
    if order.subject is not None:
        metadata["insforge_subject_type"] = order.subject.type
        metadata["insforge_subject_id"] = order.subject.id
    params: StripeObject = {
        "amount": order.amount,
        "currency": order.currency,
        "customer": request.customer,
        "payment_method": request.method,
        "metadata": metadata,
    }
    if order.description is not None:
        params["description"] = order.description
    if order.return_url is None:
        # Otherwise Stripe requires a return_url to confirm.
        params["automatic_payment_methods"] = {"enabled": True, "allow_redirects": "never"}
    return params


async def _post(
    reader: LiveReader, request: _Request, path: str, params: StripeObject, step: str
) -> Fetched:
    key = f"insforge:{reader.environment}:charge:{request.id}:{step}:{request.attempt}"
    try:
        return await reader.post(path, params, key)
    except BillhookError as error:
        refusal = refusal_of(error)
        if refusal is not None and refusal.status is not None and refusal.status >= 500:
            await reader.database.execute(_NEXT_ATTEMPT, request.id)
        raise


async def _confirm(
    reader: LiveReader,
    request: _Request,
    intent: StripeObject,
    params: Mapping[str, Any],
    step: str,
) -> StripeObject:
    """Try to collect the payment. A declined attempt is a state of the PaymentIntent, too."""
    given: StripeObject = {**params, "expand": ["latest_charge"]}
    if request.order.return_url is not None:
        given["return_url"] = request.order.return_url
    path = f"/v1/payment_intents/{encoded(str(intent['id']))}/confirm"
    try:
        answer = await _post(reader, request, path, given, step)
    except BillhookError as error:
        refusal = refusal_of(error)
        if refusal is None or refusal.status is None or refusal.status >= 500:
            raise
        # Declined, or another request with the same key was faster.
        now = hash_of(details_of(error).get("payment_intent"))
        if id_of(now) is None and not isinstance(error, PaymentMethodDeclined):
            raise
    else:
        if not answer.replayed:
            return answer.data
    return await payment_intent(reader, str(intent["id"]))


def _must_authenticate(intent: StripeObject) -> bool:
    """Whether the bank declined the charge only because the customer has not authenticated it."""
    said = hash_of(intent.get("last_payment_error"))
    return intent.get("status") == "requires_payment_method" and _AUTHENTICATION in (
        said.get("code"),
        said.get("decline_code"),
    )


async def _show(reader: LiveReader, intent: StripeObject) -> None:
    """Mirror the payment: as its event would, if that reports one."""
    kind = _EVENTS.get(str(intent.get("status")))
    charge = intent.get("latest_charge")
    # No event of this state is older, so it takes precedence when it arrives.
    at = timestamp(hash_of(charge).get("created")) or timestamp(intent.get("created"))
    if kind is not None and at is not None:
        with mirroring(f"The PaymentIntent {intent['id']} exists at Stripe"):
            told = intent | {"latest_charge": id_of(charge)}
            await show_event(reader, Event("", kind, at, told, None))


def _outcome(environment: Environment, request: _Request, intent: StripeObject) -> Charge:
    """The charge, if it was not declined.

    Raises:
        ChargeDeclined: it was.
    """
    order, status = request.order, intent.get("status")
    waits = status == "requires_action" or _must_authenticate(intent)
    if status not in ("succeeded", "processing") and not waits:
        raise _declined(intent)
    action = hash_of(hash_of(intent.get("next_action")).get("redirect_to_url"))
    settled: Literal["succeeded", "processing"] = (
        "succeeded" if status == "succeeded" else "processing"
    )
    return Charge(
        id=request.id,
        environment=environment,
        status="requires_action" if waits else settled,
        amount=order.amount,
        currency=order.currency,
        customer_id=request.customer,
        subject_type=order.subject.type if order.subject else None,
        subject_id=order.subject.id if order.subject else None,
        payment_intent_id=str(intent["id"]),
        payment_method_id=request.method,
        description=order.description,
        confirm_url=text(action.get("url")) if waits else None,
        client_secret=text(intent.get("client_secret")) if waits else None,
        created_at=request.created_at,
    )


def _declined(intent: StripeObject) -> ChargeDeclined:
    said = hash_of(intent.get("last_payment_error"))
    reason = text(said.get("decline_code")) or text(said.get("code"))
    message = text(said.get("message")) or f"The payment is {intent.get('status')}."
    return ChargeDeclined(
        f"{message} ({reason})" if reason else message,
        decline_code=text(said.get("decline_code")),
        payment_intent_id=id_of(intent),
    )
