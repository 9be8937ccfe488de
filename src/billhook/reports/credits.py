"""Billing credits: granted at Stripe, and read from there. They are not mirrored.

Stripe forgets an idempotency key after a day. So a grant carries its request in its metadata, and a
repeated request finds it among the customer's grants, however late it comes.
"""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from billhook.errors import IdempotencyKeyReused, NotFound
from billhook.kinds.reading import entries, hash_of, id_of, integer, metadata, text, timestamp
from billhook.models import (
    BillingSubject,
    CreditBalance,
    CreditGrant,
    CreditGrantResponse,
    Credits,
    CreditsQuery,
    GrantCredits,
)
from billhook.models.wire import request_hash
from billhook.postgres import Database
from billhook.reports.catalog import idempotency_key
from billhook.settings import Environment
from billhook.stripe.gateway import Fetched, Gateway, StripeObject
from billhook.stripe.list_pages import list_pages

_GRANTS = "/v1/billing/credit_grants"
_SUMMARY = "/v1/billing/credit_balance_summary"
_ALL = {"type": "applicability_scope", "applicability_scope": {"price_type": "metered"}}
_LISTED = 100
_REQUEST = "insforge_credit_request"
"""In a grant's metadata: SHA-256 of the idempotency key, a colon, and SHA-256 of the request."""
_CUSTOMER_OF = """
SELECT provider_customer_id FROM payments.customer_mappings
WHERE provider = 'stripe' AND environment = $1 AND subject_type = $2 AND subject_id = $3
"""


class NoCustomer(NotFound):
    """404: no Stripe customer is mapped to the subject."""

    code = "PAYMENT_NOT_FOUND"


async def grant_credits(
    database: Database, gateway: Gateway, environment: Environment, order: GrantCredits
) -> CreditGrantResponse:
    """Grant credits that pay for metered usage. Safe to repeat with the same idempotency key.

    Raises:
        NoCustomer: the subject has no Stripe customer.
        IdempotencyKeyReused: the key was used for another grant of this customer.
        PaymentConfigInvalid, RateLimited, UpstreamFailure: Stripe; if the grant was created, the
            same request finds it.
    """
    customer = order.customer_id or await _customer_of(database, environment, order.subject)
    request = _hash_of(order)
    if (earlier := await _granted(gateway, environment, customer, request)) is not None:
        return CreditGrantResponse(credit_grant=_grant(earlier))
    scope: dict[str, Any] = {"price_type": "metered"}
    if order.price_ids is not None:
        scope = {"prices": [{"id": each} for each in order.price_ids]}
    amount = {"currency": order.currency, "value": order.amount}
    params: dict[str, Any] = {
        "customer": customer,
        "amount": {"type": "monetary", "monetary": amount},
        "applicability_config": {"scope": scope},
        "category": order.category,
        "name": order.name,
        "priority": order.priority,
        "effective_at": order.effective_at and int(order.effective_at.timestamp()),
        "expires_at": order.expires_at and int(order.expires_at.timestamp()),
        "metadata": {**(order.metadata or {}), _REQUEST: request},
    }
    made = await gateway.post(
        environment,
        _GRANTS,
        {name: value for name, value in params.items() if value is not None},
        idempotency_key=idempotency_key(environment, "credit_grant", order.idempotency_key),
    )
    return CreditGrantResponse(credit_grant=_grant(made.data))


def _hash_of(order: GrantCredits) -> str:
    asked = order.model_dump(mode="json", exclude_none=True, exclude={"idempotency_key"})
    return f"{sha256(order.idempotency_key.encode()).hexdigest()}:{request_hash(asked)}"


async def _granted(
    gateway: Gateway, environment: Environment, customer: str, request: str
) -> StripeObject | None:
    """The grant that an earlier request with this idempotency key created."""

    async def get(_: str, path: str, params: dict[str, Any]) -> Fetched:
        return await gateway.get(environment, path, params)

    async for page in list_pages(get, "credit_grant", _GRANTS, {"customer": customer}):
        for each in page.objects:
            stored = metadata(each.get("metadata")).get(_REQUEST, "")
            if stored == request:
                return each
            if stored.partition(":")[0] == request.partition(":")[0]:
                raise IdempotencyKeyReused("credit grant")
    return None


async def credits_of(
    database: Database, gateway: Gateway, environment: Environment, query: CreditsQuery
) -> Credits:
    """The newest grants of a customer, and what is left in each currency. Raises as
    `grant_credits`."""
    subject = None
    if query.subject_type is not None and query.subject_id is not None:
        subject = BillingSubject(type=query.subject_type, id=query.subject_id)
    customer = query.customer or await _customer_of(database, environment, subject)
    grants = await gateway.get(environment, _GRANTS, {"customer": customer, "limit": _LISTED})
    summary = await gateway.get(environment, _SUMMARY, {"customer": customer, "filter": _ALL})
    return Credits(
        credit_grants=[_grant(each) for each in entries(grants.data)],
        balances=[
            CreditBalance(currency=currency, available=available, ledger=_money(each, "ledger")[1])
            for each in summary.data.get("balances") or ()
            for currency, available in [_money(each, "available")]
        ],
    )


async def _customer_of(
    database: Database, environment: Environment, subject: BillingSubject | None
) -> str:
    assert subject is not None  # the model requires it, or a customer
    async with database.connection() as connection:
        customer: str | None = await connection.fetchval(
            _CUSTOMER_OF, environment, subject.type, subject.id
        )
    if customer is None:
        raise NoCustomer(
            f"No Stripe customer is mapped to {subject.type}:{subject.id}.",
            next_actions="A first checkout of this subject creates one; or name a customer.",
        )
    return customer


def _grant(found: StripeObject) -> CreditGrant:
    monetary = hash_of(hash_of(found.get("amount")).get("monetary"))
    scope = hash_of(hash_of(found.get("applicability_config")).get("scope"))
    prices = scope.get("prices")
    return CreditGrant(
        credit_grant_id=str(found.get("id")),
        customer_id=id_of(found.get("customer")) or "",
        amount=integer(monetary.get("value")) or 0,
        currency=text(monetary.get("currency")) or "",
        category=text(found.get("category")) or "paid",
        name=text(found.get("name")),
        price_ids=[str(each["id"]) for each in entries(prices)] if prices else None,
        priority=integer(found.get("priority")),
        effective_at=_moment(found, "effective_at"),
        expires_at=_moment(found, "expires_at"),
        voided_at=_moment(found, "voided_at"),
        metadata=metadata(found.get("metadata")),
        created_at=_moment(found, "created") or datetime.now(UTC),
    )


def _moment(found: StripeObject, name: str) -> datetime | None:
    at = timestamp(found.get(name))
    return None if at is None else datetime.fromtimestamp(at, UTC)


def _money(balance: StripeObject, which: str) -> tuple[str, int]:
    monetary = hash_of(hash_of(balance.get(f"{which}_balance")).get("monetary"))
    return text(monetary.get("currency")) or "", integer(monetary.get("value")) or 0
