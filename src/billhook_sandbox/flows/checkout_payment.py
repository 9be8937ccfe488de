"""Pays Checkout Sessions, for the page, the API and the controls."""

from typing import Literal

from billhook_sandbox.errors import InvalidRequest
from billhook_sandbox.event_log import change, emit
from billhook_sandbox.flows import (
    charge_attempts,
    checkout_subscription,
    setup_intent_lifecycle,
)
from billhook_sandbox.flows.checkout_buyer import Buyer, check_buyer, with_known_details
from billhook_sandbox.flows.checkout_choices import apply_choices, require_usable_code
from billhook_sandbox.flows.checkout_completion import Purchase, complete, complete_with_invoice
from billhook_sandbox.flows.checkout_customer import create_customer, update_customer
from billhook_sandbox.flows.dispute_lifecycle import open_dispute_for_card
from billhook_sandbox.objects.checkout_session import collects_method
from billhook_sandbox.objects.payment_intent import full_shipping, make_intent
from billhook_sandbox.objects.payment_method import attach_method, billing_details
from billhook_sandbox.objects.setup_intent import make_setup_intent
from billhook_sandbox.schedule import schedule_in
from billhook_sandbox.store import DataSet, Json

Authentication = Literal["ask", "confirmed", "denied"]


def pay(
    data: DataSet,
    session: Json,
    method: Json | None,
    buyer: Buyer,
    authentication: Authentication = "ask",
) -> Json:
    """Pays the session and returns it. Raises CardError if the payment fails.

    A failed payment leaves the session open for another attempt (stripe-facts 6). So does a card
    that requires authentication, with the intent in `requires_action`.
    """
    require_open_session(session)
    buyer = with_known_details(session, buyer)
    check_buyer(session, buyer)
    if method:
        check_owner(session, method)
    require_usable_code(data, session, buyer)
    session = apply_choices(data, session, buyer)
    method = prepared_method(data, session, method, buyer) if collects_method(session) else None
    remember_buyer(data, session, buyer)
    purchase = Purchase(session, buyer, method)
    if session["mode"] == "setup" and method:
        return save_method(data, purchase, method, authentication)
    if not session["amount_total"] or method is None:
        return complete_without_payment(data, purchase, authentication)
    return attempt(data, purchase, method, authentication)


def remember_buyer(data: DataSet, session: Json, buyer: Buyer) -> None:
    """For the page that authenticates the payment, after a redirect."""
    record = data.need("_checkout", session["id"])
    maps = {name: dict(getattr(buyer, name)) for name in ("custom_fields", "quantities")}
    data.put({**record, "buyer": {**buyer._asdict(), **maps}})


def prepared_method(data: DataSet, session: Json, method: Json | None, buyer: Buyer) -> Json:
    """The payment method with the buyer's billing details, unless it was saved before."""
    if method is None:
        message = "A payment method is required."
        raise InvalidRequest(message, code="parameter_missing", param="payment_method")
    if method["customer"] is not None:
        return method
    given = {"email": buyer.email, "name": buyer.name, "address": buyer.address}
    details = billing_details({**given, "phone": buyer.phone})
    return data.put({**method, "billing_details": details, **redisplay(data, session, buyer)})


def redisplay(data: DataSet, session: Json, buyer: Buyer) -> Json:
    """Whether the method may be shown to the customer at their next checkout."""
    record = data.need("_checkout", session["id"])
    if record["payment_method_data"]:
        return dict(record["payment_method_data"])
    saves = (session["saved_payment_method_options"] or {}).get("payment_method_save") == "enabled"
    if buyer.save_method and saves:
        return {"allow_redisplay": "always"}
    return {"allow_redisplay": "limited"} if session["mode"] != "payment" else {}


