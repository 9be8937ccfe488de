"""What an examination finds."""

from __future__ import annotations

from typing import Literal

from billhook.errors import BillhookError
from billhook.models import WireModel
from billhook.redact import redact
from billhook.settings import Environment

State = Literal["ok", "warning", "broken", "skipped"]


class Finding(WireModel):
    """One thing that was looked at.

    Attributes:
        check: what was looked at; a stable name, for programs.
        environment: None where it is about both.
        state: `broken` keeps payments from being right; `skipped` could not be looked at from here.
        message: what was found.
        next_actions: what to do about it.
    """

    check: str
    environment: Environment | None = None
    state: State
    message: str
    next_actions: str | None = None


class Report(WireModel):
    """An examination. `healthy`: nothing is broken."""

    healthy: bool
    checks: list[Finding]


def report(findings: list[Finding]) -> Report:
    return Report(healthy=all(each.state != "broken" for each in findings), checks=findings)


def failure(check: str, error: BillhookError, environment: Environment | None = None) -> Finding:
    """A check that ended in an error of Billhook's, which says itself what to do."""
    return Finding(
        check=check,
        environment=environment,
        state="broken",
        message=redact(error.message),
        next_actions=error.next_actions,
    )
