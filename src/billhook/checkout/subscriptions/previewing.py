"""What a change would cost, as Stripe calculates it. Nothing is changed or stored."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from billhook.checkout.live_reader import live_reader
from billhook.checkout.subscriptions import at_stripe
from billhook.checkout.subscriptions.changing import fields_with
from billhook.checkout.subscriptions.items import item_of, price_named
from billhook.checkout.subscriptions.rights import (
    Target,
    authorize,
    require_recent,
    require_terms,
)
from billhook.errors import BillhookError
from billhook.kinds.reading import hash_of, id_of, integer, objects, text, timestamp
from billhook.kinds.subscriptions import ITEMS
from billhook.mirror.fetching import StripeReader
from billhook.models import ChangeSubscription, PreviewInvoice, PreviewLine, SubscriptionPreview
from billhook.paths import encoded
from billhook.stripe.gateway import StripeObject, refusal_of
from billhook.stripe.list_pages import list_pages

_PATH = "/v1/invoices/create_preview"


async def preview(target: Target, order: ChangeSubscription) -> SubscriptionPreview:
    """What a change would cost.

    Raises:
        SubscriptionNotFound: there is none that the user may see.
        Forbidden: the user's policies do not allow it, or a user's token asks for a change without
            prorations.
        InvalidInput: no price has the lookup key, the item is not clear, or the time of the
            prorations is not one of a recent preview.
        PaymentConfigInvalid, RateLimited, UpstreamFailure: from Stripe.
        DatabaseUnavailable: PostgreSQL is unavailable.
    """
    require_terms(target, order)
    price_id = await price_named(target.database, target.environment, order)
    await authorize(target, "preview", fields_with(order, price_id))
    reader = await live_reader(target.database, target.gateway, target.environment)
    found = await at_stripe.read(reader, target)
    subscription = found.subscription
    require_recent(target, order, subscription, found.at)
    details: dict[str, Any] = {
        "items": [await item_of(reader, order, price_id, subscription)],
        "proration_behavior": order.proration_behavior,
    }
    if order.proration_date is not None:
        details["proration_date"] = int(order.proration_date.timestamp())
    params = {"subscription": target.subscription_id, "subscription_details": details}
    invoice, at = await _invoice(reader, params)
    invoice_now = next_invoice = None
    if is_immediate(invoice, subscription, order):
        invoice_now = invoice
        # What is added to the periods after this one: nothing that the first invoice has billed.
        later = {"items": details["items"], "proration_behavior": "none"}
        params = {**params, "subscription_details": later, "preview_mode": "recurring"}
        next_invoice = await _invoice_if_any(reader, params)
    else:
        next_invoice = invoice
    return shown(target, subscription, invoice, invoice_now, next_invoice, at)


async def _invoice(reader: StripeReader, params: Mapping[str, Any]) -> tuple[StripeObject, int]:
    """A preview with all its lines, and its time."""
    fetched = await reader.gateway.post(reader.environment, _PATH, params, key=reader.key)
    invoice = fetched.data
    lines = hash_of(invoice.get("lines"))
    if lines.get("has_more") is True and (found := objects(lines)):
        path = f"/v1/invoices/{encoded(str(invoice.get('id')))}/lines"
        async for page in list_pages(reader.get, "line_item", path, {}, after=found[-1]["id"]):
            found += page.objects
        invoice = {**invoice, "lines": {**lines, "data": found}}
    return invoice, fetched.at


async def _invoice_if_any(reader: StripeReader, params: Mapping[str, Any]) -> StripeObject | None:
    """A preview; None if the subscription ends before the next invoice."""
    try:
        return (await _invoice(reader, params))[0]
    except BillhookError as error:
        refusal = refusal_of(error)
        if refusal is None or refusal.code != "invoice_upcoming_none":
            raise
        return None


def is_immediate(
    invoice: StripeObject, subscription: StripeObject, order: ChangeSubscription
) -> bool:
    """Whether the change itself creates the invoice. Stripe previews it as created now, and the
    one of a renewal as created at the end of the period."""
    if order.proration_behavior == "always_invoice" and any(map(_is_proration, _lines(invoice))):
        return True
    created, ends = timestamp(invoice.get("created")), _period_end(subscription)
    return created is not None and ends is not None and created < ends


def shown(
    target: Target,
    subscription: StripeObject,
    invoice: StripeObject,
    invoice_now: StripeObject | None,
    next_invoice: StripeObject | None,
    at: int,
) -> SubscriptionPreview:
    """The preview.

    Args:
        invoice: the one with the prorations.
        at: when it was calculated, in epoch seconds.
    """
    prorations = [_line(line) for line in _lines(invoice) if _is_proration(line)]
    of = hash_of(hash_of(invoice.get("parent")).get("subscription_details"))
    return SubscriptionPreview(
        environment=target.environment,
        subscription_id=target.subscription_id,
        currency=str(invoice.get("currency")),
        proration_date=_time(timestamp(of.get("subscription_proration_date")) or at),
        prorations=prorations,
        proration_amount=sum(line.amount for line in prorations),
        amount_due_now=_amount(invoice_now, "amount_due") if invoice_now else 0,
        invoice_now=_shown_invoice(invoice_now, timestamp(invoice_now.get("created")))
        if invoice_now
        else None,
        next_invoice=_next_invoice(subscription, invoice_now, next_invoice),
    )


def _next_invoice(
    subscription: StripeObject, invoice_now: StripeObject | None, following: StripeObject | None
) -> PreviewInvoice | None:
    if following is None:
        return None
    if invoice_now is None:
        return _shown_invoice(following, timestamp(following.get("created")))
    # The periods that are billed now end when the next invoice comes.
    ends = [
        end
        for line in _lines(invoice_now)
        if not _is_proration(line) and (end := timestamp(hash_of(line.get("period")).get("end")))
    ]
    invoice = _shown_invoice(following, max(ends, default=_period_end(subscription)))
    # What the first invoice credits to the customer's balance pays the next one.
    balance = integer(invoice_now.get("ending_balance"))
    if balance is None:
        balance = min(0, _amount(invoice_now, "total"))
    return invoice.model_copy(update={"amount_due": max(0, invoice.total + balance)})


def _shown_invoice(invoice: StripeObject, date: int | None) -> PreviewInvoice:
    subtotal, total = _amount(invoice, "subtotal"), _amount(invoice, "total")
    untaxed = integer(invoice.get("total_excluding_tax"))
    return PreviewInvoice(
        date=None if date is None else _time(date),
        subtotal=subtotal,
        tax=0 if untaxed is None else total - untaxed,
        total=total,
        amount_due=_amount(invoice, "amount_due"),
        lines=[_line(line) for line in _lines(invoice)],
    )


def _line(line: StripeObject) -> PreviewLine:
    period = hash_of(line.get("period"))
    start, end = timestamp(period.get("start")), timestamp(period.get("end"))
    pricing = hash_of(hash_of(line.get("pricing")).get("price_details"))
    return PreviewLine(
        description=text(line.get("description")),
        amount=_amount(line, "amount"),
        quantity=integer(line.get("quantity")),
        price_id=id_of(pricing.get("price")),
        proration=_is_proration(line),
        period_start=None if start is None else _time(start),
        period_end=None if end is None else _time(end),
    )


def _is_proration(line: StripeObject) -> bool:
    parent = hash_of(line.get("parent"))
    return any(
        hash_of(parent.get(each)).get("proration") is True
        for each in ("subscription_item_details", "invoice_item_details")
    )


def _lines(invoice: StripeObject) -> list[StripeObject]:
    return objects(hash_of(invoice.get("lines")))


def _amount(found: StripeObject, name: str) -> int:
    return integer(found.get(name)) or 0


def _period_end(subscription: StripeObject) -> int | None:
    """When the first of its items renews."""
    ends = (timestamp(item.get("current_period_end")) for item in ITEMS.entries(subscription))
    return min((end for end in ends if end is not None), default=None)


def _time(at: int) -> datetime:
    return datetime.fromtimestamp(at, UTC)
