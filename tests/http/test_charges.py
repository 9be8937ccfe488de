"""Charges of a saved payment method without the customer: once, whatever happens."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from api import Api
from buying import Buying, selling
from http_tokens import ANONYMOUS_KEY, token
from refusing import RAISING, raising
from sandboxes import running_sandbox

RETURN = "https://shop.example/account"


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


def charged(api: Api, status: int = 201, **body: Any) -> dict[str, Any]:
    given = {"amount": 2500, "currency": "eur", "idempotencyKey": "k1", **body}
    answer = api.admin("POST", "/test/charges", given)
    assert answer.status_code == status, answer.text
    found: dict[str, Any] = answer.json()
    return found["charge"] if status == 201 else found


def rows(api: Api) -> list[dict[str, Any]]:
    return api.books.rows(
        "SELECT type, status, amount, currency, subject_type, subject_id, provider_customer_id, "
        "description, related_object_ids ->> 'payment_intent' AS intent, paid_at IS NOT NULL AS "
        "paid FROM payments.transactions ORDER BY provider_created_at, id"
    )


def intents(shop: Buying) -> list[tuple[str, int]]:
    listed = shop.v1.payment_intents.list({"limit": 100}).data
    return [(str(each.status), each.amount_received or 0) for each in listed]


def mapped(shop: Buying, team: str, card: str = "pm_card_visa") -> str:
    """The team's customer, mapped by a checkout."""
    given: Any = {
        "mode": "subscription",
        "line_items": [{"price": shop.price(1000, recurring={"interval": "month"}), "quantity": 1}],
        "success_url": "https://shop.example/done",
        "metadata": {"insforge_subject_type": "team", "insforge_subject_id": team},
    }
    session = shop.v1.checkout.sessions.create(given)
    shop.control("pay", session=session.id)
    customer = str(shop.v1.checkout.sessions.retrieve(session.id).customer)
    method = shop.v1.payment_methods.attach(card, {"customer": customer})
    settings: Any = {"default_payment_method": method.id}
    shop.v1.customers.update(customer, {"invoice_settings": settings})
    shop.settle()
    shop.deliver()
    return customer


def test_a_subjects_default_method_is_charged_and_the_mirror_shows_it_with_the_answer(
    api: Api, shop: Buying
) -> None:
    customer = mapped(shop, "t_1")
    before = rows(api)
    charge = charged(
        api,
        subject={"type": "team", "id": "t_1"},
        description="Usage in May",
        metadata={"month": "2026-05"},
    )
    assert (charge["status"], charge["amount"], charge["currency"]) == ("succeeded", 2500, "eur")
    assert (charge["customerId"], charge["subjectId"]) == (customer, "t_1")
    assert charge["confirmUrl"] is None is charge["clientSecret"]
    (shown,) = [row for row in rows(api) if row not in before]
    assert shown == {
        "type": "one_time_payment",
        "status": "succeeded",
        "amount": 2500,
        "currency": "eur",
        "subject_type": "team",
        "subject_id": "t_1",
        "provider_customer_id": customer,
        "description": "Usage in May",
        "intent": charge["paymentIntentId"],
        "paid": True,
    }
    intent = shop.v1.payment_intents.retrieve(charge["paymentIntentId"])
    assert intent.metadata["month"] == "2026-05"
    everything = rows(api)
    shop.settle()
    shop.deliver()
    assert rows(api) == everything


@pytest.mark.parametrize("card", ["pm_card_visa", "pm_card_chargeCustomerFail", "sepa"])
def test_events_before_or_after_the_answer_lead_to_the_same_row(
    api: Api, shop: Buying, card: str
) -> None:
    """Before: the answer is lost, and the events arrive before the request is repeated."""
    found = []
    for before in (False, True):
        customer = shop.customer(card="pm_card_visa" if card == "sepa" else card)
        body: dict[str, Any] = {"customerId": customer.id, "idempotencyKey": f"{card}-{before}"}
        if card == "sepa":
            body["paymentMethodId"] = debit(shop, customer.id)
        status = 402 if card == "pm_card_chargeCustomerFail" else 201
        if before:
            shop.lose_answer("/v1/payment_intents/pi_")
            assert api.admin("POST", "/test/charges", {"amount": 2500, "currency": "eur", **body})
            shop.deliver()
        charged(api, status, **body)
        answered = rows(api)
        shop.settle()
        shop.deliver()
        found.append((answered[-1], rows(api)[-1]))
    same = [
        [
            {k: v for k, v in row.items() if k not in ("intent", "provider_customer_id")}
            for row in pair
        ]
        for pair in found
    ]
    assert same[0] == same[1]
    assert len(rows(api)) == 2
    assert len(intents(shop)) == 2


