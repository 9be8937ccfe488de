"""Paying a Checkout session, by whatever way it is asked for: page, API or control."""

from typing import Literal, NamedTuple

from billhook_sandbox.errors import InvalidRequest
from billhook_sandbox.event_log import change, emit
from billhook_sandbox.flows import charge_attempts, checkout_subscription, setup_intent_lifecycle
from billhook_sandbox.flows.dispute_lifecycle import open_dispute_for_card
from billhook_sandbox.objects.checkout_sessions import buyer
from billhook_sandbox.objects.coupons import redeem
from billhook_sandbox.objects.customers import make_customer
from billhook_sandbox.objects.payment_intents import full_shipping, make_intent
from billhook_sandbox.objects.payment_methods import attach, billing_details
from billhook_sandbox.schedule import schedule_in
from billhook_sandbox.store import DataSet, Json

Authentication = Literal["ask", "confirmed", "denied"]


class Buyer(NamedTuple):
    email: str | None = None
    name: str | None = None
    country: str | None = "US"
    postal_code: str | None = None


def pay(
    data: DataSet,
    session: Json,
    method: Json,
    who: Buyer,
    authentication: Authentication = "ask",
) -> Json:
    """The session afterwards; raises CardError when the payment is refused.

    A refusal leaves the session open and payable again (stripe-facts 6). A card that asks for
    authentication leaves it open too, with the intent in `requires_action`.
    """
    require_open_session(session)
    who = complete_buyer(data, session, who)
    check_owner(session, method)
    if method["customer"] is None:
        method = data.put({**method, "billing_details": billing_of(who)})
    if session["mode"] == "setup":
        return save(data, session, method, who, authentication)
    if not session["amount_total"]:
        customer = customer_for(data, session, who)
        if session["mode"] == "subscription" and customer:
            return subscribe(data, session, method, customer, None, False, who)
        return finish(data, session, who, customer, "no_payment_required")
    card = charge_attempts.card_for(data, method, session["customer"])
    intent, fresh = intent_of(data, session, method)
    if card.payment == "declined":
        emit_created(data, intent, fresh)
        raise charge_attempts.decline(data, intent, method, card)
    if card.payment == "requires_authentication" and authentication != "confirmed":
        emit_created(data, intent, fresh)
        if authentication == "denied":
            raise charge_attempts.fail_authentication(data, intent, method)
        return ask_authentication(data, session, intent, method)
    customer = customer_for(data, session, who)
    intent = data.put({**intent, "customer": customer and customer["id"]})
    if session["mode"] == "subscription" and customer:
        return subscribe(data, session, method, customer, intent, fresh, who)
    if method["type"] == "sepa_debit":
        return debit(data, session, method, customer, intent, fresh, who)
    return pay_once(data, session, method, customer, intent, fresh, who)


def save(
    data: DataSet, session: Json, method: Json, who: Buyer, authentication: Authentication
) -> Json:
    """Setup mode: the method is kept for later, and nothing is charged."""
    intent = data.need("setup_intent", session["setup_intent"])
    values = {"payment_method": method["id"], "status": "requires_confirmation"}
    intent = data.put({**intent, **values})
    intent = setup_intent_lifecycle.confirm(data, intent, authentication)
    if intent["status"] == "requires_action":
        return session
    return finish(data, session, who, customer_of(data, session), "no_payment_required")


def customer_of(data: DataSet, session: Json) -> Json | None:
    return data.get("customer", session["customer"])


def require_open_session(session: Json) -> None:
    if session["status"] != "open":
        raise InvalidRequest(
            f"This Checkout Session is {session['status']} and can no longer be paid.",
            code="checkout_session_not_open",
        )


def check_owner(session: Json, method: Json) -> None:
    """A saved method pays for its own customer only."""
    if method["customer"] not in (None, session["customer"]):
        raise InvalidRequest(
            f"The payment method {method['id']} belongs to another customer.",
            code="payment_method_unexpected_state",
            param="payment_method",
        )


def complete_buyer(data: DataSet, session: Json, who: Buyer) -> Buyer:
    """What the session already knows fills what the payer didn't say."""
    known = session["customer_details"] or {}
    email = session["customer_email"] or known.get("email") or who.email
    if not email:
        raise InvalidRequest("An e-mail address is required.", param="email")
    return who._replace(email=email, name=who.name or known.get("name"))


def billing_of(who: Buyer) -> Json:
    address = {"country": who.country, "postal_code": who.postal_code}
    return billing_details({"email": who.email, "name": who.name, "address": address})


def intent_of(data: DataSet, session: Json, method: Json) -> tuple[Json, bool]:
    """One intent for all attempts; the first makes it, and is the one to tell of it."""
    notes = data.need("_checkout", session["id"])
    intent = data.get("payment_intent", notes["payment_intent"])
    if intent:
        return data.put({**intent, "payment_method_types": [method["type"]]}), False
    given = dict(notes["payment_intent_data"])
    values = {
        **given,
        "metadata": given.get("metadata") or {},
        "shipping": full_shipping(given.get("shipping")),
    }
    if session["mode"] == "subscription":
        values = {"description": "Subscription creation", "setup_future_usage": "off_session"}
    amount, currency = session["amount_total"], session["currency"]
    intent = make_intent(data, amount, currency, session["customer"], method, **values)
    data.put({**notes, "payment_intent": intent["id"]})
    if session["mode"] == "payment":
        change(data, session, payment_intent=intent["id"])
    return intent, True


