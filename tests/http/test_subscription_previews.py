"""What a change costs is shown before it is made, and is then exactly what is billed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api import Api
from http_tokens import ADMIN_KEY
from subscribers import POLICIES, Subscriber, advance, at_stripe, price, subscribe

BEGIN = 1_950_000_000
DAY = 86_400


def on_a_clock(api: Api, *prices: str, days: int = 10, **more: Any) -> Subscriber:
    """A subscription on a test clock, some days after its start."""
    clock = api.stripe.v1.test_helpers.test_clocks.create({"frozen_time": BEGIN}).id
    mine = subscribe(api, *prices, test_clock=clock, **more)
    if days:
        advance(api, clock, BEGIN + days * DAY)
    return mine


def preview(mine: Subscriber, sender: str | None = None, **body: Any) -> dict[str, Any]:
    answer = mine.send("preview", sender, **body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()["preview"]
    return found


def latest_invoice(mine: Subscriber) -> dict[str, Any]:
    return at_stripe(mine.api, f"invoices/{mine.at_stripe()['latest_invoice']}")


def seconds(moment: str) -> int:
    return int(datetime.fromisoformat(moment).timestamp())


@pytest.fixture
def policies(api: Api) -> None:
    api.books.execute(POLICIES)


@pytest.mark.usefixtures("policies")
def test_an_immediate_change_costs_exactly_what_was_shown(api: Api) -> None:
    mine = on_a_clock(api, price(api, 3000), quantity=2)
    dear = price(api, 9000)
    before, mirrored = mine.at_stripe(), mine.mirrored()
    body = {"priceId": dear, "prorationBehavior": "always_invoice"}
    shown = preview(mine, **body)
    assert (mine.at_stripe(), mine.mirrored()) == (before, mirrored), "nothing has changed"
    assert (shown["currency"], seconds(shown["prorationDate"])) == ("eur", BEGIN + 10 * DAY)
    credit, charge = shown["prorations"]
    assert (credit["amount"] < 0, charge["priceId"], charge["quantity"]) == (True, dear, 2)
    assert credit["amount"] + charge["amount"] == shown["prorationAmount"]
    assert shown["amountDueNow"] == shown["invoiceNow"]["amountDue"] == shown["prorationAmount"]
    following = shown["nextInvoice"]
    assert (following["amountDue"], [line["amount"] for line in following["lines"]]) == (
        18_000,
        [18_000],
    )
    assert following["date"] == mirrored["currentPeriodEnd"]

    advance(api, before["test_clock"], BEGIN + 11 * DAY)
    mine.changed("change", **body, prorationDate=shown["prorationDate"])
    assert latest_invoice(mine)["amount_paid"] == shown["amountDueNow"]


@pytest.mark.usefixtures("policies")
def test_prorations_of_the_next_invoice_are_not_due_now(api: Api) -> None:
    mine = on_a_clock(api, price(api, 3000))
    shown = preview(mine, quantity=3)
    assert (shown["amountDueNow"], shown["invoiceNow"]) == (0, None)
    following = shown["nextInvoice"]
    assert following["amountDue"] == 9000 + shown["prorationAmount"]
    assert following["subtotal"] == following["total"] == following["amountDue"]
    assert following["date"] == mine.mirrored()["currentPeriodEnd"]
    assert {line["proration"] for line in following["lines"]} == {True, False}
    mine.changed("change", quantity=3, prorationDate=shown["prorationDate"])
    advance(api, mine.at_stripe()["test_clock"], seconds(following["date"]) + 4000)
    assert latest_invoice(mine)["amount_paid"] == following["amountDue"]


@pytest.mark.usefixtures("policies")
def test_a_new_interval_is_due_now(api: Api) -> None:
    mine = on_a_clock(api, price(api, 3000))
    yearly = price(api, 30_000, "year")
    shown = preview(mine, priceId=yearly)
    assert shown["amountDueNow"] == 30_000 + shown["prorationAmount"] < 30_000
    assert shown["nextInvoice"]["amountDue"] == 30_000
    year = datetime.fromtimestamp(BEGIN + 10 * DAY, UTC).replace(
        year=datetime.fromtimestamp(BEGIN, UTC).year + 1
    )
    assert seconds(shown["nextInvoice"]["date"]) == int(year.timestamp())
    mine.changed("change", priceId=yearly, prorationDate=shown["prorationDate"])
    assert latest_invoice(mine)["amount_paid"] == shown["amountDueNow"]


@pytest.mark.usefixtures("policies")
def test_what_a_smaller_plan_leaves_over_pays_the_next_invoices(api: Api) -> None:
    mine = on_a_clock(api, price(api, 9000))
    small = price(api, 5000)
    shown = preview(mine, priceId=small, prorationBehavior="always_invoice")
    credit = shown["prorationAmount"]
    assert credit < 0
    assert (shown["amountDueNow"], shown["invoiceNow"]["total"]) == (0, credit)
    assert shown["nextInvoice"]["total"] == 5000
    assert shown["nextInvoice"]["amountDue"] == 5000 + credit


@pytest.mark.usefixtures("policies")
def test_a_trial_costs_nothing_to_change(api: Api) -> None:
    mine = on_a_clock(api, price(api, 3000), days=2, trial_period_days=7)
    shown = preview(mine, quantity=2, prorationBehavior="always_invoice")
    assert (shown["prorations"], shown["amountDueNow"]) == ([], 0)
    assert shown["nextInvoice"]["amountDue"] == 6000
    assert seconds(shown["nextInvoice"]["date"]) == BEGIN + 7 * DAY


def test_a_server_sees_what_a_change_without_prorations_costs(api: Api) -> None:
    mine = on_a_clock(api, price(api, 3000))
    shown = preview(mine, ADMIN_KEY, quantity=2, prorationBehavior="none")
    assert (shown["prorations"], shown["amountDueNow"]) == ([], 0)
    assert shown["nextInvoice"]["amountDue"] == 6000


@pytest.mark.usefixtures("policies")
def test_after_a_change_of_one_that_ends_no_invoice_follows(api: Api) -> None:
    mine = on_a_clock(api, price(api, 3000))
    mine.changed("cancel")
    shown = preview(mine, quantity=2, prorationBehavior="always_invoice")
    assert (shown["amountDueNow"] > 0, shown["nextInvoice"]) == (True, None)
    final = preview(mine, quantity=2)
    assert (final["amountDueNow"], final["nextInvoice"]["total"] > 0) == (0, True)
    nothing = mine.send("preview", ADMIN_KEY, quantity=2, prorationBehavior="none")
    assert (nothing.status_code, nothing.json()["error"]) == (404, "UPSTREAM_FAILURE")
    assert "No upcoming invoices" in nothing.json()["message"]


@pytest.mark.usefixtures("policies")
def test_lines_beyond_the_first_page_are_shown(api: Api) -> None:
    prices = [price(api, 100 + number) for number in range(12)]
    mine = on_a_clock(api, *prices)
    (first, *_) = mine.at_stripe()["items"]["data"]
    shown = preview(mine, quantity=2, subscriptionItemId=first["id"])
    lines = shown["nextInvoice"]["lines"]
    assert len(lines) == 14
    assert sum(line["amount"] for line in lines) == shown["nextInvoice"]["total"]


@pytest.mark.usefixtures("policies")
def test_the_preview_of_a_moment_ago_can_be_used(api: Api) -> None:
    """A user's browser, without a test clock."""
    mine = subscribe(api, price(api, 3000))
    shown = preview(mine, quantity=2, prorationBehavior="always_invoice")
    body = {"quantity": 2, "prorationBehavior": "always_invoice"}
    mine.changed("change", **body, prorationDate=shown["prorationDate"])
    assert latest_invoice(mine)["amount_paid"] == shown["amountDueNow"]


