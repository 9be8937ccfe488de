"""What the dashboard's pages show and do, on real rows and a real sandbox."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from html import unescape
from typing import Any
from uuid import uuid4

import httpx
import orjson
import pytest

from api import STRIPE_KEY, Api, serving
from billhook.access.policies import policy
from stripe_events import (
    T0,
    customer,
    event,
    invoice,
    paid,
    payment_intent,
    price,
    product,
    refund,
    subject,
    subscription,
)
from visitor import Visitor, said

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'"


def apply(api: Api, *events: dict[str, Any]) -> None:
    for each in api.books.apply(*events):
        assert not isinstance(each, Exception), each


def refunded(number: int, amount: int, **more: Any) -> dict[str, Any]:
    of = refund(f"re_{number}", payment_intent=f"pi_{number}", amount=amount, **more)
    return event("refund.created", of, at=100 + number)


def until_synced(visitor: Visitor) -> None:
    while "data-refresh" in visitor.read("/test/settings/sync"):
        pass


# --- pages that are empty ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "next_step"),
    [
        ("/test/catalog", "from Stripe"),
        ("/test/customers", "after a sync"),
        ("/test/subscriptions", "Create a checkout"),
        ("/test/transactions", "as soon as Stripe reports"),
        ("/test/invoices", "after a sync"),
        ("/test/disputes", "the dispute appears here"),
        ("/test/search?q=nothing", "an order id or any other value"),
        ("/test/events", "as soon as they arrive"),
        ("/test/transactions?search=nobody@example.com", "Search for a"),
        ("/test/events?search=evt_unknown", "Search for an event id"),
        ("/live", "Set a Stripe key"),
    ],
)
def test_an_empty_page_says_what_to_do_next(visitor: Visitor, path: str, next_step: str) -> None:
    assert next_step in visitor.text(path)


def test_the_mode_stands_on_every_page(visitor: Visitor) -> None:
    for section in ("", "/catalog", "/customers", "/subscriptions", "/transactions", "/events",
                 "/settings", "/settings/mirror", "/settings/policies", "/keys"):  # fmt: skip
        live = visitor.read(f"/live{section}")
        assert '<html lang="en" data-environment="live">' in live
        assert "Live real money" in said(live)
        assert f'href="/dashboard/test{section}"' in live
        assert "Test no real money" in visitor.text(f"/test{section}")


def test_an_unknown_page_leads_back(visitor: Visitor) -> None:
    for path in ("/test/planets", "/moon/catalog", "/test/transactions/pi_none",
                 "/test/customers/cus_none", "/test/events/evt_none",
                 "/test/catalog/prod_none"):  # fmt: skip
        answer = visitor.get(path)
        assert answer.status_code == 404, path
        assert "Back to overview" in answer.text


@pytest.mark.parametrize(
    "path", ["/customers/%00", "/customers/%20", "/catalog/%00", "/events/%00", "/events/a%00b"]
)
def test_what_can_be_no_id_is_no_page(visitor: Visitor, path: str) -> None:
    assert visitor.get(f"/test{path}").status_code == 404


def test_an_answer_that_went_wrong_in_live_says_live(api: Api, visitor: Visitor) -> None:
    answers = [
        visitor.get("/live/planets"),
        visitor.http.post("/live/settings/key/remove", data={"csrf": "wrong"}),
        visitor.get("/live/transactions?status=great"),
    ]
    visitor.send("/sign-out")
    answers.append(visitor.http.post("/live/keys"))
    assert [each.status_code for each in answers] == [404, 403, 400, 401]
    for answer in answers:
        assert 'data-environment="live"' in answer.text
        assert "Test no real money" not in said(answer.text)


def test_a_parameter_that_does_not_fit_is_a_sentence(visitor: Visitor) -> None:
    answer = visitor.get("/test/transactions?status=great")
    assert answer.status_code == 400
    assert "status: must be" in said(answer.text)


# --- transactions --------------------------------------------------------------------------------


def test_refunds_are_nested_under_their_payment(api: Api, visitor: Visitor) -> None:
    apply(api, paid(1, amount=5000, amount_received=5000), paid(2), refunded(1, 1200))
    page = visitor.read("/test/transactions")
    rows = [said(each) for each in re.findall(r"<tr class=.*?</tr>", page, re.S)]
    assert len(rows) == 3
    assert "15.00 EUR" in rows[0]
    assert "50.00 EUR" in rows[1]
    assert "partially refunded" in rows[1]
    assert "Refund, requested by customer" in rows[2]
    assert "−12.00 EUR" in rows[2]


def test_a_payment_shows_its_references_to_copy_and_its_refunds(api: Api, visitor: Visitor) -> None:
    apply(api, paid(1, metadata=subject(), customer="cus_1"), refunded(1, 500))
    for reference in ("pi_1", "ch_1", "re_1"):
        page = visitor.read(f"/test/transactions/{reference}")
        assert 'data-copy="pi_1"' in page
        assert 'data-copy="ch_1"' in page
    shown = visitor.text("/test/transactions/pi_1")
    assert "team: t1" in shown
    assert "Refunds Time Refund Reason Status Amount" in shown


@pytest.mark.parametrize(
    ("currency", "shown"), [("jpy", "1,500 JPY"), ("kwd", "1.500 KWD"), ("eur", "15.00 EUR")]
)
def test_money_has_its_currencys_decimals(
    api: Api, visitor: Visitor, currency: str, shown: str
) -> None:
    apply(api, paid(1, currency=currency))
    assert shown in visitor.text("/test/transactions")
    assert f"Net volume {shown}" in visitor.text("/test?period=12m")


def test_pages_lead_forwards_and_backwards(api: Api, visitor: Visitor) -> None:
    apply(api, *(paid(number) for number in range(1, 8)))
    first = visitor.read("/test/transactions?limit=3")
    assert 'rel="prev"' not in first

    def follow(page: str, rel: str) -> str:
        found = re.search(rf'rel="{rel}" href="/dashboard([^"]+)"', page)
        assert found is not None
        return visitor.read(found[1].replace("&amp;", "&"))

    def ids(page: str) -> list[str]:
        return re.findall(r"/transactions/(pi_\d+)", page)

    second = follow(first, "next")
    third = follow(second, "next")
    assert [*ids(first), *ids(second), *ids(third)] == [f"pi_{n}" for n in range(7, 0, -1)]
    assert 'rel="next"' not in third
    assert ids(follow(third, "prev")) == ids(second)
    assert ids(follow(follow(third, "prev"), "prev")) == ids(first)


def test_the_export_has_a_line_for_each_payment_and_refund(api: Api, visitor: Visitor) -> None:
    apply(
        api,
        paid(1, amount=5000, amount_received=5000, description="=HYPERLINK(evil)"),
        paid(2, currency="jpy", receipt_email="a@b.test"),
        refunded(1, 1200),
    )
    answer = visitor.get("/test/transactions.csv")
    assert answer.headers["content-type"].startswith("text/csv")
    assert "transactions-test.csv" in answer.headers["content-disposition"]
    lines = list(csv.DictReader(io.StringIO(answer.text)))
    assert [line["reference"] for line in lines] == ["re_1", "pi_2", "pi_1"]
    assert lines[2]["amount"] == "50.00"
    assert lines[2]["refunded"] == "12.00"
    assert lines[2]["amount_minor"] == "5000"
    assert lines[2]["description"] == "'=HYPERLINK(evil)"  # never a formula
    assert (lines[1]["amount"], lines[1]["currency"], lines[1]["email"]) == (
        "1500", "JPY", "a@b.test",
    )  # fmt: skip
    only = visitor.get("/test/transactions.csv?type=refund").text
    assert [line["reference"] for line in csv.DictReader(io.StringIO(only))] == ["re_1"]


def test_money_paid_outside_stripe_and_a_cancellation_are_told_apart(
    api: Api, visitor: Visitor
) -> None:
    untaken = {"amount_received": 0}
    released = payment_intent("pi_held", latest_charge="ch_held", **untaken)
    declined = payment_intent("pi_2", latest_charge="ch_2", **untaken)
    apply(
        api,
        event("invoice.paid", invoice(paid_out_of_band=True), at=9),
        event("payment_intent.canceled", released | {"canceled_at": T0 + 60}, at=60),
        event("payment_intent.payment_failed", declined, at=70),
        paid(2),
    )
    listed = visitor.text("/test/transactions")
    assert "0.00 USD 29.00 USD outside Stripe" in listed
    assert listed.count("canceled") == 1
    invoiced = visitor.text("/test/transactions/in_1")
    assert "Paid outside Stripe 29.00 USD" in invoiced
    held = visitor.text("/test/transactions/pi_held")
    assert "Canceled 28 May 2026" in held
    assert "Failed" not in held
    tried = visitor.text("/test/transactions/pi_2")
    assert "Earlier attempt failed" in tried
    lines = csv.DictReader(io.StringIO(visitor.get("/test/transactions.csv").text))
    assert {
        line["reference"]: (
            line["outside_stripe"],
            line["outside_stripe_minor"],
            line["canceled_at"],
        )
        for line in lines
    } == {
        "in_1": ("29.00", "2900", ""),
        "pi_held": ("0.00", "0", "2026-05-28T20:27:40.000Z"),
        "pi_2": ("0.00", "0", ""),
    }


def test_the_export_goes_beyond_a_page(api: Api, visitor: Visitor) -> None:
    api.books.execute("""
        INSERT INTO payments.transactions (
            provider, environment, type, status, provider_object_type, provider_object_id, amount,
            currency)
        SELECT 'stripe', 'test', 'one_time_payment', 'succeeded', 'payment_intent', 'pi_' || n, n,
            'eur' FROM generate_series(1, 2500) n""")
    lines = list(csv.DictReader(io.StringIO(visitor.get("/test/transactions.csv").text)))
    assert {line["reference"] for line in lines} == {f"pi_{n}" for n in range(1, 2501)}
    assert len(lines) == 2500


def test_no_page_is_heavy_whatever_hangs_on_a_row(api: Api, visitor: Visitor) -> None:
    api.books.execute("""
        INSERT INTO payments.stripe_products (environment, product_id, name, description, active)
        SELECT 'test', 'prod_' || n, 'Product ' || n, repeat('words ', 800), true
        FROM generate_series(1, 60) n;
        INSERT INTO payments.stripe_prices (
            environment, price_id, product_id, active, currency, unit_amount, type, lookup_key)
        SELECT 'test', 'price_with_an_id_of_some_length_' || p || '_' || n, 'prod_' || p, true,
            'eur', n, 'recurring', 'a_lookup_key_of_some_length_' || p || '_' || n
        FROM generate_series(1, 60) p, generate_series(1, 150) n;
        INSERT INTO payments.transactions (
            provider, environment, type, status, provider_object_type, provider_object_id, amount,
            currency, payment_id, description)
        SELECT 'stripe', 'test', 'one_time_payment', 'succeeded', 'payment_intent', 'pi_' || n,
            n, 'eur', n, repeat('words ', 20) FROM generate_series(1, 60) n
        UNION ALL
        SELECT 'stripe', 'test', 'refund', 'refunded', 'refund', 're_' || p || '_' || n,
            1, 'eur', p, 'requested_by_customer'
        FROM generate_series(1, 60) p, generate_series(1, 40) n;
        INSERT INTO payments.stripe_subscriptions (
            environment, subscription_id, customer_id, status)
        SELECT 'test', 'sub_' || n, 'cus_' || n, 'active' FROM generate_series(1, 60) n;
        INSERT INTO payments.stripe_subscription_items (
            environment, subscription_item_id, subscription_id, product_id, price_id)
        SELECT 'test', 'si_' || s || '_' || n, 'sub_' || s, 'prod_1', 'price_1_' || n
        FROM generate_series(1, 60) s, generate_series(1, 20) n;
        INSERT INTO payments.webhook_events (
            provider, environment, provider_event_id, event_type, livemode, payload)
        SELECT 'stripe', 'test', 'evt_large', 'product.updated', false,
            jsonb_build_object('text', repeat('<', 1000000))""")
    files = ("dashboard.css", "dashboard.js", "columns.js", "times.js", "hook.svg",
             "fonts/inter.woff2")  # fmt: skip
    static = sum(len(visitor.get(f"/static/{file}").content) for file in files)
    charts = ("charts.js", "uplot/uPlot.iife.min.js", "uplot/uPlot.min.css")
    page = visitor.get("/test?period=90d&bucket=day").content
    drawn = sum(len(visitor.get(f"/static/{file}").content) for file in charts)
    assert b"uPlot" in page
    assert len(page) + static + drawn < 250_000, len(page)
    for path, last in (
        ("/catalog", "Product 26"),
        ("/catalog/prod_7", "the first 100 prices"),
        ("/transactions", "All 40 refunds"),
        ("/transactions/pi_7", "re_7_40"),
        ("/subscriptions", "and 15 more"),
        ("/events/evt_large", "Download the complete payload"),
    ):
        page = visitor.get(f"/test{path}")
        assert last in page.text, path
        assert len(page.content) + static < 250_000, (path, len(page.content))
    found = visitor.text("/test/catalog/prod_7?price=price_with_an_id_of_some_length_7_99")
    assert "price_with_an_id_of_some_length_7_99" in found
    assert "more than 10 prices" in visitor.text("/test/catalog")
    whole = visitor.get("/test/events/evt_large/payload")
    assert whole.json() == {"text": "<" * 1_000_000}


def test_filters_stay_when_others_are_chosen(api: Api, visitor: Visitor) -> None:
    apply(api, paid(1, customer="cus_1"), paid(2, customer="cus_2"))
    page = visitor.read("/test/transactions?customer=cus_1&subjectType=team&subjectId=t1&limit=5")
    for name, value in (
        ("customer", "cus_1"), ("subjectType", "team"), ("subjectId", "t1"), ("limit", "5"),
    ):  # fmt: skip
        assert f'<input name="{name}" value="{value}" readonly>' in page
    page = visitor.read("/test/events?since=2026-05-28T00:00:00Z&objectId=pi_1&startingAfter=")
    assert '<input name="since" value="2026-05-28T00:00:00Z" readonly>' in page
    assert 'name="startingAfter"' not in page


def test_transactions_of_some_days(api: Api, visitor: Visitor) -> None:
    apply(api, paid(1), paid(100_000))
    assert "pi_1" in visitor.read("/test/transactions?since=2026-05-28&until=2026-05-29")
    assert "pi_100000" not in visitor.read("/test/transactions?since=2026-05-28&until=2026-05-29")
    assert visitor.get("/test/transactions?since=yesterday").status_code == 400


def test_a_refund_of_a_payment_from_before_is_found(api: Api, visitor: Visitor) -> None:
    apply(api, refunded(1, 500))
    apply(api, paid(2))
    assert 'href="/dashboard/test/transactions?type=refund"' in visitor.read("/test/transactions")
    assert "re_1" in visitor.read("/test/transactions?type=refund")
    assert "Refund of 5.00 EUR" in visitor.text("/test/transactions/re_1")


# --- customers, subscriptions, overview ----------------------------------------------------------


def test_a_customer_has_a_page_with_all_that_is_theirs(api: Api, visitor: Visitor) -> None:
    apply(
        api,
        event("customer.created", customer("cus_1", email="ada@example.com", name="Ada")),
        event("customer.subscription.created", subscription(customer="cus_1", metadata=subject())),
        paid(1, customer="cus_1", description="A mug"),
    )
    assert "ada@example.com" in visitor.text("/test/customers?search=ADA")
    page = visitor.text("/test/customers/cus_1")
    for fact in ("ada@example.com", "Ada", "active", "A mug", "15.00 EUR", "team: t1"):
        assert fact in page


def test_a_subscription_says_when_it_ends(api: Api, visitor: Visitor) -> None:
    ending = subscription(cancel_at_period_end=True, cancel_at=1_790_000_000)
    apply(api, event("customer.subscription.created", ending))
    assert "active canceling Ends 21 Sep 2026" in visitor.text("/test/subscriptions")


def test_the_overview_sums_up_and_says_what_needs_attention(api: Api, visitor: Visitor) -> None:
    apply(api, paid(1), refunded(1, 500))
    api.books.execute("""
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE 'no shelf for this'; END $$;
        CREATE TRIGGER refuse AFTER UPDATE ON payments.webhook_events FOR EACH ROW
        WHEN (NEW.processing_status = 'processed') EXECUTE FUNCTION refuse()""")
    (failed,) = api.books.apply(paid(2))
    assert isinstance(failed, Exception)
    page = visitor.text("/test?period=12m")
    assert "Net volume 25.00 EUR" in page
    assert "Successful payments 2 " in page
    assert "Refunds 5.00 EUR" in page
    assert "1 event is failing" in page
    assert "Row-level security is off" in page
    assert "30.00 EUR paid, 5.00 EUR refunded" in page


def test_each_figure_links_to_what_it_counts(api: Api, visitor: Visitor) -> None:
    apply(api, paid(1), refunded(1, 500))
    page = visitor.read("/test?period=12m")
    for name, rows in (("Successful payments", 1), ("Failed payments", 0), ("Refunds", 1)):
        found = re.search(rf"<p>{name}</p>\s*<strong><a href=\"([^\"]+)\"", page)
        assert found is not None, name
        listed = visitor.read(unescape(found[1]).removeprefix("/dashboard"))
        assert listed.count('<tr class="row') == rows, name


def test_the_movements_of_mrr_say_who_left(api: Api, visitor: Visitor) -> None:
    api.books.execute("""
        INSERT INTO payments.mrr_movements
            (environment, customer_id, currency, day, kind, amount, mrr)
        VALUES ('test', 'cus_left', 'eur', '2026-05-03', 'churn', -900, 0),
            ('test', 'cus_new', 'eur', '2026-05-04', 'new', 900, 900)""")
    query = "kind=churn&since=2026-05-01&until=2026-05-31"
    listed = visitor.read(f"/test/mrr-movements?{query}")
    assert "cus_left" in listed
    assert "cus_new" not in listed
    lines = visitor.read(f"/test/mrr-movements.csv?{query}").splitlines()
    assert lines[1:] == ["2026-05-03,churn,cus_left,,,EUR,-9.00,0.00"]


# --- webhook events ------------------------------------------------------------------------------


def test_a_failed_event_shows_why_and_is_fulfilled_by_a_replay(api: Api, visitor: Visitor) -> None:
    api.books.execute("""
        CREATE TABLE fulfilled (event text);
        CREATE FUNCTION fulfill() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF to_regclass('shelf') IS NULL THEN RAISE 'no shelf for this'; END IF;
            INSERT INTO fulfilled VALUES (NEW.provider_event_id);
            RETURN NULL;
        END $$;
        CREATE TRIGGER fulfill AFTER UPDATE ON payments.webhook_events FOR EACH ROW
        WHEN (NEW.processing_status = 'processed') EXECUTE FUNCTION fulfill()""")
    told = paid(1)
    (failed,) = api.books.apply(told)
    assert isinstance(failed, Exception)
    path = f"/test/events/{told['id']}"
    assert "no shelf for this" in visitor.text("/test/events?status=failed")
    assert "no shelf for this" in visitor.text(path)
    again = visitor.do(f"{path}/replay")
    assert "could not be applied" in again
    assert again.count("no shelf for this") == 1
    assert "Fix the cause, then replay the event" in again
    api.books.execute("CREATE TABLE shelf ()")
    assert "Replayed: the event is processed." in visitor.do(f"{path}/replay")
    assert "Replayed: the event is processed." in visitor.do(f"{path}/replay")
    assert len(api.books.rows("SELECT * FROM fulfilled")) == 1
    visitor.do(f"{path}/replay", refire="yes")
    assert len(api.books.rows("SELECT * FROM fulfilled")) == 2


def test_an_event_that_was_put_away_is_shown_and_says_why_it_is_not_replayed(
    api: Api, visitor: Visitor
) -> None:
    told = paid(1)
    apply(api, told)
    api.books.archive_events(10)
    assert "payment_intent.succeeded" in visitor.text(f"/test/events/{told['id']}")
    assert "was archived (BILLHOOK_EVENT_RETENTION_DAYS)" in visitor.do(
        f"/test/events/{told['id']}/replay"
    )
    answer = api.admin("POST", f"/test/webhook-events/{told['id']}/replay")
    assert (answer.status_code, answer.json()["error"]) == (409, "DATABASE_DUPLICATE")


def test_many_events_are_replayed_at_once(api: Api, visitor: Visitor) -> None:
    first, second = paid(1), paid(2)
    apply(api, first, second)
    api.books.execute("DELETE FROM payments.transactions")
    assert "2 events replayed" in visitor.do(
        "/test/events/replay", event=[first["id"], second["id"]]
    )
    assert len(api.books.rows("SELECT * FROM payments.transactions")) == 2
    assert "No events to replay" in visitor.do("/test/events/replay", all="failed")
    unknown = visitor.do("/test/events/replay", event=["evt_none"])
    assert "0 events replayed. 1 failed again: evt_none" in unknown


def test_the_ledger_is_followed_live(api: Api, visitor: Visitor) -> None:
    """The answer ends here when the row has come; a page that is never told would wait for ever,
    and the client's timeout fails it."""
    told = paid(1)
    with visitor.http.stream("GET", "/test/events/live") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = answer.iter_lines()
        assert next(line for line in lines if line) == "retry: 500"
        assert next(line for line in lines if line) == "event: beat"
        apply(api, told)
        next(line for line in lines if line == "event: row")
        data = next(lines)
    row = orjson.loads(data.removeprefix("data: "))
    assert row["id"] == told["id"]
    assert "payment_intent.succeeded processed" in re.sub(r"pi_1 ", "", said(row["row"]))


