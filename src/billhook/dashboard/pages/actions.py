"""Actions that move money or change what customers have. Each asks first, on a page that the
script shows as a dialog, and says what will happen in money. They use the same services as the API,
and a form that is sent twice acts once."""

from __future__ import annotations

from typing import Any, get_args
from uuid import uuid4

from starlette.responses import Response

from billhook.access.permissions import SUBSCRIPTION, changes
from billhook.checkout import refunds, subscriptions
from billhook.checkout.subscriptions import Target
from billhook.dashboard.pages.subscriptions import one
from billhook.dashboard.visit import Visit
from billhook.errors import BillhookError, InvalidInput
from billhook.ledger import replaying
from billhook.mirror import assignments
from billhook.models import (
    AssignCustomers,
    CancelSubscription,
    ChangeSubscription,
    CreateRefund,
    Payment,
    PreviewRefund,
    Price,
    ProductsQuery,
    ResumeSubscription,
    Subscription,
    SubscriptionItem,
    SubscriptionPreview,
    parse,
)
from billhook.models.refunds import RefundReason
from billhook.money import minor_units, money
from billhook.paths import encoded
from billhook.reports import lists

_PRODUCTS = 100
_PRICES = 20
_OUTCOMES = {
    "unchanged": "The customer already pays for {subject}.",
    "unknown": "The mirror does not have this customer.",
    "conflict": "The customer is already assigned to another subject, or the subject to another "
    "customer.",
}


# --- refunds -------------------------------------------------------------------------------------


async def ask_refund(visit: Visit, *, error: BillhookError | None = None) -> Response:
    """How much is refunded, and what is left of the payment."""
    database, environment = visit.services.database, visit.environment
    reference = visit.request.path_params["reference"]
    payment = await lists.payment(database, environment, reference)
    (label,) = await lists.payment_labels(database, environment, [payment])
    typed = visit.request.query_params.get("amount") or (
        visit.field("typed") if visit.request.method == "POST" else ""
    )
    preview = None
    try:
        order = parse(PreviewRefund, _refund(payment, typed))
        preview = await refunds.preview_refund(database, visit.services.gateway, environment, order)
    except BillhookError as problem:
        _raise_if_ours(problem)
        error = error or problem
    return visit.show(
        "refund.html",
        error.status if error else 200,
        payment=payment,
        label=label,
        preview=preview,
        typed=typed,
        reasons=get_args(RefundReason),
        key=_key(visit, error),
        error=error,
    )


@changes("refund.create", role="support", made=("refund", "refundId"))
async def refund(visit: Visit) -> Response:
    """Refund a payment."""
    services, environment = visit.services, visit.environment
    reference = visit.request.path_params["reference"]
    payment = await lists.payment(services.database, environment, reference)
    body = {
        "payment": payment.provider_reference_id,
        "amount": _whole(visit, "amount"),
        "idempotencyKey": visit.field("key"),
    }
    if reason := visit.field("reason"):
        body["reason"] = reason
    try:
        order = parse(CreateRefund, body)
        made = await refunds.create_refund(services.database, services.gateway, environment, order)
    except BillhookError as error:
        _raise_if_ours(error)
        return await ask_refund(visit, error=error)
    visit.made = made.model_dump(mode="json", by_alias=True)
    done = money(made.refund.amount, made.refund.currency)
    said = (
        f"{done} was refunded."
        if made.refund.status == "refunded"
        else f"The refund of {done} is {made.refund.status}."
    )
    return await visit.go(f"/transactions/{encoded(payment.provider_reference_id or '')}", said)


def _refund(payment: Payment, typed: str) -> dict[str, Any]:
    body: dict[str, Any] = {"payment": payment.provider_reference_id}
    if typed:
        body["amount"] = minor_units(typed, payment.currency or "usd")
    return body


# --- subscriptions -------------------------------------------------------------------------------


async def ask_cancel(visit: Visit, *, error: BillhookError | None = None) -> Response:
    """When a subscription ends."""
    return await _ask(visit, "cancel.html", error)


