"""`billhook subscriptions preview|change|cancel|resume|pause`: changes of one subscription."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from billhook.cli import asking
from billhook.cli.address import connected
from billhook.cli.options import AsJson, InEnvironment, Url, Yes, utc
from billhook.cli.output import show_details, show_json, show_table
from billhook.cli.subscriptions import items_of, status_of
from billhook.models.subscription_changes import (
    Feedback,
    PauseBehavior,
    PaymentBehavior,
    ProrationBehavior,
)
from billhook.money import money

if TYPE_CHECKING:
    from billhook.models import PreviewInvoice, SubscriptionPreview, SubscriptionResponse


def _moment(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} must be a time such as 2026-05-28T20:26:42Z") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


SubscriptionId: TypeAlias = Annotated[
    str, typer.Argument(metavar="SUBSCRIPTION", help="Its id, such as sub_1QxYz.")
]
Price: TypeAlias = Annotated[
    str | None, typer.Option("--price", metavar="price_…", help="The new price.")
]
LookupKeyOption: TypeAlias = Annotated[
    str | None, typer.Option("--lookup-key", help="Lookup key of the new price.")
]
Quantity: TypeAlias = Annotated[
    int | None, typer.Option("--quantity", min=1, help="The new quantity.")
]
Item: TypeAlias = Annotated[
    str | None,
    typer.Option("--item", metavar="si_…", help="Item to change, if there are several."),
]
Prorations: TypeAlias = Annotated[
    ProrationBehavior,
    typer.Option(
        "--prorations",
        help="Whether the difference for the rest of the period is added to the next invoice, "
        "billed now, or not billed.",
    ),
]
ProrationDate: TypeAlias = Annotated[
    datetime | None,
    typer.Option(
        "--proration-date",
        parser=_moment,
        metavar="TIME",
        help="Proration date from a preview, to bill exactly the amounts shown there.",
    ),
]
IdempotencyKey: TypeAlias = Annotated[
    str | None,
    typer.Option(help="Repeating a request with this key has no further effect."),
]


def preview(
    subscription: SubscriptionId,
    price: Price = None,
    lookup_key: LookupKeyOption = None,
    quantity: Quantity = None,
    item: Item = None,
    prorations: Prorations = "create_prorations",
    proration_date: ProrationDate = None,
    environment: InEnvironment = "test",
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Show what a change of price or quantity would cost, without changing anything."""
    from billhook.models import SubscriptionPreviewResponse

    with connected(url) as client:
        found = client.subscriptions.preview(
            environment,
            subscription,
            price_id=price,
            lookup_key=lookup_key,
            quantity=quantity,
            item_id=item,
            proration_behavior=prorations,
            proration_date=proration_date,
        )
    if as_json:
        show_json(SubscriptionPreviewResponse(preview=found))
        return
    _show_preview(found)


