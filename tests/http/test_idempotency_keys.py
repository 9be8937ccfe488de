"""An idempotency key belongs to a subject: nobody else's use of it matters, nobody else learns of
it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import count
from typing import Any

import httpx
import pytest

import insforge
from api import Api, connect, opened, serving
from billhook.checkout.at_stripe import stripe_idempotency_key
from billhook.models import CreateCheckoutSession, parse
from billhook.postgres.migrate import migrate
from books import Books
from http_tokens import ANONYMOUS_KEY, USER, token

TABLE = "payments.stripe_checkout_sessions"
OTHER = "22222222-2222-4222-8222-222222222222"
POLICIES = f"""
    ALTER TABLE {TABLE} ENABLE ROW LEVEL SECURITY;
    CREATE POLICY own ON {TABLE} FOR ALL TO authenticated
        USING (subject_type = 'user' AND subject_id = auth.uid()::text)
        WITH CHECK (subject_type = 'user' AND subject_id = auth.uid()::text);
    CREATE POLICY guests ON {TABLE} FOR INSERT TO anon WITH CHECK (subject_id IS NULL);
"""


_accounts = count(1)


@pytest.fixture
def stripe_key() -> str:
    """A Stripe account of the test's own: no idempotency key was used there before."""
    return f"sk_test_keys{next(_accounts)}_1"


@pytest.fixture
def api(database_url: str, sandbox: str, stripe_key: str) -> Iterator[Api]:
    connect(database_url, sandbox, stripe_key)
    with serving(database_url, sandbox) as found:
        yield found


@pytest.fixture
def price(sandbox: str, stripe_key: str) -> str:
    form = {"currency": "eur", "unit_amount": "1500", "product_data[name]": "Mug"}
    made = httpx.post(f"{sandbox}/v1/prices", data=form, auth=(stripe_key, ""), timeout=60)
    return str(made.json()["id"])


def order(price: str, subject: str | None = None, **more: Any) -> dict[str, Any]:
    whose = {"subject": {"type": "user", "id": subject}} if subject else {}
    return {
        "mode": "payment",
        "lineItems": [{"priceId": price}],
        "successUrl": "https://shop.example/done",
        "cancelUrl": "https://shop.example/cart",
        "idempotencyKey": "order-1",
        **whose,
        **more,
    }


def test_users_and_guests_use_one_key_without_meeting(api: Api, price: str) -> None:
    api.books.execute(POLICIES)
    callers = [
        (order(price), ANONYMOUS_KEY),
        (order(price, OTHER), token(OTHER)),
        (order(price, USER, metadata={"order": "another one"}), token()),
    ]
    sessions = [opened(api.checkout(body, bearer)) for body, bearer in callers]
    assert len({each["checkoutSessionId"] for each in sessions}) == 3
    # In any order, and again.
    for (body, bearer), before in list(zip(callers, sessions, strict=True))[:0:-1]:
        assert opened(api.checkout(body, bearer))["url"] == before["url"]


def test_a_stranger_learns_nothing_of_a_key_whether_it_was_used_or_not(
    api: Api, price: str
) -> None:
    api.books.execute(POLICIES)
    opened(api.checkout(order(price, USER), token()))
    answers = [
        api.checkout(order(price, USER, idempotencyKey=key), bearer)
        for key in ("order-1", "never used")
        for bearer in (token(OTHER), ANONYMOUS_KEY)
    ]
    assert {each.status_code for each in answers} == {403}
    assert len({each.text for each in answers}) == 1


def test_a_key_repeated_by_its_subject_still_stands_for_one_checkout(api: Api, price: str) -> None:
    first = opened(api.checkout(order(price, USER), token()))
    assert opened(api.checkout(order(price, USER), token()))["id"] == first["id"]
    changed = api.checkout(order(price, USER, metadata={"a": "b"}), token())
    assert (changed.status_code, changed.json()["error"]) == (
        409,
        "PAYMENT_CHECKOUT_ALREADY_EXISTS",
    )


