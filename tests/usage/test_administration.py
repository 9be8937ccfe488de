"""Usage, meters and credits over the API, in the clients and on the command line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from api import Api, serving
from billhook.client import ApiError, Client
from cli import Billhook
from http_tokens import ADMIN_KEY, ANONYMOUS_KEY, token
from metering import Metering, ago

ROUTES = [
    ("GET", "usage"),
    ("POST", "usage"),
    ("GET", "usage/totals?subjectType=team&subjectId=t1"),
    ("GET", "usage/status"),
    ("POST", "usage/retry"),
    ("POST", "meters"),
    ("POST", "meters/mtr_1/deactivate"),
    ("POST", "meters/mtr_1/reactivate"),
    ("GET", "credit-grants?customer=cus_1"),
    ("POST", "credit-grants"),
]


@pytest.fixture
def served(metering: Metering) -> Iterator[Api]:
    with serving(metering.books.dsn, metering.sandbox) as api:
        yield api


@pytest.fixture
def client(served: Api) -> Iterator[Client]:
    with Client(served.url, ADMIN_KEY) as client:
        yield client


@pytest.fixture
def typed(served: Api, monkeypatch: pytest.MonkeyPatch, billhook: Billhook) -> Billhook:
    monkeypatch.setenv("BILLHOOK_URL", served.url)
    monkeypatch.setenv("BILLHOOK_API_KEY", ADMIN_KEY)
    return billhook


def entry(**more: Any) -> dict[str, Any]:
    return {"meter": "api_calls", "subject": {"type": "team", "id": "t1"}, **more}


def record(api: Api, *entries: dict[str, Any]) -> Any:
    return api.admin("POST", "/test/usage", {"usage": list(entries)})


def test_only_an_admin_may_use_the_routes(shared_api: Api) -> None:
    for method, route in ROUTES:
        for bearer, status in ((None, 401), (ANONYMOUS_KEY, 401), (token(), 403)):
            headers = {"authorization": f"Bearer {bearer}"} if bearer else {}
            path = f"/api/payments/stripe/test/{route}"
            answer = shared_api.http.request(method, path, json={}, headers=headers)
            assert answer.status_code == status, (method, route)


def test_usage_is_recorded_once_by_its_identifier_and_sent(metering: Metering, served: Api) -> None:
    customer = metering.customer()
    given = [
        entry(value=3, identifier="r1", occurredAt=ago(seconds=50)),
        entry(value=4, identifier="r2", payload={"region": "eu"}),
        entry(),
        {"meter": "api_calls", "customerId": customer, "value": 5, "identifier": "r3"},
    ]
    assert record(served, *given).json() == {"recorded": 4, "duplicates": 0}
    again = record(served, *(each for each in given if "identifier" in each))
    assert (again.status_code, again.json()) == (201, {"recorded": 0, "duplicates": 3})
    metering.send()
    assert metering.sum_at_stripe() == 13


@pytest.mark.parametrize(
    "other",
    [
        {"value": 4},
        {"meter": "tokens"},
        {"subject": {"type": "team", "id": "t2"}},
        {"payload": {"region": "eu"}},
        {"occurredAt": ago(hours=1)},
    ],
)
def test_an_identifier_stands_for_one_fact(served: Api, other: dict[str, Any]) -> None:
    first = entry(value=3, identifier="r1", occurredAt=ago(seconds=10))
    assert record(served, first).status_code == 201
    answer = record(served, entry(identifier="new"), {**first, **other})
    assert (answer.status_code, answer.json()["error"]) == (409, "DATABASE_DUPLICATE")
    assert "r1" in answer.json()["message"]
    assert served.books.row("SELECT count(*) AS n FROM payments.usage") == {"n": 1}


@pytest.mark.parametrize(
    ("wrong", "path"),
    [
        ({"usage": []}, "usage"),
        ({"usage": [entry()] * 1001}, "usage"),
        ({"usage": [{"meter": "api_calls"}]}, "subject"),
        ({"usage": [entry(customerId="cus_1")]}, "subject"),
        ({"usage": [entry(value=1.5)]}, "value"),
        ({"usage": [entry(value=10**15)]}, "value"),
        ({"usage": [entry(payload={"a": 1})]}, "payload"),
        ({"usage": [entry(occurredAt="yesterday")]}, "occurredAt"),
        ({"usage": [entry(occurredAt="1999-01-01T00:00:00Z")]}, "usage"),
        ({"usage": [entry(status="sent")]}, "status"),
        ({"usage": [entry(identifier="x" * 101)]}, "identifier"),
        ({"usage": [entry()], "more": 1}, "more"),
    ],
)
def test_wrong_usage_is_refused_whole(shared_api: Api, wrong: Any, path: str) -> None:
    answer = shared_api.admin("POST", "/test/usage", wrong)
    assert (answer.status_code, answer.json()["error"]) == (400, "INVALID_INPUT")
    assert path in answer.json()["message"]
    assert shared_api.books.row("SELECT count(*) AS n FROM payments.usage") == {"n": 0}


def test_usage_is_listed_page_by_page_and_filtered(metering: Metering, client: Client) -> None:
    for value in range(5):
        metering.record(value, subject=f"t{value % 2}")
    metering.record(9, subject_type=None, subject_id=None, customer_id="cus_9", meter="tokens")
    every = [each.value for each in client.usage.all("test")]
    assert every == [9, 4, 3, 2, 1, 0]
    page = client.usage.page("test", limit=4)
    rest = client.usage.page("test", starting_after=page.next_cursor)
    assert [each.value for each in (*page.items, *rest.items)] == every
    filters: list[tuple[dict[str, Any], list[int]]] = [
        ({"subject": ("team", "t1")}, [3, 1]),
        ({"meter": "tokens"}, [9]),
        ({"customer": "cus_9"}, [9]),
        ({"status": "sent"}, []),
        ({"status": "pending", "meter": "api_calls", "subject": ("team", "t0")}, [4, 2, 0]),
    ]
    for given, values in filters:
        assert [each.value for each in client.usage.all("test", **given)] == values
    assert list(client.usage.all("live")) == []


def test_rejected_usage_is_sent_again_after_it_was_fixed(
    metering: Metering, client: Client
) -> None:
    metering.customer()
    for meter in ("late", "never"):
        metering.record(5, meter=meter)
    metering.send()
    assert client.usage.status("test").failed == 2
    late = metering.make_meter("late")
    assert client.usage.retry("test", meter="late") == 1
    metering.send()
    assert metering.sum_at_stripe(meter=late) == 5
    (still,) = client.usage.all("test", status="failed")
    assert client.usage.retry("test", ids=[still.id + 1000]) == 0
    assert client.usage.retry("test", ids=[still.id]) == 1
    metering.send()
    assert client.usage.status("test").failed == 1


def uncertain(metering: Metering) -> None:
    """Two rows of one event that Stripe has, and an answer that was lost a day ago."""
    metering.customer()
    at = ago(seconds=5)
    for value in (3, 4):
        metering.record(value, occurred_at=at)
    metering.fault(cut=True, after_effect=True)
    metering.send()
    metering.age_attempts(hours=23.5)
    metering.make_due()
    metering.send()
    assert metering.statuses() == {"uncertain": 2}


def test_an_admin_says_that_stripe_has_it(faulty: Metering) -> None:
    uncertain(faulty)
    with (
        serving(faulty.books.dsn, faulty.sandbox) as api,
        Client(api.url, ADMIN_KEY) as client,
    ):
        with pytest.raises(ApiError, match="counted"):
            client.usage.retry("test", counted=True)
        assert client.usage.retry("test") == 0
        first = min(each.id for each in client.usage.all("test"))
        # One row of the event decides about all of them.
        assert client.usage.retry("test", status="uncertain", ids=[first], counted=True) == 2
        assert client.usage.status("test").uncertain == 0
    faulty.send()
    assert (faulty.statuses(), faulty.sum_at_stripe()) == ({"sent": 2}, 7)
    assert faulty.books.rows("SELECT * FROM billhook.usage_batches") == []


def test_an_admin_has_uncertain_usage_sent_again_as_it_was(faulty: Metering) -> None:
    """Within Stripe's window, as here, Stripe still recognizes it."""
    uncertain(faulty)
    with (
        serving(faulty.books.dsn, faulty.sandbox) as api,
        Client(api.url, ADMIN_KEY) as client,
    ):
        assert client.usage.retry("test", status="uncertain") == 2
    assert faulty.statuses() == {"sending": 2}
    faulty.send()
    assert (faulty.statuses(), faulty.sum_at_stripe()) == ({"sent": 2}, 7)


