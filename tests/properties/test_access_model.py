"""`payments.has_access` and the view agree with a plain model of subscriptions on who has access:
for random lives, in random batches, in any order."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from billhook.postgres import Database
from books import WIPE, Books
from depth import by_depth
from stripe_events import (
    entitlements,
    event,
    invoice,
    price,
    product,
    session,
    subject,
    subscription,
)

DAY = 86_400
NOW = int(time.time())
"""When the test began: what ends "soon" or ended "lately" is days away from it."""
PRICES = ("price_1", "price_2", "price_3")
"""The first two are of one product."""
FEATURES = ("chat", "search")
GRACES = (0, 3, 30)
WHAT = (*PRICES, "prod_1", "prod_2", "monthly", "pro", *FEATURES, "nothing")
CATALOG = [
    event("product.created", product("prod_1", metadata={"lookup_key": "pro"})),
    event("product.created", product("prod_2")),
    event("price.created", price("price_1", lookup_key="monthly")),
    event("price.created", price("price_2")),
    event("price.created", price("price_3", product="prod_2")),
]
NAMES_OF = {
    "price_1": {"price_1", "prod_1", "monthly", "pro"},
    "price_2": {"price_2", "prod_1", "pro"},
    "price_3": {"price_3", "prod_2"},
}


@dataclass(frozen=True)
class State:
    """One state of a subscription."""

    status: str
    items: tuple[tuple[str, int], ...]
    cancel_in: int | None
    period_began: int
    named: str | None


@dataclass
class Life:
    """What happens to one customer, and what is left of it.

    Attributes:
        checkouts: the teams that it has paid for, by time.
        summaries: the features that it was entitled to, one after the other.
        unpaid: days for which an invoice of its subscription has been due.
    """

    number: int
    states: list[State]
    checkouts: list[str]
    summaries: list[tuple[str, ...]]
    unpaid: int | None
    events: list[dict[str, Any]] = field(default_factory=list)

    @property
    def last(self) -> State:
        return self.states[-1]

    def team_at(self, at: int) -> str:
        """The team of the newest checkout until then, else of the first."""
        until = [n for n in range(len(self.checkouts)) if self.checkout_at(n) <= at]
        return self.checkouts[max(until, default=0)]

    def checkout_at(self, n: int) -> int:
        return 5 + 20 * n

    def state_at(self, n: int) -> int:
        return 10 * (n + 1)

    @property
    def subscription_team(self) -> str:
        return self.last.named or self.team_at(self.state_at(len(self.states) - 1))

    def counts(self, grace: int) -> bool:
        """Whether the subscription gives access now, with so many days of grace."""
        state = self.last
        if state.cancel_in is not None and state.cancel_in <= 0:
            return False
        if state.status == "past_due":
            since = state.period_began if self.unpaid is None else self.unpaid
            return since < grace
        return state.status in ("active", "trialing")


STATUSES = ("active", "active", "trialing", "past_due", "past_due", "canceled", "unpaid", "paused")
# Half days: never at the edge of a grace.
ago = st.sampled_from([0.5, 1.5, 10.5, 40.5])
states = st.builds(
    State,
    status=st.sampled_from((*STATUSES, "incomplete", "incomplete_expired")),
    items=st.lists(
        st.tuples(st.sampled_from(PRICES), st.integers(0, 9)), min_size=1, max_size=3
    ).map(tuple),
    cancel_in=st.sampled_from([None, None, None, -1, 2]),
    period_began=ago,
    named=st.sampled_from([None, None, "shared"]),
)
lives = st.lists(
    st.tuples(
        st.lists(states, min_size=1, max_size=4),
        st.integers(1, 3),
        st.lists(st.lists(st.sampled_from(FEATURES), unique=True).map(tuple), max_size=3),
        st.none() | ago,
    ),
    min_size=1,
    max_size=3,
)


def life_of(number: int, drawn: Any) -> Life:
    those, checkouts, summaries, unpaid = drawn
    # Each customer has teams of its own: who wins a team is the business of other tests.
    teams = [f"t{number}_{n % 2}" for n in range(checkouts)]
    life = Life(number, those, teams, summaries, unpaid)
    who = {"customer": f"cus_{number}"}
    for n, team in enumerate(teams):
        paid = session(f"cs_{number}_{n}", metadata=subject(name=team), payment_intent=None, **who)
        life.events.append(event("checkout.session.completed", paid, at=life.checkout_at(n)))
    for n, state in enumerate(those):
        life.events.append(
            event(
                "customer.subscription.updated",
                subscription_of(number, state),
                at=life.state_at(n),
            )
        )
    for n, keys in enumerate(summaries):
        life.events.append(
            event(
                "entitlements.active_entitlement_summary.updated",
                entitlements(*keys, customer=f"cus_{number}"),
                at=7 * (n + 1),
            )
        )
    of = {"parent": {"subscription_details": {"subscription": f"sub_{number}"}}, **who}
    paid = invoice(f"in_{number}_paid", created=NOW - 90 * DAY, **of)
    life.events.append(event("invoice.updated", paid, at=3))
    if unpaid is not None:
        late = {"created": NOW - int(unpaid * DAY), "status": "open", **of}
        life.events.append(event("invoice.updated", invoice(f"in_{number}", **late), at=4))
    return life


def subscription_of(number: int, state: State) -> dict[str, Any]:
    began = NOW - int(state.period_began * DAY)
    items = [
        {
            "id": f"si_{number}_{n}",
            "object": "subscription_item",
            "price": {"id": each, "product": "prod_2" if each == "price_3" else "prod_1"},
            "quantity": quantity,
            "metadata": {},
            "current_period_start": began,
            "current_period_end": began + 45 * DAY,
        }
        for n, (each, quantity) in enumerate(state.items)
    ]
    cancel_at = None if state.cancel_in is None else NOW + state.cancel_in * DAY
    return subscription(
        f"sub_{number}",
        customer=f"cus_{number}",
        status=state.status,
        cancel_at=cancel_at,
        metadata=subject(name=state.named) if state.named else {},
        items={"object": "list", "data": items, "has_more": False},
    )


def expected(lives: list[Life], team: str, what: str, grace: int) -> int | None:
    """The quantity; None without access."""
    quantities = [
        quantity
        for life in lives
        if life.subscription_team == team and life.counts(grace)
        for each, quantity in life.last.items
        if what in NAMES_OF[each]
    ]
    if quantities:
        return sum(quantities)
    entitled = any(
        life.checkouts[-1] == team and life.summaries and what in life.summaries[-1]
        for life in lives
    )
    return 0 if entitled else None


ASK = """
SELECT team, what, grace, payments.access_quantity(
        'team', team, what, grace => make_interval(days => grace)) AS quantity,
    payments.has_access('team', team, what, grace => make_interval(days => grace)) AS has
