# Generated from _async/subscriptions.py by `python src/billhook/client/generate.py`; don't edit.
"""Changes of subscriptions."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from billhook.client._sync.transport import SyncTransport
from billhook.client.inputs import ActAsInput, given
from billhook.client.request import Call, path
from billhook.models import (
    SubscriptionPreview,
    SubscriptionPreviewResponse,
    SubscriptionResponse,
    iso,
)
from billhook.models.subscription_changes import (
    Feedback,
    PauseBehavior,
    PaymentBehavior,
    ProrationBehavior,
)
from billhook.settings import Environment


class SyncSubscriptionChanges:
    """Changes of subscriptions: as the user of this client's token, whose policies decide; with an
    admin key as the server itself, or with `act_as` as a user.

    Each is safe to repeat with an `idempotency_key`, so the call is retried.
    """

    def __init__(self, transport: SyncTransport) -> None:
        self._transport = transport

    def preview(
        self,
        environment: Environment,
        subscription_id: str,
        *,
        price_id: str | None = None,
        lookup_key: str | None = None,
        quantity: int | None = None,
        item_id: str | None = None,
        proration_behavior: ProrationBehavior | None = None,
        proration_date: datetime | None = None,
        act_as: ActAsInput | None = None,
    ) -> SubscriptionPreview:
        """What a change would cost. Send its `proration_date` along with the change, and exactly
        these amounts are billed.

        Args:
            item_id: the item to change, if the subscription has several.
        """
        call = Call(
            "POST",
            path(environment, "subscriptions", subscription_id, "preview"),
            SubscriptionPreviewResponse,
            body=given(
                priceId=price_id,
                lookupKey=lookup_key,
                quantity=quantity,
                subscriptionItemId=item_id,
                prorationBehavior=proration_behavior,
                prorationDate=proration_date and iso(proration_date),
                actAs=act_as,
            ),
            repeatable=True,
        )
        return (self._transport.send(call)).model.preview

    def change(
        self,
        environment: Environment,
        subscription_id: str,
        *,
        price_id: str | None = None,
        lookup_key: str | None = None,
        quantity: int | None = None,
        item_id: str | None = None,
        proration_behavior: ProrationBehavior | None = None,
        payment_behavior: PaymentBehavior | None = None,
        proration_date: datetime | None = None,
        idempotency_key: str | None = None,
        act_as: ActAsInput | None = None,
    ) -> SubscriptionResponse:
        """Change the price, the quantity, or both. The response has the new state, and
        `payment_action` if a payment needs someone to act.

        Args:
            item_id: the item to change, if the subscription has several.
        """
        return self._send(
            environment,
            subscription_id,
            "change",
            idempotency_key,
            priceId=price_id,
            lookupKey=lookup_key,
            quantity=quantity,
            subscriptionItemId=item_id,
            prorationBehavior=proration_behavior,
            paymentBehavior=payment_behavior,
            prorationDate=proration_date and iso(proration_date),
            actAs=act_as,
        )

    def cancel(
        self,
        environment: Environment,
        subscription_id: str,
        *,
        at_period_end: bool = True,
        comment: str | None = None,
        feedback: Feedback | None = None,
        idempotency_key: str | None = None,
        act_as: ActAsInput | None = None,
    ) -> SubscriptionResponse:
        """Cancel at the end of the period, or immediately and without a refund."""
        return self._send(
            environment,
            subscription_id,
            "cancel",
            idempotency_key,
            atPeriodEnd=at_period_end,
            comment=comment,
            feedback=feedback,
            actAs=act_as,
        )

    def resume(
        self,
        environment: Environment,
        subscription_id: str,
        *,
        idempotency_key: str | None = None,
        act_as: ActAsInput | None = None,
    ) -> SubscriptionResponse:
        """Undo a scheduled cancellation and a pause: afterward, it renews and is charged."""
        return self._send(environment, subscription_id, "resume", idempotency_key, actAs=act_as)

    def pause(
        self,
        environment: Environment,
        subscription_id: str,
        *,
        behavior: PauseBehavior,
        resumes_at: datetime | None = None,
        idempotency_key: str | None = None,
        act_as: ActAsInput | None = None,
    ) -> SubscriptionResponse:
        """Stop collecting payments, until `resumes_at` or until it is resumed."""
        return self._send(
            environment,
            subscription_id,
            "pause",
            idempotency_key,
            behavior=behavior,
            resumesAt=resumes_at and iso(resumes_at),
            actAs=act_as,
        )

    def _send(
        self,
        environment: Environment,
        subscription_id: str,
        operation: str,
        idempotency_key: str | None,
        **fields: Any,
    ) -> SubscriptionResponse:
        call = Call(
            "POST",
            path(environment, "subscriptions", subscription_id, operation),
            SubscriptionResponse,
            body=given(**fields, idempotencyKey=idempotency_key),
            repeatable=idempotency_key is not None,
        )
        return (self._transport.send(call)).model