def test_the_live_ledger_ends_soon_and_is_asked_for_again(api: Api, visitor: Visitor) -> None:
    """So a server that stops never waits long, and an ended session is noticed."""
    with visitor.http.stream("GET", "/test/events/live") as answer:
        assert len([line for line in answer.iter_lines() if line == "event: beat"]) == 5
    api.books.execute("UPDATE billhook.dashboard_sessions SET expires_at = now()")
    headers = {"accept": "text/event-stream"}
    assert visitor.get("/test/events/live", headers=headers).status_code == 401


def test_the_live_ledger_lets_go_of_what_no_longer_fits(api: Api, visitor: Visitor) -> None:
    first, second = paid(1), paid(2)
    apply(api, first, second)
    with visitor.http.stream("GET", "/test/events/live?limit=2&endingBefore=x") as answer:
        lines = answer.iter_lines()
        assert orjson.loads(_data(lines, "shown")) == [second["id"], first["id"]]
        third = paid(3)
        apply(api, third)
        assert orjson.loads(_data(lines, "shown")) == [third["id"], second["id"]]


def _data(lines: Iterator[str], event: str) -> str:
    next(line for line in lines if line == f"event: {event}")
    return next(lines).removeprefix("data: ")


# --- text of other people's ----------------------------------------------------------------------


