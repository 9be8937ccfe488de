"""`billhook offers`: terms of checkouts that an administrator defines."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from billhook.cli import asking
from billhook.cli.address import connected
from billhook.cli.options import AsJson, InEnvironment, Url, Yes, utc
from billhook.cli.output import pairs, show_details, show_json, show_table

if TYPE_CHECKING:
    from billhook.models import Offer

app = typer.Typer(
    help="Checkout terms, such as trials and discounts, that browsers refer to by name.",
    no_args_is_help=True,
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Its name, such as launch.")]
_TIMES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S%z"]


@app.command("list", epilog="Example: billhook offers list --environment live")
def list_offers(
    environment: InEnvironment = "test", url: Url = None, as_json: AsJson = False
) -> None:
    """List all offers, by name."""
    from billhook.models import Offers

    with connected(url) as client:
        found = client.offers.list(environment)
    if as_json:
        show_json(Offers(offers=found))
        return
    show_table(
        ["offer", "active", "used", "at most", "until", "options"],
        (
            [o.name, o.active, o.redemptions, o.max_redemptions, o.redeem_by, _options(o)]
            for o in found
        ),
        none="There are no offers yet: billhook offers set",
    )


@app.command(epilog="Example: billhook offers get launch")
def get(
    name: Name, environment: InEnvironment = "test", url: Url = None, as_json: AsJson = False
) -> None:
    """Show an offer and the number of checkouts that use it."""
    with connected(url) as client:
        found = client.offers.get(environment, name)
    _answer(found, as_json)


@app.command(
    "set",
    epilog="Example: billhook offers set launch --trial-days 14 --trial-once "
    "--lookup-key team_monthly",
)
def set_offer(
    name: Name,
    trial_days: Annotated[int | None, typer.Option(help="Length of the trial in days.")] = None,
    trial_once: Annotated[
        bool, typer.Option("--trial-once", help="Allow only one trial per subject.")
    ] = False,
    coupon: Annotated[str | None, typer.Option(help="Id of a coupon in Stripe.")] = None,
    promotion_code: Annotated[
        str | None, typer.Option(help="Id of a promotion code in Stripe.", metavar="promo_…")
    ] = None,
    one_subscription: Annotated[
        bool, typer.Option("--one-subscription", help="Allow only one subscription per subject.")
    ] = False,
    options: Annotated[
        str | None,
        typer.Option(
            help="Other options as JSON, such as '{\"allowPromotionCodes\": true}'.",
            metavar="JSON",
        ),
    ] = None,
    price: Annotated[
        list[str] | None,
        typer.Option(help="Allow only this price. May be repeated.", metavar="price_…"),
    ] = None,
    lookup_key: Annotated[
        list[str] | None,
        typer.Option(help="Allow only the price with this lookup key. May be repeated."),
    ] = None,
    redeem_by: Annotated[
        datetime | None, typer.Option(formats=_TIMES, help="When the offer ends (UTC).")
    ] = None,
    max_redemptions: Annotated[
        int | None, typer.Option(min=1, help="Maximum number of checkouts that may use it.")
    ] = None,
    inactive: Annotated[
        bool, typer.Option("--inactive", help="Save the offer, but don't allow its use.")
    ] = False,
    environment: InEnvironment = "test",
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Create or replace an offer. Checkouts that already use it keep their terms."""
    wanted = _parsed(options)
    if trial_days is not None:
        wanted["trial_days"] = trial_days
    if trial_once:
        wanted["trial_once_per_subject"] = True
    if one_subscription:
        wanted["one_subscription"] = True
    discounts = {"coupon": coupon, "promotion_code": promotion_code}
    if discount := {key: value for key, value in discounts.items() if value is not None}:
        wanted["discounts"] = [discount]
    with connected(url) as client:
        made = client.offers.set(
            environment,
            name,
            options=wanted,
            price_ids=price,
            lookup_keys=lookup_key,
            active=not inactive,
            redeem_by=utc(redeem_by),
            max_redemptions=max_redemptions,
        )
    _answer(made, as_json)


@app.command(epilog="Example: billhook offers delete launch --yes")
def delete(
    name: Name,
    environment: InEnvironment = "test",
    url: Url = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Delete an offer. Checkouts that already use it keep their terms."""
    asking.confirm(f"Delete the offer {name} in the {environment} environment?", yes)
    with connected(url) as client:
        deleted = client.offers.delete(environment, name)
    if as_json:
        show_json(deleted)
    else:
        print(f"The offer {name} is deleted.")


def _parsed(options: str | None) -> dict[str, Any]:
    """The JSON of `--options`.

    Raises:
        typer.BadParameter: it is not a JSON object.
    """
    try:
        found = json.loads(options or "{}")
    except ValueError as error:
        raise typer.BadParameter(f"must be JSON: {error}", param_hint="--options") from None
    if not isinstance(found, dict):
        raise typer.BadParameter("must be a JSON object", param_hint="--options")
    return found


def _options(offer: Offer) -> str:
    return pairs({name: _short(value) for name, value in offer.options.items()})


def _short(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _answer(offer: Offer, as_json: bool) -> None:
    from billhook.models import OfferResponse

    if as_json:
        show_json(OfferResponse(offer=offer))
        return
    show_details(
        {
            "offer": offer.name,
            "active": offer.active,
            **{name: _short(value) for name, value in offer.options.items()},
            "prices": ", ".join(offer.price_ids),
            "lookup keys": ", ".join(offer.lookup_keys),
            "until": offer.redeem_by,
            "used": offer.redemptions,
            "at most": offer.max_redemptions,
        }
    )
