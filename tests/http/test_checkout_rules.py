"""What Stripe is told, and how the app's own rules on its tables have their say."""

from __future__ import annotations

from typing import Any

import pytest

from http_tokens import ADMIN_KEY, ANONYMOUS_KEY, USER, token

MINE = {"type": "user", "id": USER}
TABLE = "payments.stripe_checkout_sessions"


@pytest.fixture
def monthly(api: Any) -> str:
    product = api.stripe.v1.products.create({"name": "Plan"})
    recurring = {"interval": "month"}
    made = api.stripe.v1.prices.create(
        {"product": product.id, "currency": "eur", "unit_amount": 900, "recurring": recurring}
    )
    return str(made.id)


def order(price: str, **more: Any) -> dict[str, Any]:
    return {
        "mode": "payment",
        "lineItems": [{"priceId": price, "quantity": 2}],
        "successUrl": "https://shop.example/done?session={CHECKOUT_SESSION_ID}",
        "cancelUrl": "https://shop.example/cart",
        **more,
    }


def at_stripe(api: Any, answer: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    assert answer.status_code == 201, answer.text
    ours = answer.json()["checkoutSession"]
    found = api.stripe.v1.checkout.sessions.retrieve(
        ours["checkoutSessionId"], {"expand": ["line_items"]}
    )
    return ours, found.to_dict()


def test_a_first_purchase_makes_a_customer_and_carries_our_metadata(api: Any, price: str) -> None:
    body = order(price, subject=MINE, customerEmail="a@b.test", metadata={"order_id": "7"})
    ours, theirs = at_stripe(api, api.checkout(body, token()))
    assert theirs["metadata"] == {
        "order_id": "7",
        "insforge_checkout_mode": "payment",
        "insforge_subject_type": "user",
        "insforge_subject_id": USER,
        "insforge_checkout_session_id": ours["id"],
    }
    assert theirs["client_reference_id"] == ours["id"]
    assert theirs["customer_creation"] == "always"
    assert theirs["customer_email"] == "a@b.test"
    assert theirs["success_url"].endswith("{CHECKOUT_SESSION_ID}")
    assert theirs["line_items"]["data"][0]["quantity"] == 2
    row = api.books.row(f"SELECT * FROM {TABLE}")
    # The row keeps what the app and InsForge know; our row's id is Stripe's to know.
    assert row["metadata"] == {
        key: value
        for key, value in theirs["metadata"].items()
        if key != "insforge_checkout_session_id"
    }
    assert row["raw"]["id"] == theirs["id"]
    assert row["line_items"] == [{"priceId": price, "quantity": 2}]


def test_a_known_subject_pays_as_its_customer(api: Any, price: str) -> None:
    customer = api.stripe.v1.customers.create({"email": "a@b.test"}).id
    api.books.execute(
        f"""INSERT INTO payments.customer_mappings
            (provider, environment, subject_type, subject_id, provider_customer_id)
            VALUES ('stripe', 'test', 'user', '{USER}', '{customer}')"""
    )
    body = order(price, subject=MINE, customerEmail="other@b.test")
    ours, theirs = at_stripe(api, api.checkout(body, token()))
    assert (theirs["customer"], ours["customerId"]) == (customer, customer)
    assert ours["customerEmail"] == "other@b.test"


def test_a_subscription_carries_our_metadata_on(api: Any, monthly: str) -> None:
    body = order(monthly, mode="subscription", subject={"type": "team", "id": "42"})
    ours, theirs = at_stripe(api, api.checkout(body, token()))
    assert theirs["mode"] == "subscription"
    assert theirs["metadata"]["insforge_checkout_mode"] == "subscription"
    assert theirs["metadata"]["insforge_checkout_session_id"] == ours["id"]


def test_a_guest_needs_no_subject(api: Any, price: str) -> None:
    ours, theirs = at_stripe(api, api.checkout(order(price), ANONYMOUS_KEY))
    assert (ours["subjectType"], ours["subjectId"]) == (None, None)
    assert set(theirs["metadata"]) == {"insforge_checkout_mode", "insforge_checkout_session_id"}


def test_times_in_the_answer_are_utc_with_milliseconds(api: Any, price: str) -> None:
    ours = api.checkout(order(price), token()).json()["checkoutSession"]
    assert len(ours["createdAt"]) == len("2026-05-12T22:41:07.123Z")
    assert ours["createdAt"].endswith("Z")
    assert set(ours) == {
        "id", "environment", "mode", "status", "paymentStatus", "subjectType", "subjectId",
        "customerEmail", "checkoutSessionId", "customerId", "paymentIntentId", "subscriptionId",
        "url", "lastError", "createdAt", "updatedAt",
    }  # fmt: skip


def test_a_policy_for_inserting_alone_is_enough_for_a_first_checkout(api: Any, price: str) -> None:
    api.books.execute(
        f"""ALTER TABLE {TABLE} ENABLE ROW LEVEL SECURITY;
            CREATE POLICY insert_only ON {TABLE} FOR INSERT TO authenticated
            WITH CHECK (subject_id = auth.uid()::text)"""
    )
    body = order(price, subject=MINE, idempotencyKey="blind")
    assert api.checkout(body, token()).status_code == 201
    again = api.checkout(body, token())
    assert (again.status_code, again.json()["error"]) == (409, "PAYMENT_CHECKOUT_ALREADY_EXISTS")
    assert "http" not in again.json()["message"]


def test_a_caller_without_subject_matches_no_policy_on_one(api: Any, price: str) -> None:
    api.books.execute(
        f"""ALTER TABLE {TABLE} ENABLE ROW LEVEL SECURITY;
            CREATE POLICY own ON {TABLE} FOR ALL TO anon, authenticated, project_admin
            USING (subject_id = auth.uid()::text) WITH CHECK (subject_id = auth.uid()::text)"""
    )
    body = order(price, subject=MINE)
    for bearer in (ANONYMOUS_KEY, token(role="anon"), token(role="project_admin")):
        assert api.checkout(body, bearer).status_code == 403
    assert api.checkout(body, token()).status_code == 201
    assert api.checkout(body, ADMIN_KEY).status_code == 401


@pytest.mark.parametrize(
    ("rule", "status", "code"),
    [
        (
            f"ALTER TABLE {TABLE} ADD CONSTRAINT sold_out CHECK (mode <> 'payment')",
            400,
            "DATABASE_VALIDATION_ERROR",
        ),
        (
            f"""CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN RAISE EXCEPTION 'the shop is closed'; END $$;
                CREATE TRIGGER refuse BEFORE INSERT ON {TABLE}
                FOR EACH ROW EXECUTE FUNCTION refuse()""",
            400,
            "DATABASE_VALIDATION_ERROR",
        ),
        (
            f"""CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN RAISE EXCEPTION 'no such order' USING ERRCODE = '02000'; END $$;
                CREATE TRIGGER refuse BEFORE INSERT ON {TABLE}
                FOR EACH ROW EXECUTE FUNCTION refuse()""",
            400,
            "DATABASE_VALIDATION_ERROR",
        ),
        (
            f"""ALTER TABLE {TABLE} ENABLE ROW LEVEL SECURITY;
                CREATE POLICY p ON {TABLE} FOR ALL USING (true) WITH CHECK (subject_id::int > 0)""",
            400,
            "DATABASE_VALIDATION_ERROR",
        ),
        (
            f"""INSERT INTO {TABLE} (environment, mode, success_url, cancel_url)
                VALUES ('test', 'payment', 'x', 'y');
                CREATE UNIQUE INDEX one_only ON {TABLE} (environment)""",
            409,
            "DATABASE_DUPLICATE",
        ),
        (f"REVOKE INSERT ON {TABLE} FROM authenticated", 403, "AUTH_UNAUTHORIZED"),
    ],
)
def test_a_rule_of_the_apps_refuses_in_its_own_words(
    api: Any, price: str, rule: str, status: int, code: str
) -> None:
    api.books.execute(rule)
    answer = api.checkout(order(price, subject=MINE), token())
    assert (answer.status_code, answer.json()["error"]) == (status, code), answer.text
    assert TABLE in answer.json()["message"]


def test_sql_in_any_field_is_data(api: Any, price: str) -> None:
    evil = "'); DROP TABLE payments.stripe_checkout_sessions; --"
    body = order(
        price,
        subject={"type": evil, "id": evil},
        metadata={evil[:30]: evil},
        idempotencyKey=evil,
        cancelUrl=f"https://shop.example/?q={evil}",
    )
    assert api.checkout(body, token(sub=USER, email=evil)).status_code == 201
    row = api.books.row(f"SELECT subject_type, subject_id, idempotency_key FROM {TABLE}")
    assert set(row.values()) == {evil}


def test_the_portal_obeys_the_policies_of_its_own_table(api: Any) -> None:
    table = "payments.stripe_customer_portal_sessions"
    path = "/api/payments/stripe/test/customer-portal-sessions"
    api.books.execute(
        f"""ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;
            CREATE POLICY own ON {table} FOR INSERT TO authenticated
            WITH CHECK (subject_id = auth.uid()::text)"""
    )
    refused = api.post(path, {"subject": {"type": "user", "id": "other"}}, token())
    assert (refused.status_code, refused.json()["error"]) == (403, "AUTH_UNAUTHORIZED")
    assert table in refused.json()["message"]
    missing = api.post(path, {"subject": MINE}, token())
    assert missing.status_code == 404
    row = api.books.row(f"SELECT * FROM {table}")
    assert (row["status"], row["last_error"]) == ("failed", missing.json()["message"])
    live = api.post(path.replace("test", "live"), {"subject": MINE}, token())
    assert (live.status_code, live.json()["error"]) == (400, "PAYMENT_CONFIG_INVALID")


def test_guests_and_api_keys_do_not_even_have_their_portal_request_read(api: Any) -> None:
    path = "/api/payments/stripe/test/customer-portal-sessions"
    for bearer in (ANONYMOUS_KEY, token(role="anon"), ADMIN_KEY):
        answer = api.post(path, {"nonsense": 1}, bearer)
        assert (answer.status_code, answer.json()["error"]) == (401, "AUTH_INVALID_CREDENTIALS")


def test_it_is_not_said_that_nothing_was_changed_when_a_checkout_was_begun(
    api: Any, price: str
) -> None:
    api.books.execute(
        f"""CREATE FUNCTION cut_off() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NEW; END $$;
            CREATE TRIGGER cut_off BEFORE UPDATE ON {TABLE}
            FOR EACH ROW EXECUTE FUNCTION cut_off()"""
    )
    body = order(price, idempotencyKey=f"begun {price}")
    begun = api.checkout(body, token())
    assert (begun.status_code, begun.json()["error"]) == (503, "INTERNAL_ERROR")
    assert "othing was changed" not in begun.text
    assert "again" in begun.json()["nextActions"]
    api.books.execute(f"DROP TRIGGER cut_off ON {TABLE}")
    finished = api.checkout(body, token())
    assert finished.status_code == 201
    assert len(api.books.rows(f"SELECT 1 FROM {TABLE}")) == 1
