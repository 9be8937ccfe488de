"""Options of a checkout, through the API: who may send which, and what policies see of them."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import pytest
from test_checkout import MINE, POLICIES, order

from api import Api, opened
from billhook.checkout.rows import canonical
from billhook.models import CreateCheckoutSession, parse
from billhook.models.wire import request_hash
from http_tokens import ADMIN_KEY, ANONYMOUS_KEY, USER, token
from selling import Shop

AS_USER = {"claims": {"sub": USER}}
ONLY_GERMAN = """
    CREATE POLICY german ON payments.stripe_checkout_sessions AS RESTRICTIVE FOR INSERT
        WITH CHECK (options ->> 'locale' = 'de' AND offer IS NULL);
"""
ROW = "SELECT options, offer, request_hash FROM payments.stripe_checkout_sessions"


def at_stripe(api: Api, session: dict[str, Any]) -> Any:
    return api.stripe.v1.checkout.sessions.retrieve(session["checkoutSessionId"])


def test_options_reach_stripe_and_are_in_the_row(api: Api, price: str) -> None:
    options = {"allowPromotionCodes": True, "locale": "de", "billingAddressCollection": "required"}
    session = opened(api.checkout(order(price, options=options), ANONYMOUS_KEY))
    assert api.books.row(ROW)["options"] == options
    found = at_stripe(api, session)
    assert (found.allow_promotion_codes, found.locale) == (True, "de")
    assert found.billing_address_collection == "required"


def test_a_request_without_options_has_none_in_its_row_and_answer(api: Api, price: str) -> None:
    session = opened(api.checkout(order(price), ANONYMOUS_KEY))
    row = api.books.row(ROW)
    assert (row["options"], row["offer"]) == ({}, None)
    assert {"clientSecret", "trialGranted"}.isdisjoint(session)


def test_policies_decide_about_options(api: Api, price: str) -> None:
    api.books.execute(POLICIES + ONLY_GERMAN)
    german = order(price, subject=MINE, options={"locale": "de"})
    opened(api.checkout(german, token()))
    for options in ({}, {"locale": "fr"}):
        refused = api.checkout({**german, "options": options}, token())
        assert (refused.status_code, refused.json()["error"]) == (403, "AUTH_UNAUTHORIZED")


@pytest.mark.parametrize(
    "bearer", [token(), token(role="anon"), ANONYMOUS_KEY], ids=["user", "guest token", "guest"]
)
@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"options": {"discounts": [{"coupon": "C"}]}}, "options.discounts"),
        (
            {"lineItems": [{"priceData": {"name": "x", "unitAmount": 1, "currency": "eur"}}]},
            "lineItems.0.priceData",
        ),
    ],
)
def test_a_browser_does_not_decide_what_is_paid(
    api: Api, price: str, bearer: str, more: dict[str, Any], field: str
) -> None:
    refused = api.checkout(order(price, **more), bearer)
    assert (refused.status_code, refused.json()["error"]) == (403, "FORBIDDEN")
    assert field in refused.json()["message"]
    assert "admin key" in refused.json()["nextActions"]
    assert api.books.row("SELECT count(*) FROM payments.stripe_checkout_sessions")["count"] == 0


def test_a_server_sells_at_an_amount_of_its_own(api: Api) -> None:
    api.books.execute(POLICIES)
    item = {"priceData": {"name": "Donation", "unitAmount": 2500, "currency": "eur"}}
    body = order("", subject=MINE, lineItems=[item], actAs=AS_USER)
    session = opened(api.checkout(body, ADMIN_KEY))
    assert at_stripe(api, session).amount_total == 2500
    theirs = api.checkout({**body, "subject": {"type": "user", "id": "x"}}, ADMIN_KEY)
    assert (theirs.status_code, theirs.json()["error"]) == (403, "AUTH_UNAUTHORIZED")


def test_a_project_admins_token_may_decide_too(api: Api) -> None:
    item = {"priceData": {"name": "Donation", "unitAmount": 2500, "currency": "eur"}}
    session = opened(api.checkout(order("", lineItems=[item]), token(role="project_admin")))
    assert at_stripe(api, session).amount_total == 2500


def test_a_discount_by_the_server_reduces_the_amount(api: Api, price: str) -> None:
    coupon = api.stripe.v1.coupons.create({"percent_off": 20, "duration": "once"})
    options = {"discounts": [{"coupon": coupon.id}]}
    body = order(price, subject=MINE, options=options, actAs=AS_USER)
    assert at_stripe(api, opened(api.checkout(body, ADMIN_KEY))).amount_total == 1200


def test_the_same_key_with_other_options_is_another_checkout(api: Api, price: str) -> None:
    body = order(price, subject=MINE, idempotencyKey=uuid4().hex, options={"locale": "de"})
    first = opened(api.checkout(body, token()))
    assert opened(api.checkout(body, token())) == first
    for options in ({}, {"locale": "fr"}):
        changed = api.checkout({**body, "options": options}, token())
        assert changed.status_code == 409
        assert changed.json()["error"] == "PAYMENT_CHECKOUT_ALREADY_EXISTS"


OWN_PRICE = [{"priceData": {"name": "x", "unitAmount": 1, "currency": "eur"}, "quantity": 1}]


def insert_as_the_user(api: Api, **columns: object) -> None:
    """What users who can run SQL may do: they choose the columns of their row."""
    names = ", ".join(columns)
    api.books.execute(
        f"""
        SET ROLE authenticated;
        SET request.jwt.claims = '{{"sub": "{USER}", "role": "authenticated"}}';
        INSERT INTO payments.stripe_checkout_sessions ({names})
        SELECT {names} FROM jsonb_populate_record(
            NULL::payments.stripe_checkout_sessions, '{json.dumps(columns)}');
        RESET ROLE;
        """
    )


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("mode", "subscription"),
        ("line_items", OWN_PRICE),
        ("options", {"discounts": [{"coupon": "C"}]}),
        ("offer", "launch"),
        ("metadata", {"order": "2"}),
        ("customer_email", "ada@example.com"),
        ("success_url", "https://other.example/done"),
        ("cancel_url", "https://other.example/cart"),
    ],
)
def test_what_policies_have_not_seen_is_not_sold(
    api: Api, price: str, column: str, value: object
) -> None:
    """Users who can run SQL insert a row that the policies allow, with the hash of a request that
    they would not allow."""
    api.books.execute(POLICIES)
    body = order(
        price,
        subject=MINE,
        idempotencyKey=uuid4().hex,
        options={"locale": "de"},
        metadata={"order": "1"},
    )
    same = {
        "environment": "test",
        "mode": "payment",
        "subject_type": "user",
        "subject_id": USER,
        "line_items": [{"priceId": price, "quantity": 1}],
        "success_url": body["successUrl"],
        "cancel_url": body["cancelUrl"],
        "idempotency_key": body["idempotencyKey"],
        "options": {"locale": "de"},
        "metadata": {"order": "1"},
        "request_hash": request_hash(canonical(parse(CreateCheckoutSession, body))),
    }
    insert_as_the_user(api, **{**same, column: value})
    refused = api.checkout(body, token())
    assert refused.status_code == 409, refused.text
    assert refused.json()["error"] == "PAYMENT_CHECKOUT_ALREADY_EXISTS"
    row = api.books.row("SELECT status, url FROM payments.stripe_checkout_sessions")
    assert (row["status"], row["url"]) == ("initialized", None)


def test_a_row_of_the_callers_own_is_as_old_as_it_is(api: Api) -> None:
    """A policy may allow so many checkouts a day."""
    before = api.books.row("SELECT now() AS at")["at"]
    long_ago = "2000-01-01T00:00:00Z"
    insert_as_the_user(
        api,
        environment="test",
        mode="payment",
        status="initialized",
        line_items=[],
        metadata={},
        raw={},
        options={},
        id=str(uuid4()),
        success_url="",
        cancel_url="",
        created_at=long_ago,
        updated_at=long_ago,
    )
    row = api.books.row("SELECT created_at, updated_at FROM payments.stripe_checkout_sessions")
    assert min(row.values()) >= before


@pytest.mark.parametrize("column", ["offer_options", "redeemed_offer", "trial_granted"])
def test_only_billhook_writes_what_an_offer_decided(api: Api, column: str) -> None:
    values = {"offer_options": "'{\"trialDays\": 9}'", "redeemed_offer": "gen_random_uuid()"}
    value = values.get(column, "true")
    with pytest.raises(Exception, match="only Billhook may set these columns"):
        api.books.execute(
            f"""
            SET ROLE authenticated;
            INSERT INTO payments.stripe_checkout_sessions
                (environment, mode, success_url, cancel_url, {column})
            VALUES ('test', 'payment', '', '', {value})
            """
        )


def test_a_quantity_may_be_adjusted_within_bounds(api: Api, price: str) -> None:
    item = {"priceId": price, "quantity": 2, "adjustableQuantity": {"minimum": 1, "maximum": 5}}
    opened(api.checkout(order(price, lineItems=[item]), ANONYMOUS_KEY))
    row = api.books.row("SELECT line_items FROM payments.stripe_checkout_sessions")
    assert row["line_items"] == [item]


def test_a_payment_with_an_invoice_is_one_payment(shop: Shop) -> None:
    body = shop.order(shop.price(), "payment", options={"invoiceCreation": True})
    session = shop.open(body)
    shop.pay(session)
    shop.account.settle()
    shop.deliver()
    paid = shop.api.books.row("SELECT type, amount, subject_id FROM payments.transactions")
    assert paid == {"type": "one_time_payment", "amount": 1500, "subject_id": USER}
    invoice = shop.api.books.row("SELECT status, subject_id FROM payments.stripe_invoices")
    assert invoice == {"status": "paid", "subject_id": USER}


def test_a_saved_payment_method_is_mirrored(shop: Shop) -> None:
    session = shop.open(
        shop.order(shop.price(), "payment", options={"savePaymentMethod": "always"})
    )
    shop.pay(session)
    shop.deliver()
    row = shop.api.books.row("SELECT customer_id FROM payments.stripe_payment_methods")
    assert row["customer_id"] == shop.row(session)["customer_id"]
