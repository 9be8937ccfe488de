"""Refunds, and charges of saved payment methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal
from uuid import uuid4

from billhook.client._async.transport import AsyncTransport
from billhook.client.inputs import RefundLineInput, SubjectInput, camel, given
from billhook.client.request import Call, path
from billhook.models import (
    Charge,
    ChargeResponse,
    RefundPreview,
    RefundPreviewResponse,
    RefundResponse,
)
from billhook.settings import Environment

RefundReason = Literal["duplicate", "fraudulent", "requested_by_customer"]


class AsyncRefunds:
    """Refunds of payments."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def create(
        self,
        environment: Environment,
        payment: str,
        *,
        amount: int | None = None,
        line_items: Sequence[RefundLineInput] | None = None,
        reason: RefundReason | None = None,
        metadata: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> RefundResponse:
        """Refund a payment: everything that is left, an amount (in the currency's minor unit), or
        lines of its checkout or invoice. Without an `idempotency_key`, one is generated for
        retries, so each call refunds.

        Args:
            payment: the id of its PaymentIntent, charge, Checkout Session or invoice.
        """
        body = given(
            payment=payment,
            amount=amount,
            lineItems=None if line_items is None else [camel(item) for item in line_items],
            reason=reason,
            metadata=metadata,
            idempotencyKey=idempotency_key or str(uuid4()),
        )
        call = Call(
            "POST", path(environment, "refunds"), RefundResponse, body=body, repeatable=True
        )
        return (await self._transport.send(call)).model

    async def preview(
        self,
        environment: Environment,
        payment: str,
        *,
        amount: int | None = None,
        line_items: Sequence[RefundLineInput] | None = None,
    ) -> RefundPreview:
        """What `create` would refund, and what is left of the payment before it."""
        body = given(
            payment=payment,
            amount=amount,
            lineItems=None if line_items is None else [camel(item) for item in line_items],
        )
        route = path(environment, "refunds", "preview")
        call = Call("POST", route, RefundPreviewResponse, body=body, repeatable=True)
        return (await self._transport.send(call)).model.preview

    async def get(self, environment: Environment, refund_id: str) -> RefundResponse:
        """A refund and its payment, as mirrored."""
        route = path(environment, "refunds", refund_id)
        return (
            await self._transport.send(Call("GET", route, RefundResponse, repeatable=True))
        ).model

    async def cancel(self, environment: Environment, refund_id: str) -> RefundResponse:
        """Cancel a refund that waits for the customer; Stripe cancels no other."""
        route = path(environment, "refunds", refund_id, "cancel")
        call = Call("POST", route, RefundResponse, body={}, repeatable=True)
        return (await self._transport.send(call)).model


class AsyncCharges:
    """Charges of payment methods that customers have saved."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def create(
        self,
        environment: Environment,
        *,
        amount: int,
        currency: str,
        idempotency_key: str,
        subject: SubjectInput | None = None,
        customer_id: str | None = None,
        payment_method_id: str | None = None,
        description: str | None = None,
        metadata: Mapping[str, str] | None = None,
        return_url: str | None = None,
    ) -> Charge:
        """Charge a saved payment method without the customer. Repeating the call with the same
        `idempotency_key` never charges twice; it returns the current state.

        A decline is an `ApiError` with the status 402 and a `decline_code`.

        Args:
            amount: in the currency's minor unit.
            subject: whose Stripe customer is charged; else give `customer_id`.
            payment_method_id: default: the customer's default.
            return_url: where the customer goes after authenticating, if they must.
        """
        body = given(
            subject=subject,
            customerId=customer_id,
            amount=amount,
            currency=currency,
            paymentMethodId=payment_method_id,
            description=description,
            metadata=metadata,
            returnUrl=return_url,
            idempotencyKey=idempotency_key,
        )
        call = Call(
            "POST", path(environment, "charges"), ChargeResponse, body=body, repeatable=True
        )
        return (await self._transport.send(call)).model.charge
