"""docs/how-to/privacy.md: everything about a customer is exported, and nothing personal is left."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from billhook.mirror.rebuild import rebuild
from billhook.models import RebuildOrder
from billhook_sandbox.testing import Sandbox
from books import Books
from pages import block, blocks

PAGE = "docs/how-to/privacy.md"
PERSONAL = ("ada@example.com", "Ada Lovelace", "+4420123", "St James", "4242", "I.was.there")
TOTALS = """
    SELECT type, status, sum(amount) AS amount, sum(amount_refunded) AS refunded, count(*) AS n
    FROM payments.transactions GROUP BY type, status ORDER BY type, status
"""
# As an app that counts how often something was fulfilled.
FULFILLED = """
    CREATE TABLE fulfilled (event_id text);
    CREATE FUNCTION fulfill() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN INSERT INTO public.fulfilled VALUES (NEW.provider_event_id); RETURN NULL; END $$;
    CREATE TRIGGER fulfill AFTER INSERT OR UPDATE ON payments.webhook_events
    FOR EACH ROW WHEN (NEW.processing_status = 'processed') EXECUTE FUNCTION fulfill();
"""


@pytest.fixture
def account(sandbox: str) -> Sandbox:
    return Sandbox(sandbox, f"sk_test_{uuid4().hex}")


def buy(account: Sandbox, card: str, email: str, name: str, **more: Any) -> dict[str, Any]:
    price: Any = {"currency": "eur", "unit_amount": 1500, "product_data": {"name": "Tea"}}
    given: Any = {
        "mode": "payment",
        "success_url": "https://shop.example/done",
        "line_items": [{"price_data": price, "quantity": 1}],
        **more,
    }
    session = account.client.v1.checkout.sessions.create(given)
    return account.pay(session.id, card, email=email, name=name)


def apply_new(account: Sandbox, books: Books) -> None:
    for answer in books.apply(*(each.event for each in account.webhooks(secret="whsec_1"))):
        assert not isinstance(answer, Exception), answer


@pytest.fixture
def customer(account: Sandbox) -> str:
    """Ada has bought, subscribed, got a refund and disputed a payment; Bob and a guest bought."""
    client, card = account.client, "pm_card_visa"
    ada = client.v1.customers.create(
        {
            "email": "ada@example.com",
            "name": "Ada Lovelace",
            "phone": "+4420123",
            "address": {"line1": "12 St James Square"},
            "payment_method": card,
            "invoice_settings": {"default_payment_method": card},
        }
    )
    bought = buy(account, card, "ada@example.com", "Ada Lovelace", customer=ada.id)
    refund: Any = {"payment_intent": bought["payment_intent"], "amount": 500}
    client.v1.refunds.create(refund)
    buy(account, "pm_card_createDispute", "ada@example.com", "Ada Lovelace", customer=ada.id)
    plan: Any = {
        "currency": "eur",
        "unit_amount": 900,
        "recurring": {"interval": "month"},
        "product_data": {"name": "Pro"},
    }
    price = client.v1.prices.create(plan)
    client.v1.subscriptions.create({"customer": ada.id, "items": [{"price": price.id}]})
    account.settle()
    for dispute in client.v1.disputes.list().data:
        client.v1.disputes.update(
            dispute.id, {"evidence": {"uncategorized_text": "I.was.there"}, "submit": False}
        )
    buy(account, card, "bob@example.com", "Bob", customer_creation="always")
    buy(account, card, "guest@example.com", "Guest")
    account.settle()
    return str(ada.id)


@pytest.fixture
def books(database_url: str, account: Sandbox, customer: str) -> Books:
    found = Books(database_url)
    found.execute(FULFILLED)
    found.execute(block(PAGE, "sql", "CREATE SCHEMA privacy"))
    apply_new(account, found)
    found.archive_events(most=5)
    found.execute("""
        INSERT INTO billhook.archives (id, environment) VALUES (gen_random_uuid(), 'test');
        INSERT INTO billhook.archived_rows
        SELECT a.id, 'payments.customers', to_jsonb(c)
        FROM billhook.archives a, payments.customers c
    """)
    return found


def tables_with(books: Books, text: str) -> set[str]:
    tables = books.rows("""
        SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables
        WHERE schemaname IN ('payments', 'billhook', 'system')""")
    return {
        each["name"]
        for each in tables
        if books.rows(f"SELECT FROM {each['name']} t WHERE strpos(t::text, $1) > 0", text)
    }


def ids_of(books: Books, customer: str) -> list[str]:
    found: list[str] = books.row("SELECT privacy.ids_of('test', $1) AS ids", customer)["ids"]
    return found


def test_every_table_with_personal_data_is_on_the_page(books: Books) -> None:
    text = block(PAGE, "sql", "CREATE SCHEMA privacy")
    found = set().union(*(tables_with(books, each) for each in PERSONAL))
    assert len(found) > 8
    assert {each for each in found if each not in text} == set()


def test_everything_that_mentions_the_customer_is_exported(books: Books, customer: str) -> None:
    books.execute(f"""
        INSERT INTO payments.customer_mappings
            (provider, environment, subject_type, subject_id, provider_customer_id)
        VALUES ('stripe', 'test', 'user', 'u_ada', '{customer}')""")
    query = block(PAGE, "sql", "FROM payments.customer_mappings m")
    rows = books.rows(query.replace("'live'", "'test'").replace("'…'", "'u_ada'"))
    sources = {each["source"] for each in rows}
    assert sources >= {"payments.customers", "payments.webhook_events", "payments.transactions"}
    assert not any("bob@example.com" in str(each) for each in rows)


def test_a_guest_is_found_by_the_email_address(books: Books) -> None:
    query = block(PAGE, "sql", "guest@example.com").replace("'live'", "'test'")
    rows = books.rows(query)
    assert {"payments.webhook_events", "payments.transactions"} <= {each["source"] for each in rows}
    assert any("Guest" in str(each) for each in rows)


def test_nothing_personal_is_left_and_the_totals_stay(books: Books, customer: str) -> None:
    totals, fulfilled = books.rows(TOTALS), books.rows("SELECT FROM fulfilled")
    assert all(tables_with(books, each) for each in PERSONAL)
    erase = block(PAGE, "sql", "SELECT privacy.erase").replace("'live'", "'test'")
    assert books.row(erase.replace("cus_…", customer))["erase"] > 20
    assert {each: tables_with(books, each) for each in PERSONAL if each != "4242"} == {
        each: set() for each in PERSONAL if each != "4242"
    }
    assert "payments.stripe_payment_methods" not in tables_with(books, "4242")
    assert tables_with(books, "bob@example.com")
    assert tables_with(books, "guest@example.com")
    assert books.rows(TOTALS) == totals
    assert len(books.rows("SELECT FROM fulfilled")) == len(fulfilled)
    triggers = books.rows(
        "SELECT tgname FROM pg_trigger WHERE tgenabled = 'D'"
        " AND tgrelid = 'payments.webhook_events'::regclass"
    )
    assert triggers == []


def test_a_rebuild_finds_no_difference_afterwards(books: Books, customer: str) -> None:
    def differences() -> dict[str, Any]:
        found = books.run(lambda database: rebuild(database, "test", RebuildOrder(swap=False)))
        return {each.table: each.differences for each in found.tables if each.different}

    assert differences() == {}
    books.rows("SELECT privacy.erase('test', $1::text[])", ids_of(books, customer))
    assert differences() == {}


def test_all_blocks_are_used() -> None:
    assert len(blocks(PAGE, "sql")) == 4
