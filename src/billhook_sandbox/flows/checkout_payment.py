"""Pays Checkout Sessions, for the page, the API and the controls."""

from typing import Literal, NamedTuple

from billhook_sandbox.errors import InvalidRequest
from billhook_sandbox.event_log import change, emit
from billhook_sandbox.flows import charge_attempts, checkout_subscription, setup_intent_lifecycle
from billhook_sandbox.flows.dispute_lifecycle import open_dispute_for_card
from billhook_sandbox.objects.checkout_session import customer_details
from billhook_sandbox.objects.coupon import redeem
from billhook_sandbox.objects.customer import make_customer
from billhook_sandbox.objects.payment_intent import full_shipping, make_intent
from billhook_sandbox.objects.payment_method import attach_method, billing_details
from billhook_sandbox.schedule import schedule_in
from billhook_sandbox.store import DataSet, Json

Authentication = Literal["ask", "confirmed", "denied"]


class Buyer(NamedTuple):
    email: str | None = None
    name: str | None = None
    country: str | None = "US"
    postal_code: str | None = None

    @property
    def address(self) -> Json:
        return {"country": self.country, "postal_code": self.postal_code}


class Purchase(NamedTuple):
    """One attempt to pay a session."""

    session: Json
    buyer: Buyer
    method: Json
    customer: Json | None = None
    """None for a guest."""
    intent: Json | None = None
    """None if nothing is due."""
    intent_is_new: bool = False


def pay(
    data: DataSet,
    session: Json,
    method: Json,
    buyer: Buyer,
    authentication: Authentication = "ask",
) -> Json:
    """Pays the session and returns it. Raises CardError if the payment fails.

    A failed payment leaves the session open for another attempt (stripe-facts 6). So does a card
    that requires authentication, with the intent in `requires_action`.
    """
    require_open_session(session)
    buyer = with_known_details(session, buyer)
    check_owner(session, method)
    if method["customer"] is None:
        details = {"email": buyer.email, "name": buyer.name, "address": buyer.address}
        method = data.put({**method, "billing_details": billing_details(details)})
    purchase = Purchase(session, buyer, method)
    if session["mode"] == "setup":
        return save_method(data, purchase, authentication)
    if not session["amount_total"]:
        customer = customer_for(data, session, buyer)
        purchase = purchase._replace(customer=customer)
        if session["mode"] == "subscription" and customer:
            return subscribe(data, purchase, customer)
        return complete(data, purchase, "no_payment_required")
    card = charge_attempts.card_for(data, method, session["customer"])
    intent, is_new = intent_of(data, session, method)
    if card.payment == "declined":
        emit_created(data, intent, is_new)
        raise charge_attempts.decline(data, intent, method, card)
    if card.payment == "requires_authentication" and authentication != "confirmed":
        emit_created(data, intent, is_new)
        if authentication == "denied":
            raise charge_attempts.fail_authentication(data, intent, method)
        return require_action(data, session, intent, method)
    customer = customer_for(data, session, buyer)
    intent = data.put({**intent, "customer": customer and customer["id"]})
    purchase = Purchase(session, buyer, method, customer, intent, is_new)
    if session["mode"] == "subscription" and customer:
        return subscribe(data, purchase, customer)
    if method["type"] == "sepa_debit":
        return start_debit(data, purchase, intent)
    return charge_once(data, purchase, intent)


def save_method(data: DataSet, purchase: Purchase, authentication: Authentication) -> Json:
    """In setup mode: saves the payment method without charging it."""
    session = purchase.session
    intent = data.need("setup_intent", session["setup_intent"])
    values = {"payment_method": purchase.method["id"], "status": "requires_confirmation"}
    intent = data.put({**intent, **values})
    intent = setup_intent_lifecycle.confirm(data, intent, authentication)
    if intent["status"] == "requires_action":
        return session
    customer = data.get("customer", session["customer"])
    return complete(data, purchase._replace(customer=customer), "no_payment_required")


def require_open_session(session: Json) -> None:
    if session["status"] != "open":
        raise InvalidRequest(
            f"This Checkout Session is {session['status']} and can no longer be paid.",
            code="checkout_session_not_open",
        )


def check_owner(session: Json, method: Json) -> None:
    """A saved payment method can only be used by its own customer."""
    if method["customer"] not in (None, session["customer"]):
        raise InvalidRequest(
            f"The payment method {method['id']} belongs to another customer.",
            code="payment_method_unexpected_state",
            param="payment_method",
        )


def with_known_details(session: Json, buyer: Buyer) -> Buyer:
    """The buyer with the email and name that the session already has."""
    details = session["customer_details"] or {}
    email = session["customer_email"] or details.get("email") or buyer.email
    if not email:
        raise InvalidRequest("An email address is required.", param="email")
    return buyer._replace(email=email, name=buyer.name or details.get("name"))