def debit(shop: Buying, customer: str, iban: str = "AT611904300234573201") -> str:
    given: Any = {
        "type": "sepa_debit",
        "sepa_debit": {"iban": iban},
        "billing_details": {"name": "Ada", "email": "ada@example.com"},
    }
    method = shop.v1.payment_methods.create(given)
    shop.v1.payment_methods.attach(str(method.id), {"customer": customer})
    return str(method.id)


def test_a_bank_debit_is_processing_and_pending_until_it_succeeds(api: Api, shop: Buying) -> None:
    customer = shop.customer(default=False)
    charge = charged(api, customerId=customer.id, paymentMethodId=debit(shop, customer.id))
    assert charge["status"] == "processing"
    assert [(r["status"], r["paid"]) for r in rows(api)] == [("pending", False)]
    shop.settle()
    shop.deliver()
    assert [(r["status"], r["paid"]) for r in rows(api)] == [("succeeded", True)]
    again = charged(api, customerId=customer.id, paymentMethodId=charge["paymentMethodId"])
    assert (again["status"], again["paymentIntentId"]) == ("succeeded", charge["paymentIntentId"])


@pytest.mark.parametrize(
    ("card", "reason"),
    [
        ("pm_card_chargeCustomerFail", "generic_decline"),
        ("pm_card_chargeDeclinedInsufficientFunds", "insufficient_funds"),
    ],
)
def test_a_decline_is_a_402_with_the_banks_reason(
    api: Api, shop: Buying, card: str, reason: str
) -> None:
    customer = shop.customer("pm_card_visa")
    shop.control("outcome", key=shop.key, card=card, customer=customer.id)
    refused = charged(api, 402, customerId=customer.id)
    assert refused["error"] == "PAYMENT_METHOD_DECLINED"
    assert refused["declineCode"] == reason
    assert f"({reason})" in refused["message"]
    assert refused["paymentIntentId"].startswith("pi_")
    assert refused["nextActions"]
    assert [(r["type"], r["status"]) for r in rows(api)] == [("failed_payment", "failed")]
    # The same request again is the same answer, without a second attempt.
    assert charged(api, 402, customerId=customer.id) == refused
    assert intents(shop) == [("requires_payment_method", 0)]
    assert charged(api, customerId=customer.id, idempotencyKey="k2")["status"] == "succeeded"


@pytest.mark.parametrize(
    ("decision", "status"), [("confirmed", "succeeded"), ("denied", "declined")]
)
def test_the_customer_authenticates_by_a_link(
    api: Api, shop: Buying, decision: str, status: str
) -> None:
    customer = shop.customer("pm_card_authenticationRequired")
    body = {"customerId": customer.id, "returnUrl": RETURN}
    charge = charged(api, **body)
    assert charge["status"] == "requires_action"
    assert charge["clientSecret"].startswith(charge["paymentIntentId"])
    assert [(r["status"], r["amount"]) for r in rows(api)] == [("failed", 2500)]
    assert charged(api, **body)["confirmUrl"] == charge["confirmUrl"]
    back = httpx.post(charge["confirmUrl"], data={"decision": decision})
    assert back.headers["location"].startswith(
        f"{RETURN}?payment_intent={charge['paymentIntentId']}"
    )
    if status == "declined":
        refused = charged(api, 402, **body)
        assert "unable to authenticate" in refused["message"]
        assert rows(api)[0]["status"] == "failed"
    else:
        assert charged(api, **body)["status"] == "succeeded"
        assert [r["status"] for r in rows(api)] == ["succeeded"]
    shop.deliver()
    assert [r["paid"] for r in rows(api)] == [status == "succeeded"]
    assert len(intents(shop)) == 1


def test_without_a_return_url_the_client_secret_is_for_stripe_js(api: Api, shop: Buying) -> None:
    customer = shop.customer("pm_card_authenticationRequired")
    charge = charged(api, customerId=customer.id)
    assert (charge["status"], charge["confirmUrl"]) == ("requires_action", None)
    assert charge["clientSecret"].startswith(charge["paymentIntentId"])


