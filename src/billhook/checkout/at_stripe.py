"""A checkout's session at Stripe: what is sent, and how refusals are handled (contract section 5,
"Checkout").

No connection or lock is held while Stripe works.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any
from uuid import UUID, uuid4

import orjson

from billhook.checkout.line_items import Item
from billhook.checkout.mappings import customer_of, is_unknown_customer
from billhook.checkout.options import add_options, items_at_stripe
from billhook.checkout.prices import metering_at_stripe, mirrored_metering
from billhook.errors import BillhookError
from billhook.mirror.fetching import StripeReader, forget_customer
from billhook.models import CheckoutOptions
from billhook.models import CreateCheckoutSession as Order
from billhook.postgres import Database
from billhook.settings import Environment
from billhook.stripe.gateway import Gateway, StripeObject, is_stored_failure, refusal_of

_SESSION_LIFE = timedelta(hours=24)  # stripe-facts 8


@dataclass(frozen=True, slots=True)
class Terms:
    """What a checkout asks for, beyond the order itself.

    Attributes:
        options: those of the order and of its offer.
        with_trial: whether the subject gets the trial of the options.
    """

    options: CheckoutOptions | None = None
    with_trial: bool = True


async def create_at_stripe(
    database: Database,
    gateway: Gateway,
    environment: Environment,
    order: Order,
    items: Sequence[Item],
    row_id: UUID,
    now: datetime,
    *,
    terms: Terms,
    replaced: str | None,
    repeated: bool,
) -> tuple[StripeObject, str | None]:
    """Create the session.

    Args:
        items: the order's line items.
        terms: what the order and its offer ask for.
        replaced: the expired session in whose place it comes.
        repeated: the row was tried before.

    Returns:
        The session, and the expired one that it replaces in the end.

    Raises:
        PaymentConfigInvalid, PaymentMethodDeclined, RateLimited, UpstreamFailure: Stripe.
    """
    key = await gateway.key(environment)
    customer = await customer_of(database, environment, order.subject)
    # Prices that are not mirrored yet are missing. Only subscriptions have metered ones.
    metered: dict[str, bool] = {}
    if order.mode == "subscription":
        ids = [item.price_id for item in items if item.price_id is not None]
        metered = await mirrored_metering(database, environment, ids)
    in_place_of = replaced
    key_was_used = False  # by another request of this row's
    attempt = ""
    while True:
        params = stripe_params(order, items, row_id, customer, metered, terms)
        try:
            answer = await gateway.post(
                environment,
                "/v1/checkout/sessions",
                params,
                idempotency_key=stripe_idempotency_key(
                    environment,
                    order,
                    row_id,
                    replaced=in_place_of,
                    params=params if key_was_used else None,
                    attempt=attempt,
                ),
                key=key,
            )
        except BillhookError as error:
            if customer is not None and is_unknown_customer(error):
                await forget_customer(StripeReader(database, gateway, environment), customer)
                customer = None
            elif (
                order.mode == "subscription"
                and _is_about_quantity(error)
                and (unknown := {each.price_id for each in items if each.price_id} - metered.keys())
            ):
                metered |= await metering_at_stripe(gateway, environment, unknown, key)
            elif repeated and _is_key_used(error) and not key_was_used:
                # By an earlier attempt for this row with other parameters, whose response was lost.
                key_was_used = True
            elif is_stored_failure(error) and not attempt:
                # Stripe would repeat it for a day. Nobody gets a session that it may have created.
                key_was_used, attempt = True, uuid4().hex
            else:
                raise
            repeated = True
            continue
        created = answer.data
        # Stripe repeats its answer for a day or longer (stripe-facts 37).
        if in_place_of is not replaced or not is_over(created.get("expires_at"), None, now):
            return created, in_place_of
        in_place_of = str(created["id"])


def _is_about_quantity(error: BillhookError) -> bool:
    """Whether Stripe refuses a quantity: a metered price takes none."""
    refusal = refusal_of(error)
    return (
        refusal is not None
        and refusal.code != "resource_missing"  # "No such price: 'quantity'"
        and (refusal.param or "").startswith("line_items")
        and "quantity" in error.message.lower()
    )


def _is_key_used(error: BillhookError) -> bool:
    """Whether Stripe knows the idempotency key with other parameters (stripe-facts 38)."""
    refusal = refusal_of(error)
    return refusal is not None and refusal.type == "idempotency_error" and refusal.status == 400


def stripe_params(
    order: Order,
    items: Sequence[Item],
    row_id: UUID,
    customer: str | None,
    metered: Mapping[str, bool],
    terms: Terms,
) -> dict[str, Any]:
    """What is sent to Stripe.

    Args:
        metered: which prices are. Their quantity is what will be used.
    """
    metadata = {**metadata_of(order), "insforge_checkout_session_id": str(row_id)}
    params: dict[str, Any] = {
        "mode": order.mode,
        "client_reference_id": str(row_id),
        "metadata": metadata,
    }
    if order.success_url is not None:
        params |= {"success_url": order.success_url, "cancel_url": order.cancel_url}
    if customer is not None:
        params["customer"] = customer
    elif order.customer_email is not None:
        params["customer_email"] = order.customer_email
    if order.mode == "setup":
        params["setup_intent_data"] = {"metadata": metadata}
        options = terms.options
        if not (options and (options.currency or options.allowed_payment_method_types)):
            params["allowed_payment_method_types"] = ["card"]
    else:
        params["line_items"] = items_at_stripe(items, metered)
    if order.mode == "subscription":
        params["subscription_data"] = {"metadata": metadata}
    elif order.mode == "payment":
        params["payment_intent_data"] = {"metadata": metadata}
    if order.mode != "subscription" and order.subject is not None and customer is None:
        params["customer_creation"] = "always"
    if terms.options is not None:
        add_options(params, terms.options, order, customer, with_trial=terms.with_trial)
    return params


def stripe_idempotency_key(
    environment: Environment,
    order: Order,
    row_id: UUID,
    *,
    replaced: str | None = None,
    params: Mapping[str, Any] | None = None,
    attempt: str = "",
) -> str:
    """The contract's key, with a hash of what it belongs to: the subject, and the expired session
    that is replaced (all who replace it share a key).

    The hash comes last and has always the same length: no caller can choose a key that is another
    subject's.

    Args:
        params: what is sent; set if an earlier attempt has already used the usual key.
        attempt: set if Stripe failed in the earlier ones, and repeats that.
    """
    prefix = f"insforge:{environment}:checkout_session:"
    if order.idempotency_key is None and replaced is None and params is None:
        return f"{prefix}{row_id}"
    ours = order.idempotency_key or str(row_id)
    parts = [*scope_of(order), replaced, params, attempt]
    belongs_to = orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)
    # It travels in a header: what a header cannot carry goes as its hash.
    if not (ours.isascii() and ours.isprintable()):
        ours = f"sha256-{sha256(ours.encode()).hexdigest()}"
    # At most 252 characters; Stripe takes 255.
    return f"{prefix}{ours}:{sha256(belongs_to).hexdigest()[:20]}"


def scope_of(order: Order) -> tuple[str, str]:
    """The scope of the order's idempotency key: its subject, or all orders without one."""
    return (order.subject.type, order.subject.id) if order.subject else ("", "")


def metadata_of(order: Order) -> dict[str, str]:
    """The app's metadata and InsForge's keys."""
    metadata = {**(order.metadata or {}), "insforge_checkout_mode": order.mode}
    if order.subject is not None:
        metadata["insforge_subject_type"] = order.subject.type
        metadata["insforge_subject_id"] = order.subject.id
    return metadata


def is_over(expires_at: object, created_at: datetime | None, now: datetime) -> bool:
    """Whether a session can no longer be paid, by its `expires_at` (Unix seconds) or its age."""
    if isinstance(expires_at, int):
        return expires_at <= now.timestamp()
    return created_at is not None and created_at + _SESSION_LIFE <= now