def attempt(
    data: DataSet, purchase: Purchase, method: Json, authentication: Authentication
) -> Json:
    """One attempt to charge the method."""
    session = purchase.session
    card = charge_attempts.card_for(data, method, session["customer"])
    intent, is_new = intent_of(data, purchase, method)
    if card.payment == "declined":
        emit_created(data, intent, is_new)
        raise charge_attempts.decline(data, intent, method, card)
    if card.payment == "requires_authentication" and authentication != "confirmed":
        emit_created(data, intent, is_new)
        if authentication == "denied":
            raise charge_attempts.fail_authentication(data, intent, method)
        return require_action(data, session, intent, method)
    customer = customer_for(data, purchase)
    intent = data.put({**intent, "customer": customer and customer["id"]})
    purchase = purchase._replace(customer=customer, intent=intent, intent_is_new=is_new)
    if session["mode"] == "subscription" and customer:
        return subscribe(data, purchase, customer)
    if method["type"] == "sepa_debit":
        return start_debit(data, purchase, method, intent)
    return charge_once(data, purchase, method, intent)


def complete_without_payment(
    data: DataSet, purchase: Purchase, authentication: Authentication
) -> Json:
    """Nothing is due now. A subscription's payment method is still saved, for later."""
    session, method = purchase.session, purchase.method
    if session["mode"] != "subscription":
        purchase = purchase._replace(customer=customer_for(data, purchase))
        return complete(data, purchase, "no_payment_required")
    if method is None:
        new = need_customer(data, purchase)
        return subscribe(data, purchase._replace(customer=new), new)
    card = charge_attempts.card_for(data, method, session["customer"])
    intent = setup_intent_of(data, session, method)
    fails = setup_intent_lifecycle.fails(card, authentication)
    # As with payments, a customer is only created once nothing else can fail.
    customer = None if fails else need_customer(data, purchase)
    if customer:
        intent = data.put({**intent, "customer": customer["id"]})
    intent = setup_intent_lifecycle.confirm(data, intent, authentication, card)
    if customer is None:
        return data.need("checkout.session", session["id"])
    return subscribe(data, purchase._replace(customer=customer), customer)


def setup_intent_of(data: DataSet, session: Json, method: Json) -> Json:
    """The setup intent for all attempts to save the method of a subscription without a payment."""
    record = data.need("_checkout", session["id"])
    intent = data.get("setup_intent", record["setup_intent"])
    if intent is None:
        values = {"customer": session["customer"]}
        intent = make_setup_intent(data, values, [method["type"]])
        data.put({**record, "setup_intent": intent["id"]})
    ready = {"payment_method": method["id"], "status": "requires_confirmation"}
    return data.put({**intent, **ready, "next_action": None})


def save_method(
    data: DataSet, purchase: Purchase, method: Json, authentication: Authentication
) -> Json:
    """In setup mode: saves the payment method without charging it."""
    session = purchase.session
    intent = data.need("setup_intent", session["setup_intent"])
    values = {"payment_method": method["id"], "status": "requires_confirmation"}
    card = charge_attempts.card_for(data, method, session["customer"])
    # As with payments, a customer is only created once nothing else can fail.
    fails = setup_intent_lifecycle.fails(card, authentication)
    customer = None if fails else customer_for(data, purchase)
    if customer:
        values["customer"] = customer["id"]
    intent = data.put({**intent, **values})
    intent = setup_intent_lifecycle.confirm(data, intent, authentication, card)
    if intent["status"] == "requires_action":
        return session
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


def intent_of(data: DataSet, purchase: Purchase, method: Json) -> tuple[Json, bool]:
    """The intent for all attempts, and whether it is new. Its amount follows the session's."""
    session = purchase.session
    record = data.need("_checkout", session["id"])
    amount, shipping = session["amount_total"], purchase.buyer.shipping
    intent = data.get("payment_intent", record["payment_intent"])
    if intent:
        values: Json = {"amount": amount, "payment_method_types": [method["type"]]}
        if shipping:
            values["shipping"] = intent_shipping(purchase.buyer, shipping)
        return data.put({**intent, **values}), False
    given = dict(record["payment_intent_data"])
    values = {
        **given,
        "metadata": given.get("metadata") or {},
        "shipping": full_shipping(given.get("shipping")),
    }
    if session["mode"] == "subscription":
        values = {"description": "Subscription creation", "setup_future_usage": "off_session"}
    elif shipping:
        values["shipping"] = intent_shipping(purchase.buyer, shipping)
    intent = make_intent(data, amount, session["currency"], session["customer"], method, **values)
    data.put({**record, "payment_intent": intent["id"]})
    if session["mode"] == "payment":
        change(data, session, payment_intent=intent["id"])
    return intent, True