def test_the_same_key_charges_once_and_a_changed_request_is_refused(api: Api, shop: Buying) -> None:
    customer = shop.customer()
    first = charged(api, customerId=customer.id)
    assert charged(api, customerId=customer.id) == first
    for changed in ({"amount": 2501}, {"currency": "usd"}, {"description": "x"}):
        refused = charged(api, 409, customerId=customer.id, **changed)
        assert refused["error"] == "PAYMENT_IDEMPOTENCY_KEY_REUSED"
    assert intents(shop) == [("succeeded", 2500)]


@pytest.mark.parametrize("lost", [None, "/v1/payment_intents", "/v1/payment_intents/pi_"])
def test_a_request_is_known_after_another_account_was_connected_for_a_while(
    api: Api, shop: Buying, lost: str | None
) -> None:
    customer = shop.customer()
    given = {"amount": 2500, "currency": "eur", "idempotencyKey": "k1", "customerId": customer.id}
    if lost is not None:
        shop.lose_answer(lost)
    assert api.admin("POST", "/test/charges", given).is_success is (lost is None)
    shop.elsewhere_and_back()
    assert charged(api, customerId=customer.id)["status"] == "succeeded"
    assert [amount for _, amount in intents(shop) if amount] == [2500]


def test_many_at_once_with_one_key_charge_once(api: Api, shop: Buying) -> None:
    customer = shop.customer()
    shop.control("latency", seconds=0.2, path_prefix="/v1/payment_intents")
    with ThreadPoolExecutor(6) as many:
        answers = list(many.map(lambda _: charged(api, customerId=customer.id), range(6)))
    assert len({each["paymentIntentId"] for each in answers}) == 1
    assert intents(shop) == [("succeeded", 2500)]


@pytest.mark.parametrize("path", ["/v1/payment_intents", "/v1/payment_intents/pi_"])
@pytest.mark.parametrize("happened", [True, False])
@pytest.mark.parametrize("days", [0, 2])
def test_a_charge_whose_answer_was_lost_is_completed_and_never_repeated(
    patient_shop: Buying, path: str, *, happened: bool, days: int
) -> None:
    shop, api = patient_shop, patient_shop.api
    customer = shop.customer()
    shop.lose_answer(path, happened=happened)
    given = {"amount": 2500, "currency": "eur", "idempotencyKey": "k1", "customerId": customer.id}
    assert api.admin("POST", "/test/charges", given).status_code >= 500
    # After a day, Stripe has forgotten the keys.
    shop.control("advance", seconds=days * 24 * 3600)
    assert charged(api, customerId=customer.id)["status"] == "succeeded"
    assert charged(api, customerId=customer.id)["status"] == "succeeded"
    assert [amount for _, amount in intents(shop) if amount] == [2500]
    shop.deliver()
    assert [(r["status"], r["amount"]) for r in rows(api)] == [("succeeded", 2500)]


@pytest.mark.parametrize("refusal", [429, 401, 403])
@pytest.mark.parametrize("path", ["/v1/payment_intents", "/v1/payment_intents/pi_"])
def test_a_refusal_says_nothing_about_an_earlier_attempt_whose_answer_was_lost(
    api: Api, shop: Buying, path: str, refusal: int
) -> None:
    customer = shop.customer()
    shop.control("fault", method="POST", path_prefix=path, cut=True, after_effect=True)
    shop.control("fault", method="POST", path_prefix=path, status=refusal)
    charged(api, refusal, customerId=customer.id)
    assert charged(api, 409, customerId=customer.id, amount=1)["error"] == (
        "PAYMENT_IDEMPOTENCY_KEY_REUSED"
    )
    assert charged(api, customerId=customer.id)["status"] == "succeeded"
    assert intents(shop) == [("succeeded", 2500)]


def test_what_stripe_refuses_to_create_may_be_corrected_under_the_same_key(
    api: Api, shop: Buying
) -> None:
    customer = shop.customer()
    refused = charged(api, 400, customerId=customer.id, amount=10)
    assert refused["error"] == "UPSTREAM_FAILURE"
    assert "at least" in refused["message"]
    assert charged(api, customerId=customer.id)["status"] == "succeeded"


def test_without_a_customer_or_a_method_nothing_is_charged(api: Api, shop: Buying) -> None:
    unknown = charged(api, 404, subject={"type": "team", "id": "nobody"})
    assert unknown["error"] == "PAYMENT_NOT_FOUND"
    assert "team nobody has no Stripe customer" in unknown["message"]
    assert charged(api, 404, customerId="cus_unknown")["error"] == "PAYMENT_NOT_FOUND"
    given = charged(api, 404, customerId="cus_unknown", paymentMethodId="pm_1")
    assert given["error"] in ("PAYMENT_NOT_FOUND", "UPSTREAM_FAILURE")
    bare = shop.customer(default=False)
    missing = charged(api, 400, customerId=bare.id)
    assert "paymentMethodId: the customer" in missing["message"]
    gone = mapped(shop, "t_gone")
    shop.v1.customers.delete(gone)
    assert charged(api, 404, subject={"type": "team", "id": "t_gone"})["nextActions"]
    assert [status for status, _ in intents(shop) if status != "succeeded"] == []
    assert api.books.rows("SELECT FROM billhook.charge_requests") == []


