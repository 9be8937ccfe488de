"""Refunds by the admin API: never more than what is left, and once."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest

from api import Api, connect
from billhook.mirror import archives
from buying import Buying, refunded, selling, transactions
from http_tokens import ANONYMOUS_KEY, token
from refusing import RAISING, raising
from sandboxes import running_sandbox
from waiting import until

ATTEMPTS = "SELECT attempt FROM billhook.refund_requests"
REQUESTS = "SELECT status, amount, refund_id FROM billhook.refund_requests ORDER BY created_at"


@pytest.fixture
def shop(database_url: str, sandbox: str) -> Iterator[Buying]:
    with selling(database_url, sandbox) as found:
        yield found


@pytest.fixture(scope="module")
def own_sandbox() -> Iterator[str]:
    """A sandbox whose clock can be moved by days without surprising other tests."""
    with running_sandbox() as url:
        yield url


@pytest.fixture
def patient_shop(database_url: str, own_sandbox: str) -> Iterator[Buying]:
    with selling(database_url, own_sandbox) as found:
        yield found


@pytest.fixture
def api(shop: Buying) -> Api:
    return shop.api


def refunds_at_stripe(shop: Buying, intent: str) -> list[int]:
    return [each.amount for each in shop.v1.refunds.list({"payment_intent": intent}).data]


def test_a_whole_payment_is_refunded_and_the_mirror_shows_it_with_the_answer(
    api: Api, shop: Buying
) -> None:
    intent = shop.paid()["payment_intent"]
    shop.deliver()
    answer = refunded(api, intent, reason="requested_by_customer", metadata={"ticket": "7"})
    refund, payment = answer["refund"], answer["payment"]
    assert (refund["status"], refund["amount"], refund["currency"]) == ("refunded", 1500, "eur")
    assert refund["refundId"] == refund["providerReferenceId"]
    assert (refund["reason"], refund["metadata"]) == ("requested_by_customer", {"ticket": "7"})
    assert refund["paymentIntentId"] == intent
    assert (payment["status"], payment["amountRefunded"]) == ("refunded", 1500)
    assert answer["repeated"] is False
    shown = transactions(api)
    assert [(t["type"], t["status"], t["amount_refunded"]) for t in shown] == [
        ("one_time_payment", "refunded", 1500),
        ("refund", "refunded", 1500),
    ]
    shop.settle()
    shop.deliver()
    assert transactions(api) == shown
    read = api.admin("GET", f"/test/refunds/{refund['refundId']}")
    assert read.status_code == 200
    same = {key: value for key, value in refund.items() if key != "updatedAt"}
    assert {k: v for k, v in read.json()["refund"].items() if k != "updatedAt"} == same


@pytest.mark.parametrize("before", [True, False])
def test_events_before_or_after_the_answer_lead_to_the_same_rows(
    api: Api, shop: Buying, *, before: bool
) -> None:
    """Before: they are delivered while the answer of Stripe is on its way."""
    intent = shop.paid()["payment_intent"]
    shop.deliver()
    body = {"payment": intent, "amount": 400, "idempotencyKey": "one"}
    if before:
        shop.lose_answer("/v1/refunds")
        assert api.admin("POST", "/test/refunds", body).status_code >= 500
        shop.deliver()
        assert len(transactions(api)) == 2
    answer = api.admin("POST", "/test/refunds", body)
    assert answer.status_code == 201, answer.text
    shop.settle()
    shop.deliver()
    assert [(t["status"], t["amount"], t["amount_refunded"]) for t in transactions(api)] == [
        ("partially_refunded", 1500, 400),
        ("refunded", 400, 400),
    ]
    assert refunds_at_stripe(shop, intent) == [400]
    assert [row["status"] for row in api.books.rows(REQUESTS)] == ["created"]


@pytest.mark.parametrize("reference", ["payment_intent", "charge", "checkout_session", "invoice"])
@pytest.mark.parametrize("delivered", [True, False])
def test_a_payment_is_found_by_any_of_its_ids_even_before_its_webhook(
    api: Api, shop: Buying, reference: str, *, delivered: bool
) -> None:
    if reference == "invoice":
        customer = shop.customer()
        plan = shop.price(recurring={"interval": "month"})
        shop.v1.subscriptions.create({"customer": customer.id, "items": [{"price": plan}]})
        (invoice,) = shop.v1.invoices.list({"customer": customer.id}).data
        payment, kind = str(invoice.id), "subscription_invoice"
    else:
        session, kind = shop.paid(), "one_time_payment"
        intent = shop.v1.payment_intents.retrieve(session.payment_intent)
        payment = {
            "payment_intent": intent.id,
            "charge": str(intent.latest_charge),
            "checkout_session": session.id,
        }[reference]
    shop.settle()
    if delivered:
        shop.deliver()
    answer = refunded(api, payment, amount=500)
    shop.deliver()
    assert [(t["type"], t["status"], t["amount_refunded"]) for t in transactions(api)] == [
        (kind, "partially_refunded", 500),
        ("refund", "refunded", 500),
    ]
    assert answer["payment"]["amountRefunded"] == 500


def test_a_checkout_of_a_subscription_leads_to_its_first_invoice(api: Api, shop: Buying) -> None:
    plan = shop.price(2000, recurring={"interval": "month"})
    session = shop.paid((plan, 1), mode="subscription")
    assert refunded(api, session.id)["refund"]["amount"] == 2000


def test_a_pending_refund_is_shown_as_pending_until_stripe_confirms_it(
    api: Api, shop: Buying
) -> None:
    intent = shop.paid(card="pm_card_pendingRefund")["payment_intent"]
    shop.deliver()
    answer = refunded(api, intent, amount=1000)
    assert (answer["refund"]["status"], answer["refund"]["providerStatus"]) == (
        "pending",
        "pending",
    )
    assert (answer["payment"]["status"], answer["payment"]["amountRefunded"]) == ("succeeded", 0)
    # What is pending is not left.
    refused = refunded(api, intent, 409, amount=501)
    assert refused["error"] == "PAYMENT_NOT_REFUNDABLE"
    assert "5.00 EUR of" in refused["message"]
    assert "10.00 EUR being refunded" in refused["message"]
    shop.settle()
    shop.deliver()
    assert [t["amount_refunded"] for t in transactions(api)] == [1000, 1000]
    assert refunded(api, intent)["refund"]["amount"] == 500


def test_what_a_failed_refund_did_not_return_can_be_refunded_again(api: Api, shop: Buying) -> None:
    intent = shop.paid(card="pm_card_refundFail")["payment_intent"]
    shop.deliver()
    first = refunded(api, intent)["refund"]
    refunded(api, intent, 409, amount=1)
    shop.settle()
    shop.deliver()
    read = api.admin("GET", f"/test/refunds/{first['refundId']}").json()
    assert (read["refund"]["status"], read["refund"]["failureReason"]) == (
        "failed",
        "expired_or_canceled_card",
    )
    assert (read["payment"]["status"], read["payment"]["amountRefunded"]) == ("succeeded", 0)
    again = refunded(api, intent)
    assert (again["refund"]["amount"], again["repeated"]) == (1500, False)


def test_the_same_key_refunds_once_and_a_changed_request_is_refused(api: Api, shop: Buying) -> None:
    intent = shop.paid()["payment_intent"]
    body: dict[str, Any] = {"amount": 300, "idempotencyKey": "key-1"}
    first = refunded(api, intent, **body)
    again = refunded(api, intent, **body)
    assert again["refund"]["refundId"] == first["refund"]["refundId"]
    assert (first["repeated"], again["repeated"]) == (False, True)
    other = refunded(api, intent, 409, **body | {"amount": 301})
    assert other["error"] == "PAYMENT_IDEMPOTENCY_KEY_REUSED"
    elsewhere = shop.paid()["payment_intent"]
    assert refunded(api, elsewhere, 409, **body)["error"] == "PAYMENT_IDEMPOTENCY_KEY_REUSED"
    assert refunds_at_stripe(shop, intent) == [300]


@pytest.mark.parametrize("lost", [True, False])
@pytest.mark.parametrize("keyed", [True, False])
def test_a_request_is_known_after_another_account_was_connected_for_a_while(
    api: Api, shop: Buying, *, lost: bool, keyed: bool
) -> None:
    intent = shop.paid()["payment_intent"]
    body = {"payment": intent, "amount": 300} | ({"idempotencyKey": "key-1"} if keyed else {})
    if lost:
        shop.lose_answer("/v1/refunds")
    first = api.admin("POST", "/test/refunds", body)
    assert first.is_success is not lost
    shop.elsewhere_and_back()
    again = api.admin("POST", "/test/refunds", body)
    assert (again.status_code, again.json()["repeated"]) == (201, True)
    assert refunds_at_stripe(shop, intent) == [300]
    _, first_archive = api.books.run(archives.archives)
    api.books.run(lambda database: archives.restore(database, first_archive.id))
    assert api.admin("POST", "/test/refunds", body).json()["repeated"] is True
    assert refunds_at_stripe(shop, intent) == [300]


def test_the_same_key_is_another_one_in_another_account(api: Api, shop: Buying) -> None:
    refunded(api, shop.paid()["payment_intent"], amount=300, idempotencyKey="key-1")
    other = Buying(api, shop.stripe_url, f"sk_test_{uuid4().hex}")
    connect(api.books.dsn, shop.stripe_url, other.key)
    answer = refunded(api, other.paid()["payment_intent"], amount=400, idempotencyKey="key-1")
    assert (answer["refund"]["amount"], answer["repeated"]) == (400, False)


def test_a_double_click_without_a_key_refunds_once_and_a_minute_later_again(
    api: Api, shop: Buying
) -> None:
    intent = shop.paid()["payment_intent"]
    shop.deliver()
    with ThreadPoolExecutor(4) as many:
        answers = list(many.map(lambda _: refunded(api, intent, amount=200), range(4)))
    assert len({each["refund"]["refundId"] for each in answers}) == 1
    assert sorted(each["repeated"] for each in answers) == [False, True, True, True]
    assert refunded(api, intent, amount=200)["repeated"] is True
    assert refunded(api, intent, amount=201)["repeated"] is False
    api.books.execute(
        "UPDATE billhook.refund_requests SET asked_at = asked_at - interval '61 seconds'"
    )
    assert refunded(api, intent, amount=200)["repeated"] is False
    assert sorted(refunds_at_stripe(shop, intent)) == [200, 200, 201]


@pytest.mark.parametrize("minutes", [1.5, 3], ids=["soon", "late"])
def test_a_request_without_a_key_whose_answer_was_lost_refunds_once_however_often_it_is_repeated(
    api: Api, shop: Buying, minutes: float
) -> None:
    intent = shop.paid()["payment_intent"]
    shop.deliver()
    shop.lose_answer("/v1/refunds")
    refunded(api, intent, 500, amount=300)
    api.books.execute(f"""
        UPDATE billhook.refund_requests SET created_at = created_at - interval '{minutes} minutes',
            asked_at = asked_at - interval '{minutes} minutes'
    """)
    assert [refunded(api, intent, amount=300)["repeated"] for _ in range(2)] == [True, True]
    assert refunds_at_stripe(shop, intent) == [300]


def test_of_several_refunds_of_everything_at_once_one_succeeds(api: Api, shop: Buying) -> None:
    intent = shop.paid()["payment_intent"]
    shop.deliver()
    shop.control("latency", seconds=0.3, path_prefix="/v1/refunds")

    def one(key: int) -> int:
        body = {"payment": intent, "idempotencyKey": f"all-{key}"}
        return api.admin("POST", "/test/refunds", body).status_code

    with ThreadPoolExecutor(6) as many:
        assert sorted(many.map(one, range(6))) == [201, 409, 409, 409, 409, 409]
    assert refunds_at_stripe(shop, intent) == [1500]


def test_many_at_once_with_one_key_get_one_refund(api: Api, shop: Buying) -> None:
    intent = shop.paid()["payment_intent"]
    shop.control("latency", seconds=0.2, path_prefix="/v1/refunds")
    with ThreadPoolExecutor(6) as many:
        answers = list(
            many.map(lambda _: refunded(api, intent, amount=100, idempotencyKey="k"), range(6))
        )
    assert len({each["refund"]["refundId"] for each in answers}) == 1
    assert refunds_at_stripe(shop, intent) == [100]


def test_a_request_whose_answer_was_lost_is_completed_even_after_stripe_forgot_its_key(
    patient_shop: Buying,
) -> None:
    shop, api = patient_shop, patient_shop.api
    intent = shop.paid()["payment_intent"]
    shop.deliver()
    body = {"payment": intent, "amount": 700, "idempotencyKey": "lost"}
    shop.lose_answer("/v1/refunds")
    assert api.admin("POST", "/test/refunds", body).status_code >= 500
    assert api.books.rows(REQUESTS) == [{"status": "requested", "amount": 700, "refund_id": None}]
    # As long as nobody knows, it counts.
    assert refunded(api, intent, 409, amount=801)["error"] == "PAYMENT_NOT_REFUNDABLE"
    shop.control("advance", seconds=25 * 3600)
    answer = api.admin("POST", "/test/refunds", body)
    assert answer.status_code == 201, answer.text
    assert answer.json()["repeated"] is True
    assert refunds_at_stripe(shop, intent) == [700]


@pytest.mark.parametrize("happened", [True, False])
def test_a_request_that_nobody_repeats_does_not_block_the_payment_for_ever(
    api: Api, shop: Buying, *, happened: bool
) -> None:
    intent = shop.paid()["payment_intent"]
    shop.deliver()
    body = {"payment": intent, "amount": 700, "idempotencyKey": "crashed"}
    shop.lose_answer("/v1/refunds", happened=happened)
    assert api.admin("POST", "/test/refunds", body).status_code >= 500
    api.books.execute(
        "UPDATE billhook.refund_requests SET asked_at = asked_at - interval '3 minutes'"
    )
    left = refunded(api, intent)["refund"]["amount"]
    assert left == (800 if happened else 1500)
    statuses = [row["status"] for row in api.books.rows(REQUESTS)]
    assert statuses == ["created" if happened else "refused", "created"]
    repeated = api.admin("POST", "/test/refunds", body)
    assert repeated.status_code == (201 if happened else 409)
    assert sum(refunds_at_stripe(shop, intent)) == 1500


def test_a_request_that_stripe_refused_may_be_repeated_with_its_key(api: Api, shop: Buying) -> None:
    intent = shop.paid()["payment_intent"]
    shop.deliver()
    shop.control(
        "fault", method="POST", path_prefix="/v1/refunds", status=429, reason="global-rate"
    )
    body: dict[str, Any] = {"amount": 100, "idempotencyKey": "limited"}
    refused = refunded(api, intent, 429, **body)
    assert refused["error"] == "RATE_LIMITED"
    assert "with its idempotencyKey" in refused["nextActions"]
    assert refunded(api, intent, **body)["refund"]["amount"] == 100
    assert refunds_at_stripe(shop, intent) == [100]


@pytest.mark.parametrize("refusal", [429, 401, 403, "a proxy's page"])
@pytest.mark.parametrize("keyed", [True, False])
def test_a_refusal_says_nothing_about_an_earlier_attempt_whose_answer_was_lost(
    api: Api, shop: Buying, refusal: str | int, *, keyed: bool
) -> None:
    """The Stripe SDK repeats a request whose connection was cut, within the same call."""
    intent = shop.paid()["payment_intent"]
    shop.deliver()
    posting = {"method": "POST", "path_prefix": "/v1/refunds"}
    shop.control("fault", cut=True, after_effect=True, **posting)
    if isinstance(refusal, int):
        shop.control("fault", status=refusal, **posting)
    else:
        shop.control("fault", status=400, body={"message": refusal}, **posting)
    body = {"payment": intent, "amount": 100} | ({"idempotencyKey": "lost"} if keyed else {})
    assert api.admin("POST", "/test/refunds", body).status_code >= 400
    # As long as nobody knows, it counts.
    assert refunded(api, intent, 409, amount=1401)["error"] == "PAYMENT_NOT_REFUNDABLE"
    again = api.admin("POST", "/test/refunds", body)
    assert again.status_code == 201, again.text
    assert again.json()["repeated"] is True
    assert refunds_at_stripe(shop, intent) == [100]


def test_a_refund_that_stripe_made_before_it_failed_is_found_at_once(
    api: Api, shop: Buying
) -> None:
    """Stripe stores its failure, and repeats it to its SDK."""
    intent = shop.paid()["payment_intent"]
    shop.deliver()
    failing = {"status": 500, "after_effect": True, "stored": True}
    shop.control("fault", method="POST", path_prefix="/v1/refunds", **failing)
    assert refunded(api, intent, amount=700, idempotencyKey="made")["refund"]["amount"] == 700
    assert refunds_at_stripe(shop, intent) == [700]
    assert [row["status"] for row in api.books.rows(REQUESTS)] == ["created"]


def test_a_failure_that_stripe_repeats_does_not_block_the_request_for_a_day(
    api: Api, shop: Buying
) -> None:
    intent = shop.paid()["payment_intent"]
    shop.deliver()
    body: dict[str, Any] = {"amount": 700, "idempotencyKey": "failed"}
    posting = {"method": "POST", "path_prefix": "/v1/refunds"}
    shop.control("fault", status=500, stored=True, **posting)
    for _ in range(2):
        failed = refunded(api, intent, 500, **body)
        assert "in two minutes" in failed["nextActions"]
    assert [row["attempt"] for row in api.books.rows(ATTEMPTS)] == [1]
    # The client is impatient, so the last time is never two minutes ago.
    api.books.execute(
        "UPDATE billhook.refund_requests SET failed_at = failed_at - interval '3 minutes'"
    )
    assert "Send the same request again" in refunded(api, intent, 500, **body)["nextActions"]
    assert refunded(api, intent, **body)["refund"]["amount"] == 700
    assert refunds_at_stripe(shop, intent) == [700]


def test_a_failure_at_a_late_repetition_is_waited_for_as_long_as_one_at_once(
    api: Api, shop: Buying
) -> None:
    """The request is old, but Stripe may still create the refund that it has just failed."""
    intent = shop.paid()["payment_intent"]
    shop.deliver()
    body: dict[str, Any] = {"amount": 700, "idempotencyKey": "late"}
    shop.lose_answer("/v1/refunds", happened=False)
    refunded(api, intent, 502, **body)
    age = "UPDATE billhook.refund_requests SET {0} = {0} - interval '3 minutes'"
    api.books.execute(age.format("created_at"))
    shop.control("fault", method="POST", path_prefix="/v1/refunds", status=500, stored=True)
    for _ in range(2):
        assert "in two minutes" in refunded(api, intent, 500, **body)["nextActions"]
    api.books.execute(age.format("failed_at"))
    refunded(api, intent, 500, **body)
    # The next attempt has two minutes of its own.
    shop.control("fault", method="POST", path_prefix="/v1/refunds", status=500, stored=True)
    assert "in two minutes" in refunded(api, intent, 500, **body)["nextActions"]
    assert [row["attempt"] for row in api.books.rows(ATTEMPTS)] == [2]


def test_a_refusal_does_not_start_a_second_attempt_while_the_first_may_still_succeed(
    api: Api, shop: Buying
) -> None:
    """Two clients send one request. Stripe limits one of them, and is slow for the other."""
    intent = shop.paid()["payment_intent"]
    shop.deliver()
    slow = {"method": "POST", "path_prefix": "/v1/refunds"}
    shop.control("fault", status=429, reason="global-rate", seconds=1, **slow)
    shop.control("fault", seconds=3, **slow)
    body = {"payment": intent, "amount": 100, "idempotencyKey": "two"}

    def send(_: int) -> int:
        return api.admin("POST", "/test/refunds", body).status_code

    def repeated() -> list[bool]:
        asked = "SELECT asked_at > created_at AS again FROM billhook.refund_requests"
        return [row["again"] for row in api.books.rows(asked)]

    with ThreadPoolExecutor(2) as two:
        limited = two.submit(send, 1)
        until(lambda: repeated() == [False])
        slowed = two.submit(send, 2)
        until(lambda: repeated() == [True])
        assert limited.result() == 429
        assert not slowed.done()
        assert send(3) == 201
        assert slowed.result() == 201
    assert refunds_at_stripe(shop, intent) == [100]


def test_stripes_refusal_is_passed_on_and_the_mirror_catches_up(api: Api, shop: Buying) -> None:
    intent = shop.paid()["payment_intent"]
    shop.deliver()
    # In Stripe's Dashboard; its webhook has not arrived.
    shop.v1.refunds.create({"payment_intent": intent, "amount": 1000})
    refused = refunded(api, intent, 409, amount=600)
    assert refused["error"] == "PAYMENT_NOT_REFUNDABLE"
    assert "greater than unrefunded amount" in refused["message"]
    assert [t["amount_refunded"] for t in transactions(api)] == [1000, 1000]
    assert refunded(api, intent)["refund"]["amount"] == 500


@pytest.mark.parametrize("how", [*RAISING, "nothing at all"])
@pytest.mark.parametrize("repeated", [True, False])
def test_a_rule_of_the_app_that_rejects_the_row_does_not_hide_that_it_was_refunded(
    api: Api, shop: Buying, how: str, *, repeated: bool
) -> None:
    intent = shop.paid()["payment_intent"]
    shop.deliver()
    api.books.execute(raising("payments.transactions", how))
    body: dict[str, Any] = {"amount": 300, "idempotencyKey": "ruled"}
    refused = refunded(api, intent, 400, **body)
    assert refused["error"] == "DATABASE_VALIDATION_ERROR"
    assert "exists at Stripe" in refused["message"]
    assert "would move the money twice" in refused["nextActions"]
    api.books.execute("DROP TRIGGER odd ON payments.transactions")
    if repeated:
        answer = refunded(api, intent, **body)
        assert (answer["refund"]["amount"], answer["repeated"]) == (300, True)
    shop.deliver()  # what the events report
    assert [t["amount_refunded"] for t in transactions(api)] == [300, 300]
    assert refunds_at_stripe(shop, intent) == [300]


def test_stripes_failure_is_not_taken_for_a_rule_of_the_app(api: Api, shop: Buying) -> None:
    """The refund was not mirrored, and cannot be fetched now."""
    intent = shop.paid()["payment_intent"]
    shop.deliver()
    api.books.execute(raising("payments.transactions", "a class of its own"))
    body: dict[str, Any] = {"amount": 300, "idempotencyKey": "ruled"}
    refunded(api, intent, 400, **body)
    api.books.execute("DROP TRIGGER odd ON payments.transactions")
    shop.control("fault", method="GET", path_prefix="/v1/refunds/", status=503, times=3)
    assert refunded(api, intent, 503, **body)["error"] == "UPSTREAM_FAILURE"
    assert refunded(api, intent, **body)["repeated"] is True


def test_a_rule_of_the_app_at_a_preview_or_a_cancellation_asks_for_no_idempotency_key(
    api: Api, shop: Buying
) -> None:
    intent = shop.paid()["payment_intent"]
    shop.deliver()
    shop.lose_answer("/v1/refunds")
    refunded(api, intent, 500, amount=300)
    age = "UPDATE billhook.refund_requests SET asked_at = asked_at - interval '3 minutes'"
    api.books.execute(age)  # a preview finds out what became of it
    api.books.execute(raising("payments.transactions", "a class of its own"))
    (refund,) = shop.v1.refunds.list({"payment_intent": intent}).data
    for path, body in (("preview", {"payment": intent}), (f"{refund.id}/cancel", None)):
        refused = api.admin("POST", f"/test/refunds/{path}", body)
        assert refused.status_code == 400, refused.text
        assert refused.json()["nextActions"].endswith("send the same request again.")


def test_a_disputed_payment_is_not_refunded(api: Api, shop: Buying) -> None:
    intent = shop.paid(card="pm_card_createDispute")["payment_intent"]
    shop.deliver()
    refused = refunded(api, intent, 409)
    assert "dispute" in refused["message"]
    assert "not refund" in refused["message"]
    (dispute,) = shop.v1.disputes.list({"payment_intent": intent}).data
    shop.v1.disputes.close(dispute.id)
    shop.deliver()
    lost = refunded(api, intent, 409)
    assert "15.00 EUR lost to disputes" in lost["message"]
    assert refunds_at_stripe(shop, intent) == []


def test_what_has_not_been_paid_cannot_be_refunded(api: Api, shop: Buying) -> None:
    given: Any = {"amount": 2000, "currency": "eur"}
    open_one = shop.v1.payment_intents.create(given)
    assert refunded(api, str(open_one.id), 409)["error"] == "PAYMENT_NOT_REFUNDABLE"
    for unknown in ("pi_unknown", "ch_unknown", "cs_test_unknown", "in_unknown", "what"):
        assert refunded(api, unknown, 404)["error"] == "PAYMENT_NOT_FOUND"
    assert api.admin("GET", "/test/refunds/re_unknown").status_code == 404


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({}, "payment"),
        ({"payment": "pi_1", "amount": 0}, "amount"),
        ({"payment": "pi_1", "amount": -5}, "amount"),
        ({"payment": "pi_1", "amount": 1.5}, "amount"),
        ({"payment": "pi_1", "amount": None}, "amount"),
        ({"payment": "pi_1", "lineItems": []}, "lineItems"),
        ({"payment": "pi_1", "lineItems": [{"quantity": 1}]}, "lineItems.0"),
        ({"payment": "pi_1", "lineItems": [{"priceId": "p", "lineItemId": "l"}]}, "lineItems.0"),
        (
            {"payment": "pi_1", "lineItems": [{"priceId": "p", "quantity": 0}]},
            "lineItems.0.quantity",
        ),
        ({"payment": "pi_1", "reason": "because"}, "reason"),
        ({"payment": "pi_1", "metadata": {"insforge_x": "1"}}, "metadata"),
        ({"payment": "pi_1", "metadata": {f"k{n}": "" for n in range(50)}}, "metadata"),
        ({"payment": "pi_1", "currency": "eur"}, "currency"),
        ({"payment": "pi_1", "idempotencyKey": ""}, "idempotencyKey"),
    ],
)
def test_bad_input_is_named(shared_api: Api, body: dict[str, Any], path: str) -> None:
    answer = shared_api.admin("POST", "/test/refunds", body)
    assert (answer.status_code, answer.json()["error"]) == (400, "INVALID_INPUT")
    assert f"{path}:" in answer.json()["message"]


@pytest.mark.parametrize(
    ("bearer", "status"), [(token(), 403), (ANONYMOUS_KEY, 401), (None, 401), ("ik_wrong", 401)]
)
@pytest.mark.parametrize("route", ["", "/preview", "/re_1/cancel"])
def test_only_an_admin_refunds(
    shared_api: Api, bearer: str | None, status: int, route: str
) -> None:
    path = f"/api/payments/stripe/test/refunds{route}"
    assert shared_api.post(path, {"payment": "pi_1"}, bearer).status_code == status


def test_a_rule_of_the_app_that_rejects_the_row_is_named_and_the_repetition_completes(
    api: Api, shop: Buying
) -> None:
    intent = shop.paid()["payment_intent"]
    shop.deliver()
    api.books.execute("""
        CREATE FUNCTION no_refunds() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE 'the books are closed'; END $$;
        CREATE TRIGGER closed BEFORE INSERT ON payments.transactions
        FOR EACH ROW EXECUTE FUNCTION no_refunds()""")
    body: dict[str, Any] = {"amount": 100, "idempotencyKey": "closed"}
    refused = refunded(api, intent, 400, **body)
    assert "the books are closed" in refused["message"]
    # The money is on its way, so it counts.
    assert refunded(api, intent, 409, amount=1401)["error"] == "PAYMENT_NOT_REFUNDABLE"
    api.books.execute("DROP TRIGGER closed ON payments.transactions")
    assert refunded(api, intent, **body)["repeated"] is True
    assert refunds_at_stripe(shop, intent) == [100]


def test_a_refund_that_waits_for_the_customer_can_be_canceled(api: Api, shop: Buying) -> None:
    intent = shop.paid(card="pm_card_pendingRefund")["payment_intent"]
    shop.deliver()
    refund = refunded(api, intent, amount=500)["refund"]["refundId"]
    refused = api.admin("POST", f"/test/refunds/{refund}/cancel")
    assert (refused.status_code, refused.json()["error"]) == (409, "PAYMENT_NOT_REFUNDABLE")
    assert "cannot cancel a refund with a status of pending" in refused.json()["message"]
    shop.control("advance", seconds=2)  # two states of one second have no order
    shop.control("refund_action", refund=refund)
    shop.deliver()
    waiting = api.admin("GET", f"/test/refunds/{refund}").json()["refund"]
    assert (waiting["status"], waiting["providerStatus"]) == ("pending", "requires_action")
    for _ in range(2):
        canceled = api.admin("POST", f"/test/refunds/{refund}/cancel")
        assert canceled.status_code == 200, canceled.text
        shown = canceled.json()["refund"]
        assert (shown["status"], shown["providerStatus"]) == ("failed", "canceled")
    shop.deliver()
    assert [t["amount_refunded"] for t in transactions(api) if t["type"] != "refund"] == [0]
    assert refunded(api, intent)["refund"]["amount"] == 1500
    assert api.admin("POST", "/test/refunds/re_unknown/cancel").status_code == 404


def test_a_preview_says_what_a_refund_would_return_and_changes_nothing(
    api: Api, shop: Buying
) -> None:
    intent = shop.paid()["payment_intent"]
    refunded(api, intent, amount=300)

    def preview(**body: Any) -> Any:
        return api.admin("POST", "/test/refunds/preview", {"payment": intent, **body})

    shown = preview().json()["preview"]
    assert shown == {
        "amount": 1200,
        "currency": "eur",
        "lineItems": [],
        "paymentIntentId": intent,
        "chargeId": None,
        "amountPaid": 1500,
        "amountRefunded": 300,
        "amountPending": 0,
        "amountDisputed": 0,
        "amountLeft": 1200,
    }
    assert preview(amount=1200).status_code == 200
    assert preview(amount=1201).status_code == 409
    assert preview(reason="duplicate").status_code == 400
    assert refunds_at_stripe(shop, intent) == [300]
    assert len(api.books.rows(REQUESTS)) == 1