async def ask_resume(visit: Visit, *, error: BillhookError | None = None) -> Response:
    """What resuming a subscription undoes."""
    return await _ask(visit, "resume.html", error)


@changes("subscription.cancel", target="subscription", row=SUBSCRIPTION)
async def cancel(visit: Visit) -> Response:
    """Cancel a subscription at the end of its period, or now."""
    at_period_end = visit.field("when") != "now"
    order = parse(
        CancelSubscription, {"atPeriodEnd": at_period_end, "idempotencyKey": visit.field("key")}
    )
    try:
        found = (await subscriptions.cancel(_target(visit), order)).subscription
    except BillhookError as error:
        _raise_if_ours(error)
        return await ask_cancel(visit, error=error)
    if at_period_end and found.ends_at is not None:
        end = f"{found.ends_at.day} {found.ends_at:%B %Y}"
        return await visit.go(_page(found), f"The subscription ends on {end}.")
    return await visit.go(_page(found), "The subscription is canceled.")


@changes("subscription.resume", target="subscription", row=SUBSCRIPTION)
async def resume(visit: Visit) -> Response:
    """Undo a scheduled cancellation or a pause."""
    order = parse(ResumeSubscription, {"idempotencyKey": visit.field("key")})
    try:
        found = (await subscriptions.resume(_target(visit), order)).subscription
    except BillhookError as error:
        _raise_if_ours(error)
        return await ask_resume(visit, error=error)
    return await visit.go(_page(found), "The subscription renews again.")


async def ask_change(visit: Visit, *, error: BillhookError | None = None) -> Response:
    """Which price and quantity; once chosen, what that costs."""
    database, environment = visit.services.database, visit.environment
    found = await one(visit)
    labels = await lists.subscription_labels(database, environment, [found])
    label = labels[found.subscription_id]
    value = visit.field if visit.request.method == "POST" else _parameter(visit)
    preview: SubscriptionPreview | None = None
    if value("price"):
        try:
            order = parse(ChangeSubscription, _change(value))
            preview = await subscriptions.preview(_target(visit), order)
        except BillhookError as problem:
            _raise_if_ours(problem)
            error = error or problem
    return visit.show(
        "change.html",
        error.status if error else 200,
        subscription=found,
        label=label,
        item=_item(found, value("item")),
        prices=await _prices(visit, label.currency),
        preview=preview,
        value=value,
        key=_key(visit, error),
        error=error,
    )


@changes("subscription.change", target="subscription", row=SUBSCRIPTION)
async def change(visit: Visit) -> Response:
    """Change the price or the quantity, for exactly the amounts that were shown."""
    body = _change(visit.field) | {"idempotencyKey": visit.field("key")}
    if date := visit.field("date"):
        body["prorationDate"] = date
    try:
        order = parse(ChangeSubscription, body)
        made = await subscriptions.change(_target(visit), order)
    except BillhookError as error:
        _raise_if_ours(error)
        return await ask_change(visit, error=error)
    if made.payment_action is not None:
        due = money(made.payment_action.amount_due, made.payment_action.currency)
        said = f"The subscription was changed. The customer must still pay {due}."
    else:
        said = "The subscription was changed."
    return await visit.go(_page(made.subscription), said)


def _item(subscription: Subscription, item_id: str) -> SubscriptionItem | None:
    """The item that is changed: the selected one, or the first."""
    chosen = [each for each in subscription.items if each.subscription_item_id == item_id]
    return next(iter(chosen or subscription.items), None)


def _change(value: Any) -> dict[str, Any]:
    body: dict[str, Any] = {"priceId": value("price")}
    if quantity := value("quantity"):
        if not (quantity.isascii() and quantity.isdigit()) or len(quantity) > 9:
            raise InvalidInput("quantity: must be a whole number")
        body["quantity"] = int(quantity)
    if item := value("item"):
        body["subscriptionItemId"] = item
    body["prorationBehavior"] = value("billing") or "create_prorations"
    return body