def emit_created(data: DataSet, intent: Json, fresh: bool) -> None:
    if fresh:
        emit(data, "payment_intent.created", intent)


def ask_authentication(data: DataSet, session: Json, intent: Json, method: Json) -> Json:
    target = f"{session['url']}/authenticate"
    intent = change(
        data,
        intent,
        next_action={
            "type": "redirect_to_url",
            "redirect_to_url": {"return_url": session["url"], "url": target},
        },
        payment_method=method["id"],
        status="requires_action",
    )
    emit(data, "payment_intent.requires_action", intent)
    return data.need("checkout.session", session["id"])


def customer_for(data: DataSet, session: Json, who: Buyer) -> Json | None:
    """A guest stays without one; `always` makes it now, before all else (stripe-facts 2)."""
    if session["customer"]:
        return data.need("customer", session["customer"], "customer")
    if session["customer_creation"] != "always":
        return None
    address = {"country": who.country, "postal_code": who.postal_code}
    return make_customer(data, {"email": who.email, "name": who.name, "address": address})


def pay_once(
    data: DataSet,
    session: Json,
    method: Json,
    customer: Json | None,
    intent: Json,
    fresh: bool,
    who: Buyer,
) -> Json:
    unpaid = intent
    intent, charge = charge_attempts.succeed(data, intent, method)
    emit(data, "charge.succeeded", charge)
    if customer and intent["setup_future_usage"]:
        attach(data, method, customer)
    emit(data, "payment_intent.succeeded", intent)
    # `created` really comes after `succeeded` (stripe-facts 3).
    emit_created(data, unpaid, fresh)
    session = finish(data, session, who, customer, "paid", payment_intent=intent["id"])
    open_dispute_for_card(data, charge, charge_attempts.card_of(method))
    return session


def debit(
    data: DataSet,
    session: Json,
    method: Json,
    customer: Json | None,
    intent: Json,
    fresh: bool,
    who: Buyer,
) -> Json:
    """The session completes unpaid; the money is known later (stripe-facts 7)."""
    unpaid = intent
    intent, charge = charge_attempts.start_debit(data, intent, method)
    emit(data, "charge.pending", charge)
    emit(data, "payment_intent.processing", intent)
    emit_created(data, unpaid, fresh)
    schedule_in(data, charge_attempts.DEBIT_SECONDS, "settle_debit", session=session["id"])
    return finish(data, session, who, customer, "unpaid", payment_intent=intent["id"])


def subscribe(
    data: DataSet,
    session: Json,
    method: Json,
    customer: Json,
    intent: Json | None,
    fresh: bool,
    who: Buyer,
) -> Json:
    """Subscription and invoice come after the payment, told in this order (stripe-facts 10, 11).

    `intent` is None when nothing is due yet.
    """
    unpaid, charge = intent, None
    if intent:
        intent, charge = charge_attempts.succeed(data, intent, method)
        emit(data, "charge.succeeded", charge)
    method = attach(data, method, customer)
    notes = data.need("_checkout", session["id"])
    created = checkout_subscription.start(data, notes, customer, method, intent)
    names = {"subscription": created.subscription["id"], "invoice": created.paid["id"]}
    session = finish(data, session, who, customer, "paid", **names)
    customer = data.need("customer", customer["id"])
    if customer["currency"] is None:
        change(data, customer, "customer.updated", currency=session["currency"])
    emit(data, "customer.subscription.created", created.subscription)
    if intent and unpaid:
        emit(data, "payment_intent.succeeded", intent)
        emit_created(data, unpaid, fresh)
    checkout_subscription.emit_invoice_events(data, created)
    if charge:
        open_dispute_for_card(data, charge, charge_attempts.card_of(method))
    return session


def finish(
    data: DataSet,
    session: Json,
    who: Buyer,
    customer: Json | None,
    payment_status: str,
    **values: str,
) -> Json:
    address = {**billing_details()["address"], "country": who.country}
    address["postal_code"] = who.postal_code
    session = change(
        data,
        session,
        collected_information={
            "business_name": None,
            "individual_name": None,
            "shipping_details": None,
        },
        customer=customer and customer["id"],
        customer_details={**buyer(who.email, who.name, address), "tax_ids": []},
        payment_status=payment_status,
        status="complete",
        url=None,
        **values,
    )
    for discount in session["discounts"]:
        redeem(data, discount)
    emit(data, "checkout.session.completed", session)
    return session


def settle_debit(data: DataSet, session: str) -> None:
    """The bank's answer, told of the session after that of its intent."""
    after = data.need("checkout.session", session)
    intent = data.need("payment_intent", after["payment_intent"])
    if charge_attempts.settle_debit(data, intent):
        after = change(data, after, payment_status="paid")
        emit(data, "checkout.session.async_payment_succeeded", after)
    else:
        emit(data, "checkout.session.async_payment_failed", after)


def expire_session(data: DataSet, session: Json) -> Json:
    session = change(data, session, status="expired", url=None)
    if intent := data.get("setup_intent", session["setup_intent"]):
        setup_intent_lifecycle.cancel(data, intent, "abandoned")
    emit(data, "checkout.session.expired", session)
    return session
