"""Offers: what an administrator defines, and what a browser gets by naming it."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest

from billhook import ApiError, AsyncClient, Client
from billhook.errors import CheckoutAlreadyExists
from cli import Billhook
from http_tokens import ADMIN_KEY, ANONYMOUS_KEY, token
from selling import Shop, create_while

TRIAL = {"trialDays": 14, "trialOncePerSubject": True}


def refusal(answer: Any, status: int = 400) -> str:
    assert answer.status_code == status, answer.text
    return str(answer.json()["message"])


def test_a_browser_gets_the_terms_of_the_offer_that_it_names(shop: Shop) -> None:
    shop.offer("launch", options=TRIAL)
    session = shop.open(shop.order(shop.plan(), offer="launch"))
    assert session["trialGranted"] is True
    row = shop.row(session)
    assert (row["offer"], row["options"], row["offer_options"]) == ("launch", {}, TRIAL)
    shop.pay(session)
    shop.deliver()
    (mirrored,) = shop.api.admin("GET", "/test/subscriptions").json()["subscriptions"]
    assert mirrored["status"] == "trialing"
    assert mirrored["trialEnd"] is not None


def test_what_the_offer_decides_a_request_does_not(shop: Shop) -> None:
    shop.offer("plain", options={"allowPromotionCodes": False})
    asked = {"allowPromotionCodes": True, "locale": "de"}
    found = shop.at_stripe(shop.open(shop.order(shop.plan(), offer="plain", options=asked)))
    assert (found.allow_promotion_codes, found.locale) == (False, "de")


def test_a_coupon_of_an_offer_reduces_what_is_paid(shop: Shop) -> None:
    coupon = shop.account.client.v1.coupons.create({"percent_off": 50, "duration": "once"})
    shop.offer("half", options={"discounts": [{"coupon": coupon.id}]})
    session = shop.open(shop.order(shop.price(), "payment", offer="half"))
    shop.pay(session)
    shop.deliver()
    assert shop.api.books.row("SELECT amount FROM payments.transactions") == {"amount": 750}


def test_a_guest_may_use_an_offer_where_a_policy_allows_it(shop: Shop) -> None:
    shop.offer("guests", options={"locale": "de"})
    shop.offer("members", options={"locale": "de"})
    shop.api.books.execute(
        """CREATE POLICY guests ON payments.stripe_checkout_sessions FOR INSERT TO anon
            WITH CHECK (subject_id IS NULL AND offer = 'guests')"""
    )
    body = shop.order(shop.price(), "payment", offer="guests")
    del body["subject"]
    shop.open(body, ANONYMOUS_KEY)
    refused = shop.ask({**body, "offer": "members"}, ANONYMOUS_KEY)
    assert "RLS policies" in refusal(refused, 403)
    unknown = shop.ask({**body, "offer": "unknown"}, ANONYMOUS_KEY)
    assert unknown.json() == refused.json(), "nobody learns which offers there are"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"active": False}, "the offer launch has ended"),
        ({"redeemBy": "2020-01-01T00:00:00Z"}, "the offer launch has ended"),
        ({"priceIds": ["price_other"]}, "the offer launch does not apply to these prices"),
        ({"lookupKeys": ["other"]}, "the offer launch does not apply to these prices"),
        ({"options": {"captureMethod": "manual"}}, "options.captureMethod: is only possible in"),
        (
            {"options": {"discounts": [{"coupon": "C"}]}},
            "options.discounts: must not be combined with allowPromotionCodes",
        ),
    ],
)
def test_an_offer_that_does_not_apply_is_refused(
    shop: Shop, more: dict[str, Any], message: str
) -> None:
    shop.offer("launch", **more)
    body = shop.order(shop.plan(), offer="launch", options={"allowPromotionCodes": True})
    assert message in refusal(shop.ask(body))
    row = shop.api.books.row("SELECT status, last_error FROM payments.stripe_checkout_sessions")
    assert row["status"] == "failed"
    assert message in row["last_error"]
    assert shop.open_at_stripe() == []


def test_an_unknown_offer_is_refused(shop: Shop) -> None:
    assert "there is no offer nope" in refusal(shop.ask(shop.order(shop.plan(), offer="nope")))


def test_an_offer_for_some_prices_is_for_all_items(shop: Shop) -> None:
    plan, other = shop.plan(lookup_key="monthly"), shop.plan()
    shop.deliver()  # the mirror knows the lookup key
    shop.offer("by-id", priceIds=[plan])
    shop.offer("by-key", lookupKeys=["monthly"])
    for name in ("by-id", "by-key"):
        shop.open(shop.order(plan, offer=name))
        by_key = shop.order(plan, offer=name, lineItems=[{"lookupKey": "monthly"}])
        shop.open(by_key)
        both = shop.order(plan, offer=name, lineItems=[{"priceId": plan}, {"priceId": other}])
        assert "does not apply" in refusal(shop.ask(both))
        own = {"priceData": {"name": "x", "unitAmount": 1, "currency": "eur"}}
        assert "does not apply" in refusal(
            shop.ask(shop.order(plan, offer=name, lineItems=[own]), ADMIN_KEY)
        )


def test_there_are_never_more_redemptions_than_allowed(shop: Shop) -> None:
    shop.offer("few", options={"locale": "de"}, maxRedemptions=3)
    price = shop.price()
    with ThreadPoolExecutor(8) as threads:
        body = shop.order(price, "payment", offer="few")
        answers = list(threads.map(lambda _: shop.ask(body), range(8)))
    assert sorted(each.status_code for each in answers) == [201] * 3 + [400] * 5
    assert len(shop.open_at_stripe()) == 3
    assert shop.offer("few", options={}, maxRedemptions=3)["redemptions"] == 3


def test_an_expired_checkout_frees_its_redemption_and_a_paid_one_keeps_it(shop: Shop) -> None:
    shop.offer("one", maxRedemptions=1)
    price = shop.price()
    body = shop.order(price, "payment", offer="one")
    first = shop.open(body)
    assert "used up" in refusal(shop.ask(body))
    shop.expire(first)
    shop.deliver()
    second = shop.open(body)
    shop.pay(second)
    shop.deliver()
    assert "used up" in refusal(shop.ask(body))


def test_the_same_key_redeems_once_and_outlives_the_offer(shop: Shop) -> None:
    shop.offer("one", maxRedemptions=1)
    body = shop.order(shop.price(), "payment", offer="one", idempotencyKey="k")
    first = shop.open(body)
    shop.offer("one", active=False)
    assert shop.open(body) == first
    shop.expire(first)
    shop.deliver()
    assert "has ended" in refusal(shop.ask(body))
    shop.offer("one", maxRedemptions=1)
    assert shop.open(body)["id"] == first["id"]


def test_a_failed_checkout_frees_its_redemption_and_can_be_tried_again(shop: Shop) -> None:
    shop.offer("one", maxRedemptions=1)
    price = shop.price()
    body = shop.order(price, "payment", offer="one", idempotencyKey="k")
    shop.account.fault(path_prefix="/v1/checkout/sessions", method="POST", status=400)
    assert shop.ask(body).status_code == 400
    shop.open(shop.order(price, "payment", offer="one", idempotencyKey="other"))
    assert "used up" in refusal(shop.ask(body))


def test_a_row_that_says_it_is_old_counts_like_any_other(shop: Shop) -> None:
    """Users who can run SQL choose the columns of the rows that they insert."""
    shop.offer("one", maxRedemptions=1)
    body = shop.order(shop.price(), "payment", offer="one")
    user = body["subject"]["id"]
    shop.api.books.execute(
        f"""
        SET ROLE authenticated;
        SET request.jwt.claims = '{{"sub": "{user}"}}';
        INSERT INTO payments.stripe_checkout_sessions (environment, mode, subject_type, subject_id,
            success_url, cancel_url, offer, line_items, idempotency_key, created_at, updated_at)
        SELECT 'test', 'payment', 'user', '{user}', '{body["successUrl"]}', '{body["cancelUrl"]}',
            'one', '[{{"priceId": "{body["lineItems"][0]["priceId"]}", "quantity": 1}}]', key,
            '2000-01-01', '2000-01-01'
        FROM unnest(ARRAY['k1', 'k2']) AS key;
        RESET ROLE;
        """
    )
    first = shop.open({**body, "idempotencyKey": "k1"})
    assert "used up" in refusal(shop.ask({**body, "idempotencyKey": "k2"}))
    assert shop.open_at_stripe() == [first["checkoutSessionId"]]


def test_an_offer_that_is_deleted_and_defined_again_starts_anew(shop: Shop) -> None:
    shop.offer("one", maxRedemptions=1)
    body = shop.order(shop.price(), "payment", offer="one")
    shop.open(body)
    shop.api.admin("DELETE", "/test/offers/one")
    assert shop.offer("one", maxRedemptions=1)["redemptions"] == 0
    shop.open(body)
    assert "used up" in refusal(shop.ask(body))


def test_fewer_redemptions_than_there_are_leave_none(shop: Shop) -> None:
    shop.offer("few")
    body = shop.order(shop.price(), "payment", offer="few")
    sessions = [shop.open(body) for _ in range(3)]
    assert shop.offer("few", maxRedemptions=2)["redemptions"] == 3
    assert "used up" in refusal(shop.ask(body))
    for each in sessions[:2]:
        shop.expire(each)
    shop.deliver()
    assert shop.offer("few", maxRedemptions=2)["redemptions"] == 1
    shop.open(body)
    assert "used up" in refusal(shop.ask(body))
    assert shop.offer("few", maxRedemptions=2)["redemptions"] == 2


def test_a_redemption_that_another_checkout_got_meanwhile_opens_nothing(shop: Shop) -> None:
    """While Stripe creates its session, a second request with the same key fails, so that the
    redemption is free."""
    shop.offer("one", maxRedemptions=1)
    body = shop.order(shop.price(), "payment", offer="one")
    others: list[dict[str, Any]] = []

    def overtake() -> None:
        shop.api.books.execute("UPDATE payments.stripe_checkout_sessions SET status = 'failed'")
        others.append(shop.open(body))

    with pytest.raises(CheckoutAlreadyExists, match="Another checkout with the offer “one” was"):
        create_while(shop, {**body, "idempotencyKey": "k"}, overtake)
    assert shop.open_at_stripe() == [others[0]["checkoutSessionId"]]
    assert "used up" in refusal(shop.ask({**body, "idempotencyKey": "k"}))


def test_rows_of_callers_do_not_use_up_an_offer(shop: Shop) -> None:
    shop.offer("one", maxRedemptions=1)
    shop.api.books.execute(
        f"""
        SET ROLE authenticated;
        SET request.jwt.claims = '{{"sub": "{shop.order("")["subject"]["id"]}"}}';
        INSERT INTO payments.stripe_checkout_sessions (environment, mode, subject_type, subject_id,
            success_url, cancel_url, offer)
        VALUES ('test', 'payment', 'user', '{shop.order("")["subject"]["id"]}', '', '', 'one');
        RESET ROLE;
        """
    )
    shop.open(shop.order(shop.price(), "payment", offer="one"))


def test_administrators_manage_offers(shop: Shop) -> None:
    made = shop.offer(
        "launch",
        options=TRIAL,
        priceIds=["price_1"],
        lookupKeys=["monthly"],
        redeemBy="2030-01-01T00:00:00Z",
        maxRedemptions=100,
    )
    assert made == {
        **made,
        "environment": "test",
        "name": "launch",
        "active": True,
        "options": TRIAL,
        "priceIds": ["price_1"],
        "lookupKeys": ["monthly"],
        "redeemBy": "2030-01-01T00:00:00.000Z",
        "maxRedemptions": 100,
        "redemptions": 0,
    }
    assert shop.api.admin("GET", "/test/offers/launch").json() == {"offer": made}
    assert shop.api.admin("GET", "/test/offers").json() == {"offers": [made]}
    assert shop.api.admin("GET", "/live/offers").json() == {"offers": []}
    replaced = shop.offer("launch")
    assert (replaced["options"], replaced["redeemBy"]) == ({}, None)
    gone = shop.api.admin("DELETE", "/test/offers/launch")
    assert gone.json() == {"name": "launch", "deleted": True}
    for method in ("GET", "DELETE"):
        missing = shop.api.admin(method, "/test/offers/launch")
        assert (missing.status_code, missing.json()["error"]) == (404, "NOT_FOUND")


@pytest.mark.parametrize(
    ("name", "body", "problem"),
    [
        ("launch", {"options": {"uiMode": "elements"}}, "options."),
        (
            "launch",
            {"options": {"expiresAt": "2030-01-01T00:00:00Z"}},
            "options.expiresAt: belongs",
        ),
        ("launch", {"options": {"trialDays": 0}}, "options.trialDays: "),
        ("launch", {"maxRedemptions": 0}, "maxRedemptions: "),
        ("launch", {"redeemBy": "soon"}, "redeemBy: must be a time"),
        ("launch", {"redeemBy": "0001-01-01T00:00:00Z"}, "redeemBy: must be a time from the year"),
        ("launch", {"surprise": 1}, "surprise: is not a known field"),
        ("a b", {}, "name: "),
    ],
)
def test_a_bad_offer_is_refused(shop: Shop, name: str, body: dict[str, Any], problem: str) -> None:
    answer = shop.api.admin("PUT", f"/test/offers/{name}", body)
    assert problem in refusal(answer)


@pytest.mark.parametrize(("bearer", "status"), [(token(), 403), (ANONYMOUS_KEY, 401), (None, 401)])
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_only_administrators_see_and_change_offers(
    shop: Shop, method: str, bearer: str | None, status: int
) -> None:
    shop.offer("launch")
    headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
    path = "/api/payments/stripe/test/offers/launch"
    answer = shop.api.http.request(method, path, headers=headers)
    assert answer.status_code == status
    assert len(shop.api.admin("GET", "/test/offers").json()["offers"]) == 1


def test_users_may_not_read_offers_in_sql(shop: Shop) -> None:
    with pytest.raises(Exception, match="permission denied"):
        shop.api.books.execute("SET ROLE authenticated; SELECT * FROM payments.offers")


def test_python_clients_manage_offers(shop: Shop) -> None:
    with Client(shop.api.url, ADMIN_KEY) as client:
        made = client.offers.set(
            "test",
            "launch",
            options={"trial_end": datetime(2030, 1, 1, tzinfo=UTC), "locale": "de"},
            lookup_keys=["monthly"],
            redeem_by=datetime(2029, 1, 1, tzinfo=UTC),
            max_redemptions=5,
        )
        assert made.options == {"trialEnd": "2030-01-01T00:00:00.000Z", "locale": "de"}
        assert client.offers.list("test") == [client.offers.get("test", "launch")] == [made]
        session = client.create_checkout_session(
            "test",
            mode="payment",
            line_items=[
                {"price_data": {"name": "Tea", "unit_amount": 1500, "currency": "eur"}},
            ],
            success_url="https://shop.example/done",
            cancel_url="https://shop.example/cart",
            options={"shipping_address_collection": {"allowed_countries": ["AT"]}},
            subject={"type": "user", "id": shop.order("")["subject"]["id"]},
            act_as={"claims": {"sub": shop.order("")["subject"]["id"]}},
        )
        assert session.client_secret is None
        assert client.offers.delete("test", "launch").deleted
        with pytest.raises(ApiError) as error:
            client.offers.get("test", "launch")
        assert error.value.code == "NOT_FOUND"

    async def in_async_code() -> list[str]:
        async with AsyncClient(shop.api.url, ADMIN_KEY) as client:
            await client.offers.set("test", "summer")
            return [each.name for each in await client.offers.list("test")]

    assert asyncio.run(in_async_code()) == ["summer"]


def test_the_command_line_manages_offers(
    shop: Shop, billhook: Billhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BILLHOOK_URL", shop.api.url)
    monkeypatch.setenv("BILLHOOK_API_KEY", ADMIN_KEY)
    assert "billhook offers set" in billhook("offers", "list").err + billhook("offers", "list").out
    shown = billhook(
        "offers",
        "set",
        "launch",
        "--trial-days",
        "14",
        "--trial-once",
        "--coupon",
        "LAUNCH20",
        "--one-subscription",
        "--lookup-key",
        "team_monthly",
        "--max-redemptions",
        "100",
        "--redeem-by",
        "2030-01-01",
    )
    assert "launch" in shown.out
    (found,) = shop.api.admin("GET", "/test/offers").json()["offers"]
    assert found["options"] == {
        **TRIAL,
        "oneSubscription": True,
        "discounts": [{"coupon": "LAUNCH20"}],
    }
    assert (found["lookupKeys"], found["maxRedemptions"]) == (["team_monthly"], 100)
    assert found["redeemBy"] == "2030-01-01T00:00:00.000Z"
    listed = billhook("offers", "list").out
    assert "launch" in listed
    assert "trialDays 14" in listed
    assert '"name":"launch"' in billhook("offers", "get", "launch", "--json").out.replace(" ", "")
    assert "deleted" in billhook("offers", "delete", "launch", "--yes").out
    assert shop.api.admin("GET", "/test/offers").json()["offers"] == []
