"""POST /api/webhooks/stripe/{environment} (contract §3.1)."""

from __future__ import annotations

import time
from typing import Any

import pytest

from stripe_events import customer, event, payload


def test_a_signed_event_is_recorded_applied_and_answered(api: Any) -> None:
    created = event("customer.created", customer())
    answer = api.deliver(created)
    body = answer.json()
    assert (answer.status_code, body["received"], body["handled"]) == (200, True, True)
    assert set(body["event"]) == {
        "environment",
        "eventId",
        "eventType",
        "livemode",
        "accountId",
        "objectType",
        "objectId",
        "processingStatus",
        "attemptCount",
        "lastError",
        "receivedAt",
        "processedAt",
        "createdAt",
        "updatedAt",
    }
    assert body["event"]["processingStatus"] == "processed"
    assert body["event"]["receivedAt"].endswith("Z")
    again = api.deliver(created).json()
    assert (again["handled"], again["event"]["attemptCount"]) == (False, 1)


@pytest.mark.parametrize(
    ("more", "status", "code"),
    [
        ({"secret": "whsec_wrong"}, 400, "INVALID_INPUT"),
        ({"at": time.time() - 3600}, 400, "INVALID_INPUT"),
        ({"environment": "staging"}, 400, "INVALID_INPUT"),
        ({"environment": "live"}, 500, "INTERNAL_ERROR"),
    ],
)
def test_a_wrong_delivery_is_refused_and_not_recorded(
    shared_api: Any, more: dict[str, Any], status: int, code: str
) -> None:
    answer = shared_api.deliver(event("customer.created", customer()), **more)
    assert (answer.status_code, answer.json()["error"]) == (status, code)
    assert answer.json()["statusCode"] == status
    assert shared_api.books.rows("SELECT 1 FROM payments.webhook_events") == []


def test_a_delivery_without_signature_is_unauthorized(shared_api: Any) -> None:
    answer = shared_api.http.post("/api/webhooks/stripe/test", content=b"{}")
    assert (answer.status_code, answer.json()["error"]) == (401, "AUTH_UNAUTHORIZED")


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"id": "evt_1"}', b'{"id": null, "type": 3}', b"\xff\xfe"]
)
def test_what_is_no_event_is_a_clear_400(shared_api: Any, body: bytes) -> None:
    answer = shared_api.deliver(body)
    assert (answer.status_code, answer.json()["error"]) == (400, "INVALID_INPUT")


def test_an_event_of_the_other_mode_is_refused_and_not_recorded(shared_api: Any) -> None:
    answer = shared_api.deliver(event("customer.created", customer(), livemode=True))
    assert (answer.status_code, answer.json()["error"]) == (400, "INVALID_INPUT")
    assert shared_api.books.rows("SELECT 1 FROM payments.webhook_events") == []


def test_a_body_over_five_megabytes_is_too_large(shared_api: Any) -> None:
    big = event("customer.created", customer(metadata={"x": "y" * 5_000_000}))
    answer = shared_api.deliver(payload(big))
    assert (answer.status_code, answer.json()["statusCode"]) == (413, 413)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("broken", [{}, {"customer": None, "items": None, "metadata": None}])
@pytest.mark.parametrize(
    "kind",
    [
        "checkout.session.completed",
        "invoice.paid",
        "payment_intent.succeeded",
        "charge.refunded",
        "refund.created",
        "customer.subscription.updated",
        "price.updated",
        "invoice_payment.paid",
    ],
)
def test_missing_fields_and_nulls_never_crash_and_are_recorded(
    api: Any, kind: str, broken: dict[str, Any]
) -> None:
    answer = api.deliver(event(kind, {"id": "x_1", "object": "x", **broken}))
    assert answer.status_code in (200, 500)
    row = api.books.row("SELECT processing_status, last_error FROM payments.webhook_events")
    assert (row["processing_status"] == "failed") == (answer.status_code == 500)
    assert (row["last_error"] is None) == (answer.status_code == 200)
