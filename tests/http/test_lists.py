"""Transactions, subscriptions, customers and the ledger, as an operator reads them."""

from __future__ import annotations

from typing import Any

import pytest

from api import Api
from billhook.reports import paging
from stripe_events import (
    customer,
    event,
    paid,
    refund,
    session,
    subject,
    subscription,
)


def listed(api: Api, path: str) -> Any:
    answer = api.admin("GET", f"/test{path}")
    assert answer.status_code == 200, answer.text
    return next(iter(answer.json().values()))


def apply(api: Api, *events: dict[str, Any]) -> None:
    for each in api.books.apply(*events):
        assert not isinstance(each, Exception), each


def test_a_transaction_shows_all_its_fields(api: Api) -> None:
    apply(api, paid(1, metadata=subject(), customer="cus_1", receipt_email="a@b.test"))
    (found,) = listed(api, "/transactions")
    assert {**found, "createdAt": "", "updatedAt": ""} == {
        "environment": "test",
        "provider": "stripe",
        "type": "one_time_payment",
        "status": "succeeded",
        "subjectType": "team",
        "subjectId": "t1",
        "providerCustomerId": "cus_1",
        "customerEmailSnapshot": "a@b.test",
        "providerReferenceId": "pi_1",
        "providerReferenceType": "payment_intent",
        "amount": 1500,
        "amountRefunded": 0,
        "amountOutOfBand": 0,
        "amountDisputed": 0,
        "amountLost": 0,
        "disputeStatus": None,
        "disputeReason": None,
        "disputeDueBy": None,
        "disputedAt": None,
        "currency": "eur",
        "description": None,
        "paidAt": "2026-05-28T20:26:41.000Z",
        "failedAt": None,
        "refundedAt": None,
        "canceledAt": None,
        "providerCreatedAt": "2026-05-28T20:26:41.000Z",
        "createdAt": "",
        "updatedAt": "",
    }


def test_pages_show_every_transaction_once_while_others_arrive(api: Api) -> None:
    apply(api, *(paid(number) for number in range(1, 26)))
    seen: list[str] = []
    path: str | None = "/api/payments/stripe/test/transactions?limit=10"
    while path:
        answer = api.admin("GET", path.removeprefix("/api/payments/stripe"))
        assert list(answer.json()) == ["transactions"]
        seen += [each["providerReferenceId"] for each in answer.json()["transactions"]]
        path = answer.links.get("next", {}).get("url")
        apply(api, paid(100 + len(seen)))
    assert seen == [f"pi_{number}" for number in range(25, 0, -1)]


def test_transactions_are_filtered(api: Api) -> None:
    apply(
        api,
        paid(1, metadata=subject("team", "a")),
        paid(2, metadata=subject("team", "b"), customer="cus_b"),
        event("refund.created", refund("re_1", payment_intent="pi_1", amount=500), at=30),
    )

    def ids(query: str) -> list[str]:
        return [each["providerReferenceId"] for each in listed(api, f"/transactions?{query}")]

    assert ids("subjectType=team&subjectId=b") == ["pi_2"]
    assert set(ids("subjectType=team&subjectId=a")) == {"re_1", "pi_1"}
    assert ids("customer=cus_b") == ["pi_2"]
    assert ids("type=refund") == ["re_1"]
    assert ids("status=partially_refunded") == ["pi_1"]
    assert ids("since=2026-05-28T20:26:42Z&type=one_time_payment") == ["pi_2"]
    assert ids("until=2026-05-28T20:26:42Z&type=one_time_payment") == ["pi_1"]


@pytest.mark.parametrize("since", ["0001-01-01T00:00:00%2B23:59", "9999-12-31T23:59:59-23:59"])
def test_a_time_beyond_the_calendar_is_refused(shared_api: Api, since: str) -> None:
    assert shared_api.admin("GET", f"/test/transactions?since={since}").status_code == 400


