"""Which PaymentIntent or charge a refund is of, by the id of any object of the payment.

The mirror is read first. What it does not know, because a webhook has not arrived or the payment is
older than the connection, is fetched from Stripe and mirrored.
"""

from __future__ import annotations

from dataclasses import dataclass

from billhook.errors import BillhookError, PaymentNotFound
from billhook.kinds.reading import id_of
from billhook.mirror.fetching import StripeReader
from billhook.mirror.refreshes import find_payment_intent, show_charge, show_payment
from billhook.money import money
from billhook.paths import encoded
from billhook.postgres import Connection
from billhook.reducers.payments import Payment
from billhook.reducers.refundable import Refundable, refundables
from billhook.reports.lists.searching import StripeKind, kind_of
from billhook.rows import payments_with
from billhook.settings import Environment
from billhook.stripe.gateway import StripeObject
from billhook.stripe.list_pages import list_pages

_CHECK = (
    "Check the id, and whether it belongs to the other environment, test or live. Only payments "
    "that have succeeded can be refunded."
)


class NotRefundable(BillhookError):
    """409: the payment was not paid yet, or less is left of it than is to be refunded."""

    status = 409
    code = "PAYMENT_NOT_REFUNDABLE"


@dataclass(frozen=True, slots=True)
class Target:
    """What a refund is of.

    Attributes:
        checkout_session, invoice: what was paid, as far as it is known.
    """

    part: Refundable
    checkout_session: str | None = None
    invoice: str | None = None

    @property
    def key(self) -> tuple[str, str]:
        return self.part.object_type, self.part.object_id


async def find_target(reader: StripeReader, reference: str) -> Target:
    """What the payment's PaymentIntent, charge, Checkout Session or invoice leads to.

    Raises:
        PaymentNotFound: neither the mirror nor Stripe has it.
        NotRefundable: it has not been paid, or by several PaymentIntents.
        PaymentConfigInvalid, RateLimited, UpstreamFailure: from Stripe.
    """
    kind = kind_of(reference)
    if kind not in ("payment_intent", "charge", "checkout_session", "invoice"):
        raise PaymentNotFound(
            f"{reference} is not the id of a payment.",
            next_actions="Give the id of its PaymentIntent (pi_…), charge (ch_…), checkout session "
            "(cs_…) or invoice (in_…).",
        )
    if (found := await _mirrored(reader, kind, reference)) is not None:
        return found
    for of_kind, object_id in await _fetch(reader, kind, reference):
        if (found := await _mirrored(reader, of_kind, object_id)) is not None:
            invoice = reference if kind == "invoice" else found.invoice
            session = reference if kind == "checkout_session" else found.checkout_session
            return Target(found.part, session, invoice)
    raise NotRefundable(f"{reference} has not been paid with Stripe.", next_actions=_CHECK)


async def _mirrored(reader: StripeReader, kind: str, object_id: str) -> Target | None:
    async with reader.database.connection() as connection:
        return await mirrored_target(connection, reader.environment, kind, object_id)


async def mirrored_target(
    connection: Connection, environment: Environment, kind: str, object_id: str
) -> Target | None:
    """What an object leads to, if the mirror knows the payment.

    Raises:
        NotRefundable: it was paid by several PaymentIntents.
    """
    found = await payments_with(connection, environment, kind, [object_id])
    payment = found.get(object_id)
    return None if payment is None else _part_of(payment, kind, object_id)


def _part_of(payment: Payment, kind: str, object_id: str) -> Target | None:
    """The part of a payment that an object of it leads to; None if it is not known.

    Raises:
        NotRefundable: it is not clear which.
    """
    parts = refundables(payment)
    if kind in ("payment_intent", "charge"):
        named = [each for each in parts if object_id in (each.object_id, *each.charges)]
        # A charge of the payment's only part; or a PaymentIntent that is not known to be paid.
        parts = named or (parts if kind == "charge" and len(parts) == 1 else [])
    if len(parts) > 1:
        listed = ", ".join(f"{p.object_id} ({money(p.amount, p.currency)})" for p in parts)
        raise NotRefundable(
            f"{object_id} was paid with several PaymentIntents: {listed}.",
            next_actions="Give the id of the one to refund.",
        )
    if not parts:
        return None
    objects = payment.objects
    return Target(parts[0], objects.get("checkout_session"), objects.get("invoice"))


async def _fetch(
    reader: StripeReader, kind: StripeKind, object_id: str
) -> list[tuple[StripeKind, str]]:
    """Fetch a payment and mirror it. Returns the PaymentIntents or the charge to look for."""
    if kind == "payment_intent":
        return await _fetch_intents(reader, [object_id])
    if kind == "charge":
        charge = await _get(reader, "charge", f"/v1/charges/{encoded(object_id)}", object_id)
        if (intent := id_of(charge.get("payment_intent"))) is not None:
            return await _fetch_intents(reader, [intent])
        await show_charge(reader, charge)
        return [("charge", object_id)]
    invoice: str | None = object_id
    if kind == "checkout_session":
        path = f"/v1/checkout/sessions/{encoded(object_id)}"
        session = await _get(reader, "checkout_session", path, object_id)
        if (intent := id_of(session.get("payment_intent"))) is not None:
            return await _fetch_intents(reader, [intent])
        invoice = id_of(session.get("invoice"))
    if invoice is None:
        return []
    return await _fetch_intents(reader, await _intents_of(reader, invoice))


async def _fetch_intents(reader: StripeReader, intents: list[str]) -> list[tuple[StripeKind, str]]:
    for each in intents:
        intent = await find_payment_intent(reader, each)
        if intent is None:
            raise _not_found(reader, each)
        await show_payment(reader, intent)
    if len(intents) > 1:
        raise NotRefundable(
            f"It was paid with several PaymentIntents: {', '.join(intents)}.",
            next_actions="Give the id of the one to refund.",
        )
    return [("payment_intent", each) for each in intents]


async def _intents_of(reader: StripeReader, invoice: str) -> list[str]:
    """The PaymentIntents that paid an invoice."""
    await _get(reader, "invoice", f"/v1/invoices/{encoded(invoice)}", invoice)
    found = []
    of_invoice = {"invoice": invoice, "status": "paid"}
    async for page in list_pages(reader.get, "invoice_payment", "/v1/invoice_payments", of_invoice):
        payments = [each.get("payment") for each in page.objects]
        found += [
            intent
            for each in payments
            if isinstance(each, dict) and (intent := id_of(each.get("payment_intent")))
        ]
    return sorted(set(found))


async def _get(reader: StripeReader, name: str, path: str, object_id: str) -> StripeObject:
    found = await reader.find(name, path)
    if found is None:
        raise _not_found(reader, object_id)
    return found.data


def _not_found(reader: StripeReader, object_id: str) -> PaymentNotFound:
    return PaymentNotFound(
        f"Neither Billhook nor Stripe has {object_id} in the {reader.environment} environment.",
        next_actions=_CHECK,
    )