def test_scripts_of_other_people_are_shown_as_text(api: Api, visitor: Visitor) -> None:
    apply(
        api,
        event("product.created", product(name=EVIL, description=EVIL, metadata={"a": EVIL})),
        event("price.created", price("price_1", lookup_key=EVIL)),
        event("customer.created", customer("cus_1", name=EVIL, phone=EVIL, email=EVIL,
              metadata={"a": EVIL})),
        event("customer.subscription.created",
              subscription(customer="cus_1", metadata=subject(EVIL[:50], EVIL))),
        paid(1, customer="cus_1", description=EVIL, receipt_email=EVIL,
             metadata=subject(EVIL[:50], EVIL)),
        refunded(1, 100, reason=EVIL),
    )  # fmt: skip
    told = api.books.row(
        "SELECT provider_event_id AS id FROM payments.webhook_events "
        "WHERE event_type = 'payment_intent.succeeded'"
    )["id"]
    for path in (
        "", "/catalog", "/catalog/prod_1", "/customers", "/customers/cus_1", "/subscriptions",
        "/transactions", "/transactions/pi_1", "/transactions/re_1", "/events", f"/events/{told}",
        "/settings", "/settings/mirror", "/settings/policies", "/keys",
        f"/transactions?search={EVIL}", f"/customers?search={EVIL}",
        f"/events?search={EVIL}", f"/catalog?search={EVIL}", f"/transactions?status={EVIL}",
        f"/customers/{EVIL}", f"?currency={EVIL}&period={EVIL}",
    ):  # fmt: skip
        page = visitor.get(f"/test{path}").text
        assert "<script>alert" not in page, path
        assert "<img src=x" not in page, path