def change(
    subscription: SubscriptionId,
    price: Price = None,
    lookup_key: LookupKeyOption = None,
    quantity: Quantity = None,
    item: Item = None,
    prorations: Prorations = "create_prorations",
    payment: Annotated[
        PaymentBehavior | None,
        typer.Option(
            "--payment",
            help="What happens if a payment is due now and fails. Default: Stripe's, "
            "allow_incomplete.",
            show_default=False,
        ),
    ] = None,
    proration_date: ProrationDate = None,
    idempotency_key: IdempotencyKey = None,
    environment: InEnvironment = "test",
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Change the price, the quantity, or both. Omitted values stay the same."""
    with connected(url) as client:
        found = client.subscriptions.change(
            environment,
            subscription,
            price_id=price,
            lookup_key=lookup_key,
            quantity=quantity,
            item_id=item,
            proration_behavior=prorations,
            payment_behavior=payment,
            proration_date=proration_date,
            idempotency_key=idempotency_key,
        )
    _answer(found, as_json)


def cancel(
    subscription: SubscriptionId,
    now: Annotated[
        bool, typer.Option("--now", help="Cancel immediately, without a refund. This is final.")
    ] = False,
    comment: Annotated[str | None, typer.Option(help="The customer's reason.")] = None,
    feedback: Annotated[Feedback | None, typer.Option(help="Category of the reason.")] = None,
    idempotency_key: IdempotencyKey = None,
    yes: Yes = False,
    environment: InEnvironment = "test",
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Cancel at the end of the paid period."""
    if now:
        asking.confirm(f"Cancel {subscription} ({environment}) immediately?", yes)
    with connected(url) as client:
        found = client.subscriptions.cancel(
            environment,
            subscription,
            at_period_end=not now,
            comment=comment,
            feedback=feedback,
            idempotency_key=idempotency_key,
        )
    _answer(found, as_json)


def resume(
    subscription: SubscriptionId,
    idempotency_key: IdempotencyKey = None,
    environment: InEnvironment = "test",
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Undo a scheduled cancellation or a pause. The subscription then renews and is charged."""
    with connected(url) as client:
        found = client.subscriptions.resume(
            environment, subscription, idempotency_key=idempotency_key
        )
    _answer(found, as_json)


def pause(
    subscription: SubscriptionId,
    behavior: Annotated[
        PauseBehavior, typer.Option(help="What happens to invoices during the pause.")
    ],
    resumes_at: Annotated[
        datetime | None,
        typer.Option(parser=_moment, metavar="TIME", help="When collection resumes."),
    ] = None,
    idempotency_key: IdempotencyKey = None,
    environment: InEnvironment = "test",
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Pause payment collection until a given time or until you resume it."""
    with connected(url) as client:
        found = client.subscriptions.pause(
            environment,
            subscription,
            behavior=behavior,
            resumes_at=utc(resumes_at),
            idempotency_key=idempotency_key,
        )
    _answer(found, as_json)


def add_to(app: typer.Typer) -> None:
    """Add the commands to those of `billhook subscriptions`."""
    example = "Example: billhook subscriptions"
    app.command(epilog=f"{example} preview sub_1QxYz --lookup-key team_yearly")(preview)
    app.command(epilog=f"{example} change sub_1QxYz --quantity 12 --prorations always_invoice")(
        change
    )
    app.command(epilog=f"{example} cancel sub_1QxYz --feedback unused")(cancel)
    app.command(epilog=f"{example} resume sub_1QxYz")(resume)
    app.command(
        epilog=f"{example} pause sub_1QxYz --behavior void --resumes-at 2026-06-01T00:00:00Z"
    )(pause)


def _answer(found: SubscriptionResponse, as_json: bool) -> None:
    if as_json:
        show_json(found)
        return
    subscription, action = found.subscription, found.payment_action
    show_details(
        {
            "subscription": subscription.subscription_id,
            "status": status_of(subscription),
            "prices": items_of(subscription),
            "renews": subscription.renews_at,
            "ends": subscription.ends_at,
            "to be paid": action and money(action.amount_due, action.currency),
            "payment": action and action.reason.replace("_", " "),
            "pay at": action and action.url,
            "change lapses": action and action.expires_at,
        }
    )


def _show_preview(found: SubscriptionPreview) -> None:
    currency, following = found.currency, found.next_invoice
    show_details(
        {
            "due now": money(found.amount_due_now, currency),
            "prorations": money(found.proration_amount, currency),
            "next invoice": following and money(following.amount_due, currency),
            "on": following and following.date,
            "proration date": found.proration_date.isoformat(),
        }
    )
    invoices: list[tuple[str, PreviewInvoice | None]] = [
        ("now", found.invoice_now),
        ("next", following),
    ]
    print()
    show_table(
        ["invoice", "description", "amount"],
        (
            [name, line.description, money(line.amount, currency)]
            for name, invoice in invoices
            if invoice is not None
            for line in invoice.lines
        ),
        none="Nothing is billed.",
    )
