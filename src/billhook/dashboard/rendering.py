"""The templates and their filters."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from billhook.kinds import KINDS
from billhook.models import iso
from billhook.money import money, price
from billhook.paths import encoded

_HERE = Path(__file__).parent
STATIC = _HERE / "static"

# The color of each state. The word itself is always shown, too.
_TONES = {
    "good": ("succeeded", "active", "trialing", "processed", "connected", "paid", "won"),
    "wait": (
        "pending",
        "paused",
        "incomplete",
        "partially_refunded",
        "past_due",
        "open",
        "under_review",
        "warning_needs_response",
        "warning_under_review",
        "appeal_under_review",
        "canceling",
        "collection paused",
    ),
    "bad": (
        "failed",
        "unpaid",
        "error",
        "incomplete_expired",
        "uncollectible",
        "needs_response",
        "appeal_needs_response",
        "lost",
    ),
}
_TONE_OF = {state: tone for tone, states in _TONES.items() for state in states}
_KINDS = {
    "one_time_payment": "One-time payment",
    "subscription_invoice": "Subscription",
    "failed_payment": "Payment",
    "refund": "Refund",
}
COUNTED = 1_000
"""Lists are counted up to this number."""


class Templates:
    """Renders the templates of the dashboard, with escaping."""

    def __init__(self) -> None:
        self._environment = Environment(
            loader=FileSystemLoader(_HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters.update(
            moment=moment,
            since=since,
            day=day,
            words=words,
            words_pair=words_pair,
            same_pair=same_pair,
            json=pretty,
            wire=iso,
            tone=tone,
            count=count,
            capped=capped,
            payment_kind=payment_kind,
            ago=ago,
            step=encoded,
        )
        self._environment.globals.update(
            money=money, price_of=price, mirrored_lists=[kind.plural for kind in KINDS.values()]
        )

    def render(self, template: str, **values: object) -> str:
        return self._environment.get_template(template).render(**values)


def moment(at: datetime | None) -> Markup:
    """A time: UTC, until the page's script shows it in the viewer's zone."""
    return _time(at, "%b %Y, %H:%M UTC", Markup())


def day(at: datetime | None) -> Markup:
    """A time, shown as its day."""
    return _time(at, "%b %Y", Markup(" data-day"))


def since(at: datetime | None) -> Markup:
    """A time in a list: how long ago, as soon as the page's script runs; the exact one on hover."""
    return _time(at, "%b %Y, %H:%M UTC", Markup(" data-ago"))


def _time(at: datetime | None, form: str, kind: Markup) -> Markup:
    if at is None:
        return Markup()
    utc = at.astimezone(UTC)
    return Markup('<time datetime="{}" title="{}"{}>{}</time>').format(
        iso(utc), f"{utc:%Y-%m-%d %H:%M:%S} UTC", kind, f"{utc.day} {utc:{form}}"
    )


def words(name: str | None) -> str:
    """`partially_refunded` as people read it."""
    return (name or "").replace("_", " ")


def words_pair(name: str) -> tuple[str, str]:
    """An option's value and its label."""
    return name, words(name)


def same_pair(name: str) -> tuple[str, str]:
    """An option whose value is its label."""
    return name, name


def tone(state: str | None) -> str:
    """Whether a state is good, bad or pending."""
    return _TONE_OF.get((state or "").removeprefix("dispute "), "quiet")


def payment_kind(name: str) -> str:
    """The type of a transaction as people read it."""
    return _KINDS.get(name, words(name))


def count(number: int) -> str:
    return f"{number:,}"


def capped(number: int) -> str:
    """A number of rows that were counted up to `COUNTED`."""
    return f"{COUNTED:,}+" if number > COUNTED else count(number)


def ago(seconds: int) -> str:
    """An approximate duration."""
    for size, word in ((86_400, "days"), (3_600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds // size} {word}"
    return f"{seconds} second{'' if seconds == 1 else 's'}"


def pretty(value: Any) -> str:
    """JSON, indented; the template escapes it."""
    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