# --- the first steps -----------------------------------------------------------------------------


def test_the_overview_leads_from_a_new_server_to_the_first_payment(
    database_url: str, sandbox: str
) -> None:
    with serving(database_url, sandbox) as api:
        visitor = Visitor(api.url)
        visitor.sign_in()
        assert "0 of 4 done" in (page := visitor.text("/test"))
        assert "No Stripe key is set" in page
        assert "Not compared with Stripe yet" in page
        visitor.do("/test/settings/key", secret_key="sk_test_firststeps_1")
        until_synced(visitor)
        assert "1 of 4 done" in (page := visitor.text("/test"))
        assert "There is no active price" in page
        apply(api, event("product.created", product()), event("price.created", price()))
        assert "2 of 4 done" in (page := visitor.text("/test"))
        assert "anyone can bill any subject" in page
        for table in ("stripe_checkout_sessions", "stripe_customer_portal_sessions"):
            api.books.execute(policy(f"payments.{table}", "user"))
        assert "3 of 4 done" in (page := visitor.text("/test"))
        assert "Create a checkout in your app" in page
        apply(api, paid(1))
        assert "Get started" not in (page := visitor.text("/test"))
        assert "Needs attention" not in page
        api.books.execute(
            "ALTER TABLE payments.stripe_checkout_sessions DISABLE ROW LEVEL SECURITY"
        )
        assert "Needs attention" in (page := visitor.text("/test"))
        assert "anyone can bill any subject" in page
        visitor.do("/test/settings/key/remove")
        assert "No Stripe key is set" in visitor.text("/test")
        visitor.http.close()


