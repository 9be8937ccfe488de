"""An app that records usage, a worker whose clock is the test's, and the meter at Stripe."""

from __future__ import annotations

import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from billhook.errors import BillhookError
from recovering import Station

METER = "api_calls"


class Metering(Station):
    """A station with an active meter and as many mapped subjects as a test wants."""

    def __init__(self, database_url: str, sandbox: str) -> None:
        super().__init__(database_url, sandbox)
        self.meter = self.make_meter(METER)
        self.customers: dict[str, str] = {}

    def make_meter(self, event_name: str, formula: str = "sum") -> str:
        """Create a meter, and mirror it."""
        made = self.stripe.v1.billing.meters.create(
            {
                "display_name": event_name,
                "event_name": event_name,
                "default_aggregation": {"formula": formula},  # type: ignore[typeddict-item]
            }
        )
        self.books.execute(
            f"""INSERT INTO payments.stripe_meters
                    (environment, meter_id, event_name, formula, status, customer_key, value_key)
                VALUES ('test', '{made.id}', '{event_name}', '{formula}', 'active',
                    'stripe_customer_id', 'value')"""
        )
        return str(made.id)

    def customer(self, subject: str = "t1") -> str:
        """The Stripe customer of the team, mapped."""
        if subject not in self.customers:
            self.customers[subject] = self.stripe.v1.customers.create({}).id
            self.map(subject, self.customers[subject])
        return self.customers[subject]

    def map(self, subject: str, customer: str) -> None:
        self.books.execute(
            f"""INSERT INTO payments.customer_mappings
                    (provider, environment, subject_type, subject_id, provider_customer_id)
                VALUES ('stripe', 'test', 'team', '{subject}', '{customer}')"""
        )

    def record(self, value: int = 1, subject: str = "t1", **columns: Any) -> None:
        """What the app does: insert a row."""
        row = {
            "environment": "test",
            "meter": METER,
            "subject_type": "team",
            "subject_id": subject,
            "value": value,
            **columns,
        }
        row = {name: each for name, each in row.items() if each is not None}
        literals = ", ".join(
            str(each) if isinstance(each, int) else f"'{each}'" for each in row.values()
        )
        self.books.execute(f"INSERT INTO payments.usage ({', '.join(row)}) VALUES ({literals})")

    def send(self) -> None:
        """Let the worker send what is due."""
        self.work(lambda worker: worker.send_usage("test"))

    def try_to_send(self) -> BillhookError | None:
        """The same; the error, if there is one."""
        try:
            self.send()
        except BillhookError as error:
            return error
        return None

    def wake(self) -> None:
        self.work(lambda worker: worker.wake_usage("test"))

    def make_due(self) -> None:
        """The pauses after failures are over."""
        self.books.execute(
            "UPDATE billhook.usage_batches SET next_at = now() WHERE next_at < 'infinity'"
        )

    def age_attempts(self, hours: float) -> None:
        """Everything that was tried was tried so long ago."""
        self.books.execute(
            f"""UPDATE billhook.usage_batches SET
                unsettled_since = unsettled_since - interval '{hours}h',
                events = (
                    SELECT jsonb_agg(CASE WHEN each ->> 'unsure_since' IS NULL THEN each
                        ELSE each || jsonb_build_object('unsure_since',
                            (each ->> 'unsure_since')::float8 - {hours} * 3600) END)
                    FROM jsonb_array_elements(events) AS each)"""
        )

    def statuses(self) -> dict[str, int]:
        rows = self.books.rows("SELECT status, count(*) AS n FROM payments.usage GROUP BY 1")
        return {row["status"]: row["n"] for row in rows}

    def usage(self, *columns: str) -> list[dict[str, Any]]:
        return self.books.rows(f"SELECT {', '.join(columns)} FROM payments.usage ORDER BY id")

    def sum_at_stripe(self, subject: str = "t1", meter: str | None = None) -> int:
        """What the meter has of the subject's customer, whenever it occurred."""
        now = self.stripe_now() // 60 * 60
        found = self.stripe.v1.billing.meters.event_summaries.list(
            meter or self.meter,
            {
                "customer": self.customers[subject],
                "start_time": now - 60 * 86400,
                "end_time": now + 86400,
            },
        ).data
        return int(found[0].aggregated_value) if found else 0

    def stripe_now(self) -> int:
        answer = httpx.get(f"{self.sandbox}/v1/account", auth=(self.key, ""))
        return int(parsedate_to_datetime(answer.headers["date"]).timestamp())

    def fault(self, **given: Any) -> None:
        """The next requests for meter events go wrong."""
        fault: Mapping[str, Any] = {"path_prefix": "/v1/billing/meter_events", **given}
        httpx.post(f"{self.sandbox}/_sandbox/fault", json=fault).raise_for_status()

    def be_down(self) -> None:
        """All requests for meter events fail until `be_up`."""
        self.fault(status=503, times=100_000)

    def be_up(self) -> None:
        """The faults are over."""
        httpx.post(f"{self.sandbox}/_sandbox/recover", json={}).raise_for_status()


def ago(**units: float) -> str:
    seconds = units.get("days", 0) * 86400 + units.get("hours", 0) * 3600 + units.get("seconds", 0)
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - seconds))
