"""Every answer fits the schemas of `@insforge/shared-schemas`, with each field that may be null
once null and once not (contract section 3)."""

from __future__ import annotations

import json
import subprocess
from itertools import count
from typing import Any

import pytest

from api import Api, serving
from clients_of_node import HERE, require_node
from http_tokens import ANONYMOUS_KEY, token
from stripe_events import customer, event, payment_intent, refund, session, subject, subscription

_accounts = count()
_FILLED = {
    "cancel_at": 1_790_000_000,
    "canceled_at": 1_780_000_100,
    "trial_start": 1_780_000_000,
    "trial_end": 1_780_500_000,
    "latest_invoice": "in_1",
    "metadata": {**subject(), "plan": "pro"},
}


def violations(answers: list[dict[str, Any]]) -> list[str]:
    run = subprocess.run(
        ["node", "schemas.mjs"],
        cwd=HERE,
        input=json.dumps(answers),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return run.stdout.splitlines()


class Collected:
    """Answers as they came, each beside the schema that it must fit."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.answers: list[dict[str, Any]] = []

    def call(self, schema: str, method: str, path: str, body: Any = None) -> Any:
        answer = self.api.admin(method, path, body)
        assert answer.status_code < 300, answer.text
        self.answers.append({"schema": schema, "body": answer.json()})
        return answer.json()

    def values(self, path: str) -> list[Any]:
        """What stands at `a[].b` in all the answers."""
        found: list[Any] = [each["body"] for each in self.answers]
        for step in path.split("."):
            found = [each[step] for each in found if isinstance(each, dict) and step in each]
            found = [one for each in found for one in (each if isinstance(each, list) else [each])]
        return found


@pytest.mark.node
def test_every_answer_fits_the_schemas_of_the_clients(database_url: str, sandbox: str) -> None:
    require_node()
    with serving(database_url, sandbox, public_url="http://127.0.0.1:9") as api:
        got = Collected(api)
        got.call("getStripeStatusResponseSchema", "GET", "/status")
        got.call("syncStripePaymentsResponseSchema", "POST", "/sync")
        key = {"secretKey": f"sk_test_schemas{next(_accounts)}_1"}
        got.call("getStripeConfigResponseSchema", "PUT", "/test/config", key)
        manage_catalog(got)
        got.call("syncStripePaymentsResponseSchema", "POST", "/test/sync")
        got.call("configureStripeWebhookResponseSchema", "POST", "/test/webhook")
        tell_events(api)
        got.call("getStripeStatusResponseSchema", "GET", "/status")
        got.call("getStripeConfigResponseSchema", "GET", "/config")
        got.call("listPaymentTransactionsResponseSchema", "GET", "/test/transactions")
        got.call("listStripeSubscriptionsResponseSchema", "GET", "/test/subscriptions")
        got.call("listPaymentCustomersResponseSchema", "GET", "/test/customers")
        runtime(api, got)
        got.call("getStripeConfigResponseSchema", "DELETE", "/test/config")
    assert violations(got.answers) == []
    assert one_sided(got) == []


def manage_catalog(got: Collected) -> None:
    products, prices = "/test/catalog/products", "/test/catalog/prices"
    tea = {"name": "Tea", "description": "Green", "metadata": {"a": "b"}}
    made = got.call("mutateStripeProductResponseSchema", "POST", products, tea)["product"]
    got.call("mutateStripeProductResponseSchema", "POST", products, {"name": "Plain"})
    path = f"{products}/{made['productId']}"
    got.call("mutateStripeProductResponseSchema", "PATCH", path, {"active": True})
    monthly = {
        "productId": made["productId"],
        "currency": "eur",
        "unitAmount": 900,
        "lookupKey": "monthly",
        "taxBehavior": "exclusive",
        "recurring": {"interval": "month"},
    }
    price = got.call("mutateStripePriceResponseSchema", "POST", prices, monthly)["price"]
    once = {"productId": made["productId"], "currency": "eur", "unitAmount": 900}
    got.call("mutateStripePriceResponseSchema", "POST", prices, once)
    of_price = f"{prices}/{price['priceId']}"
    got.call("mutateStripePriceResponseSchema", "PATCH", of_price, {"metadata": {"a": "b"}})
    got.call("getStripePriceResponseSchema", "GET", of_price)
    got.call("getStripeProductResponseSchema", "GET", path)
    got.call("archiveStripePriceResponseSchema", "DELETE", of_price)
    got.call("listStripeProductsResponseSchema", "GET", products)
    got.call("listStripePricesResponseSchema", "GET", prices)
    got.call("listStripeCatalogResponseSchema", "GET", "/test/catalog")
    last = got.call("mutateStripeProductResponseSchema", "POST", products, {"name": "Gone"})
    gone = f"{products}/{last['product']['productId']}"
    got.call("deleteStripeProductResponseSchema", "DELETE", gone)


def tell_events(api: Api) -> None:
    """Rows with every field known, and rows with as little as there may be."""
    card = {"id": "pm_1", "type": "card", "card": {"brand": "visa", "last4": "4242"}}
    address = {"address": {"country": "DE"}, "phone": "+49", "metadata": {"a": "b"}}
    mine = {"insforge_checkout_mode": "payment", **subject()}
    known = payment_intent(
        "pi_1", metadata=mine, customer="cus_1", receipt_email="a@b.test", description="Tea"
    )
    bare = payment_intent(
        "pi_2", metadata={"insforge_checkout_mode": "payment"}, latest_charge="ch_2", customer=None
    )
    for each in (
        event(
            "customer.created",
            customer("cus_1", invoice_settings={"default_payment_method": card}, **address),
        ),
        event("customer.created", customer("cus_2", email=None, name=None, created=None)),
        event("payment_intent.succeeded", known),
        event("payment_intent.payment_failed", bare),
        event("refund.created", refund("re_1", payment_intent="pi_1")),
        event("customer.subscription.created", subscription("sub_1", **_FILLED)),
        event(
            "customer.subscription.created",
            subscription(
                "sub_2", customer="cus_2", latest_invoice=None, items={"data": [{"id": "si_bare"}]}
            ),
        ),
        event(
            "checkout.session.completed",
            session("cs_9", payment_intent="pi_9", amount_total=None, currency=None),
        ),
    ):
        assert api.deliver(each).status_code == 200


def runtime(api: Api, got: Collected) -> None:
    price = api.admin("GET", "/test/catalog/prices").json()["prices"]
    once = next(each for each in price if each["type"] == "one_time")
    order = {
        "mode": "payment",
        "lineItems": [{"priceId": once["priceId"]}],
        "successUrl": "https://a.test",
        "cancelUrl": "https://a.test",
    }
    for more, bearer in (
        ({}, ANONYMOUS_KEY),
        ({"subject": {"type": "team", "id": "t2"}, "customerEmail": "a@b.test"}, token()),
    ):
        opened = api.checkout(order | more, bearer)
        assert opened.status_code == 201, opened.text
        got.answers.append({"schema": "createCheckoutSessionResponseSchema", "body": opened.json()})
    receipt = api.deliver(event("customer.updated", customer("cus_1"), at=50))
    got.answers.append({"schema": "stripeWebhookResponseSchema", "body": receipt.json()})


def one_sided(got: Collected) -> list[str]:
    """Nullable fields of the lists that were always null, or never."""
    nullable = {
        "transactions": [
            "subjectType",
            "subjectId",
            "providerCustomerId",
            "customerEmailSnapshot",
            "amount",
            "currency",
            "description",
            "paidAt",
            "failedAt",
            "refundedAt",
        ],
        "subscriptions": [
            "subjectType",
            "subjectId",
            "currentPeriodStart",
            "currentPeriodEnd",
            "cancelAt",
            "canceledAt",
            "trialStart",
            "trialEnd",
            "latestInvoiceId",
        ],
        "subscriptions.items": ["productId", "priceId", "quantity"],
        "customers": [
            "email",
            "name",
            "phone",
            "providerCreatedAt",
            "lastPaymentAt",
            "totalSpend",
            "totalSpendCurrency",
            "paymentMethodBrand",
            "paymentMethodLast4",
            "countryCode",
        ],
        "products": ["description"],
        "prices": ["lookupKey", "recurringInterval", "recurringIntervalCount"],
        "connections": [
            "accountId",
            "accountLivemode",
            "webhookEndpointId",
            "webhookEndpointUrl",
            "webhookConfiguredAt",
            "maskedKey",
            "lastSyncedAt",
            "lastSyncStatus",
            "lastSyncError",
        ],
    }
    found = []
    for path, fields in nullable.items():
        rows = got.values(path)
        for field in fields:
            if {row[field] is None for row in rows} != {True, False}:
                found.append(f"{path}.{field}")
    return found