def test_the_state_of_sending_is_shown(metering: Metering, served: Api, typed: Billhook) -> None:
    metering.record(1, subject="nobody")
    metering.send()
    metering.customer()
    metering.record(2, created_at=ago(seconds=1000))
    metering.record(3, meter="unknown")
    state = served.admin("GET", "/test/usage/status").json()["usage"]
    assert 1000 <= state.pop("lagSeconds") < 1100
    assert state == {
        "environment": "test",
        "unsent": 2,
        "waiting": 1,
        "failed": 0,
        "uncertain": 0,
        "errorReports": 0,
    }
    scrape = served.http.get("/metrics", headers={"authorization": f"Bearer {ADMIN_KEY}"}).text
    assert 'billhook_usage_unsent_rows{environment="test"} 2.0' in scrape
    assert 'billhook_usage_waiting_rows{environment="test"} 1.0' in scrape
    lag = next(line for line in scrape.splitlines() if line.startswith("billhook_usage_lag_sec"))
    assert float(lag.split()[1]) >= 1000
    assert "usage" in typed("status").out
    assert "2 to be sent, the oldest for" in typed("status", "--environment", "test").out
    found = typed("doctor", "--json").json
    assert [each["state"] for each in found["checks"] if each["check"] == "usage"] == [
        "broken",
        "warning",
    ]
    metering.send()
    found = typed("doctor", "--json").json
    (failed, waiting) = (each for each in found["checks"] if each["check"] == "usage")
    assert "rejected 1 rows" in failed["message"]
    assert "wait until" in waiting["message"]