def test_dead_letters_are_listed_by_themselves(api: Api) -> None:
    api.books.execute("""
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE 'no shelf for this'; END $$;
        CREATE TRIGGER refuse AFTER UPDATE ON payments.webhook_events FOR EACH ROW
        WHEN (NEW.processing_status = 'processed') EXECUTE FUNCTION refuse()""")
    given_up, waiting = paid(1), paid(2)
    assert all(isinstance(each, Exception) for each in api.books.apply(given_up, waiting))
    api.books.execute(
        "UPDATE billhook.event_retries SET next_at = 'infinity' "
        f"WHERE event_id = '{given_up['id']}'"
    )
    dead = listed(api, "/webhook-events?deadLetter=true")
    assert [each["eventId"] for each in dead] == [given_up["id"]]
    assert len(listed(api, "/webhook-events?deadLetter=false")) == 2


def test_a_subscription_comes_with_its_items(api: Api) -> None:
    apply(api, event("customer.subscription.created", subscription(metadata=subject())))
    (found,) = listed(api, "/subscriptions")
    assert (found["subscriptionId"], found["subjectId"], found["status"]) == (
        "sub_1",
        "t1",
        "active",
    )
    assert found["items"]
    assert set(found["items"][0]) == {
        "environment",
        "subscriptionItemId",
        "subscriptionId",
        "productId",
        "priceId",
        "quantity",
        "metadata",
        "createdAt",
        "updatedAt",
    }


def test_the_subscription_that_changed_last_comes_first(api: Api) -> None:
    apply(
        api,
        event("customer.subscription.created", subscription("sub_1")),
        event("customer.subscription.created", subscription("sub_2")),
        event("customer.subscription.updated", subscription("sub_1", status="past_due"), at=5),
    )
    assert [each["subscriptionId"] for each in listed(api, "/subscriptions")] == ["sub_1", "sub_2"]
    assert [e["subscriptionId"] for e in listed(api, "/subscriptions?status=active")] == ["sub_2"]


def test_a_customer_adds_up_what_it_paid(api: Api) -> None:
    card = {"id": "pm_1", "type": "card", "card": {"brand": "Visa", "last4": "4242"}}
    apply(
        api,
        event(
            "customer.created",
            customer(
                "cus_1",
                address={"country": "de"},
                invoice_settings={"default_payment_method": card},
            ),
        ),
        paid(1, customer="cus_1"),
        paid(2, customer="cus_1"),
        event(
            "refund.created",
            refund("re_1", payment_intent="pi_2", charge="ch_2", amount=500),
            at=30,
        ),
    )
    (found,) = listed(api, "/customers")
    assert {name: found[name] for name in list(found)[-7:]} == {
        "paymentsCount": 2,
        "lastPaymentAt": "2026-05-28T20:26:42.000Z",
        "totalSpend": 2500,
        "totalSpendCurrency": "eur",
        "paymentMethodBrand": "visa",
        "paymentMethodLast4": "4242",
        "countryCode": "DE",
    }


def test_payments_without_customer_count_by_an_email_that_one_customer_has(api: Api) -> None:
    apply(
        api,
        event("customer.created", customer("cus_1", email="ada@b.test")),
        event("customer.created", customer("cus_2", email="bob@b.test")),
        event("customer.created", customer("cus_3", email="Bob@b.test")),
        paid(1, customer=None, receipt_email="Ada@B.test"),
        paid(2, customer=None, receipt_email="bob@b.test"),
    )
    totals = {e["providerCustomerId"]: e["totalSpend"] for e in listed(api, "/customers")}
    assert totals == {"cus_1": 1500, "cus_2": None, "cus_3": None}


def test_mixed_currencies_have_no_sum(api: Api) -> None:
    apply(
        api,
        event("customer.created", customer("cus_1")),
        paid(1, customer="cus_1"),
        paid(2, customer="cus_1", currency="usd"),
    )
    (found,) = listed(api, "/customers")
    assert (found["paymentsCount"], found["totalSpend"], found["totalSpendCurrency"]) == (
        2,
        None,
        None,
    )


