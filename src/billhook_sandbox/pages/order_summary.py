"""What a checkout page shows of the order: the products, and what is due now and later."""

from typing import NamedTuple
from urllib.parse import urlsplit

from billhook_sandbox.objects.catalog import is_metered
from billhook_sandbox.objects.pricing import amount_for
from billhook_sandbox.pages.formatting import billing_interval, money
from billhook_sandbox.pages.rendering import date
from billhook_sandbox.store import DataSet, Json

LOCAL_HOSTS = ("localhost", "127.0.0.1")


class Heading(NamedTuple):
    amount: str
    note: str
    """Beside the amount, such as "per month"."""
    later: str
    """What is charged after today, if that differs."""


def heading(data: DataSet, session: Json, record: Json) -> Heading:
    total = money(session["amount_total"] or 0, session["currency"] or "usd")
    if session["mode"] != "subscription":
        return Heading(total, "", "")
    each_period = recurring_total(data, session, record["line_items"])
    if each_period is None:
        return Heading(total, "due today", "")
    amount, interval = each_period
    later = f"Then {money(amount, session['currency'])} {interval}"
    if record["trial"] and not session["amount_total"]:
        return Heading(*trial_length(record["subscription_data"]), later)
    if amount == session["amount_total"]:
        return Heading(total, interval, "")
    return Heading(total, "due today", later)


def trial_length(given: Json) -> tuple[str, str]:
    if days := given.get("trial_period_days"):
        return f"{days} {'day' if days == 1 else 'days'}", "free"
    return "Free", f"until {date(int(given['trial_end']))}"


def recurring_total(data: DataSet, session: Json, items: list[Json]) -> tuple[int, str] | None:
    """What each period costs; None if the page can't say, because it depends on usage, on a
    discount or on taxes."""
    prices = [item["price"] for item in items if item["price"]["recurring"]]
    intervals = {billing_interval(price["recurring"]) for price in prices}
    unknown = session["discounts"] or session["automatic_tax"]["enabled"]
    if len(intervals) != 1 or unknown or any(is_metered(price) for price in prices):
        return None
    amount = sum(
        amount_for(data, item["price"], item["quantity"] or 1)
        for item in items
        if item["price"]["recurring"]
    )
    return amount, intervals.pop()


def described_items(data: DataSet, items: list[Json]) -> list[Json]:
    """The line items with the description and image of their products."""
    return [{**item, **described(data.get("product", item["price"]["product"]))} for item in items]


def described(product: Json | None) -> Json:
    if product is None:
        return {"details": None, "image": None}
    images = [url for url in product["images"] if is_local(url)]
    return {"details": product["description"], "image": images[0] if images else None}


def is_local(url: str) -> bool:
    """The pages request nothing from other hosts."""
    try:
        address = urlsplit(url)
    except ValueError:
        return False
    return address.scheme == "http" and address.hostname in LOCAL_HOSTS
