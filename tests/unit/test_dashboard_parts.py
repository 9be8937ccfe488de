"""The dashboard's pure parts: the chart, links into Stripe's dashboard, times and states."""

from __future__ import annotations

import hashlib
import json
import re
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billhook.dashboard import chart, figures
from billhook.dashboard.links import StripeLinks, page_of
from billhook.dashboard.pages import exports
from billhook.dashboard.rendering import STATIC, ago, capped, moment, since, tone
from billhook.models import (
    Business,
    BusinessOfCurrency,
    Flow,
    FlowOfBucket,
    NewCustomers,
)
from billhook.reports.lists.labels import ItemLabel, SubscriptionLabel


@pytest.mark.parametrize(
    ("text", "exported"),
    [
        ("=1+1", "'=1+1"),
        ("＝1+1", "'＝1+1"),
        ("＋1", "'＋1"),
        ("－1", "'－1"),
        ("＠SUM(A1)", "'＠SUM(A1)"),
        ("  =1+1", "'  =1+1"),
        ("\t=1", "'\t'=1"),
        ("Tea;=HYPERLINK(evil)", "Tea;'=HYPERLINK(evil)"),
        ("Tea; ＝1", "Tea;' ＝1"),
        ("Tea\n@x", "Tea\n'@x"),
        ("a@b.test", "a@b.test"),
        ("Tea - green; 1+1=2", "Tea - green; 1+1=2"),
        ("", ""),
        (None, ""),
    ],
)
def test_an_exported_text_is_a_formula_in_no_spreadsheet(text: str | None, exported: str) -> None:
    assert exports.text(text) == exported


AMOUNTS = st.integers(-(10**14), 10**14)  # a hand may have written anything


def parts(days: list[tuple[int, int]]) -> list[FlowOfBucket]:
    first = date(2026, 1, 1)
    return [
        FlowOfBucket(since=day, until=day, payments=paid, refunds=back)
        for day, (paid, back) in ((first + timedelta(days=n), each) for n, each in enumerate(days))
    ]


@given(
    st.lists(st.tuples(AMOUNTS, AMOUNTS), min_size=1, max_size=366),
    st.lists(st.tuples(AMOUNTS, AMOUNTS), max_size=366),
)
def test_everything_stays_within_the_chart(
    days: list[tuple[int, int]], before: list[tuple[int, int]]
) -> None:
    drawn = chart.revenue(parts(days), parts(before), "eur")
    assert len(drawn.slots) == len(days)
    for each in drawn.shapes:
        for bar in each.bars:
            assert 0 <= bar.y <= drawn.baseline
            assert 0 <= bar.height <= drawn.baseline
            assert drawn.left <= bar.x
            assert bar.x + bar.width <= drawn.width
        for point in each.points.split():
            x, y = map(float, point.split(","))
            assert drawn.left <= x <= drawn.width
            assert 0 <= y <= drawn.baseline
    assert all(0 <= row.at <= drawn.height for row in drawn.rows)
    assert len({row.text for row in drawn.rows}) == len(drawn.rows)


def test_a_part_says_its_money_and_that_of_the_part_before() -> None:
    drawn = chart.revenue(parts([(150000, 0), (0, 2500)]), parts([(700, 100)]), "eur")
    assert [slot.title for slot in drawn.slots] == [
        "1 Jan: 1,500.00 EUR paid\n1 Jan: 7.00 EUR paid",
        "2 Jan: 0.00 EUR paid, 25.00 EUR refunded",
    ]
    paid, refunds, before = drawn.shapes
    assert (len(paid.bars), len(refunds.bars), len(before.points.split())) == (1, 1, 1)


def test_a_week_says_its_first_and_last_day() -> None:
    week = FlowOfBucket(since=date(2026, 5, 4), until=date(2026, 5, 10), mrr_end=100)
    (slot,) = chart.recurring([week], [], "eur").slots
    assert slot.title == "4 May to 10 May: 1.00 EUR MRR"


def test_a_script_draws_the_same_data() -> None:
    data = json.loads(chart.revenue(parts([(150000, 0), (0, 2500)]), parts([(700, 0)]), "eur").data)
    assert [(each["name"], each["amounts"]) for each in data["series"]] == [
        ("payments", [150000, 0]),
        ("refunds", [0, 2500]),
        ("before", [700, None]),
    ]
    assert data["rows"][-1][0] >= 150000


@pytest.mark.parametrize("folder", ["fonts", "uplot"])
def test_the_files_of_others_are_those_that_were_published(folder: str) -> None:
    where = STATIC / folder
    pinned = re.findall(r"`([0-9a-f]{64})`", (where / "README.md").read_text())
    files = [each for each in where.iterdir() if each.name not in ("README.md", "LICENSE")]
    assert sorted(hashlib.sha256(each.read_bytes()).hexdigest() for each in files) == sorted(pinned)


def business(now: Flow, before: Flow) -> tuple[Business, BusinessOfCurrency]:
    of = BusinessOfCurrency(
        currency="eur", total=now, previous=before, buckets=[], previous_buckets=[]
    )
    return Business(
        environment="test",
        period="30d",
        since=date(2026, 5, 1),
        until=date(2026, 5, 30),
        previous_since=date(2026, 4, 1),
        previous_until=date(2026, 4, 30),
        bucket="day",
        currencies=[of],
        new_customers=NewCustomers(total=3, previous=0, buckets=[], previous_buckets=[]),
        subscriptions={},
        trialing_customers=2,
    ), of