async def _prices(visit: Visit, currency: str | None) -> list[tuple[str, Price]]:
    """Active recurring prices in a currency, with the names of their products."""
    query = ProductsQuery.model_construct(limit=_PRODUCTS, active=True)
    page = await lists.products(
        visit.services.database, visit.environment, query, prices_each=_PRICES
    )
    return [
        (each.product.name, price)
        for each in page.rows
        for price in each.prices
        if price.active and price.recurring_interval and price.currency == currency
    ]


async def _ask(visit: Visit, template: str, error: BillhookError | None) -> Response:
    found = await one(visit)
    labels = await lists.subscription_labels(visit.services.database, visit.environment, [found])
    return visit.show(
        template,
        error.status if error else 200,
        subscription=found,
        label=labels[found.subscription_id],
        key=_key(visit, error),
        error=error,
    )


def _target(visit: Visit) -> Target:
    """An administrator may change any subscription."""
    return Target(
        visit.services.database,
        visit.services.gateway,
        visit.environment,
        visit.request.path_params["subscription"],
        None,
        trusted=True,
    )


def _page(subscription: Subscription) -> str:
    return f"/subscriptions/{encoded(subscription.subscription_id)}"


# --- events and customers ------------------------------------------------------------------------


async def ask_resend(visit: Visit) -> Response:
    """What firing the app's triggers again means."""
    event_id = visit.request.path_params["event"]
    found = await replaying.event(visit.services.database, visit.environment, event_id)
    return visit.show("resend.html", event=found)


async def ask_subject(
    visit: Visit, *, error: BillhookError | None = None, conflict: bool = False
) -> Response:
    """Which subject a customer pays for."""
    database, environment = visit.services.database, visit.environment
    customer_id = visit.request.path_params["customer"]
    customer = await lists.customer(database, environment, customer_id)
    return visit.show(
        "subject.html",
        error.status if error else 200,
        customer=customer,
        subjects=await lists.subjects_of(database, environment, customer_id),
        value=visit.field if visit.request.method == "POST" else _nothing,
        conflict=conflict,
        error=error,
    )


@changes("customers.assign", target="customer")
async def assign(visit: Visit) -> Response:
    """Assign a customer to a subject."""
    customer_id = visit.request.path_params["customer"]
    kind, name = visit.field("type"), visit.field("id")
    try:
        order = parse(
            AssignCustomers,
            {
                "assignments": [{"customerId": customer_id, "subject": {"type": kind, "id": name}}],
                "overwrite": visit.field("overwrite") == "yes",
            },
        )
        (result,) = await assignments.assign(visit.services.database, visit.environment, order)
    except BillhookError as error:
        _raise_if_ours(error)
        return await ask_subject(visit, error=error)
    if result.outcome in ("conflict", "unknown"):
        problem = BillhookError(_OUTCOMES[result.outcome], status=409)
        conflict = result.outcome == "conflict"
        return await ask_subject(visit, error=problem, conflict=conflict)
    said = _OUTCOMES.get(result.outcome, "The customer now pays for {subject}.")
    return await visit.go(
        f"/customers/{encoded(customer_id)}", said.format(subject=f"{kind}: {name}")
    )


def _parameter(visit: Visit) -> Any:
    """A parameter of the query string, as `visit.field` reads a form's."""
    return lambda name: visit.request.query_params.get(name, "").strip()


def _nothing(_name: str) -> str:
    return ""


def _key(visit: Visit, error: BillhookError | None) -> str:
    """The idempotency key of a form: two clicks act once. It is kept if Stripe's outcome is
    unknown; after a refusal, the next attempt is a new request."""
    unknown = visit.request.method == "POST" and error is not None and error.status >= 500
    return (visit.field("key") if unknown else "") or str(uuid4())


def _whole(visit: Visit, name: str) -> int:
    text = visit.field(name)
    if not (text.isascii() and text.isdigit()) or len(text) > 15:
        raise InvalidInput(f"{name}: must be a whole number")
    return int(text)


def _raise_if_ours(error: BillhookError) -> None:
    """An error that the visitor cannot fix in the form has its own page."""
    if error.status >= 500 and error.code == "INTERNAL_ERROR":
        raise error
