"""A payment that InsForge recorded, and its refunds: each counts once, whatever the row knew."""

from __future__ import annotations

import asyncio
from itertools import permutations
from typing import Any

import pytest

import insforge
from billhook.postgres.migrate import migrate
from books import Books
from stripe_events import T0, charge, event, payment_intent, refund

ROW = """
    INSERT INTO payments.transactions
        (provider, environment, type, status, provider_object_type, provider_object_id, amount,
         amount_refunded, currency, paid_at, refunded_at, provider_created_at, related_object_ids)
    VALUES ('stripe', 'test', '{type}', '{status}', '{kind}', '{id}', {amount}, {refunded}, 'eur',
        to_timestamp({paid}), to_timestamp({refunded_at}), to_timestamp({paid}), '{related}');
"""


def adopted(url: str, related: str, *refunds: str) -> Books:
    """A payment of 15.00 of which 5.00 were refunded, and the rows of its refunds, adopted."""
    books = Books(url)
    insforge.make_payments(books)
    paid = {"type": "one_time_payment", "status": "partially_refunded", "kind": "payment_intent"}
    at = {"paid": T0, "refunded_at": T0 + 50}
    books.execute(ROW.format(**paid, **at, id="pi_1", amount=1500, refunded=500, related=related))
    given_back = {"type": "refund", "status": "refunded", "kind": "refund", "id": "re_1"}
    for each in refunds:
        at = {"paid": T0 + 60, "refunded_at": T0 + 60}
        books.execute(ROW.format(**given_back, **at, amount=500, refunded=500, related=each))
    asyncio.run(migrate(url))
    return books


def refunded(books: Books) -> tuple[int, str]:
    row = books.row(
        "SELECT amount_refunded, status FROM payments.transactions WHERE type <> 'refund'"
    )
    return row["amount_refunded"], row["status"]


NEXT = (
    event("refund.created", refund("re_2", amount=400, created=T0 + 300), at=300),
    event("charge.refunded", charge(amount_refunded=900), at=301),
)
OF_CHARGE = '{"payment_intent": "pi_1", "charge": "ch_1"}'
OF_INTENT = '{"payment_intent": "pi_1"}'


@pytest.mark.parametrize("told", [NEXT, NEXT[::-1], NEXT[:1], NEXT[1:]])
@pytest.mark.parametrize(
    ("related", "refunds"),
    [
        (OF_INTENT, []),
        (OF_INTENT, [OF_INTENT]),
        (OF_INTENT, [OF_CHARGE]),
        (OF_CHARGE, []),
        (OF_CHARGE, [OF_INTENT]),
    ],
)
@pytest.mark.sampled(4)
def test_the_next_refund_of_an_adopted_payment_is_added_once(
    empty_database_url: str, related: str, refunds: list[str], told: tuple[dict[str, Any], ...]
) -> None:
    books = adopted(empty_database_url, related, *refunds)
    books.apply(*told)
    assert refunded(books) == (900, "partially_refunded")


@pytest.mark.parametrize("related", [OF_INTENT, OF_CHARGE])
def test_an_earlier_refund_of_an_adopted_payment_that_is_told_again_is_not_added(
    empty_database_url: str, related: str
) -> None:
    books = adopted(empty_database_url, related)
    books.apply(event("refund.updated", refund("re_1", amount=500, created=T0 + 50), at=400))
    assert refunded(books) == (500, "partially_refunded")
    books.apply(event("charge.refunded", charge(amount_refunded=500), at=401))
    assert refunded(books) == (500, "partially_refunded")


def test_a_refund_that_names_its_payment_only_later_is_counted(books: Books) -> None:
    nameless = refund(payment_intent=None, charge=None, status="pending")
    named = refund(amount=1500)
    told = [
        event("refund.created", nameless, at=10),
        event("refund.updated", named, at=20),
        event("payment_intent.succeeded", payment_intent(), at=5),
    ]
    for order in permutations(told):
        answers = books.apply(*order)
        assert not [each for each in answers if isinstance(each, Exception)]
        assert refunded(books) == (1500, "refunded")
        assert len(books.rows("SELECT 1 FROM payments.transactions")) == 2
        books.execute(
            "TRUNCATE payments.transactions, payments.webhook_events, billhook.payment_refs, "
            "billhook.payment_sources, billhook.payment_refunds"
        )
