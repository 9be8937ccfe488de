"""Meter events of /v2: sessions, streams, and the cancellation of events."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
import stripe

from sandbox.shop import Shop, web
from sandbox.test_meters import now_of


@pytest.fixture
def customer(shop: Shop) -> str:
    return str(shop.v1.customers.create({}).id)


@pytest.fixture
def meter(shop: Shop) -> Any:
    return shop.v1.billing.meters.create(
        {
            "display_name": "Requests",
            "event_name": "requests",
            "default_aggregation": {"formula": "sum"},
        }
    )


def event(customer: str, value: str, **given: Any) -> dict[str, Any]:
    payload = {"stripe_customer_id": customer, "value": value}
    return {"event_name": "requests", "payload": payload, **given}


def streaming(shop: Shop) -> Any:
    """A client that authenticates with the token of a new session."""
    token = shop.client.v2.billing.meter_event_session.create().authentication_token
    addresses: Any = {"api": shop.sandbox.url, "meter_events": shop.sandbox.url}
    return stripe.StripeClient(token, base_addresses=addresses, max_network_retries=0)


def total(shop: Shop, meter: Any, customer: str) -> float:
    start = now_of(shop) // 86400 * 86400 - 86400
    given = {"customer": customer, "start_time": start, "end_time": start + 3 * 86400}
    found = shop.v1.billing.meters.event_summaries.list(meter.id, given).data
    return sum(each.aggregated_value for each in found)


def test_a_stream_records_many_events_at_once(shop: Shop, meter: Any, customer: str) -> None:
    client = streaming(shop)
    now = datetime.fromtimestamp(now_of(shop), UTC)
    events = [event(customer, "2", identifier=f"e{i}") for i in range(99)]
    events.append(event(customer, "1", timestamp=(now - timedelta(seconds=5)).isoformat()))
    client.v2.billing.meter_event_stream.create({"events": events})
    assert total(shop, meter, customer) == 199
    client.v2.billing.meter_event_stream.create({"events": events[:99]})
    assert total(shop, meter, customer) == 199, "identifiers are unique"


def test_fact_45_invalid_events_of_a_stream_are_dropped(
    shop: Shop, meter: Any, customer: str
) -> None:
    wrong = [event("cus_gone", "5"), event(customer, "many"), {**event(customer, "5")}]
    wrong[2]["event_name"] = "unknown"
    streaming(shop).v2.billing.meter_event_stream.create({"events": [*wrong, event(customer, "3")]})
    assert total(shop, meter, customer) == 3


def test_a_stream_takes_at_most_a_hundred_events(shop: Shop, meter: Any, customer: str) -> None:
    events = [event(customer, "1")] * 101
    with pytest.raises(stripe.StripeError, match="between 1 and 100"):
        streaming(shop).v2.billing.meter_event_stream.create({"events": events})
    assert total(shop, meter, customer) == 0


def test_a_stream_needs_a_session_that_has_not_expired(
    shop: Shop, meter: Any, customer: str
) -> None:
    body = {"events": [event(customer, "1")]}
    with_key = web.post(
        f"{shop.sandbox.url}/v2/billing/meter_event_stream",
        json=body,
        headers={"Authorization": f"Bearer {shop.key}"},
    )
    assert with_key.status_code == 401
    client = streaming(shop)
    shop.sandbox.control("advance", seconds=16 * 60)
    with pytest.raises(stripe.StripeError, match="has expired") as caught:
        client.v2.billing.meter_event_stream.create(body)
    assert isinstance(caught.value, stripe._error.TemporarySessionExpiredError)


def test_a_single_event_of_v2_is_validated_at_once(shop: Shop, meter: Any, customer: str) -> None:
    v2: Any = shop.client.v2
    made = v2.billing.meter_events.create(event(customer, "7", identifier="one"))
    assert (made.object, made.identifier) == ("v2.billing.meter_event", "one")
    assert total(shop, meter, customer) == 7
    with pytest.raises(stripe.StripeError, match="already exists with identifier one") as known:
        v2.billing.meter_events.create(event(customer, "7", identifier="one"))
    assert (known.value.http_status, known.value.code) == (400, "duplicate_meter_event")
    with pytest.raises(stripe.StripeError, match="at most 100 characters"):
        v2.billing.meter_events.create(event(customer, "7", identifier="x" * 101))
    with pytest.raises(stripe.StripeError, match="RFC 3339"):
        v2.billing.meter_events.create(event(customer, "7", timestamp="yesterday"))


def test_requests_of_v2_are_json_and_replayed(shop: Shop, meter: Any, customer: str) -> None:
    def post(key: str = "k1", **sent: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {shop.key}", "Idempotency-Key": key}
        return web.post(f"{shop.sandbox.url}/v2/billing/meter_events", headers=headers, **sent)

    first = post(json=event(customer, "4", identifier="once"))
    again = post(json=event(customer, "4", identifier="once"))
    assert first.json() == again.json()
    assert again.headers["idempotent-replayed"] == "true"
    assert total(shop, meter, customer) == 4
    assert "not JSON" in post("k2", content=b"event_name=requests").json()["error"]["message"]
    answer = post("k3", json={"event_name": "requests", "payload": {}, "surprise": "1"})
    assert answer.json()["error"]["param"] == "surprise"
    number = {"event_name": "requests", "payload": {"stripe_customer_id": customer, "value": 4}}
    assert post("k4", json=number).json()["error"]["param"] == "payload[value]"
    assert total(shop, meter, customer) == 4


def test_an_event_is_canceled_by_its_identifier(shop: Shop, meter: Any, customer: str) -> None:
    for identifier in ("right", "wrong"):
        shop.v1.billing.meter_events.create(event(customer, "5", identifier=identifier))
    given = {"event_name": "requests", "type": "cancel", "cancel": {"identifier": "wrong"}}
    made = shop.v1.billing.meter_event_adjustments.create(given)
    assert made.cancel.identifier == "wrong"
    assert total(shop, meter, customer) == 5
    with pytest.raises(stripe.InvalidRequestError, match="No meter event found"):
        shop.v1.billing.meter_event_adjustments.create(given)
    with pytest.raises(stripe.InvalidRequestError, match="already exists with identifier wrong"):
        shop.v1.billing.meter_events.create(event(customer, "5", identifier="wrong"))
    v2: Any = shop.client.v2
    given["cancel"] = {"identifier": "right"}
    assert v2.billing.meter_event_adjustments.create(given).status == "pending"
    assert total(shop, meter, customer) == 0


def test_an_event_can_be_canceled_for_a_day(shop: Shop, meter: Any, customer: str) -> None:
    shop.v1.billing.meter_events.create(event(customer, "5", identifier="old"))
    shop.sandbox.control("advance", seconds=25 * 3600)
    given = {"event_name": "requests", "type": "cancel", "cancel": {"identifier": "old"}}
    with pytest.raises(stripe.InvalidRequestError, match="within 24 hours"):
        shop.v1.billing.meter_event_adjustments.create(given)