def test_usage_on_the_command_line(metering: Metering, typed: Billhook) -> None:
    metering.customer()
    given = ("api_calls", "--subject", "team:t1", "--value", "3", "--identifier", "r1")
    assert typed("usage", "record", *given).out == "Recorded.\n"
    assert typed("usage", "record", *given).out == "It had been recorded before.\n"
    assert typed("usage", "record", "api_calls").code == 2
    assert typed("usage", "record", "late", "--subject", "team:t1").code == 0
    metering.send()
    lines = typed("usage", "list").out.splitlines()
    assert "failed" in lines[1]
    assert "No active meter" in lines[1]
    assert "sent" in lines[2]
    assert typed("usage", "list", "--status", "waiting").out == "No usage match.\n"
    assert typed("usage", "list", "--json", "--limit", "1").json["usage"][0]["meter"] == "late"
    totals = typed("usage", "totals", "--subject", "team:t1", "--json").json["totals"]
    assert [(each["meter"], each["quantity"]) for each in totals] == [
        ("api_calls", 3),
        ("late", 0),  # Stripe rejected it
    ]
    assert "api_calls" in typed("usage", "totals", "--subject", "team:t1").out
    assert typed("usage", "retry", "--meter", "late").out == "Rows that will be sent: 1\n"
    assert typed("usage", "status", "--json").json["usage"]["unsent"] == 1
    assert typed("usage", "retry", "--counted").code == 2


def test_meters_are_created_and_switched(metering: Metering, served: Api, typed: Billhook) -> None:
    body = {"eventName": "tokens", "displayName": "Tokens", "idempotencyKey": "k1"}
    made = served.admin("POST", "/test/meters", body)
    assert made.status_code == 201, made.text
    meter = made.json()["meter"]
    assert (meter["eventName"], meter["formula"], meter["status"]) == ("tokens", "sum", "active")
    assert served.admin("POST", "/test/meters", body).json()["meter"]["meterId"] == meter["meterId"]
    taken = served.admin("POST", "/test/meters", {**body, "idempotencyKey": "k2"})
    assert (taken.status_code, taken.json()["error"]) == (400, "UPSTREAM_FAILURE")
    wrong = served.admin("POST", "/test/meters", {**body, "formula": "average"})
    assert (wrong.status_code, wrong.json()["error"]) == (400, "INVALID_INPUT")

    off = typed("meters", "deactivate", meter["meterId"], "--yes").out
    assert "inactive" in off
    row = served.books.row("SELECT status FROM payments.stripe_meters WHERE event_name = 'tokens'")
    assert row == {"status": "inactive"}
    assert "active" in typed("meters", "reactivate", meter["meterId"]).out
    assert served.admin("POST", "/test/meters/mtr_none/deactivate").status_code == 404
    stored = typed("meters", "create", "storage", "--formula", "last", "--json").json["meter"]
    assert stored["formula"] == "last"
    listed = typed("meters", "list", "--json").json["meters"]
    assert {each["eventName"] for each in listed} == {"api_calls", "tokens", "storage"}