# --- settings ------------------------------------------------------------------------------------


def test_another_accounts_key_has_to_be_confirmed(api: Api, visitor: Visitor) -> None:
    other = "sk_test_anotherAccount_of_the_browser"
    before = api.admin("GET", "/status").json()["connections"][0]["accountId"]
    asked = visitor.send("/test/settings/key", secret_key=other)
    assert asked.status_code == 409
    assert "The key belongs to another account" in said(asked.text)
    assert f"Archive the rows of {before}" in said(asked.text)
    assert other not in asked.text
    assert api.admin("GET", "/status").json()["connections"][0]["accountId"] == before
    page = visitor.do("/test/settings/key", secret_key=other, replace_account="yes")
    assert "The key was saved" in page
    assert api.admin("GET", "/status").json()["connections"][0]["accountId"] != before
    until_synced(visitor)


def test_a_key_is_set_in_the_browser_and_shown_to_nobody(database_url: str, sandbox: str) -> None:
    key = "sk_test_of_the_browser_1234"
    with serving(database_url, sandbox) as api:
        visitor = Visitor(api.url)
        visitor.sign_in()
        assert "No Stripe key is set" in visitor.text("/test")
        refused = visitor.send("/test/settings/key", secret_key="sk_live_of_the_other_mode")
        assert refused.status_code == 400
        assert "This is a live key" in said(refused.text)
        assert "sk_live_of" not in refused.text
        page = visitor.do("/test/settings/key", secret_key=key)
        assert "The key was saved" in page
        assert "connected with sk_test_****1234" in page
        assert "acct_" in page
        until_synced(visitor)
        assert "succeeded" in visitor.text("/test/settings/sync")
        for path in ("", "/settings", "/settings/mirror", "/keys", "/settings/sync"):
            assert key not in visitor.read(f"/test{path}")
        assert "The key was removed" in visitor.do("/test/settings/key/remove")
        assert "not set" in visitor.text("/test/settings")
        assert "no key to remove" in visitor.do("/test/settings/key/remove")
        visitor.http.close()