FROM unnest($1::text[]) AS team, unnest($2::text[]) AS what, unnest($3::int[]) AS grace
"""
SHOWN = """
SELECT subject_id AS team, price_id AS price, quantity FROM payments.active_subscriptions
WHERE subject_type = 'team' ORDER BY 1, 2, 3
"""


def asked_as_user(books: Books, teams: list[str]) -> list[dict[str, Any]]:
    async def work(database: Database) -> list[dict[str, Any]]:
        async with database.as_service() as connection:
            await connection.execute("SET LOCAL ROLE authenticated")
            found = await connection.fetch(ASK, teams, [*WHAT], [*GRACES])
            await connection.execute("RESET ROLE")
            return [dict(row) for row in found]

    return books.run(work)


@given(drawn=lives, seed=st.integers(0, 2**32), grace=st.sampled_from(GRACES))
@settings(max_examples=by_depth(60, 150, 2000))
def test_has_access_is_what_a_plain_model_says(
    books: Books, drawn: Any, seed: int, grace: int
) -> None:
    known = [life_of(number, each) for number, each in enumerate(drawn)]
    events = [*CATALOG, *(each for life in known for each in life.events)]
    dice = random.Random(seed)
    dice.shuffle(events)
    books.execute(WIPE)
    books.execute(f"UPDATE payments.access_settings SET grace = make_interval(days => {grace})")
    books.apply_in_batches(events, [dice.randint(1, 5) for _ in range(3)])

    teams = ["shared", "nobody", *(team for life in known for team in set(life.checkouts))]
    for row in asked_as_user(books, teams):
        wanted = expected(known, row["team"], row["what"], row["grace"])
        assert (row["quantity"], row["has"]) == (wanted, wanted is not None), (row, known)
    shown = books.rows(SHOWN)
    assert shown == sorted(
        (
            {"team": life.subscription_team, "price": each, "quantity": quantity}
            for life in known
            if life.counts(grace)
            for each, quantity in life.last.items
        ),
        key=lambda row: (row["team"], row["price"], row["quantity"]),
    )
