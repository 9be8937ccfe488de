"""`billhook refunds`: refund payments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal
from uuid import uuid4

import typer

from billhook.cli import asking
from billhook.cli.address import connected
from billhook.cli.options import (
    AsJson,
    InEnvironment,
    MetadataOption,
    Url,
    Yes,
    metadata_of,
    plain_digits,
)
from billhook.cli.output import note, pairs, show_details, show_json
from billhook.cli.repeating import repeatable_with
from billhook.money import money

if TYPE_CHECKING:
    from billhook.client import RefundLineInput
    from billhook.models import RefundPreview, RefundResponse

app = typer.Typer(help="Refunds of payments.", no_args_is_help=True)

RefundId = Annotated[str, typer.Argument(metavar="REFUND", help="Its id, such as re_3QxYz.")]
Reason = Literal["duplicate", "fraudulent", "requested_by_customer"]


@app.command(epilog="Example: billhook refunds create pi_3QxYz --line price_1QxYz:2")
def create(
    payment: Annotated[
        str,
        typer.Argument(
            metavar="PAYMENT",
            help="Id of the payment's PaymentIntent, charge, Checkout Session or invoice.",
        ),
    ],
    amount: Annotated[
        int | None,
        typer.Option(
            parser=plain_digits,
            metavar="INTEGER",
            help="In the currency's minor unit: 1500 is 15.00 USD. Default: everything that is "
            "left.",
        ),
    ] = None,
    line: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PRICE[:QUANTITY]",
            help="Refund a line of the checkout or invoice, by the id of its price or of the line "
            "itself. Default: all units of the line. May be repeated.",
        ),
    ] = None,
    reason: Annotated[Reason | None, typer.Option(help="Why, for Stripe's reports.")] = None,
    metadata: MetadataOption = None,
    idempotency_key: Annotated[
        str | None,
        typer.Option(
            help="Repeating a request with this key refunds only once. Default: a new key."
        ),
    ] = None,
    environment: InEnvironment = "test",
    yes: Yes = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Refund a payment. Shows what will be refunded and asks for confirmation."""
    lines = [_line(each) for each in line or ()] or None
    more = metadata_of(metadata)
    with connected(url) as client:
        if yes:
            exactly = amount
        else:
            preview = client.refunds.preview(environment, payment, amount=amount, line_items=lines)
            note(_what_happens(preview))
            asking.confirm(_question(preview, environment), yes)
            exactly = preview.amount  # what was confirmed, even if more is left meanwhile
        key = idempotency_key or str(uuid4())
        with repeatable_with(key):
            made = client.refunds.create(
                environment,
                payment,
                amount=exactly,
                line_items=lines,
                reason=reason,
                metadata=more,
                idempotency_key=key,
            )
    _answer(made, as_json)


@app.command(epilog="Example: billhook refunds get re_3QxYz")
def get(
    refund: RefundId, environment: InEnvironment = "test", url: Url = None, as_json: AsJson = False
) -> None:
    """Show a refund."""
    with connected(url) as client:
        found = client.refunds.get(environment, refund)
    _answer(found, as_json)


@app.command(epilog="Example: billhook refunds cancel re_3QxYz --yes")
def cancel(
    refund: RefundId,
    environment: InEnvironment = "test",
    yes: Yes = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Cancel a refund that is waiting for the customer (requires_action).

    Stripe can't cancel other refunds.
    """
    asking.confirm(f"Cancel the refund {refund} ({environment})?", yes)
    with connected(url) as client:
        found = client.refunds.cancel(environment, refund)
    _answer(found, as_json)


def _line(text: str) -> RefundLineInput:
    """`price_1:2` or `li_1` as a line.

    Raises:
        typer.BadParameter: the quantity is not a number of units.
    """
    name, colon, quantity = text.partition(":")
    found: RefundLineInput = {"price_id": name}
    if name == "shipping" or name.startswith(("li_", "il_")):
        found = {"line_item_id": name}
    if colon:
        if not (quantity.isascii() and quantity.isdigit() and int(quantity) > 0):
            raise typer.BadParameter("must look like price_1QxYz:2", param_hint="--line")
        found["quantity"] = int(quantity)
    return found


def _what_happens(preview: RefundPreview) -> str:
    """The payment, and what was refunded of it."""
    of = preview.payment_intent_id or preview.charge_id
    parts = {
        "refunded": preview.amount_refunded,
        "being refunded": preview.amount_pending,
        "lost to disputes": preview.amount_disputed,
    }
    used = [f"{money(n, preview.currency)} {what}" for what, n in parts.items() if n]
    begin = f"{of}: {', '.join([f'{money(preview.amount_paid, preview.currency)} paid', *used])}."
    lines = (
        f"\n  {each.quantity} × {each.price_id or each.line_item_id}: "
        f"{money(each.amount, preview.currency)}"
        for each in preview.line_items
    )
    return begin + "".join(lines)


def _question(preview: RefundPreview, environment: str) -> str:
    rest = money(preview.amount_left - preview.amount, preview.currency)
    return (
        f"Refund {money(preview.amount, preview.currency)} ({environment})? "
        f"{rest} will be left of the payment."
    )


def _answer(found: RefundResponse, as_json: bool) -> None:
    if as_json:
        show_json(found)
        return
    refund, payment = found.refund, found.payment
    show_details(
        {
            "refund": refund.refund_id,
            "status": refund.status,
            "amount": money(refund.amount, refund.currency),
            "reason": refund.reason,
            "failed because": refund.failure_reason,
            "lines": ", ".join(
                f"{each.quantity} × {each.price_id or each.line_item_id}"
                for each in refund.line_items
            ),
            "payment": refund.payment_intent_id or refund.charge_id,
            "refunded of it": payment
            and f"{money(payment.amount_refunded, payment.currency)} of "
            f"{money(payment.amount, payment.currency)}",
            "subject": refund.subject_id and f"{refund.subject_type}:{refund.subject_id}",
            "metadata": pairs(refund.metadata),
        }
    )
    if found.repeated:
        note("The command repeats an earlier request, whose refund this is.")
