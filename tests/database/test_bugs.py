"""What an event that Billhook itself stumbles over does to others: nothing."""

from __future__ import annotations

from typing import Any

import pytest

from billhook import projections
from billhook.ledger import EventNotApplied, Ledger
from billhook.ledger.replaying import replay
from billhook.mirror.rebuild import rebuild
from billhook.models import RebuildOrder
from billhook.projections.changes import NOTHING, Changes, Event
from billhook.reducers import reduce
from billhook.reducers.reduce import State, reduce_event
from books import WIPE, Books
from stripe_events import T0, charge, event, payment_intent, refund, session, subject, subscription

MOST = 2**63 - 1
BUGGY = "charge.refunded"


def products() -> list[dict[str, Any]]:
    product = {"object": "product", "name": "Tea", "active": True, "metadata": {}, "created": T0}
    return [event("product.updated", {"id": f"prod_{n}", **product}) for n in range(5)]


def failing(reading: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Billhook have a bug: in reading events of one type, or in applying them."""

    def read(event: Event) -> Changes:
        raise RecursionError

    def applied(state: State, event: Event, changes: Changes, number: int) -> bool:
        if event.type == BUGGY and changes != NOTHING:
            raise KeyError(event.id)
        return reduce_event(state, event, changes, number)

    if reading:
        monkeypatch.setitem(projections._PROJECTIONS, BUGGY, read)
    else:
        monkeypatch.setattr(reduce, "reduce_event", applied)


@pytest.mark.parametrize("reading", [True, False])
def test_an_event_that_meets_a_bug_is_recorded_as_failed_and_the_others_are_applied(
    books: Books, monkeypatch: pytest.MonkeyPatch, reading: bool
) -> None:
    failing(reading, monkeypatch)
    bad = event(BUGGY, charge(amount_refunded=500), id="evt_bad")
    answers = books.apply_at_once([[each] for each in [*products(), bad]])
    assert isinstance(answers[-1], EventNotApplied)
    assert [each["processing_status"] for each in answers[:-1]] == ["processed"] * 5
    (failed,) = books.rows(
        "SELECT provider_event_id AS id, last_error FROM payments.webhook_events "
        "WHERE processing_status = 'failed'"
    )
    assert failed["id"] == "evt_bad"
    assert "please report this" in failed["last_error"]


@pytest.mark.parametrize("reading", [True, False])
def test_a_rebuild_skips_an_event_that_meets_a_bug_and_names_it(
    books: Books, monkeypatch: pytest.MonkeyPatch, reading: bool
) -> None:
    books.apply(*products(), event(BUGGY, charge(amount_refunded=500), id="evt_bad"))
    failing(reading, monkeypatch)
    result = books.run(lambda database: rebuild(database, "test", RebuildOrder()))
    assert [each.event_id for each in result.skipped] == ["evt_bad"]
    assert result.events == 5


def test_a_replay_that_meets_a_bug_leaves_the_event_as_it_was(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    books.apply(event(BUGGY, charge(amount_refunded=500), id="evt_bad"))
    failing(False, monkeypatch)
    with pytest.raises(EventNotApplied, match="stays as it was"):
        books.run(lambda database: replay(Ledger(database), "test", "evt_bad", refire=False))


def test_a_charge_of_the_largest_amounts_is_processed(books: Books) -> None:
    odd = charge(amount=-MOST, amount_captured=MOST, amount_refunded=MOST)
    (answer,) = books.apply(event("charge.refunded", odd))
    assert answer["processing_status"] == "processed"


def test_a_refund_of_an_odd_status_is_pending(books: Books) -> None:
    books.apply(event("refund.updated", refund(status=["succeeded"])))
    assert books.row("SELECT status FROM payments.transactions") == {"status": "pending"}


def test_a_transaction_that_billhook_did_not_write_holds_up_nothing(books: Books) -> None:
    books.execute(
        """INSERT INTO payments.transactions (provider, environment, type, status,
            provider_customer_id, provider_object_type, provider_object_id, amount, currency)
        VALUES ('stripe', 'test', 'one_time_payment', 'succeeded', 'cus_1', 'charge', 'ch_old',
            100, 'eur')"""
    )
    paid = session(metadata={"insforge_checkout_mode": "payment", **subject("team", "t1")})
    (answer,) = books.apply(event("checkout.session.completed", paid))
    assert answer["processing_status"] == "processed"


def test_a_subscription_has_its_customers_subject_however_its_events_are_batched(
    books: Books,
) -> None:
    bought = session(
        mode="subscription",
        payment_intent=None,
        subscription="sub_1",
        metadata={"insforge_checkout_mode": "subscription", **subject("team", "A")},
    )
    shown = event("customer.subscription.updated", subscription(), at=5, id="evt_9")
    lost = event("customer.subscription.updated", subscription(status="past_due"), at=5, id="evt_1")
    paid = event("checkout.session.completed", bought, at=3, id="evt_5")
    books.apply_in_batches([shown, lost, paid], [1, 2])
    row = books.row("SELECT subject_id FROM payments.stripe_subscriptions")
    assert row == {"subject_id": "A"}


def test_a_late_payment_of_a_checkout_does_not_move_its_claim(books: Books) -> None:
    def checkout(name: str, team: str, **more: Any) -> dict[str, Any]:
        metadata = {"insforge_checkout_mode": "payment", **subject("team", team)}
        return session(name, metadata=metadata, payment_intent=None, **more)

    paid, unpaid = checkout("cs_a", "A"), checkout("cs_b", "B", payment_status="unpaid")
    events = [
        event("checkout.session.completed", paid, at=0),
        event("checkout.session.completed", unpaid, at=10),
        event("payment_intent.succeeded", payment_intent("pi_c", metadata={}), at=20),
        event("checkout.session.async_payment_succeeded", checkout("cs_b", "B"), at=1000),
    ]
    named = "SELECT subject_id FROM payments.transactions WHERE provider_object_id = 'pi_c'"
    books.apply(*events)
    assert books.row(named) == {"subject_id": "B"}
    books.execute(WIPE)
    books.apply(*reversed(events))
    assert books.row(named) == {"subject_id": "B"}