def test_a_sync_is_begun_and_its_end_is_seen(api: Api, visitor: Visitor) -> None:
    api.stripe.v1.products.create({"name": "A mug"})
    visitor.do("/test/settings/sync")
    until_synced(visitor)
    assert "succeeded" in visitor.text("/test/settings/sync")
    assert "A mug" in visitor.text("/test/catalog")


def test_the_endpoint_is_set_up_in_the_browser(database_url: str, sandbox: str) -> None:
    with serving(database_url, sandbox, public_url="https://pay.example.com") as api:
        visitor = Visitor(api.url)
        visitor.sign_in()
        visitor.do("/test/settings/key", secret_key="sk_test_of_the_endpoints_page")
        page = visitor.text("/test/settings")
        assert "https://pay.example.com/api/webhooks/stripe/test" in page
        assert re.search(r"The endpoint we_\w+ is set up", visitor.do("/test/settings/endpoint"))
        visitor.http.close()


def test_an_endpoint_that_stripe_refuses_is_told_with_the_key(
    database_url: str, sandbox: str
) -> None:
    with serving(database_url, sandbox, public_url="https://pay.example.com") as api:
        visitor = Visitor(api.url)
        visitor.sign_in()
        fault = {
            "status": 400,
            "times": 1,
            "method": "POST",
            "path_prefix": "/v1/webhook_endpoints",
        }
        httpx.post(f"{sandbox}/_sandbox/fault", json=fault, timeout=60).raise_for_status()
        page = visitor.do("/test/settings/key", secret_key="sk_test_refusedendpoint_1")
        httpx.post(f"{sandbox}/_sandbox/recover", json={}, timeout=60).raise_for_status()
        assert "The key was saved, but the endpoint failed:" in page
        assert "connected with sk_test_" in page
        visitor.http.close()


