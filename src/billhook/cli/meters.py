"""`billhook meters create` and the like: what the group of the mirrored list has besides it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from billhook.cli import asking
from billhook.cli.address import connected
from billhook.cli.options import AsJson, InEnvironment, Url, Yes
from billhook.cli.output import show_details, show_json

if TYPE_CHECKING:
    from billhook.models import MirroredRow

MeterId = Annotated[str, typer.Argument(metavar="METER", help="Its id, such as mtr_1QxYz.")]


def add_to(group: typer.Typer) -> None:
    """Add the commands."""
    group.command(epilog="Example: billhook meters create api_calls --name 'API calls'")(create)
    group.command(epilog="Example: billhook meters deactivate mtr_1QxYz --yes")(deactivate)
    group.command(epilog="Example: billhook meters reactivate mtr_1QxYz")(reactivate)


def create(
    event_name: Annotated[
        str, typer.Argument(metavar="EVENT_NAME", help="The name under which usage is recorded.")
    ],
    name: Annotated[str | None, typer.Option(help="Display name. Default: the event name.")] = None,
    formula: Annotated[
        Literal["count", "last", "sum"],
        typer.Option(help="How usage in a period is aggregated: sum, count, or last value."),
    ] = "sum",
    event_time_window: Annotated[
        Literal["day", "hour"] | None,
        typer.Option(help="Interval by which Stripe pre-aggregates usage."),
    ] = None,
    idempotency_key: Annotated[
        str | None,
        typer.Option(help="Repeating a request with this key does not create a second meter."),
    ] = None,
    environment: InEnvironment = "test",
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Create a meter in Stripe."""
    with connected(url) as client:
        made = client.meters.create(
            environment,
            event_name=event_name,
            display_name=name or event_name,
            formula=formula,
            event_time_window=event_time_window,
            idempotency_key=idempotency_key,
        )
    _show(made, as_json)


def deactivate(
    meter: MeterId,
    yes: Yes = False,
    environment: InEnvironment = "test",
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Deactivate a meter. Stripe then rejects usage for it."""
    asking.confirm(f"Deactivate {meter} ({environment})?", yes)
    with connected(url) as client:
        found = client.meters.deactivate(environment, meter)
    _show(found, as_json)


def reactivate(
    meter: MeterId,
    environment: InEnvironment = "test",
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Reactivate a meter."""
    with connected(url) as client:
        found = client.meters.reactivate(environment, meter)
    _show(found, as_json)


def _show(meter: MirroredRow, as_json: bool) -> None:
    from billhook.models import MeterResponse

    if as_json:
        show_json(MeterResponse(meter=meter))
        return
    show_details(
        {
            "meter": meter.meter_id,
            "event name": meter.event_name,
            "name": meter.display_name,
            "formula": meter.formula,
            "status": meter.status,
        }
    )
