"""`billhook usage`: what customers have used."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from billhook.cli import asking
from billhook.cli.address import connected
from billhook.cli.options import (
    All,
    AsJson,
    CustomerOption,
    InEnvironment,
    Limit,
    StartingAfter,
    SubjectOption,
    Url,
    Yes,
    metadata_of,
    subject_of,
    utc,
)
from billhook.cli.output import gather, nothing, show_details, show_json, show_table

if TYPE_CHECKING:
    from billhook.client import UsageEntry
    from billhook.models import UsageState

app = typer.Typer(
    help="Usage: recorded in PostgreSQL, and sent to Stripe's meters.", no_args_is_help=True
)
Status = Literal["pending", "waiting", "sending", "sent", "failed", "uncertain"]
MeterOption = Annotated[
    str | None, typer.Option("--meter", help="Only usage of the meter with this event name.")
]
_TIMES = ["%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S%z"]


@app.command("list", epilog="Example: billhook usage list --status failed")
def list_usage(
    status: Annotated[Status | None, typer.Option(help="Only this status.")] = None,
    meter: MeterOption = None,
    subject: SubjectOption = None,
    customer: CustomerOption = None,
    limit: Limit = 50,
    everything: All = False,
    starting_after: StartingAfter = None,
    environment: InEnvironment = "test",
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """List recorded usage, most recent first."""
    from billhook.models import UsageList

    whom = subject_of(subject)
    with connected(url) as client:
        found = gather(
            lambda size, cursor: client.usage.page(
                environment,
                limit=size,
                starting_after=cursor,
                status=status,
                meter=meter,
                subject=whom,
                customer=customer,
            ),
            limit,
            everything,
            starting_after,
        )
    if as_json:
        show_json(UsageList(usage=found))
        return
    show_table(
        ["id", "time", "meter", "value", "subject", "customer", "status", "error"],
        (
            [
                each.id,
                each.occurred_at,
                each.meter,
                each.value,
                each.subject_id and f"{each.subject_type}:{each.subject_id}",
                each.customer_id,
                each.status,
                each.last_error,
            ]
            for each in found
        ),
        none=nothing("usage", status, meter, subject, customer, starting_after),
    )


@app.command(epilog="Example: billhook usage record api_calls --subject team:t_42 --value 3")
def record(
    meter: Annotated[str, typer.Argument(metavar="METER", help="The event name of the meter.")],
    value: Annotated[int, typer.Option(help="Amount used. Negative for a correction.")] = 1,
    subject: Annotated[
        str | None, typer.Option("--subject", help="Subject of the usage.", metavar="TYPE:ID")
    ] = None,
    customer: Annotated[
        str | None,
        typer.Option("--customer", help="The Stripe customer, instead.", metavar="cus_…"),
    ] = None,
    occurred_at: Annotated[
        datetime | None, typer.Option(formats=_TIMES, help="When (UTC). Default: now.")
    ] = None,
    identifier: Annotated[
        str | None,
        typer.Option(help="Usage with an identifier that already exists is not recorded again."),
    ] = None,
    payload: Annotated[
        list[str] | None,
        typer.Option(
            "--payload",
            metavar="KEY=VALUE",
            help="Additional key for the meter event. May be repeated.",
        ),
    ] = None,
    environment: InEnvironment = "test",
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Record usage. It is sent to Stripe within about a second."""
    if (subject is None) == (customer is None):
        raise typer.BadParameter("pass either --subject or --customer")
    entry: UsageEntry = {"meter": meter, "value": value}
    if (whom := subject_of(subject)) is not None:
        entry["subject"] = {"type": whom[0], "id": whom[1]}
    if customer is not None:
        entry["customer_id"] = customer
    if (at := utc(occurred_at)) is not None:
        entry["occurred_at"] = at
    if identifier is not None:
        entry["identifier"] = identifier
    if (more := metadata_of(payload)) is not None:
        entry["payload"] = more
    with connected(url) as client:
        found = client.usage.record(environment, [entry])
    if as_json:
        show_json(found)
    else:
        print("Recorded." if found.recorded else "It had been recorded before.")


@app.command(epilog="Example: billhook usage totals --subject team:t_42")
def totals(
    subject: Annotated[
        str, typer.Option("--subject", help="Subject of the usage.", metavar="TYPE:ID")
    ],
    meter: MeterOption = None,
    environment: InEnvironment = "test",
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Show what a subject has used in its current period."""
    from billhook.models import UsageTotals

    whom = subject_of(subject)
    assert whom is not None
    with connected(url) as client:
        found = client.usage.totals(environment, subject=whom, meter=meter)
    if as_json:
        show_json(UsageTotals(totals=found))
        return
    show_table(
        ["meter", "from", "until", "quantity", "not sent yet", "subscription"],
        (
            [
                each.meter,
                each.period_start,
                each.period_end,
                f"{each.quantity:,}",
                f"{each.unsent:,}" if each.unsent else "",
                each.subscription_id,
            ]
            for each in found
        ),
        none="No usage was recorded for this subject.",
    )


@app.command(epilog="Example: billhook usage status")
def status(environment: InEnvironment = "test", url: Url = None, as_json: AsJson = False) -> None:
    """Show how much usage has not been sent to Stripe yet, and problems with sending it."""
    from billhook.models import UsageStateResponse

    with connected(url) as client:
        found = client.usage.status(environment)
    if as_json:
        show_json(UsageStateResponse(usage=found))
        return
    show_details(
        {
            "to be sent": found.unsent,
            "oldest": f"{found.lag_seconds} s" if found.unsent else "-",
            "without a customer": found.waiting,
            "rejected": found.failed,
            "uncertain": found.uncertain,
            "error reports": found.error_reports,
        }
    )


@app.command(epilog="Example: billhook usage retry --meter api_calls --yes")
def retry(
    ids: Annotated[list[int] | None, typer.Argument(metavar="ID", help="Only these rows.")] = None,
    status: Annotated[
        Literal["failed", "uncertain"], typer.Option(help="What to retry.")
    ] = "failed",
    meter: MeterOption = None,
    counted: Annotated[
        bool,
        typer.Option(
            "--counted", help="Stripe has counted the uncertain usage, so don't send it again."
        ),
    ] = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Maximum number of rows.")] = 1_000,
    yes: Yes = False,
    environment: InEnvironment = "test",
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Resend usage that Stripe rejected, or resolve usage that Stripe may or may not have."""
    if counted and status != "uncertain":
        raise typer.BadParameter("needs --status uncertain", param_hint="--counted")
    if status == "uncertain":
        deed = "mark as sent" if counted else "send again, although Stripe may have it"
        asking.confirm(f"Uncertain usage ({environment}): {deed}?", yes)
    with connected(url) as client:
        number = client.usage.retry(
            environment,
            status=status,
            ids=ids or None,
            meter=meter,
            counted=counted,
            limit=limit,
        )
    if as_json:
        from billhook.models import RetriedUsage

        show_json(RetriedUsage(retried=number))
    else:
        print(f"Rows that {'were marked as sent' if counted else 'will be sent'}: {number:,}")


def in_words(state: UsageState) -> str:
    """A summary of the usage that needs attention; empty if there is none."""
    parts = [
        (state.unsent, f"{state.unsent:,} to be sent, the oldest for {state.lag_seconds} s"),
        (state.waiting, f"{state.waiting:,} without a customer"),
        (state.failed, f"{state.failed:,} rejected"),
        (state.uncertain, f"{state.uncertain:,} uncertain"),
        (state.error_reports, f"{state.error_reports:,} error reports"),
    ]
    return ", ".join(text for number, text in parts if number)
