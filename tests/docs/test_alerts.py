"""docs/how-to/alerts.md: Prometheus accepts its configuration, and each alert fires."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

import shell
from api import Api
from billhook.http.metrics import _GAUGES
from http_tokens import ADMIN_KEY, JWT_SECRET
from pages import ROOT, block, blocks

PAGE = "docs/how-to/alerts.md"
RULES = ROOT / "deploy/prometheus-rules.yml"
LIVE = '{environment="live"}'

# What a minute's scrapes show, for so many minutes, and which alert that raises at the end.
SITUATIONS = [
    ('up{job="billhook"}', "0x5", "BillhookDown"),
    (f"billhook_pulled_timestamp_seconds{LIVE}", "0x50", "BillhookNotPulling"),
    (f"billhook_mirror_lag_seconds{LIVE}", "301x20", "BillhookLag"),
    (f"billhook_failed_events{LIVE}", "1x20", "BillhookEventsFail"),
    (f"billhook_dead_letters{LIVE}", "1x5", "BillhookDeadLetters"),
    (f"billhook_objects_to_refresh{LIVE}", "3x40", "BillhookRefreshesStuck"),
    (f"billhook_verified_timestamp_seconds{LIVE}", "0x3000", "BillhookNotVerified"),
    (f"billhook_drifting_objects{LIVE}", "2x5", "BillhookDrift"),
    (f"billhook_usage_lag_seconds{LIVE}", "301x20", "BillhookUsageLate"),
    (f"billhook_usage_failed_rows{LIVE}", "4x5", "BillhookUsageRejected"),
    (f"billhook_usage_uncertain_rows{LIVE}", "4x5", "BillhookUsageUncertain"),
    (
        'billhook_stripe_request_seconds_count{environment="live",outcome="error"}',
        "0+5x25",
        "BillhookStripeRequestsFail",
    ),
]


def promtool(*arguments: str | Path) -> None:
    program = shutil.which("promtool")
    if program is None:
        assert not os.environ.get("CI"), "CI needs the Debian package prometheus"
        pytest.skip("needs the Debian package prometheus")
    ran = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def alert_rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    rules: list[dict[str, Any]] = group["rules"]
    return rules


def test_a_key_for_prometheus_reads_the_metrics(
    database_url: str, api: Api, tmp_path: Path
) -> None:
    (script,) = blocks(PAGE, "sh")
    shell.run(script, tmp_path, {"DATABASE_URL": database_url, "JWT_SECRET": JWT_SECRET})
    key = (tmp_path / "prometheus-key.txt").read_text().strip()
    answer = api.http.get("/metrics", headers={"Authorization": f"Bearer {key}"})
    assert answer.is_success
    assert "billhook_failed_events" in answer.text


def test_the_rules_use_metrics_that_exist(api: Api) -> None:
    text = api.http.get("/metrics", headers={"Authorization": f"Bearer {ADMIN_KEY}"}).text
    declared = set(re.findall(r"^# TYPE (\w+) ", text, re.MULTILINE))
    used = set(re.findall(r"billhook_\w+", " ".join(each["expr"] for each in alert_rules())))
    assert {name.removesuffix("_count") for name in used} <= declared
    assert {name for name, *_ in _GAUGES} <= used


def test_there_is_a_situation_for_each_alert() -> None:
    assert [each["alert"] for each in alert_rules()] == [alert for _, _, alert in SITUATIONS]


@pytest.mark.full
def test_prometheus_accepts_the_configuration(tmp_path: Path) -> None:
    rules = tmp_path / "billhook-rules.yml"
    rules.write_text(RULES.read_text())
    key = tmp_path / "billhook-key.txt"
    key.write_text("ik_…")
    configuration = block(PAGE, "yaml", "scrape_configs")
    configuration = configuration.replace("/etc/prometheus/billhook-rules.yml", str(rules))
    configuration = configuration.replace("/etc/prometheus/billhook-key.txt", str(key))
    (tmp_path / "prometheus.yml").write_text(configuration)
    promtool("check", "config", tmp_path / "prometheus.yml")


@pytest.mark.full
@pytest.mark.parametrize(("series", "values", "alert"), SITUATIONS)
def test_the_alert_fires(series: str, values: str, alert: str, tmp_path: Path) -> None:
    minutes = int(values.partition("x")[2])
    (rule,) = [each for each in alert_rules() if each["alert"] == alert]
    labels = {"environment": "live"} if "environment" in series else {"job": "billhook"}
    value = values.partition("x")[0]
    summary = rule["annotations"]["summary"].replace("{{ $labels.environment }}", "live")
    summary = summary.replace("{{ $value | humanizeDuration }}", "5m 1s")
    summary = summary.replace("{{ $value | humanizePercentage }}", "100%")
    expected = {
        "exp_labels": labels | rule["labels"],
        "exp_annotations": rule["annotations"]
        | {"summary": summary.replace("{{ $value }}", value)},
    }
    situation = {
        "rule_files": [str(RULES)],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [
                    {
                        "series": series,
                        "values": values if "+" in values else values.replace("x", "+0x"),
                    }
                ],
                "alert_rule_test": [
                    {"eval_time": f"{minutes}m", "alertname": alert, "exp_alerts": [expected]}
                ],
            }
        ],
    }
    (tmp_path / "situation.yml").write_text(yaml.safe_dump(situation))
    promtool("test", "rules", tmp_path / "situation.yml")
