"""What a Prometheus that scrapes /metrics gets."""

from __future__ import annotations

import time
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from test_serve import serving as served

from api import connect, serving
from http_tokens import ADMIN_KEY
from stripe_events import customer, event

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


@pytest.mark.full
def test_one_of_several_workers_reports_the_mirror_and_not_itself(
    database_url: str, tmp_path: Path
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    settings = {"DATABASE_URL": database_url, "TMPDIR": str(temporary)}
    with served(tmp_path, "--workers", "2", **settings) as url, httpx.Client(base_url=url) as http:
        names = {name for name, _ in scraped(http)}
        # The file system of a container may be read-only, or full.
        assert list(temporary.iterdir()) == []
    assert {"billhook_dead_letters", "billhook_failed_events"} <= names
    assert not any(name.startswith(("billhook_queued", "billhook_batch")) for name in names)