def intent_of(data: DataSet, session: Json, method: Json) -> tuple[Json, bool]:
    """The intent for all attempts, and whether it is new."""
    record = data.need("_checkout", session["id"])
    intent = data.get("payment_intent", record["payment_intent"])
    if intent:
        return data.put({**intent, "payment_method_types": [method["type"]]}), False
    given = dict(record["payment_intent_data"])
    values = {
        **given,
        "metadata": given.get("metadata") or {},
        "shipping": full_shipping(given.get("shipping")),
    }
    if session["mode"] == "subscription":
        values = {"description": "Subscription creation", "setup_future_usage": "off_session"}
    amount, currency = session["amount_total"], session["currency"]
    intent = make_intent(data, amount, currency, session["customer"], method, **values)
    data.put({**record, "payment_intent": intent["id"]})
    if session["mode"] == "payment":
        change(data, session, payment_intent=intent["id"])
    return intent, True


def emit_created(data: DataSet, intent: Json, is_new: bool) -> None:
    if is_new:
        emit(data, "payment_intent.created", intent)


def require_action(data: DataSet, session: Json, intent: Json, method: Json) -> Json:
    url = f"{session['url']}/authenticate"
    intent = change(
        data,
        intent,
        next_action={
            "type": "redirect_to_url",
            "redirect_to_url": {"return_url": session["url"], "url": url},
        },
        payment_method=method["id"],
        status="requires_action",
    )
    emit(data, "payment_intent.requires_action", intent)
    return data.need("checkout.session", session["id"])


def customer_for(data: DataSet, session: Json, buyer: Buyer) -> Json | None:
    """The session's customer. `always` creates one before the payment (stripe-facts 2); a guest has
    none."""
    if session["customer"]:
        return data.need("customer", session["customer"], "customer")
    if session["customer_creation"] != "always":
        return None
    details = {"email": buyer.email, "name": buyer.name, "address": buyer.address}
    return make_customer(data, details)


def charge_once(data: DataSet, purchase: Purchase, unpaid: Json) -> Json:
    customer, method = purchase.customer, purchase.method
    intent, charge = charge_attempts.succeed(data, unpaid, method)
    emit(data, "charge.succeeded", charge)
    if customer and intent["setup_future_usage"]:
        attach_method(data, method, customer)
    emit(data, "payment_intent.succeeded", intent)
    # Stripe sends `created` after `succeeded` (stripe-facts 3).
    emit_created(data, unpaid, purchase.intent_is_new)
    session = complete(data, purchase, "paid", payment_intent=intent["id"])
    open_dispute_for_card(data, charge, charge_attempts.card_of(method))
    return session


def start_debit(data: DataSet, purchase: Purchase, unpaid: Json) -> Json:
    """Completes the session as unpaid; the debit succeeds or fails later (stripe-facts 7)."""
    intent, charge = charge_attempts.start_debit(data, unpaid, purchase.method)
    emit(data, "charge.pending", charge)
    emit(data, "payment_intent.processing", intent)
    emit_created(data, unpaid, purchase.intent_is_new)
    seconds = charge_attempts.DEBIT_SECONDS
    schedule_in(data, seconds, "settle_debit", session=purchase.session["id"])
    return complete(data, purchase, "unpaid", payment_intent=intent["id"])


def subscribe(data: DataSet, purchase: Purchase, customer: Json) -> Json:
    """Creates the subscription and its invoice after the payment (stripe-facts 10, 11)."""
    session, method, unpaid = purchase.session, purchase.method, purchase.intent
    intent, charge = None, None
    if unpaid:
        intent, charge = charge_attempts.succeed(data, unpaid, method)
        emit(data, "charge.succeeded", charge)
    method = attach_method(data, method, customer)
    record = data.need("_checkout", session["id"])
    created = checkout_subscription.create(data, record, customer, method, intent)
    ids = {"subscription": created.subscription["id"], "invoice": created.paid["id"]}
    session = complete(data, purchase, "paid", **ids)
    customer = data.need("customer", customer["id"])
    if customer["currency"] is None:
        change(data, customer, "customer.updated", currency=session["currency"])
    emit(data, "customer.subscription.created", created.subscription)
    if unpaid and intent:
        emit(data, "payment_intent.succeeded", intent)
        emit_created(data, unpaid, purchase.intent_is_new)
    checkout_subscription.emit_invoice_events(data, created)
    if charge:
        open_dispute_for_card(data, charge, charge_attempts.card_of(method))
    return session


def complete(data: DataSet, purchase: Purchase, payment_status: str, **values: str) -> Json:
    buyer = purchase.buyer
    address = {**billing_details()["address"], **buyer.address}
    session = change(
        data,
        purchase.session,
        collected_information={
            "business_name": None,
            "individual_name": None,
            "shipping_details": None,
        },
        customer=purchase.customer and purchase.customer["id"],
        customer_details={
            **customer_details(buyer.email, buyer.name, address),
            "tax_ids": [],
        },
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
    """The bank's response to a debit; the session's event follows those of the intent."""
    found = data.need("checkout.session", session)
    intent = data.need("payment_intent", found["payment_intent"])
    if charge_attempts.settle_debit(data, intent):
        found = change(data, found, payment_status="paid")
        emit(data, "checkout.session.async_payment_succeeded", found)
    else:
        emit(data, "checkout.session.async_payment_failed", found)


def expire_session(data: DataSet, session: Json) -> Json:
    session = change(data, session, status="expired", url=None)
    if intent := data.get("setup_intent", session["setup_intent"]):
        setup_intent_lifecycle.cancel(data, intent, "abandoned")
    emit(data, "checkout.session.expired", session)
    return session
