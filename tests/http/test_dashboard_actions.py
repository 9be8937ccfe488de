"""What an administrator does on the dashboard's pages: refund, cancel, resume, change, assign,
search; each asks first and acts once."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import httpx
import pytest

from api import Api
from stripe_events import (
    customer,
    event,
    invoice,
    paid,
    payment_intent,
    price,
    product,
    subject,
    subscription,
)
from visitor import Visitor, said

FIELD = re.compile(r'<input type="hidden" name="(\w+)" value="([^"]*)">')


def apply(api: Api, *events: dict[str, Any]) -> None:
    for each in api.books.apply(*events):
        assert not isinstance(each, Exception), each


def until_synced(visitor: Visitor) -> None:
    visitor.do("/test/settings/sync")
    while "data-refresh" in visitor.read("/test/settings/sync"):
        pass


def hidden(page: str) -> dict[str, str]:
    """The hidden fields of the form that asks."""
    asked = page[page.index("data-ask") :]
    return dict(FIELD.findall(asked))


@pytest.fixture
def payer(api: Api, visitor: Visitor) -> str:
    """A customer at Stripe with a card."""
    made = api.stripe.v1.customers.create({"name": "Ada Lovelace", "email": "ada@example.com"})
    method = api.stripe.v1.payment_methods.attach("pm_card_visa", {"customer": made.id})
    api.stripe.v1.customers.update(
        made.id, {"invoice_settings": {"default_payment_method": method.id}}
    )
    return made.id


@pytest.fixture
def payment(api: Api, payer: str) -> str:
    """A payment of 50.00 EUR, at Stripe and in the mirror."""
    made = api.stripe.v1.payment_intents.create(
        {
            "amount": 5000,
            "currency": "eur",
            "customer": payer,
            "payment_method": api.stripe.v1.payment_methods.list({"customer": payer}).data[0].id,
            "confirm": True,
            "off_session": True,
            "metadata": {"order_id": "1001"},
        }
    )
    apply(api, event("payment_intent.succeeded", made.to_dict(), at=10))
    return made.id


def test_a_payment_is_refunded_in_part_and_then_in_full(
    api: Api, visitor: Visitor, payment: str
) -> None:
    here = f"/test/transactions/{payment}"
    assert f'href="/dashboard{here}/refund"' in visitor.read(here)
    asked = visitor.read(f"{here}/refund?amount=12,50")
    assert "12.50 EUR of 50.00 EUR goes back to" in said(asked)
    assert "37.50 EUR can still be refunded later" in said(asked)
    form = hidden(asked)
    assert "12.50 EUR was refunded" in visitor.do(f"{here}/refund", **form)
    visitor.do(f"{here}/refund", **form)  # sent twice
    assert api.stripe.v1.refunds.list({"payment_intent": payment}).data[0].amount == 1250
    assert len(api.stripe.v1.refunds.list({"payment_intent": payment}).data) == 1
    rest = visitor.read(f"{here}/refund")
    assert "37.50 EUR of 50.00 EUR" in said(rest)
    assert "Nothing is left to refund" in said(rest)
    assert "37.50 EUR was refunded" in visitor.do(f"{here}/refund", **hidden(rest))
    shown = visitor.read(here)
    assert "/refund" not in shown.replace("refunds", "")


@pytest.mark.parametrize("amount", ["60", "0", "ten", "1.234"])
def test_a_refund_that_cannot_be_made_says_why(visitor: Visitor, payment: str, amount: str) -> None:
    answer = visitor.get(f"/test/transactions/{payment}/refund?amount={amount}")
    assert answer.status_code in (400, 409)
    assert 'role="alert"' in answer.text
    assert f'value="{amount}"' in answer.text


@pytest.fixture
def plan(api: Api, payer: str, visitor: Visitor) -> tuple[str, str, str]:
    """A subscription to Team for 29.00 EUR a month, and the price of Business."""
    prices = []
    for name, amount in (("Team", 2900), ("Business", 9900)):
        sold = api.stripe.v1.products.create({"name": name})
        made = api.stripe.v1.prices.create(
            {
                "product": sold.id,
                "currency": "eur",
                "unit_amount": amount,
                "recurring": {"interval": "month"},
            }
        )
        prices.append(made.id)
    of = api.stripe.v1.subscriptions.create({"customer": payer, "items": [{"price": prices[0]}]})
    until_synced(visitor)
    return of.id, prices[0], prices[1]


def test_a_subscription_shows_who_pays_how_much_for_what(
    visitor: Visitor, plan: tuple[str, str, str]
) -> None:
    listed = visitor.text("/test/subscriptions")
    assert "Ada Lovelace ada@example.com Team 29.00 EUR per month active Renews" in listed
    page = visitor.text(f"/test/subscriptions/{plan[0]}")
    assert "Team · 29.00 EUR a month" in page
    assert "Monthly value before discounts and tax 29.00 EUR" in page


def test_a_subscription_is_canceled_and_resumed(
    api: Api, visitor: Visitor, plan: tuple[str, str, str]
) -> None:
    here = f"/test/subscriptions/{plan[0]}"
    asked = visitor.read(f"{here}/cancel")
    assert "pays 29.00 EUR a month" in said(asked)
    assert "The subscription ends on" in visitor.do(f"{here}/cancel", when="end", **hidden(asked))
    assert api.stripe.v1.subscriptions.retrieve(plan[0]).cancel_at_period_end
    assert f"{here}/resume" in visitor.read(here)
    asked = visitor.read(f"{here}/resume")
    assert "Nothing is charged now" in said(asked)
    assert "renews again" in visitor.do(f"{here}/resume", **hidden(asked))
    assert not api.stripe.v1.subscriptions.retrieve(plan[0]).cancel_at_period_end
    asked = visitor.read(f"{here}/cancel")
    assert "is canceled" in visitor.do(f"{here}/cancel", when="now", **hidden(asked))
    assert api.stripe.v1.subscriptions.retrieve(plan[0]).status == "canceled"


def test_a_plan_is_changed_for_what_was_shown(
    api: Api, visitor: Visitor, plan: tuple[str, str, str]
) -> None:
    subscription_id, _, business = plan
    here = f"/test/subscriptions/{subscription_id}"
    assert "Business, 99.00 EUR per month" in visitor.text(f"{here}/change")
    asked = visitor.read(f"{here}/change?price={business}&quantity=2&billing=always_invoice")
    assert "Due now:" in said(asked)
    assert "Next invoice: 198.00 EUR" in said(asked)
    assert "The subscription was changed" in visitor.do(f"{here}/change", **hidden(asked))
    (item,) = api.stripe.v1.subscriptions.retrieve(subscription_id)["items"].data
    assert (item.price.id, item.quantity) == (business, 2)
    assert "198.00 EUR a month" in visitor.text(here)


def test_a_change_that_cannot_be_made_says_why(
    visitor: Visitor, plan: tuple[str, str, str]
) -> None:
    here = f"/test/subscriptions/{plan[0]}/change"
    for query in ("price=price_none", f"price={plan[2]}&quantity=many"):
        answer = visitor.get(f"{here}?{query}")
        assert answer.status_code in (400, 404), query
        assert 'role="alert"' in answer.text


@pytest.mark.parametrize(
    "path",
    [
        "/subscriptions/sub_none",
        "/subscriptions/sub_none/cancel",
        "/subscriptions/sub_none/change",
        "/invoices/in_none",
        "/disputes/du_none",
        "/transactions/pi_none/refund",
        "/customers/cus_none/subject",
        "/events/evt_none/resend",
    ],
)
def test_what_does_not_exist_cannot_be_acted_on(visitor: Visitor, path: str) -> None:
    assert visitor.get(f"/test{path}").status_code == 404


def test_a_customer_is_assigned_to_a_subject(api: Api, visitor: Visitor) -> None:
    apply(
        api,
        event("customer.created", customer("cus_1", name="Ada")),
        event("customer.created", customer("cus_2", name="Bob")),
    )
    here = "/test/customers/cus_1"
    assert "now pays for team: t9" in visitor.do(f"{here}/subject", type="team", id="t9")
    assert "Pays for team: t9" in visitor.text(here)
    taken = visitor.send("/test/customers/cus_2/subject", type="team", id="t9")
    assert taken.status_code == 409
    assert "already assigned" in said(taken.text)
    replaced = visitor.do("/test/customers/cus_2/subject", type="team", id="t9", overwrite="yes")
    assert "now pays for team: t9" in replaced
    assert visitor.send(f"{here}/subject", type="", id="").status_code == 400


def test_an_event_goes_to_the_triggers_again_only_after_a_question(
    api: Api, visitor: Visitor
) -> None:
    api.books.execute("""
        CREATE TABLE fired (event text);
        CREATE FUNCTION fire() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN INSERT INTO fired VALUES (NEW.provider_event_id); RETURN NULL; END $$;
        CREATE TRIGGER fire AFTER UPDATE ON payments.webhook_events FOR EACH ROW
        WHEN (NEW.processing_status = 'processed') EXECUTE FUNCTION fire()""")
    told = paid(1)
    apply(api, told)
    asked = visitor.read(f"/test/events/{told['id']}/resend")
    assert "may be fulfilled twice" in said(asked)
    assert "Replayed" in visitor.do(f"/test/events/{told['id']}/replay", **hidden(asked))
    assert len(api.books.rows("SELECT * FROM fired")) == 2


# --- why was this order not fulfilled? -----------------------------------------------------------


def test_a_payment_its_customer_and_the_overview_say_why_an_order_was_not_fulfilled(
    api: Api, visitor: Visitor
) -> None:
    apply(api, event("customer.created", customer("cus_1", name="Ada")))
    api.books.execute("""
        CREATE FUNCTION fulfill() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF to_regclass('shelf') IS NULL THEN RAISE 'order 1001 has no shelf'; END IF;
            RETURN NULL;
        END $$;
        CREATE TRIGGER fulfill AFTER UPDATE ON payments.webhook_events FOR EACH ROW
        WHEN (NEW.processing_status = 'processed') EXECUTE FUNCTION fulfill()""")
    told = paid(1, customer="cus_1")
    (failed,) = api.books.apply(told)
    assert isinstance(failed, Exception)
    for path in ("/transactions/pi_1", "/customers/cus_1", "", f"/events/{told['id']}"):
        assert "order 1001 has no shelf" in visitor.text(f"/test{path}"), path
    payment = visitor.text("/test/transactions/pi_1")
    assert "payment_intent.succeeded could not be applied (1 attempt)" in payment
    api.books.execute("CREATE TABLE shelf ()")
    back = "/transactions/pi_1"
    again = visitor.do(f"/test/events/{told['id']}/replay", back=back)
    assert "Replayed: the event is processed." in again
    assert "payment_intent.succeeded applied on attempt 2" in again
    assert "has not processed" not in again


@pytest.mark.parametrize("back", ["//evil.example", "/settings", "https://evil.example", "/../.."])
def test_a_replay_leads_back_to_a_page_of_a_payment_or_nowhere(
    api: Api, visitor: Visitor, back: str
) -> None:
    told = paid(1)
    apply(api, told)
    answer = visitor.send(f"/test/events/{told['id']}/replay", back=back)
    assert answer.headers["location"] == f"/dashboard/test/events/{told['id']}"


# --- search, lists -------------------------------------------------------------------------------


@pytest.fixture
def shop(api: Api) -> None:
    order = {"order_id": "A-1001", **subject()}
    card = {"type": "card", "card": {"brand": "visa", "last4": "4242"}}
    charge = {"id": "ch_1", "object": "charge", "payment_method_details": card}
    declined = payment_intent(
        "pi_2",
        amount=1990,
        amount_received=0,
        latest_charge="ch_2",
        customer="cus_1",
        last_payment_error={
            "code": "card_declined",
            "decline_code": "insufficient_funds",
            "message": "Your card has insufficient funds.",
            "payment_method": {"id": "pm_1", **card},
        },
    )
    apply(
        api,
        event("customer.created", customer("cus_1", name="Ada Lovelace", email="ada@x.test")),
        event("product.created", product("prod_1", name="Green tea")),
        event("price.created", price("price_1", product="prod_1")),
        event(
            "customer.subscription.created",
            subscription(customer="cus_1", metadata={"crm": "deal 77"}),
        ),
        event("invoice.paid", invoice(customer="cus_1", number="INV-0042"), at=5),
        paid(1, customer="cus_1", metadata=order, description="A mug"),
        event("charge.succeeded", charge, at=20),
        event("payment_intent.payment_failed", declined, at=30),
    )


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("ada l", "Ada Lovelace"),
        ("ADA@x", "Ada Lovelace"),
        ("A-1001", "A mug"),
        ("15.00", "A mug"),
        ("15,00 eur", "A mug"),
        ("€15", "A mug"),
        ("19.90", "Insufficient funds"),
        ("deal 77", "Green tea"),
        ("inv-0042", "INV-0042"),
        ("green", "Green tea"),
        ("team:t1", "A mug"),
        ("ada@x.test", "A mug"),
    ],
)
def test_one_search_finds_everything(visitor: Visitor, shop: None, text: str, found: str) -> None:
    answer = visitor.get("/test/search", params={"q": text})
    assert answer.status_code == 200
    assert found in said(answer.text)


@pytest.mark.parametrize(
    ("text", "page"),
    [
        ("pi_1", "/transactions/pi_1"),
        ("ch_1", "/transactions/ch_1"),
        ("cus_1", "/customers/cus_1"),
        ("sub_1", "/subscriptions/sub_1"),
        ("in_1", "/invoices/in_1"),
        ("prod_1", "/catalog/prod_1"),
    ],
)
def test_an_id_leads_to_its_page(visitor: Visitor, shop: None, text: str, page: str) -> None:
    answer = visitor.get("/test/search", params={"q": f" {text} "})
    assert answer.status_code == 303
    assert answer.headers["location"] == f"/dashboard/test{page}"
    assert visitor.get(f"/test{page}").status_code == 200


@pytest.mark.parametrize(
    "text", ["15.01", "16 jpy", "payment", "pi_none", "prod_none", "", "%", "a\0b", "9" * 30, "t1"]
)
def test_what_matches_nothing_finds_nothing(visitor: Visitor, shop: None, text: str) -> None:
    answer = visitor.get("/test/search", params={"q": text})
    assert answer.status_code == 200
    assert "an order id or any other value" in said(answer.text)


def test_payments_say_what_was_bought_how_and_why_they_failed(visitor: Visitor, shop: None) -> None:
    listed = visitor.text("/test/transactions")
    assert "A mug One-time payment · team: t1 Ada Lovelace ada@x.test Visa •••• 4242" in listed
    assert "failed Insufficient funds" in listed
    assert "Your card has insufficient funds." in visitor.text("/test/transactions/pi_2")


def test_a_list_says_how_many_rows_it_has(api: Api, visitor: Visitor) -> None:
    api.books.execute("""
        INSERT INTO payments.customers (provider, environment, provider_customer_id, name)
        SELECT 'stripe', 'test', 'cus_' || n, 'Name ' || n FROM generate_series(1, 1000) n""")
    assert "1,000 customers" in visitor.text("/test/customers")
    assert "1 customer " in visitor.text("/test/customers?search=cus_7")
    apply(api, event("customer.created", customer("cus_new")))
    assert "1,000+ customers" in visitor.text("/test/customers")


def test_filters_are_chips_that_can_be_removed(visitor: Visitor, shop: None) -> None:
    page = visitor.read("/test/transactions?status=failed&since=2026-05-01&order=oldest")
    assert "Status: failed" in said(page)
    assert 'href="/dashboard/test/transactions?since=2026-05-01&amp;order=oldest"' in page


@pytest.mark.parametrize(
    ("name", "rows", "fact"),
    [
        ("customers", 1, {"name": "Ada Lovelace", "email": "ada@x.test"}),
        ("subscriptions", 1, {"product": "Green tea", "name": "Ada Lovelace"}),
        ("invoices", 1, {"number": "INV-0042", "name": "Ada Lovelace"}),
        ("disputes", 0, {}),
        ("catalog", 1, {"name": "Green tea", "amount": "15.00"}),
        ("events", 8, {"status": "processed"}),
    ],
)
def test_every_list_is_exported(
    visitor: Visitor, shop: None, name: str, rows: int, fact: dict[str, str]
) -> None:
    answer = visitor.get(f"/test/{name}.csv")
    assert f"{name}-test.csv" in answer.headers["content-disposition"]
    lines = list(csv.DictReader(io.StringIO(answer.text)))
    assert len(lines) == rows
    for line in lines[-1:]:
        assert fact.items() <= line.items()


def test_an_export_holds_what_the_filters_show(visitor: Visitor, shop: None) -> None:
    answer = visitor.get("/test/events.csv?type=invoice.paid")
    assert [line["type"] for line in csv.DictReader(io.StringIO(answer.text))] == ["invoice.paid"]


@pytest.mark.parametrize("name", ["customers", "subscriptions", "invoices", "events"])
def test_no_name_is_a_formula_in_an_export(api: Api, visitor: Visitor, name: str) -> None:
    apply(
        api,
        event("customer.created", customer("cus_1", name="=HYPERLINK(evil)", email="@x")),
        event("customer.subscription.created", subscription(customer="cus_1")),
        event("invoice.paid", invoice(customer="cus_1", number="=1+1"), at=5),
    )
    cells = [cell for row in csv.reader(io.StringIO(visitor.get(f"/test/{name}.csv").text))
             for cell in row]  # fmt: skip
    assert not [cell for cell in cells if cell[:1] in tuple("=+-@")]


# --- long work -----------------------------------------------------------------------------------


def test_an_import_runs_in_the_background_and_its_end_is_seen(api: Api, visitor: Visitor) -> None:
    assert visitor.send("/test/settings/import").status_code == 303
    while "data-refresh" in visitor.read("/test/settings/import"):
        pass
    assert "objects read" in visitor.text("/test/settings/import")


def test_forms_of_actions_need_the_sessions_token(visitor: Visitor, payment: str) -> None:
    post: Callable[..., httpx.Response] = visitor.http.post
    for path in (f"/transactions/{payment}/refund", "/subscriptions/sub_1/cancel",
                 "/customers/cus_1/subject", "/settings/import"):  # fmt: skip
        assert post(f"/test{path}", data={"key": str(uuid4())}).status_code == 403
