"""What a Prometheus that scrapes /metrics gets."""

from __future__ import annotations

import json
import time
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families
from test_serve import serving as served

from api import connect, serving
from http_tokens import ADMIN_KEY, SIGNING_SECRET, signature
from stripe_events import customer, event, payload

Samples = dict[tuple[str, str], float]


def scraped(http: httpx.Client) -> Samples:
    """Each sample by its name and labels."""
    answer = http.get("/metrics", headers={"authorization": f"Bearer {ADMIN_KEY}"})
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return {
        (sample.name, " ".join(f"{k}={v}" for k, v in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_events_and_requests_are_counted_and_timed(database_url: str, sandbox: str) -> None:
    connect(database_url, sandbox, "sk_test_of_the_metrics")
    with serving(database_url, sandbox) as api:
        before = scraped(api.http)
        assert before["billhook_queued_events", "environment=live"] == 0
        assert before["billhook_batch_events_count", "environment=test"] == 0
        assert api.http.get("/metrics").status_code == 401

        told = event("customer.created", customer(), created=int(time.time()) - 20)
        for _ in range(2):
            assert api.deliver(told).status_code == 200
        assert api.deliver(event("customer.created", customer()), secret="whsec_x").is_error
        assert api.admin("POST", "/test/catalog/products", {"name": "Tea"}).is_success

        after = scraped(api.http)
        requests = "billhook_webhook_request_seconds_count"
        assert after[requests, "environment=test outcome=ok"] == 2
        assert after[requests, "environment=test outcome=error"] == 1
        calls = "billhook_stripe_request_seconds_count"
        assert after[calls, "environment=test method=post outcome=ok"] == 1
        assert after["billhook_events_total", "environment=test status=processed"] == 2
        assert after["billhook_batch_events_sum", "environment=test"] == 2
        # The second delivery changed nothing.
        assert after["billhook_event_lag_seconds_count", "environment=test"] == 1
        assert 19 < after["billhook_event_lag_seconds_sum", "environment=test"] < 80
        assert after["billhook_queued_events", "environment=test"] == 0


def test_two_applications_in_one_process_count_for_themselves(
    database_url: str, sandbox: str
) -> None:
    key = ("billhook_events_total", "environment=test status=processed")
    with serving(database_url, sandbox) as one, serving(database_url, sandbox) as other:
        one.deliver(event("customer.created", customer()))
        assert scraped(one.http)[key] == 1
        assert key not in scraped(other.http)


def test_any_of_several_workers_reports_the_sums_of_all(database_url: str, tmp_path: Path) -> None:
    settings = {"DATABASE_URL": database_url, "STRIPE_TEST_WEBHOOK_SECRET": SIGNING_SECRET}
    with served(tmp_path, "--workers", "2", **settings) as url:
        for n in range(20):  # on a new connection each, so that both get some
            body = payload(event("customer.created", customer(f"cus_{n}")))
            headers = {"stripe-signature": signature(body)}
            answer = httpx.post(f"{url}/api/webhooks/stripe/test", content=body, headers=headers)
            assert answer.status_code == 200, json.loads(answer.text)
        for _ in range(6):
            with httpx.Client(base_url=url) as http:
                found = scraped(http)
            assert found["billhook_events_total", "environment=test status=processed"] == 20
            assert found["billhook_queued_events", "environment=test"] == 0
            assert found["billhook_dead_letters", "environment=test"] == 0
