"""docs/how-to/usage-billing.md: what it says to paste bills usage."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import asyncpg
import pytest

from api import Api, serving
from billhook.postgres import Database
from cli import Billhook, billhook
from http_tokens import ADMIN_KEY
from metering import Metering
from pages import block, blocks

__all__ = ["billhook"]

PAGE = "docs/how-to/usage-billing.md"


@pytest.fixture
def metering(database_url: str, sandbox: str) -> Metering:
    found = Metering(database_url, sandbox)
    # The page creates the meter itself.
    found.stripe.v1.billing.meters.deactivate(found.meter)
    found.books.execute("DELETE FROM payments.stripe_meters")
    return found


@pytest.fixture
def app(metering: Metering, billhook: Billhook, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    """Billhook, to which the command line is linked."""
    with serving(metering.books.dsn, metering.sandbox) as api:
        monkeypatch.setenv("BILLHOOK_URL", api.url)
        monkeypatch.setenv("BILLHOOK_API_KEY", ADMIN_KEY)
        yield api


def run(billhook: Billhook, script: str) -> str:
    """The commands of a shell block."""
    out = ""
    for line in script.replace("\\\n", "").strip().splitlines():
        name, *arguments = shlex.split(line)
        assert name == "billhook"
        ran = billhook(*arguments)
        assert ran.code == 0, ran.err
        out += ran.out
    return out


def test_the_page_bills_usage(metering: Metering, app: Api, billhook: Billhook) -> None:
    assert "active" in run(billhook, block(PAGE, "sh", "meters create"))
    meter = app.books.row("SELECT meter_id FROM payments.stripe_meters")["meter_id"]
    metering.customer("t_42")
    app.books.execute(block(PAGE, "sql", "INSERT INTO"))
    exec(compile(block(PAGE, "python", "usage.record"), PAGE, "exec"), {})
    metering.send()
    assert metering.sum_at_stripe("t_42", meter) == 7
    app.books.execute(block(PAGE, "sql", "INSERT INTO"))
    (shown,) = app.books.rows(block(PAGE, "sql", "payments.usage_totals"))
    assert (shown["meter"], shown["quantity"], shown["unsent"]) == ("api_calls", 10, 3)
    other = block(PAGE, "sql", "payments.usage_between")
    week, months = other.split(";\n\n")
    assert app.books.row(week) == {"count": 3, "sum": 10}
    assert sum(row["sum"] for row in app.books.rows(months)) == 10
    out = run(billhook, block(PAGE, "sh", "credits grant"))
    assert "Available: 50.00 USD" in out
    out = run(billhook, block(PAGE, "sh", "usage status"))
    assert "No usage match." in out


def test_a_restored_backup_sends_nothing_twice(metering: Metering) -> None:
    """The backup is two days old: Stripe does not recognize what it was sent since."""
    metering.make_meter("api_calls_again")
    metering.customer()
    for _ in range(2):
        metering.record(3, meter="api_calls_again")
    metering.books.execute(
        """INSERT INTO billhook.usage_batches (environment, events, rows, oldest_at)
           VALUES ('test', '[]', 1, now());
           UPDATE payments.usage SET status = 'sending' WHERE id = 1"""
    )
    metering.record(3, meter="api_calls_again", subject="t2", status="waiting")
    metering.books.execute(block(PAGE, "sql", "billhook.usage_batches"))
    metering.customer("t2")  # as the events since the backup tell
    metering.wake()
    metering.send()
    assert metering.statuses() == {"sent": 2, "failed": 1}
    assert metering.books.row("SELECT count(sent_as) AS n FROM payments.usage") == {"n": 0}


def test_users_record_only_their_own_usage(metering: Metering) -> None:
    metering.books.execute(block(PAGE, "sql", "CREATE POLICY"))

    async def as_user(database: Database, subject: str, value: int) -> None:
        async with database.as_caller(
            "authenticated", {"role": "authenticated", "sub": "u1"}
        ) as connection:
            await connection.execute(
                """INSERT INTO payments.usage (environment, meter, subject_type, subject_id, value)
                   VALUES ('test', 'api_calls', 'user', $1, $2)""",
                subject,
                value,
            )

    metering.books.run(lambda database: as_user(database, "u1", 2))
    for subject, value in (("u2", 2), ("u1", -2)):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            metering.books.run(
                lambda database, s=subject, v=value: as_user(database, s, v)  # type: ignore[misc]
            )
    assert metering.usage("subject_id", "value") == [{"subject_id": "u1", "value": 2}]


def test_every_block_is_run_by_a_test() -> None:
    assert len(blocks(PAGE, "sql")) == 5
    assert len(blocks(PAGE, "sh")) == 3
    assert len(blocks(PAGE, "python")) == 1
