"""The results of the checks."""

from __future__ import annotations

from typing import Literal

from billhook.errors import BillhookError
from billhook.models import WireModel
from billhook.redact import redact
from billhook.settings import Environment

State = Literal["ok", "warning", "broken", "skipped"]


class Finding(WireModel):
    """The result of one check.

    Attributes:
        check: what was checked; a stable name, for programs.
        environment: None if it is about both.
        state: `broken` makes payments fail or go wrong; `skipped` cannot be checked from here.
        message: what was found.
        next_actions: what to do about it.
    """

    check: str
    environment: Environment | None = None
    state: State
    message: str
    next_actions: str | None = None


class Report(WireModel):
    """The results of all checks. `healthy`: nothing is broken."""

    healthy: bool
    checks: list[Finding]


def report(findings: list[Finding]) -> Report:
    return Report(healthy=all(each.state != "broken" for each in findings), checks=findings)


def failure(check: str, error: BillhookError, environment: Environment | None = None) -> Finding:
    """A check that ended with a BillhookError, which includes the next step."""
    return Finding(
        check=check,
        environment=environment,
        state="broken",
        message=redact(error.message),
        next_actions=error.next_actions,
    )