def test_a_preview_that_stripe_refuses_says_why(api: Api) -> None:
    mine = subscribe(api, price(api, 3000), sender=ADMIN_KEY)
    once = api.stripe.v1.prices.create(
        {"currency": "eur", "unit_amount": 100, "product_data": {"name": "Mug"}}
    ).id
    for operation in ("preview", "change"):
        refused = mine.send(operation, priceId=once)
        assert (refused.status_code, refused.json()["error"]) == (400, "UPSTREAM_FAILURE")
        assert "type=one_time" in refused.json()["message"]


@settings(deadline=None, max_examples=10)
@given(
    amounts=st.tuples(st.integers(1, 50_000), st.integers(1, 50_000)),
    quantities=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    days=st.integers(0, 27),
    behavior=st.sampled_from(["create_prorations", "always_invoice"]),
)
def test_whatever_changes_the_sums_are_right(
    shared_api: Api,
    amounts: tuple[int, int],
    quantities: tuple[int, int],
    days: int,
    behavior: str,
) -> None:
    old, new = (price(shared_api, amount) for amount in amounts)
    mine = on_a_clock(shared_api, old, quantity=quantities[0], days=days, sender=ADMIN_KEY)
    body = {"priceId": new, "quantity": quantities[1], "prorationBehavior": behavior}
    shown = preview(mine, **body)
    assert sum(line["amount"] for line in shown["prorations"]) == shown["prorationAmount"]
    invoice_now, following = shown["invoiceNow"], shown["nextInvoice"]
    assert sum(line["amount"] for line in following["lines"]) == following["total"]
    recurring = amounts[1] * quantities[1]
    if invoice_now is None:
        assert following["total"] == recurring + shown["prorationAmount"]
        assert shown["amountDueNow"] == 0
    else:
        assert invoice_now["total"] == shown["prorationAmount"]
        assert shown["amountDueNow"] == max(0, shown["prorationAmount"])
        left = min(0, shown["prorationAmount"])
        assert following["amountDue"] == max(0, recurring + left)
    mine.changed("change", **body, prorationDate=shown["prorationDate"])
    if invoice_now is not None:
        assert latest_invoice(mine)["amount_due"] == shown["amountDueNow"]