def test_customers_come_by_name_and_the_deleted_last(api: Api) -> None:
    apply(
        api,
        event("customer.created", customer("cus_1", email="b@b.test")),
        event("customer.created", customer("cus_2", email=None, name="a")),
        event("customer.created", customer("cus_3", email="a@b.test")),
        event("customer.deleted", customer("cus_3", email="a@b.test"), at=5),
    )
    everyone = ["cus_2", "cus_1", "cus_3"]
    assert [each["providerCustomerId"] for each in listed(api, "/customers")] == everyone
    first = api.admin("GET", "/test/customers?limit=1")
    second = api.admin("GET", first.links["next"]["url"].removeprefix("/api/payments/stripe"))
    third = api.admin("GET", second.links["next"]["url"].removeprefix("/api/payments/stripe"))
    pages = [each.json()["customers"][0]["providerCustomerId"] for each in (first, second, third)]
    assert (pages, "next" in third.links) == (everyone, False)


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("/transactions?limit=0", "limit: "),
        ("/transactions?limit=101", "limit: "),
        ("/transactions?limit=ten", "limit: "),
        ("/transactions?limit=1&limit=2", "limit: must be given once"),
        ("/transactions?subjectType=team", "subjectId: "),
        ("/transactions?page=2", "page: is not a known field"),
        ("/transactions?startingAfter=nonsense", "startingAfter: is not a cursor of this list"),
        ("/subscriptions?status=alive", "status: "),
        ("/customers?subjectType=a&subjectId=b", "subjectType: is not a known field"),
        ("/webhook-events?status=done", "status: "),
        ("/webhook-events/%00", "event_id: must have"),
        ("/transactions?since=2026-05-28T20:26:42", "since: must be a time"),
        ("/transactions?since=5", "since: must be a time"),
        (f"/customers?startingAfter={paging.encode([False, chr(0), 'c'])}", "startingAfter: "),
        (f"/customers?startingAfter={paging.encode(['false', 'b', 'c'])}", "startingAfter: "),
    ],
)
def test_a_bad_query_is_named(shared_api: Api, path: str, problem: str) -> None:
    answer = shared_api.admin("GET", f"/test{path}")
    assert (answer.status_code, answer.json()["error"]) == (400, "INVALID_INPUT")
    assert problem in answer.json()["message"]


def test_another_environment_shows_nothing(api: Api) -> None:
    apply(api, paid(1))
    assert api.admin("GET", "/live/transactions").json() == {"transactions": []}
    answer = api.admin("GET", "/staging/transactions")
    assert (answer.status_code, answer.json()["error"]) == (400, "INVALID_INPUT")