def intent_shipping(buyer: Buyer, shipping: Json) -> Json | None:
    phone = {"phone": buyer.phone} if buyer.phone else {}
    return full_shipping({"address": shipping["address"], "name": shipping["name"], **phone})


def emit_created(data: DataSet, intent: Json, is_new: bool) -> None:
    if is_new:
        emit(data, "payment_intent.created", intent)


def require_action(data: DataSet, session: Json, intent: Json, method: Json) -> Json:
    page = data.need("_checkout", session["id"])["page_url"]
    intent = change(
        data,
        intent,
        next_action={
            "type": "redirect_to_url",
            "redirect_to_url": {"return_url": page, "url": f"{page}/authenticate"},
        },
        payment_method=method["id"],
        status="requires_action",
    )
    emit(data, "payment_intent.requires_action", intent)
    return data.need("checkout.session", session["id"])


def customer_for(data: DataSet, purchase: Purchase) -> Json | None:
    """The session's customer. `always` creates one before the payment (stripe-facts 2), and so does
    an invoice; a guest has none."""
    session = purchase.session
    record = data.need("_checkout", session["id"])
    customer = data.get("customer", session["customer"])
    if customer:
        return update_customer(data, customer, record["customer_update"], purchase.buyer)
    invoiced = (session["invoice_creation"] or {}).get("enabled")
    if session["customer_creation"] != "always" and not invoiced:
        return None
    return create_customer(data, purchase.buyer)


def need_customer(data: DataSet, purchase: Purchase) -> Json:
    """The customer of a subscription, which always has one."""
    return customer_for(data, purchase) or create_customer(data, purchase.buyer)


def charge_once(data: DataSet, purchase: Purchase, method: Json, unpaid: Json) -> Json:
    customer = purchase.customer
    intent, charge = charge_attempts.succeed(data, unpaid, method)
    emit(data, "charge.succeeded", charge)
    if customer and (intent["setup_future_usage"] or method["allow_redisplay"] == "always"):
        attach_method(data, method, customer)
    emit(data, "payment_intent.succeeded", intent)
    # Stripe sends `created` after `succeeded` (stripe-facts 3).
    emit_created(data, unpaid, purchase.intent_is_new)
    session = complete_with_invoice(data, purchase, "paid", intent)
    open_dispute_for_card(data, charge, charge_attempts.card_of(method))
    return session


def start_debit(data: DataSet, purchase: Purchase, method: Json, unpaid: Json) -> Json:
    """Completes the session as unpaid; the debit succeeds or fails later (stripe-facts 7)."""
    intent, charge = charge_attempts.start_debit(data, unpaid, method)
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
    if unpaid and method:
        intent, charge = charge_attempts.succeed(data, unpaid, method)
        emit(data, "charge.succeeded", charge)
    method = method and attach_method(data, method, customer)
    record = data.need("_checkout", session["id"])
    created = checkout_subscription.create(data, record, customer, method, intent)
    ids = {"subscription": created.subscription["id"], "invoice": created.paid["id"]}
    session = complete(data, purchase, "paid" if intent else "no_payment_required", **ids)
    customer = data.need("customer", customer["id"])
    if customer["currency"] is None:
        change(data, customer, "customer.updated", currency=session["currency"])
    checkout_subscription.emit_created(data, created)
    if unpaid and intent:
        emit(data, "payment_intent.succeeded", intent)
        emit_created(data, unpaid, purchase.intent_is_new)
    checkout_subscription.emit_invoice_events(data, created.invoice)
    if charge and method:
        open_dispute_for_card(data, charge, charge_attempts.card_of(method))
    return data.need("checkout.session", session["id"])
