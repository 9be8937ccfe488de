"""Requests every kind of object. The sandbox validates each response and event against the SDK's
types, so an invalid object would be a 500 here."""

from __future__ import annotations

import pytest

from sandbox.shop import Sandbox, Shop

LISTS = {
    "balance_transaction": "/v1/balance_transactions",
    "billing.credit_balance_transaction": "/v1/billing/credit_balance_transactions",
    "billing.credit_grant": "/v1/billing/credit_grants",
    "billing.meter": "/v1/billing/meters",
    "billing_portal.configuration": "/v1/billing_portal/configurations",
    "charge": "/v1/charges",
    "checkout.session": "/v1/checkout/sessions",
    "coupon": "/v1/coupons",
    "customer": "/v1/customers",
    "dispute": "/v1/disputes",
    "entitlements.feature": "/v1/entitlements/features",
    "event": "/v1/events",
    "invoice": "/v1/invoices",
    "invoice_payment": "/v1/invoice_payments",
    "payment_intent": "/v1/payment_intents",
    "payment_method": "/v1/payment_methods",
    "price": "/v1/prices",
    "product": "/v1/products",
    "promotion_code": "/v1/promotion_codes",
    "refund": "/v1/refunds",
    "setup_intent": "/v1/setup_intents",
    "subscription": "/v1/subscriptions",
    "webhook_endpoint": "/v1/webhook_endpoints",
}


@pytest.fixture(scope="module")
def busy(sandbox: Sandbox) -> Shop:
    """A shop in which nearly everything has happened once."""
    shop = sandbox.shop()
    shop.v1.products.create(
        {"name": "Cup", "default_price_data": {"currency": "usd", "unit_amount": 900}}
    )
    shop.v1.customers.create({"email": "a@b.co", "payment_method": "pm_card_visa"})
    coupon = shop.v1.coupons.create({"percent_off": 25})
    code = {"promotion": {"type": "coupon", "coupon": coupon.id}}
    shop.v1.promotion_codes.create(code)
    shop.paid(discounts=[{"coupon": coupon.id}])
    shop.v1.webhook_endpoints.create({"url": "http://127.0.0.1:9/hook", "enabled_events": ["*"]})
    paid = shop.paid(customer_creation="always")
    shop.v1.refunds.create({"payment_intent": paid["payment_intent"], "amount": 100})
    failing = shop.paid(card="pm_card_refundFail")
    shop.v1.refunds.create({"payment_intent": failing["payment_intent"]})
    shop.paid(card="pm_card_createDispute")
    shop.v1.setup_intents.create({"payment_method": "pm_card_visa", "confirm": True})
    declined = shop.session()
    with pytest.raises(Exception, match="declined"):
        shop.pay(declined.id, "pm_card_chargeDeclined")
    authenticating = shop.session().id
    shop.pay(authenticating, "pm_card_authenticationRequired", authentication="ask")
    debit(shop)
    subscribed = shop.paid("subscription")
    sandbox.control("renew", subscription=subscribed["subscription"])
    sandbox.control("renew", subscription=subscribed["subscription"], outcome="failed")
    shop.v1.billing_portal.sessions.create({"customer": subscribed["customer"]})
    shop.v1.checkout.sessions.expire(shop.session().id)
    shop.v1.subscriptions.cancel(shop.paid("subscription")["subscription"])
    usage(shop, subscribed["customer"])
    shop.v1.entitlements.features.create({"lookup_key": "chat", "name": "Chat"})
    shop.settle()
    return shop


def usage(shop: Shop, customer: str) -> None:
    meter = shop.v1.billing.meters.create(
        {
            "display_name": "Calls",
            "event_name": "calls",
            "default_aggregation": {"formula": "sum"},
        }
    )
    shop.v1.billing.meters.deactivate(meter.id)
    amount = {"type": "monetary", "monetary": {"currency": "usd", "value": 100}}
    scope = {"scope": {"price_type": "metered"}}
    grant = shop.v1.billing.credit_grants.create(
        {"customer": customer, "amount": amount, "applicability_config": scope}
    )
    shop.v1.billing.credit_grants.expire(grant.id)


def debit(shop: Shop) -> None:
    for iban in ("AT611904300234573201", "AT861904300235473202"):
        price = shop.price(currency="eur")
        session = shop.session(line_items=[{"price": price, "quantity": 1}])
        method = shop.v1.payment_methods.create(
            {"type": "sepa_debit", "sepa_debit": {"iban": iban}}
        )
        shop.pay(session.id, method.id)


@pytest.mark.parametrize("kind", sorted(LISTS))
def test_each_kind_of_object_is_listed(busy: Shop, kind: str) -> None:
    listed = busy.get(LISTS[kind], limit="100")
    assert {obj["object"] for obj in listed["data"]} == {kind}


def test_events_of_each_type_are_listed(busy: Shop) -> None:
    """On all pages: a busy shop has more than a hundred events."""
    found = {event.type for event in busy.v1.events.list({"limit": 100}).auto_paging_iter()}
    assert len(found) > 30
    for type_ in sorted(found):
        assert busy.get("/v1/events", type=type_, limit="100")["data"]


def test_objects_without_a_list_are_retrieved(busy: Shop) -> None:
    customer = busy.get("/v1/customers")["data"][0]["id"]
    subscription = busy.get("/v1/subscriptions")["data"][0]
    session = busy.get("/v1/checkout/sessions")["data"][0]["id"]
    invoice = subscription["latest_invoice"]
    portal = busy.raw("POST", "/v1/billing_portal/sessions", customer=customer).json()
    found = [
        busy.get("/v1/account"),
        busy.get("/v1/balance"),
        portal,
        busy.get(f"/v1/checkout/sessions/{session}/line_items"),
        busy.get(f"/v1/invoices/{invoice}/lines"),
        busy.get("/v1/subscription_items", subscription=subscription["id"]),
    ]
    assert [o["data"][0]["object"] if o["object"] == "list" else o["object"] for o in found] == [
        *("account", "balance", "billing_portal.session"),
        *("item", "line_item", "subscription_item"),
    ]


@pytest.mark.parametrize(
    ("path", "expansions"),
    [
        ("/v1/charges", ["balance_transaction", "refunds", "payment_intent.payment_method"]),
        ("/v1/checkout/sessions", ["line_items", "payment_intent.latest_charge", "customer"]),
        ("/v1/customers", ["subscriptions", "sources"]),
        ("/v1/invoices", ["payments", "customer"]),
        ("/v1/prices", ["product"]),
        ("/v1/subscriptions", ["default_payment_method", "latest_invoice.payments"]),
    ],
)
def test_objects_are_expanded(busy: Shop, path: str, expansions: list[str]) -> None:
    plain = busy.get(path, limit="100")["data"]
    asked = {f"expand[{i}]": f"data.{name}" for i, name in enumerate(expansions)}
    together = busy.get(path, limit="100", **asked)["data"]
    for name in expansions:
        alone = busy.get(path, limit="100", **{"expand[]": f"data.{name}"})["data"]
        assert alone != plain, name
        assert (alone != together) == (len(expansions) > 1), name
