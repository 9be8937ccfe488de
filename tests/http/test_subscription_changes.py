"""Users, servers and operators change subscriptions: the new state is in the response and in the
mirror."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from api import Api, metered
from http_tokens import ADMIN_KEY, USER, token
from subscribers import POLICIES, Subscriber, advance, events, price, subscribe


@pytest.fixture
def mine(api: Api) -> Subscriber:
    """A user who may change their subscription."""
    api.books.execute(POLICIES)
    return subscribe(api, price(api), quantity=3)


def prices_of(subscription: dict[str, Any]) -> list[tuple[str, int]]:
    return [(item["priceId"], item["quantity"]) for item in subscription["items"]]


def test_a_user_changes_the_plan_and_keeps_the_quantity(api: Api, mine: Subscriber) -> None:
    bigger = price(api, 3000)
    changed = mine.response("change", priceId=bigger)
    assert prices_of(changed["subscription"]) == [(bigger, 3)]
    assert changed["paymentAction"] is None
    item = mine.item()
    assert (item["price"]["id"], item["quantity"]) == (bigger, 3)


def test_a_plan_is_named_by_its_lookup_key(api: Api, mine: Subscriber) -> None:
    yearly = price(api, 15_000, "year", lookup_key="team_yearly")
    assert prices_of(mine.changed("change", lookupKey="team_yearly", quantity=2)) == [(yearly, 2)]
    refused = mine.send("change", lookupKey="team_weekly")
    assert refused.status_code == 400
    assert refused.json()["message"].startswith("lookupKey: no active price has the lookup key")


def test_a_user_changes_the_quantity(mine: Subscriber) -> None:
    ((price_id, _),) = prices_of(mine.mirrored())
    assert prices_of(mine.changed("change", quantity=7)) == [(price_id, 7)]


def test_a_metered_price_gets_no_quantity(api: Api, mine: Subscriber) -> None:
    used = price(api, recurring=metered(api))
    (item,) = mine.changed("change", priceId=used)["items"]
    assert (item["priceId"], item["quantity"]) == (used, None)
    licensed = price(api)
    assert prices_of(mine.changed("change", priceId=licensed, quantity=2)) == [(licensed, 2)]


def test_a_price_that_is_not_mirrored_yet_can_be_chosen(api: Api, mine: Subscriber) -> None:
    new = price(api)
    api.books.execute("DELETE FROM payments.stripe_prices")
    assert prices_of(mine.changed("change", priceId=new)) == [(new, 3)]
    unknown = mine.send("change", priceId="price_nowhere")
    assert (unknown.status_code, unknown.json()["error"]) == (404, "UPSTREAM_FAILURE")


def test_of_several_items_one_must_be_named(api: Api) -> None:
    api.books.execute(POLICIES)
    plan, seats, more = price(api), price(api, 500), price(api, 600)
    mine = subscribe(api, plan, seats)
    items = {item["priceId"]: item["subscriptionItemId"] for item in mine.mirrored()["items"]}
    refused = mine.send("change", quantity=2)
    assert refused.status_code == 400
    assert refused.json()["message"].startswith("subscriptionItemId: is required")
    assert items[seats] in refused.json()["nextActions"]
    wrong = mine.send("change", quantity=2, subscriptionItemId="si_of_another")
    assert (wrong.status_code, items[plan] in wrong.json()["nextActions"]) == (400, True)
    changed = mine.changed("change", priceId=more, subscriptionItemId=items[seats])
    assert sorted(prices_of(changed)) == sorted([(plan, 1), (more, 1)])


def test_items_beyond_the_first_page_are_changed_and_shown(api: Api) -> None:
    api.books.execute(POLICIES)
    prices = [price(api, 100 + number) for number in range(13)]
    mine = subscribe(api, *prices)
    shown = mine.at_stripe()["items"]
    assert (len(shown["data"]), shown["has_more"]) == (10, True)
    last = next(
        item["id"]
        for item in api.stripe.v1.subscription_items.list(
            {"subscription": mine.id, "limit": 100}
        ).data
        if item["price"]["id"] == prices[-1]
    )
    changed = mine.changed("change", quantity=5, subscriptionItemId=last)
    assert len(changed["items"]) == 13
    assert dict(prices_of(changed))[prices[-1]] == 5


def test_canceling_keeps_what_has_been_paid_for(mine: Subscriber) -> None:
    canceled = mine.changed("cancel", comment="too many emails", feedback="too_complex")
    assert (canceled["status"], canceled["cancelAtPeriodEnd"]) == ("active", True)
    assert canceled["endsAt"] == canceled["currentPeriodEnd"]
    details = mine.at_stripe()["cancellation_details"]
    assert (details["comment"], details["feedback"]) == ("too many emails", "too_complex")
    again = mine.changed("cancel")
    assert again["canceledAt"] == canceled["canceledAt"]


def test_canceling_now_is_final_and_safe_to_repeat(mine: Subscriber) -> None:
    details = {"comment": "moving on", "feedback": "switched_service"}
    canceled = mine.changed("cancel", atPeriodEnd=False, **details)
    assert canceled["status"] == "canceled"
    found = mine.at_stripe()["cancellation_details"]
    assert {name: found[name] for name in details} == details
    assert mine.changed("cancel", atPeriodEnd=False)["status"] == "canceled"
    resumed = mine.send("resume")
    assert (resumed.status_code, resumed.json()["error"]) == (400, "INVALID_INPUT")
    assert "has ended" in resumed.json()["message"]
    assert mine.send("change", quantity=2).status_code == 400


def test_resuming_undoes_a_scheduled_cancellation_and_a_pause(api: Api, mine: Subscriber) -> None:
    mine.changed("cancel")
    mine.changed("pause", behavior="void")
    resumed = mine.changed("resume")
    assert (resumed["endsAt"], resumed["pauseCollection"]) == (None, None)
    assert resumed["cancelAtPeriodEnd"] is False
    # As Stripe's portal does it with flexible billing.
    end = mine.item()["current_period_end"]
    api.stripe.v1.subscriptions.update(mine.id, {"cancel_at": end})
    assert mine.changed("resume")["cancelAt"] is None
    assert mine.at_stripe()["cancel_at"] is None
    number = len(events(api, mine.id))
    assert mine.changed("resume") == mine.mirrored()
    assert len(events(api, mine.id)) == number, "nothing was in the way"


def test_a_pause_ends_when_it_should(mine: Subscriber) -> None:
    paused = mine.changed("pause", behavior="keep_as_draft", resumesAt="2030-05-01T12:00:00+02:00")
    assert paused["pauseCollection"] == {
        "behavior": "keep_as_draft",
        "resumesAt": "2030-05-01T10:00:00.000Z",
    }
    at = mine.at_stripe()["pause_collection"]["resumes_at"]
    assert datetime.fromtimestamp(at, UTC) == datetime(2030, 5, 1, 10, tzinfo=UTC)
    assert mine.changed("pause", behavior="mark_uncollectible")["pauseCollection"] == {
        "behavior": "mark_uncollectible",
        "resumesAt": None,
    }


def test_a_subscription_paused_after_its_trial_starts_a_paid_period(api: Api) -> None:
    api.books.execute(POLICIES)
    pausing = {"end_behavior": {"missing_payment_method": "pause"}}
    plan = price(api)
    clock = api.stripe.v1.test_helpers.test_clocks.create({"frozen_time": 1_900_000_000}).id
    customer = str(api.stripe.v1.customers.create({"test_clock": clock}).id)
    trial: Any = {
        "customer": customer,
        "items": [{"price": plan}],
        "trial_period_days": 3,
        "trial_settings": pausing,
        "metadata": {"insforge_subject_type": "user", "insforge_subject_id": USER},
    }
    made = api.stripe.v1.subscriptions.create(trial)
    advance(api, clock, 1_900_000_000 + 3 * 86_400 + 60)
    mine = Subscriber(api, made.id, customer)
    for each in events(api, made.id):
        assert api.deliver(each).status_code == 200
    assert mine.mirrored()["status"] == "paused"
    api.stripe.v1.payment_methods.attach("pm_card_visa", {"customer": customer})
    (card,) = api.stripe.v1.payment_methods.list({"customer": customer}).data
    api.stripe.v1.customers.update(
        customer, {"invoice_settings": {"default_payment_method": card.id}}
    )
    assert mine.changed("resume")["status"] == "active"
    invoice = mine.at_stripe()["latest_invoice"]
    assert api.stripe.v1.invoices.retrieve(invoice).amount_paid == 1500


def test_a_server_changes_any_subscription_as_itself(api: Api) -> None:
    """Without any policy."""
    team = subscribe(api, price(api), subject={"type": "team", "id": "t_1"}, sender=ADMIN_KEY)
    assert prices_of(team.changed("change", quantity=4))[0][1] == 4
    assert team.changed("cancel")["cancelAtPeriodEnd"] is True
    admin = token(role="project_admin")
    assert team.changed("resume", admin)["cancelAtPeriodEnd"] is False
    assert team.changed("pause", admin, behavior="void")["pauseCollection"] is not None


def test_a_subscription_that_nobody_has_is_not_found(api: Api, mine: Subscriber) -> None:
    nowhere = Subscriber(api, "sub_nowhere", mine.customer)
    for sender in (token(), ADMIN_KEY):
        for operation, body in (
            ("preview", {"quantity": 2}),
            ("change", {"quantity": 2}),
            ("cancel", {}),
            ("cancel", {"atPeriodEnd": False}),
            ("resume", {}),
            ("pause", {"behavior": "void"}),
        ):
            refused = nowhere.send(operation, sender, **body)
            assert (refused.status_code, refused.json()["error"]) == (404, "PAYMENT_NOT_FOUND")


def test_one_that_is_not_mirrored_yet_is_changed_by_the_server(api: Api) -> None:
    team = subscribe(api, price(api), sender=ADMIN_KEY)
    api.books.execute("DELETE FROM payments.stripe_subscriptions")
    assert team.changed("change", quantity=2)["subjectType"] == "user"


@pytest.mark.parametrize(
    ("operation", "body", "problem"),
    [
        ("change", {}, "body: must have a priceId, a lookupKey or a quantity"),
        ("change", {"quantity": 0}, "quantity: must be greater than or equal to 1"),
        ("change", {"priceId": "a", "lookupKey": "b"}, "body: must have either"),
        ("change", {"quantity": None}, "quantity: must not be null"),
        ("change", {"quantity": 1, "prorationBehavior": "sometimes"}, "prorationBehavior: "),
        ("change", {"quantity": 1, "prorationDate": 1}, "prorationDate: must be a time"),
        ("change", {"quantity": 1, "metadata": {}}, "metadata: is not a known field"),
        ("preview", {"quantity": 1, "paymentBehavior": "later"}, "paymentBehavior: "),
        ("cancel", {"atPeriodEnd": "no"}, "atPeriodEnd: must be true or false"),
        ("cancel", {"feedback": "rude"}, "feedback: "),
        ("cancel", {"comment": ""}, "comment: "),
        ("resume", {"now": True}, "now: is not a known field"),
        ("pause", {}, "behavior: is required"),
        ("pause", {"behavior": "void", "resumesAt": "tomorrow"}, "resumesAt: must be a time"),
        ("pause", {"behavior": "void", "idempotencyKey": ""}, "idempotencyKey: "),
    ],
)
def test_what_makes_no_sense_is_refused(
    shared_api: Api, operation: str, body: dict[str, Any], problem: str
) -> None:
    refused = Subscriber(shared_api, "sub_1", "cus_1", ADMIN_KEY).send(operation, **body)
    assert (refused.status_code, refused.json()["error"]) == (400, "INVALID_INPUT")
    assert refused.json()["message"].startswith(problem)