class TestEvents:
    def test_the_ledger_is_listed_and_shown_with_payload(self, api: Api) -> None:
        known = event("customer.created", customer())
        unknown = event(
            "entitlements.active_entitlement_summary.updated", {"id": "x", "object": "y"}
        )
        api.deliver(known)
        api.deliver(unknown)
        found = listed(api, "/webhook-events")
        assert [each["processingStatus"] for each in found] == ["ignored", "processed"]
        assert [e["eventId"] for e in listed(api, "/webhook-events?status=processed")] == [
            known["id"]
        ]
        assert [e["eventId"] for e in listed(api, "/webhook-events?objectId=cus_1")] == [
            known["id"]
        ]
        shown = listed(api, f"/webhook-events/{known['id']}")
        assert shown["payload"] == known
        missing = api.admin("GET", "/test/webhook-events/evt_none")
        assert missing.status_code == 404

    def test_a_failed_event_is_replayed_once_its_cause_is_gone(self, api: Api) -> None:
        api.books.execute(FULFILL.format(trouble="RAISE EXCEPTION 'no such order';"))
        bought = event("checkout.session.completed", session())
        assert api.deliver(bought).status_code == 500
        again = api.admin("POST", f"/test/webhook-events/{bought['id']}/replay")
        assert again.status_code == 500
        assert "no such order" in again.json()["message"]
        api.books.execute(REPAIRED)
        replayed = api.admin("POST", f"/test/webhook-events/{bought['id']}/replay").json()
        assert replayed["webhookEvent"]["processingStatus"] == "processed"
        assert api.books.row("SELECT count(*) AS n FROM fulfilled")["n"] == 1

    def test_many_are_replayed_and_one_that_fails_stops_none(self, api: Api) -> None:
        api.books.execute(FULFILL.format(trouble="RAISE EXCEPTION 'closed';"))
        for number in range(3):
            api.deliver(
                event(
                    "checkout.session.completed",
                    session(f"cs_{number}", payment_intent=f"pi_{number}"),
                    at=number,
                )
            )
        answer = api.admin("POST", "/test/webhook-events/replay", {}).json()
        assert (answer["replayed"], len(answer["failed"])) == (0, 3)
        api.books.execute(REPAIRED)
        body = {"type": "checkout.session.completed", "limit": 2}
        assert api.admin("POST", "/test/webhook-events/replay", body).json()["replayed"] == 2
        assert api.admin("POST", "/test/webhook-events/replay", {}).json()["replayed"] == 1
        assert api.books.row("SELECT count(*) AS n FROM fulfilled")["n"] == 3

    def test_a_processed_event_is_projected_again_without_firing_triggers(self, api: Api) -> None:
        api.books.execute(FULFILL.format(trouble=""))
        made = event("customer.created", customer())
        api.deliver(made)
        api.books.execute("DELETE FROM payments.customers; DELETE FROM fulfilled")
        path = f"/test/webhook-events/{made['id']}/replay"
        assert api.admin("POST", path).status_code == 200
        assert len(listed(api, "/customers")) == 1
        assert api.books.row("SELECT count(*) AS n FROM fulfilled")["n"] == 0
        assert api.admin("POST", path, {"refire": True}).status_code == 200
        assert api.books.row("SELECT count(*) AS n FROM fulfilled")["n"] == 1

    def test_what_a_trigger_raises_is_told_without_the_rows_it_quotes(self, api: Api) -> None:
        api.books.execute("""
            CREATE TABLE secrets_of_the_app (token text PRIMARY KEY);
            INSERT INTO secrets_of_the_app VALUES ('planted');
            CREATE FUNCTION clash() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                INSERT INTO secrets_of_the_app VALUES ('planted');
                RETURN NEW;
            END $$;
            CREATE TRIGGER clash AFTER UPDATE ON payments.webhook_events FOR EACH ROW
            WHEN (NEW.processing_status = 'processed') EXECUTE FUNCTION clash();
        """)
        answer = api.deliver(event("customer.created", customer()))
        assert (answer.status_code, "duplicate key" in answer.text) == (500, True)
        assert "planted" not in answer.text
        assert "planted" not in listed(api, "/webhook-events")[0]["lastError"]

    def test_a_refire_that_fails_leaves_the_event_processed(self, api: Api) -> None:
        made = event("customer.created", customer())
        api.deliver(made)
        api.books.execute(FULFILL.format(trouble="RAISE EXCEPTION 'closed';"))
        path = f"/test/webhook-events/{made['id']}/replay"
        answer = api.admin("POST", path, {"refire": True})
        assert (answer.status_code, "closed" in answer.json()["message"]) == (500, True)
        assert listed(api, "/webhook-events")[0]["processingStatus"] == "processed"


FULFILL = """
CREATE TABLE fulfilled (event_id text);
CREATE FUNCTION fulfill() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    {trouble}
    INSERT INTO fulfilled VALUES (NEW.provider_event_id);
    RETURN NEW;
END $$;
CREATE TRIGGER fulfill AFTER INSERT OR UPDATE ON payments.webhook_events
FOR EACH ROW WHEN (NEW.processing_status = 'processed') EXECUTE FUNCTION fulfill();
"""
REPAIRED = """
CREATE OR REPLACE FUNCTION fulfill() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN INSERT INTO fulfilled VALUES (NEW.provider_event_id); RETURN NEW; END $$;
"""
