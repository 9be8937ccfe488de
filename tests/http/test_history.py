"""An import brings in what happened before the account was connected."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from test_sync import Account

from api import Api, connect, serving


@pytest.fixture
def account(sandbox: str) -> Iterator[Account]:
    found = Account(sandbox)
    yield found
    found.http.close()


@pytest.fixture
def shop(account: Account) -> Account:
    """An account with a past: paid, declined, refunded, released and subscribed."""
    live_a_while(account)
    return account


def live_a_while(account: Account) -> None:
    def intent(**given: Any) -> Any:
        return account.http.post(
            "/v1/payment_intents",
            data={"amount": "900", "currency": "eur", "confirm": "true"} | given,
        ).json()

    customer = account.post("/v1/customers", name="Ada")["id"]
    paid = intent(payment_method="pm_card_visa", customer=customer)
    account.post("/v1/refunds", payment_intent=paid["id"], amount="200")
    declined = intent(payment_method="pm_card_chargeDeclined")["error"]["payment_intent"]
    account.post(f"/v1/payment_intents/{declined['id']}/confirm", payment_method="pm_card_visa")
    intent(payment_method="pm_card_chargeDeclined")
    held = intent(payment_method="pm_card_visa", capture_method="manual")
    account.post(f"/v1/payment_intents/{held['id']}/cancel")
    part = intent(payment_method="pm_card_visa", capture_method="manual")
    account.post(f"/v1/payment_intents/{part['id']}/capture", amount_to_capture="600")
    account.subscribe(insforge_subject_type="team", insforge_subject_id="t1")


@pytest.fixture
def served(database_url: str, sandbox: str, shop: Account) -> Iterator[Api]:
    """Billhook connected to `shop` an hour after all that, without a recovery worker."""
    connect(database_url, sandbox, shop.key)
    with serving(database_url, sandbox) as found:
        found.books.execute("UPDATE billhook.pulls SET since = since + interval '1 hour'")
        yield found


def imported(api: Api, **order: Any) -> Any:
    """Import, and return the progress at the end."""
    answer = api.admin("POST", "/test/import", order)
    assert answer.status_code == 202, answer.text
    deadline = time.monotonic() + 60
    while (found := api.admin("GET", "/test/import").json())["status"] != "finished":
        assert found["error"] is None, found
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    return found


def transactions(api: Api) -> list[tuple[Any, ...]]:
    rows = api.books.rows(
        "SELECT type, status, amount, amount_refunded FROM payments.transactions ORDER BY 1, 2, 3"
    )
    return [tuple(row.values()) for row in rows]


def test_payments_from_before_the_connection_become_rows(served: Api) -> None:
    found = imported(served)
    assert transactions(served) == [
        ("failed_payment", "failed", 900, 0),
        ("failed_payment", "failed", 900, 0),
        ("one_time_payment", "partially_refunded", 900, 200),
        ("one_time_payment", "succeeded", 600, 0),
        ("one_time_payment", "succeeded", 900, 0),
        ("refund", "refunded", 200, 200),
        ("subscription_invoice", "succeeded", 900, 0),
    ]
    assert found["completeSince"] is not None


def test_verification_covers_the_whole_account_once_it_is_imported(
    served: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("billhook.mirror.verify.paid.YOUNG", -1)
    before = served.admin("POST", "/test/verify").json()["verification"]
    imported(served)
    after = served.admin("POST", "/test/verify").json()["verification"]
    compared = [
        {each["table"]: each["objects"] for each in found["tables"]} for found in (before, after)
    ]
    payments = "payments.transactions (payments)"
    assert (compared[0][payments], compared[1][payments]) == (0, 5)
    assert after["sound"]
    (money,) = after["money"]
    assert (money["payments"], money["refunds"], money["difference"]) == (3300, 200, 0)


def test_a_rebuild_keeps_what_was_imported(served: Api) -> None:
    imported(served)
    rebuilt = served.admin("POST", "/test/rebuild").json()["rebuild"]
    assert [each for each in rebuilt["tables"] if each["different"]] == []
