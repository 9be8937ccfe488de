"""Whether usage reaches Stripe."""

from __future__ import annotations

from collections.abc import Iterator

from billhook.doctor.finding import Finding
from billhook.models import UsageState

_LATE = 300
"""Seconds after which the worker should have sent a row."""


def usage(state: UsageState) -> Iterator[Finding]:
    """What is wrong with usage; nothing if no usage waits."""
    environment = state.environment

    def finding(message: str, next_actions: str, *, broken: bool = True) -> Finding:
        return Finding(
            check="usage",
            environment=environment,
            state="broken" if broken else "warning",
            message=message,
            next_actions=next_actions,
        )

    listed = f"billhook usage list --environment {environment} --status"
    if state.failed:
        yield finding(
            f"Stripe rejected {state.failed:,} rows of usage, which are not billed.",
            f"{listed} failed shows why. After fixing it: billhook usage retry "
            f"--environment {environment}",
        )
    if state.uncertain:
        yield finding(
            f"Stripe may or may not have counted {state.uncertain:,} rows of usage.",
            f"{listed} uncertain shows them: compare them with the customers' usage in Stripe's "
            f"dashboard, then run billhook usage retry --environment {environment} --status "
            "uncertain, with --counted if Stripe has them.",
        )
    if state.lag_seconds > _LATE:
        yield finding(
            f"Usage has waited for {state.lag_seconds:,} seconds to be sent to Stripe.",
            "Check that a worker runs (`billhook worker`, or `billhook serve` with "
            "BILLHOOK_RECOVERY on), and its log.",
        )
    if state.waiting:
        yield finding(
            f"{state.waiting:,} rows of usage wait until their subject has a Stripe customer.",
            f"{listed} waiting shows them. A subject's first checkout creates its customer.",
            broken=False,
        )
    if state.error_reports:
        yield finding(
            f"In the last 30 days, Stripe reported {state.error_reports:,} times that it could "
            "not count usage.",
            f"billhook events list --environment {environment} --type "
            "v1.billing.meter.error_report_triggered; Stripe's dashboard shows the details.",
            broken=False,
        )
    if state.unsent and state.lag_seconds <= _LATE and not (state.failed or state.uncertain):
        yield Finding(
            check="usage",
            environment=environment,
            state="ok",
            message=f"{state.unsent:,} rows of usage are being sent.",
        )