def test_no_caller_can_choose_a_key_that_is_another_subjects_at_stripe() -> None:
    def key_of(**more: Any) -> str:
        body = parse(CreateCheckoutSession, order("price_1", **more))
        row_id: Any = USER
        return stripe_idempotency_key("test", body, row_id)

    theirs = key_of(subject=USER)
    prefix = "insforge:test:checkout_session:"
    assert theirs.startswith(f"{prefix}order-1:")
    forged = theirs.removeprefix(prefix)
    keys = [
        theirs,
        key_of(),
        key_of(subject=OTHER),
        key_of(idempotencyKey=forged),
        key_of(subject=OTHER, idempotencyKey=forged),
        key_of(idempotencyKey=USER),
        f"{prefix}{USER}",  # a checkout without a key: its row's id
    ]
    assert len(set(keys)) == len(keys)
    longest = key_of(subject="s" * 255, idempotencyKey="k" * 200)
    assert len(longest) <= 255


@pytest.mark.parametrize("keys", [{}, {"idempotencyKey": "order-2"}])
def test_a_unique_key_of_the_apps_is_named_and_not_taken_for_a_used_idempotency_key(
    api: Api, price: str, keys: dict[str, str]
) -> None:
    api.books.execute(
        f"CREATE UNIQUE INDEX one_checkout_per_order ON {TABLE} ((metadata ->> 'order'))"
    )
    body = order(price, USER, metadata={"order": "7"})
    first = opened(api.checkout(body, token()))
    second = {**{k: v for k, v in body.items() if k != "idempotencyKey"}, **keys}
    refused = api.checkout(second, token())
    assert (refused.status_code, refused.json()["error"]) == (409, "DATABASE_DUPLICATE")
    assert "one_checkout_per_order" in refused.json()["message"]
    # The same request again is no new checkout for the app's key either.
    assert opened(api.checkout(body, token()))["url"] == first["url"]


def test_a_trigger_that_drops_a_checkout_is_not_taken_for_a_used_key(api: Api, price: str) -> None:
    api.books.execute(
        f"""CREATE FUNCTION drop_it() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RETURN NULL; END $$;
            CREATE TRIGGER drop_it BEFORE INSERT ON {TABLE}
            FOR EACH ROW EXECUTE FUNCTION drop_it()"""
    )
    refused = api.checkout(order(price, USER), token())
    assert (refused.status_code, refused.json()["error"]) == (400, "DATABASE_VALIDATION_ERROR")
    assert "trigger" in refused.json()["message"]


def test_after_moving_over_from_insforge_its_keys_go_on_and_block_nobody(
    empty_database_url: str, sandbox: str, stripe_key: str, price: str
) -> None:
    books = Books(empty_database_url)
    insforge.make_payments(books)
    # As InsForge writes them: no hash, and under one key for everybody.
    books.execute(
        f"""INSERT INTO {TABLE} (environment, mode, status, subject_type, subject_id, line_items,
                success_url, cancel_url, idempotency_key, metadata, checkout_session_id, url)
            VALUES ('test', 'payment', 'open', 'user', '{USER}',
                '[{{"priceId": "price_1", "quantity": 1}}]', 'https://shop.example/done',
                'https://shop.example/cart', 'order-1',
                '{{"insforge_checkout_mode": "payment", "insforge_subject_type": "user",
                   "insforge_subject_id": "{USER}",
                   "insforge_checkout_session_id": "{USER}"}}',
                'cs_of_insforge', 'https://checkout.stripe.com/c/pay/cs_of_insforge'),
                ('test', 'payment', 'open', NULL, NULL,
                '[{{"priceId": "price_1", "quantity": 1}}]', 'https://shop.example/done',
                'https://shop.example/cart', 'order-2', '{{"insforge_checkout_mode": "payment"}}',
                'cs_of_a_guest', 'https://checkout.stripe.com/c/pay/cs_of_a_guest')"""
    )
    asyncio.run(migrate(empty_database_url))
    connect(empty_database_url, sandbox, stripe_key)
    with serving(empty_database_url, sandbox) as api:
        mine = opened(api.checkout(order("price_1", USER), token()))
        assert mine["checkoutSessionId"] == "cs_of_insforge"
        guests = opened(api.checkout(order("price_1", idempotencyKey="order-2"), ANONYMOUS_KEY))
        assert guests["checkoutSessionId"] == "cs_of_a_guest"
        for body, bearer in (
            (order(price), ANONYMOUS_KEY),
            (order(price, OTHER), token(OTHER)),
            (order(price, USER, idempotencyKey="order-2"), token()),
        ):
            opened(api.checkout(body, bearer))