def test_credits_are_granted_once_and_listed(
    metering: Metering, served: Api, typed: Billhook
) -> None:
    customer = metering.customer()
    body = {
        "subject": {"type": "team", "id": "t1"},
        "amount": 5000,
        "currency": "USD",
        "name": "Welcome",
        "category": "promotional",
        "expiresAt": "2038-01-01T00:00:00Z",
        "idempotencyKey": "welcome-t1",
    }
    made = served.admin("POST", "/test/credit-grants", body)
    assert made.status_code == 201, made.text
    grant = made.json()["creditGrant"]
    assert (grant["customerId"], grant["amount"], grant["currency"]) == (customer, 5000, "usd")
    assert grant["expiresAt"] == "2038-01-01T00:00:00.000Z"
    again = served.admin("POST", "/test/credit-grants", body).json()["creditGrant"]
    assert again["creditGrantId"] == grant["creditGrantId"]
    other = served.admin("POST", "/test/credit-grants", {**body, "amount": 1})
    assert (other.status_code, other.json()["error"]) == (409, "PAYMENT_IDEMPOTENCY_KEY_REUSED")
    found = served.admin("GET", f"/test/credit-grants?customer={customer}").json()
    assert [each["creditGrantId"] for each in found["creditGrants"]] == [grant["creditGrantId"]]
    assert found["balances"] == [{"currency": "usd", "available": 5000, "ledger": 5000}]

    granted = typed(
        *("credits", "grant", "--subject", "team:t1", "--amount", "100", "--currency", "usd")
    )
    assert granted.out.startswith("credgr_"), granted
    shown = typed("credits", "list", "--subject", "team:t1").out
    assert "Welcome" in shown
    assert "Available: 51.00 USD" in shown


def test_credits_are_granted_once_also_when_the_request_is_repeated_days_later(
    faulty: Metering, monkeypatch: pytest.MonkeyPatch, billhook: Billhook
) -> None:
    """Stripe has forgotten the idempotency key by then."""
    customer = faulty.customer()
    grant = ("credits", "grant", "--subject", "team:t1", "--amount", "100", "--currency", "usd")
    monkeypatch.setenv("BILLHOOK_API_KEY", ADMIN_KEY)
    with serving(faulty.books.dsn, faulty.sandbox) as api:
        monkeypatch.setenv("BILLHOOK_URL", "http://127.0.0.1:9")
        lost = billhook(*grant)
        assert lost.code == 1
        again = lost.err.rpartition("--idempotency-key ")[2].split()[0]
        monkeypatch.setenv("BILLHOOK_URL", api.url)
        body = {
            "subject": {"type": "team", "id": "t1"},
            "amount": 5000,
            "currency": "usd",
            "idempotencyKey": "welcome",
        }
        faulty.fault(
            path_prefix="/v1/billing/credit_grants",
            method="POST",
            status=500,
            after_effect=True,
            stored=True,
        )
        assert api.admin("POST", "/test/credit-grants", body).status_code >= 500
        for _ in range(3):
            httpx.post(
                f"{faulty.sandbox}/_sandbox/advance", json={"seconds": 2 * 86400}
            ).raise_for_status()
            assert billhook(*grant, "--idempotency-key", again).code == 0
            assert api.admin("POST", "/test/credit-grants", body).status_code == 201
    grants = faulty.stripe.v1.billing.credit_grants.list({"customer": customer}).data
    assert sorted(each.amount.monetary.value for each in grants) == [100, 5000]


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"subject": {"type": "team", "id": "nobody"}}, 404),
        ({"amount": 0}, 400),
        ({"idempotencyKey": None}, 400),
        ({"customerId": "cus_1"}, 400),
        ({"priority": 101}, 400),
        ({"metadata": {f"key_{n}": "x" for n in range(50)}}, 400),
        ({"metadata": {"insforge_credit_request": "x"}}, 400),
    ],
)
def test_wrong_credits_are_refused(shared_api: Api, change: dict[str, Any], status: int) -> None:
    body = {
        "subject": {"type": "team", "id": "t1"},
        "amount": 5000,
        "currency": "usd",
        "idempotencyKey": "k",
    }
    answer = shared_api.admin("POST", "/test/credit-grants", {**body, **change})
    assert answer.status_code == status, answer.text


def test_reports_of_stripe_about_usage_are_recorded_and_shown(
    metering: Metering, served: Api
) -> None:
    report = {
        "id": "evt_test_65R9Ijk8dKEYZcXeRWn16R9A7j1FSQ3w3TGDPLLGSM4CW0",
        "object": "v2.core.event",
        "type": "v1.billing.meter.error_report_triggered",
        "livemode": False,
        "created": "2026-09-17T06:20:52.246Z",
        "related_object": {
            "id": metering.meter,
            "type": "billing.meter",
            "url": f"/v1/billing/meters/{metering.meter}",
        },
        "context": None,
    }
    for handled in (True, False):
        answer = served.deliver(report)
        assert answer.status_code == 200, answer.text
        assert answer.json()["handled"] in (handled, False)
    row = served.books.row(
        "SELECT event_type, processing_status, object_id, payload FROM payments.webhook_events"
    )
    assert (row["processing_status"], row["object_id"]) == ("ignored", metering.meter)
    assert row["payload"] == report
    assert served.admin("GET", "/test/usage/status").json()["usage"]["errorReports"] == 1
    assert served.deliver({**report, "created": "never"}).status_code == 400
    assert served.deliver({**report, "livemode": True}).status_code == 400