def test_a_method_of_another_customer_is_not_charged(api: Api, shop: Buying) -> None:
    ada, bob = shop.customer(), shop.customer()
    of_bob = bob.invoice_settings.default_payment_method
    assert charged(api, 400, customerId=ada.id, paymentMethodId=of_bob)["error"] == (
        "UPSTREAM_FAILURE"
    )
    assert [amount for _, amount in intents(shop) if amount] == []


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"idempotencyKey": None}, "idempotencyKey"),
        ({"amount": 0}, "amount"),
        ({"amount": "10"}, "amount"),
        ({"currency": "euro"}, "currency"),
        ({"subject": {"type": "team", "id": "t"}}, "subject"),
        ({"customerId": None}, "customerId"),
        ({"returnUrl": "javascript:alert(1)"}, "returnUrl"),
        ({"metadata": {"insforge_subject_id": "t_2"}}, "metadata"),
        ({"metadata": {f"k{n}": "" for n in range(47)}}, "metadata"),
        ({"confirm": True}, "confirm"),
    ],
)
def test_bad_input_is_named(shared_api: Api, body: dict[str, Any], path: str) -> None:
    given = {
        "amount": 100,
        "currency": "eur",
        "customerId": "cus_1",
        "idempotencyKey": "k",
        **body,
    }
    answer = shared_api.admin("POST", "/test/charges", given)
    assert (answer.status_code, answer.json()["error"]) == (400, "INVALID_INPUT")
    assert f"{path}:" in answer.json()["message"]


@pytest.mark.parametrize("missing", ["amount", "currency", "idempotencyKey", "customerId"])
def test_what_is_missing_is_named(shared_api: Api, missing: str) -> None:
    given = {"amount": 100, "currency": "eur", "customerId": "cus_1", "idempotencyKey": "k"}
    del given[missing]
    answer = shared_api.admin("POST", "/test/charges", given)
    assert answer.status_code == 400
    assert ("subject:" if missing == "customerId" else f"{missing}:") in answer.json()["message"]


@pytest.mark.parametrize(("bearer", "status"), [(token(), 403), (ANONYMOUS_KEY, 401), (None, 401)])
def test_only_an_admin_charges(shared_api: Api, bearer: str | None, status: int) -> None:
    path = "/api/payments/stripe/test/charges"
    assert shared_api.post(path, {"amount": 100}, bearer).status_code == status


@pytest.mark.parametrize("how", RAISING)
def test_a_rule_of_the_app_that_rejects_the_row_does_not_hide_that_it_was_charged(
    api: Api, shop: Buying, how: str
) -> None:
    customer = shop.customer()
    api.books.execute(raising("payments.transactions", how))
    refused = charged(api, 400, customerId=customer.id)
    assert "exists at Stripe" in refused["message"]
    assert "would move the money twice" in refused["nextActions"]
    api.books.execute("DROP TRIGGER odd ON payments.transactions")
    assert charged(api, customerId=customer.id)["status"] == "succeeded"
    assert intents(shop) == [("succeeded", 2500)]


def test_a_rebuild_and_a_comparison_with_stripe_find_nothing_to_correct(
    api: Api, shop: Buying
) -> None:
    customer = shop.customer()
    paid = charged(api, customerId=customer.id)
    shop.control("outcome", key=shop.key, card="pm_card_chargeCustomerFail", customer=customer.id)
    charged(api, 402, customerId=customer.id, idempotencyKey="k2")
    body = {"payment": paid["paymentIntentId"], "amount": 500}
    assert api.admin("POST", "/test/refunds", body).status_code == 201
    for _ in range(2):
        rebuilt = api.admin("POST", "/test/rebuild", {}).json()["rebuild"]
        assert [table for table in rebuilt["tables"] if table["differences"]] == []
        verified = api.admin("POST", "/test/verify", {}).json()["verification"]
        assert [table for table in verified["tables"] if table["drift"]] == []
        shop.settle()
        shop.deliver()