@pytest.mark.parametrize(
    ("name", "now", "before", "change"),
    [
        ("Net volume", 1500, 1000, figures.Change("up", "50%", "10.00 EUR", True)),
        ("Net volume", 500, 1000, figures.Change("down", "50%", "10.00 EUR", False)),
        ("Net volume", 500, -1000, figures.Change("up", "150%", "-10.00 EUR", True)),
        ("Net volume", 500, 0, figures.Change("up", None, "0.00 EUR", True)),
        ("Net volume", 500, 500, figures.Change("same", None, "5.00 EUR", None)),
    ],
)
def test_a_figure_says_how_it_compares(
    name: str, now: int, before: int, change: figures.Change
) -> None:
    tiles = figures.of_payments(*business(Flow(net_volume=now), Flow(net_volume=before)))
    assert next(each for each in tiles if each.name == name).change == change


@pytest.mark.parametrize(("day", "linked"), [(30, True), (31, False)])
def test_mrr_links_to_what_is_paid_for_now_only_while_the_period_runs(
    day: int, linked: bool
) -> None:
    at = datetime(2026, 5, day, 12, tzinfo=UTC)
    tiles = figures.of_subscriptions(*business(Flow(mrr_end=900), Flow()), at)
    mrr = next(each for each in tiles if each.name == "MRR")
    assert (mrr.path is not None) is linked


def test_more_failures_are_worse() -> None:
    tiles = figures.of_payments(*business(Flow(failed=3), Flow(failed=2)))
    failed = next(each for each in tiles if each.name == "Failed payments")
    assert failed.change == figures.Change("up", "50%", "2", False)
    assert failed.path == (
        "/transactions?figure=failed&currency=eur&since=2026-05-01&until=2026-05-31"
    )


@pytest.mark.parametrize(
    ("object_id", "environment", "url"),
    [
        ("pi_1", "test", "https://dashboard.stripe.com/test/payments/pi_1"),
        ("sub_1", "live", "https://dashboard.stripe.com/subscriptions/sub_1"),
        ("price_1", "live", "https://dashboard.stripe.com/prices/price_1"),
        ("cus_a/../b", "test", "https://dashboard.stripe.com/test/customers/cus_a%2F..%2Fb"),
        ("cs_test_1", "test", None),
        ("legacy-plan", "test", None),
        ("pi_1", None, None),
        (None, "test", None),
    ],
)
def test_what_stripe_shows_is_linked(
    object_id: str | None, environment: str | None, url: str | None
) -> None:
    assert StripeLinks(environment).of(object_id) == url  # type: ignore[arg-type]


def test_a_time_is_told_in_utc_until_the_script_knows_better() -> None:
    at = datetime(2026, 5, 12, 22, 41, 7, tzinfo=UTC)
    assert moment(at) == (
        '<time datetime="2026-05-12T22:41:07.000Z" title="2026-05-12 22:41:07 UTC">'
        "12 May 2026, 22:41 UTC</time>"
    )
    assert moment(None) == ""


def test_a_time_of_a_list_is_told_as_how_long_ago() -> None:
    at = datetime(2026, 5, 12, 22, 41, 7, tzinfo=UTC)
    assert since(at) == str(moment(at)).replace(' UTC">', ' UTC" data-ago>', 1)


@pytest.mark.parametrize(
    ("object_id", "page"),
    [
        ("pi_1", "/transactions/pi_1"),
        ("cs_test_1", "/transactions/cs_test_1"),
        ("in_1", "/invoices/in_1"),
        ("du_1", "/disputes/du_1"),
        ("cus_a/b", "/customers/cus_a%2Fb"),
        ("prod_", None),
        ("legacy-plan", None),
        (None, None),
    ],
)
def test_an_object_has_its_page(object_id: str | None, page: str | None) -> None:
    assert page_of(object_id) == page


@pytest.mark.parametrize(("number", "said"), [(0, "0"), (1_000, "1,000"), (1_001, "1,000+")])
def test_rows_are_counted_up_to_a_thousand(number: int, said: str) -> None:
    assert capped(number) == said


def item(amount: int | None, interval: str, every: int = 1, units: int | None = 1) -> ItemLabel:
    return ItemLabel("Plan", units, amount, None, "eur", interval, every, "per_unit", metered=False)


@pytest.mark.parametrize(
    ("items", "monthly"),
    [
        ([item(2900, "month")], 2900),
        ([item(2900, "month", units=3)], 8700),
        ([item(2900, "month", units=None)], 2900),
        ([item(12_000, "year")], 1000),
        ([item(3000, "month", every=3)], 1000),
        ([item(1200, "week")], 5200),
        ([item(365, "day")], 11_102),
        ([item(2900, "month"), item(12_000, "year")], 3900),
        ([item(None, "month")], None),
        ([item(2900, "month"), item(None, "month")], None),
        ([], None),
    ],
)
def test_a_subscription_has_a_monthly_value(items: list[ItemLabel], monthly: int | None) -> None:
    assert SubscriptionLabel(items=tuple(items)).monthly == monthly


def test_states_say_how_good_they_are() -> None:
    assert [tone(each) for each in ("succeeded", "past_due", "failed", "refunded", None)] == [
        "good", "wait", "bad", "quiet", "quiet",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 seconds"), (1, "1 second"), (119, "119 seconds"), (120, "2 minutes"),
     (90_000, "25 hours"), (200_000, "2 days")],
)  # fmt: skip
def test_a_span_is_told_roughly(seconds: int, said: str) -> None:
    assert ago(seconds) == said
