"""What was paid for each line of a checkout or invoice, and what a refund of some of it returns.

The amounts of a line include its discounts and taxes. If less was collected than the lines add up
to, because a customer's balance or a credit for unused time was used as well, each line has its
share of what was collected. Refunding every line, in any steps, returns exactly their sum.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from billhook.checkout.refund_target import NotRefundable, Target
from billhook.errors import InvalidInput
from billhook.kinds.reading import entries, hash_of, id_of, integer, text
from billhook.mirror.fetching import StripeReader
from billhook.models import RefundedLineItem, RefundLineItem
from billhook.money import step
from billhook.paths import encoded
from billhook.stripe.gateway import StripeObject
from billhook.stripe.list_pages import list_pages

SHIPPING = "shipping"
"""The id of the line that stands for the shipping of a checkout."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line that was paid.

    Attributes:
        amount: what was paid for all units, in the minor unit.
    """

    id: str
    price_id: str | None
    quantity: int
    amount: int
    currency: str | None


@dataclass(frozen=True, slots=True)
class Returned:
    """What earlier refunds return of a line."""

    quantity: int = 0
    amount: int = 0


async def lines_of(reader: StripeReader, target: Target) -> list[Line]:
    """The paid lines of the checkout or invoice of a payment.

    Raises:
        NotRefundable: it has no lines, or was charged in another currency.
        PaymentConfigInvalid, RateLimited, UpstreamFailure: from Stripe.
    """
    part = target.part
    session, invoice = target.checkout_session, target.invoice
    if session is None and invoice is None and part.object_type == "payment_intent":
        session = await _session_of(reader, part.object_id)
    if session is not None:
        found = await _lines_of_session(reader, session)
    elif invoice is not None:
        path = f"/v1/invoices/{encoded(invoice)}/lines"
        found = [invoice_line(each) for each in await _listed(reader, "line_item", path)]
    else:
        raise NotRefundable(
            f"{part.object_id} was paid without a checkout or an invoice, so it has no lines.",
            next_actions="Refund it by amount.",
        )
    if any(each.currency != part.currency for each in found if each.amount):
        raise NotRefundable(
            "The payment was charged in another currency than its lines have.",
            next_actions="Refund it by amount.",
        )
    return shared(found, part.amount, part.currency)


async def _session_of(reader: StripeReader, intent: str) -> str | None:
    page = await reader.get(
        "checkout_session", "/v1/checkout/sessions", {"payment_intent": intent, "limit": 1}
    )
    return next((id_of(each) for each in entries(page.data)), None)


async def _lines_of_session(reader: StripeReader, session_id: str) -> list[Line]:
    path = f"/v1/checkout/sessions/{encoded(session_id)}"
    session = (await reader.get("checkout_session", path, {})).data
    found = [checkout_line(each) for each in await _listed(reader, "item", f"{path}/line_items")]
    shipping = integer(hash_of(session.get("shipping_cost")).get("amount_total"))
    if shipping:
        found.append(Line(SHIPPING, None, 1, shipping, text(session.get("currency"))))
    return found


async def _listed(reader: StripeReader, name: str, path: str) -> list[StripeObject]:
    return [each async for page in list_pages(reader.get, name, path, {}) for each in page.objects]


def checkout_line(item: StripeObject) -> Line:
    """A line item of a Checkout Session: its total is after discounts, with taxes."""
    return Line(
        id=str(item["id"]),
        price_id=id_of(item.get("price")),
        quantity=max(integer(item.get("quantity")) or 1, 1),
        amount=integer(item.get("amount_total")) or 0,
        currency=text(item.get("currency")),
    )


def invoice_line(item: StripeObject) -> Line:
    """A line of an invoice: its amount is before discounts, credits and exclusive taxes."""
    credits = entries(item.get("pretax_credit_amounts")) or entries(item.get("discount_amounts"))
    taxes = [each for each in entries(item.get("taxes")) if each.get("tax_behavior") == "exclusive"]
    price = hash_of(hash_of(item.get("pricing")).get("price_details")).get("price")
    amount = integer(item.get("amount")) or 0
    return Line(
        id=str(item["id"]),
        price_id=id_of(price),
        quantity=max(integer(item.get("quantity")) or 1, 1),
        amount=amount - _total(credits) + _total(taxes),
        currency=text(item.get("currency")),
    )


def _total(amounts: Iterable[Mapping[str, Any]]) -> int:
    return sum(integer(each.get("amount")) or 0 for each in amounts)


def shared(lines: Sequence[Line], collected: int, currency: str | None) -> list[Line]:
    """The lines with what was collected for each, in amounts that Stripe can refund. Credits, whose
    amount is negative, reduce all."""
    charged = sum(each.amount for each in lines if each.amount > 0)
    paid, by = min(charged, collected), step(currency)
    found = []
    upto = given = 0
    for each in lines:
        upto += max(each.amount, 0)
        share = paid * upto // max(charged, 1) // by * by - given
        given += share
        found.append(_with_amount(each, share))
    return found


def _with_amount(line: Line, amount: int) -> Line:
    return Line(line.id, line.price_id, line.quantity, amount, line.currency)


def returned_for(line: Line, quantity: int | None, before: Returned, path: str) -> RefundedLineItem:
    """What a refund of some units returns. The sum for the first units of a line depends only on
    their number, so that no rounding is left at the end.

    Args:
        quantity: None: all that are left.
        before: what other refunds return, pending ones included.

    Raises:
        NotRefundable: fewer units are left, or nothing was paid for them.
    """
    left = line.quantity - before.quantity
    wanted = left if quantity is None else quantity
    if wanted > left or wanted == 0:
        raise NotRefundable(
            f"{path}: {max(left, 0)} of {line.quantity} units of {line.id} are left to refund.",
            next_actions="See what was refunded: billhook transactions, or refund by amount.",
        )
    units = before.quantity + wanted
    # Half a step, usually of one minor unit, is rounded up.
    by = step(line.currency)
    upto = (2 * line.amount * units + line.quantity * by) // (2 * line.quantity * by) * by
    amount = upto - before.amount
    if amount <= 0:
        raise NotRefundable(
            f"{path}: nothing was paid for {wanted} of the {line.quantity} units of {line.id}.",
            next_actions="Refund more units together, or refund by amount.",
        )
    return RefundedLineItem(
        line_item_id=line.id, price_id=line.price_id, quantity=wanted, amount=amount
    )


def named_line(lines: Sequence[Line], item: RefundLineItem, path: str) -> Line:
    """The line that an item of a request names.

    Raises:
        InvalidInput: none, or several.
    """
    if item.line_item_id is not None:
        found = [each for each in lines if each.id == item.line_item_id]
        name = item.line_item_id
    else:
        found = [each for each in lines if each.price_id == item.price_id]
        name = str(item.price_id)
    if len(found) == 1:
        return found[0]
    if found:
        raise InvalidInput(
            f"{path}: several lines have the price {name}",
            next_actions=f"Give a lineItemId: {', '.join(each.id for each in found)}.",
        )
    raise InvalidInput(
        f"{path}: the payment has no line {name}",
        next_actions="Its lines: "
        + ", ".join(f"{each.id} ({each.price_id or each.id})" for each in lines[:20]),
    )


def amounts_of(
    lines: Sequence[Line], items: Sequence[RefundLineItem], before: Mapping[str, Returned]
) -> list[RefundedLineItem]:
    """What a refund by lines returns. A line may be named only once.

    Raises:
        InvalidInput: a line is unknown, or named twice.
        NotRefundable: fewer units are left.
    """
    found: list[RefundedLineItem] = []
    for number, item in enumerate(items):
        path = f"lineItems.{number}"
        line = named_line(lines, item, path)
        if any(each.line_item_id == line.id for each in found):
            raise InvalidInput(f"{path}: {line.id} is named twice")
        found.append(returned_for(line, item.quantity, before.get(line.id, Returned()), path))
    return found