def test_the_books_are_compared_from_the_page(api: Api, visitor: Visitor) -> None:
    page = visitor.do("/test/settings/verify")
    assert "objects compared with Stripe" in page
    assert "stripe_products" in page


def test_the_settings_tell_who_may_bill_whom(api: Api, visitor: Visitor) -> None:
    page = visitor.text("/test/settings/policies")
    assert "anyone can bill any subject, even without signing in" in page
    for owner in ("user", "team", "organization"):
        assert f"CREATE POLICY own_{owner} ON payments.stripe_checkout_sessions" in page


def test_an_archive_is_restored_in_the_browser(api: Api, visitor: Visitor) -> None:
    apply(api, paid(1))
    visitor.do("/test/settings/key", secret_key="sk_test_another_1", replace_account="yes")
    assert api.books.rows("SELECT * FROM payments.transactions") == []
    archive = api.books.row("SELECT id FROM billhook.archives")["id"]
    assert "is connected" in visitor.do(f"/test/settings/archives/{archive}")  # and refused
    visitor.do("/test/settings/key", secret_key=STRIPE_KEY, replace_account="yes")
    assert "rows were restored" in visitor.do(f"/test/settings/archives/{archive}")
    assert len(api.books.rows("SELECT * FROM payments.transactions")) == 1


def test_what_a_script_asks_for_does_not_use_up_what_the_next_page_says(
    api: Api, visitor: Visitor
) -> None:
    visitor.send("/test/settings/sync")
    visitor.send("/test/settings/verify")
    visitor.get("/test/settings/sync", headers={"accept": "text/x-part"})
    assert "objects compared with Stripe" in visitor.text("/test/catalog")
    assert "objects compared with Stripe" not in visitor.text("/test/catalog")


# --- the catalog ---------------------------------------------------------------------------------


def test_products_and_prices_are_made_changed_and_archived(api: Api, visitor: Visitor) -> None:
    page = visitor.do(
        "/test/new-product", name="Tea <3", description="Green", metadata="kind=leaf\nbag=no",
        key=str(uuid4()),
    )  # fmt: skip
    assert "Tea <3 was created" in page
    tea = api.books.row("SELECT * FROM payments.stripe_products WHERE name = 'Tea <3'")
    assert tea["metadata"] == {"kind": "leaf", "bag": "no"}
    here = f"/test/catalog/{tea['product_id']}"
    form = {"amount": "15,50", "currency": "EUR", "interval": "month", "every": "3"}
    form["key"] = str(uuid4())
    assert "was created" in visitor.do(f"{here}/prices", **form, lookup_key="tea_quarterly")
    visitor.do(f"{here}/prices", **form, lookup_key="tea_quarterly")  # a second click
    (made,) = api.books.rows("SELECT * FROM payments.stripe_prices")
    assert (made["unit_amount"], made["currency"]) == (1550, "eur")
    assert (made["recurring_interval"], made["recurring_interval_count"]) == ("month", 3)
    assert "15.50 EUR every 3 months" in visitor.text("/test/catalog?search=tea_quarterly")
    visitor.do(f"{here}/prices/{made['price_id']}", active="false")
    visitor.do(f"{here}/prices/{made['price_id']}", lookup_key="tea")
    assert "was saved" in visitor.do(here, name="Tea", description="", metadata="bag=yes\nnew=1")
    assert "Tea is archived" in visitor.do(f"{here}/status", active="false")
    at_stripe = api.stripe.v1.products.retrieve(tea["product_id"])
    assert (at_stripe.name, at_stripe.active, at_stripe.description) == ("Tea", False, None)
    assert at_stripe.metadata.to_dict() == {"bag": "yes", "new": "1"}
    price_at_stripe = api.stripe.v1.prices.retrieve(made["price_id"])
    assert (price_at_stripe.active, price_at_stripe.lookup_key) == (False, "tea")
    assert "Tea is active again" in visitor.do(f"{here}/status", active="true")


@pytest.mark.parametrize(
    ("path", "fields", "wrong", "reason", "kept"),
    [
        ("/new-product", {"name": "", "description": "Leaves"}, "name", "Must", "Leaves"),
        ("/new-product", {"name": "Tea", "metadata": "no sign"},
         "metadata", "“no sign” does not look like key=value.", "no sign"),
        ("/catalog/{product}", {"name": " ", "description": "For tea"}, "name", "Must", "For tea"),
        ("/catalog/{product}/prices", {"amount": "1.500,00", "currency": "eur"},
         "amount", "Must look like 15.00", "1.500,00"),
        ("/catalog/{product}/prices", {"amount": "1,5", "currency": "jpy"},
         "amount", "JPY has no decimals.", "jpy"),
        ("/catalog/{product}/prices", {"amount": "1", "currency": "€"}, "currency", "", "€"),
        ("/catalog/{product}/prices", {"amount": "1", "currency": "eur", "interval": "month",
                               "every": "many"}, "every", "Must be a whole number.", "many"),
    ],
)  # fmt: skip
def test_a_form_that_is_refused_says_why_beside_the_field_and_keeps_what_was_typed(
    api: Api,
    visitor: Visitor,
    path: str,
    fields: dict[str, str],
    wrong: str,
    reason: str,
    kept: str,
) -> None:
    cup = api.stripe.v1.products.create({"name": "Cup"})
    visitor.do("/test/settings/sync")
    until_synced(visitor)
    answer = visitor.send(f"/test{path.format(product=cup.id)}", **fields, key=str(uuid4()))
    assert answer.status_code == 400
    (beside,) = re.findall(rf'role="alert" id="wrong-{wrong}">([^<]+)<', answer.text)
    assert unescape(beside).startswith(reason)
    assert answer.text.count('role="alert"') == 1
    assert f'aria-describedby="wrong-{wrong}"' in answer.text
    assert kept in answer.text


def test_what_stripe_refuses_is_told_on_the_form(api: Api, visitor: Visitor) -> None:
    api.stripe.v1.products.create({"name": "Cup", "id": "prod_cup"})
    visitor.do("/test/settings/sync")
    until_synced(visitor)
    fields = {"amount": "5", "currency": "eur", "lookup_key": "cup"}
    visitor.do("/test/catalog/prod_cup/prices", **fields, key=str(uuid4()))
    key = str(uuid4())
    answer = visitor.send("/test/catalog/prod_cup/prices", **fields, key=key)
    assert answer.status_code == 400
    assert "lookup key" in said(answer.text)
    assert key not in answer.text  # what is sent next is another request to Stripe


def test_a_price_of_which_nobody_knows_is_sent_again_under_the_same_key(
    database_url: str, sandbox: str
) -> None:
    with serving(database_url, sandbox) as api:
        visitor = Visitor(api.url)
        visitor.sign_in()
        visitor.do("/test/settings/key", secret_key="sk_test_catalog_1")
        until_synced(visitor)
        made = httpx.post(
            f"{sandbox}/v1/products",
            auth=("sk_test_catalog_1", ""),
            data={"name": "Cup"},
            timeout=60,
        ).json()
        visitor.do("/test/settings/sync")
        until_synced(visitor)
        assert "Cup" in visitor.text("/test/catalog")
        fault = {"status": 500, "times": 10, "method": "POST", "path_prefix": "/v1/prices"}
        httpx.post(f"{sandbox}/_sandbox/fault", json=fault, timeout=60).raise_for_status()
        key = str(uuid4())
        fields = {"amount": "5", "currency": "eur", "key": key}
        answer = visitor.send(f"/test/catalog/{made['id']}/prices", **fields)
        httpx.post(f"{sandbox}/_sandbox/recover", json={}, timeout=60).raise_for_status()
        assert answer.status_code >= 500
        assert key in answer.text
        assert 'value="5"' in answer.text
        visitor.http.close()


def test_what_was_typed_survives_a_failure_of_ours_and_is_done_once(
    api: Api, visitor: Visitor
) -> None:
    name = f"Kettle {uuid4()}"
    fields = {"name": name, "description": "Copper", "metadata": "", "key": str(uuid4())}
    api.books.execute("ALTER TABLE payments.stripe_products RENAME TO away")
    answer = visitor.send("/test/new-product", **fields)
    api.books.execute("ALTER TABLE payments.away RENAME TO stripe_products")
    assert answer.status_code == 500
    kept = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', answer.text))
    assert {**kept, "csrf": ""} == {**fields, "csrf": ""}
    assert visitor.http.post("/test/new-product", data=kept).status_code == 303
    at_stripe = api.stripe.v1.products.list({"limit": 100}).data
    assert [each.name for each in at_stripe].count(name) == 1


def test_a_secret_is_not_kept_for_another_try(api: Api, visitor: Visitor) -> None:
    api.books.execute("ALTER TABLE payments.provider_connections RENAME TO away")
    answer = visitor.send("/test/settings/key", secret_key="sk_test_secret_of_this_test_1")
    assert answer.status_code == 500
    assert "sk_test_secret" not in answer.text
    assert "<button>Try again<" not in answer.text


def test_what_was_refused_is_not_offered_for_another_try(visitor: Visitor) -> None:
    """The same form again would be refused again."""
    answer = visitor.send("/test/customers/cus_nobody/nothing", name="Ada")
    assert answer.status_code == 404
    assert "<button>Try again<" not in answer.text


def test_a_key_is_shown_once(api: Api, visitor: Visitor) -> None:
    made = visitor.send("/test/keys", kind="anonymous", name="shop")
    assert made.status_code == 201
    key = re.search(r'data-testid="new-key">(anon_\w+)<', made.text)
    assert key is not None
    assert key[1] not in visitor.read("/test/keys")
    assert "shop" in visitor.text("/test/keys")
