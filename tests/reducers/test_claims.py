"""Who pays for whom: the same mappings whatever the order, and however little is loaded."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from billhook.reducers.claims import Claim, ClaimKey, Claims, Known
from billhook.reducers.missing import Missing, Subject

CUSTOMERS = [f"cus_{n}" for n in range(4)]
SUBJECTS = [("team", f"t_{n}") for n in range(3)]

checkouts = st.builds(
    Claim,
    at=st.integers(1, 9),
    ref=st.sampled_from([f"cs_{n}" for n in range(6)]),
    customer=st.sampled_from(CUSTOMERS),
    subject=st.sampled_from(SUBJECTS),
    kind=st.just("checkout"),
)
metadata = st.builds(
    Claim,
    at=st.integers(1, 9),
    ref=st.just(""),
    customer=st.sampled_from(CUSTOMERS),
    subject=st.sampled_from(SUBJECTS),
    kind=st.just("metadata"),
)
Step = Claim | str
"""A claim that is recorded, or a customer that is deleted."""
steps = st.lists(st.one_of(checkouts, metadata, st.sampled_from(CUSTOMERS)), max_size=14)


class Table:
    """What a database would hold, and a loader that finds no more than `most` claims of a kind
    unless it is asked for all."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.claims: dict[ClaimKey, Claim] = {}
        self.deleted: set[str] = set()
        self.mappings: dict[str, Subject] = {}

    def apply(self, batch: Iterable[Step]) -> None:
        batch = list(batch)
        customers: dict[str, int | None] = {}
        subjects: dict[Subject, int | None] = {}
        keys = {step.key for step in batch if isinstance(step, Claim)}
        for step in batch:
            if isinstance(step, str):
                customers[step] = self.most
            else:
                customers[step.customer] = self.most
                subjects[step.subject] = self.most
        while True:
            claims = self._load(keys, customers, subjects)
            try:
                for step in batch:
                    if isinstance(step, str):
                        claims.delete_customer(step)
                    else:
                        claims.record(step)
                lost, mapped = claims.settle()
                break
            except Missing as missing:
                customers |= dict.fromkeys(missing.customers)
                subjects |= dict.fromkeys(missing.subjects)
        self.claims |= claims.recorded
        self.deleted |= {step for step in batch if isinstance(step, str)}
        for customer in lost:
            del self.mappings[customer]
        self.mappings |= mapped
        assert len(set(self.mappings.values())) == len(self.mappings), "a subject has one customer"

    def _load(
        self,
        keys: set[ClaimKey],
        customers: dict[str, int | None],
        subjects: dict[Subject, int | None],
    ) -> Claims:
        found = Claims()
        for customer, most in customers.items():
            of = [claim for claim in self.claims.values() if claim.customer == customer]
            found.by_customer[customer] = known(of, most, Missing(customers=[customer]))
        for subject, most in subjects.items():
            on = [claim for claim in self.claims.values() if claim.subject == subject]
            found.by_subject[subject] = known(on, most, Missing(subjects=[subject]))
        for key in keys & self.claims.keys():
            claim = self.claims[key]
            found.by_customer[claim.customer].of_kind(claim.kind).add(claim)
            found.by_subject[claim.subject].of_kind(claim.kind).add(claim)
        found.deleted_customers = self.deleted & customers.keys()
        for customer, subject in self.mappings.items():
            if customer in customers or subject in subjects:
                found.mappings[customer] = subject
                found.holders[subject] = customer
        return found


def known(claims: list[Claim], most: int | None, whole: Missing) -> Known:
    checkouts = sorted(
        (c for c in claims if c.kind == "checkout"), key=lambda c: c.at, reverse=True
    )
    metadata = sorted((c for c in claims if c.kind == "metadata"), key=lambda c: c.at)
    return Known.of([*checkouts[:most], *metadata[:most]], most, whole)


def right_mappings(steps: list[Step]) -> dict[str, Subject]:
    """What all claims together say, read from the rules' description."""
    claims: dict[object, Claim] = {}
    for step in steps:
        if isinstance(step, Claim):
            earlier = claims.get(step.key, step)
            claims[step.key] = min(step, earlier, key=lambda claim: claim.at)
    deleted = {step for step in steps if isinstance(step, str)}
    checkouts = [claim for claim in claims.values() if claim.kind == "checkout"]

    def by_checkout(customer: str) -> Subject | None:
        mine = max((c for c in checkouts if c.customer == customer), default=None)
        if mine is None or customer in deleted:
            return None
        living = [c for c in checkouts if c.customer not in deleted]
        newest = max(c for c in living if c.subject == mine.subject)
        return mine.subject if newest == mine else None

    held = {each: by_checkout(each) for each in CUSTOMERS}
    taken = {subject for subject in held.values() if subject is not None}
    for customer in CUSTOMERS:
        if by_checkout(customer) is not None or customer in deleted:
            continue
        mine = sorted(
            (c.at, c.subject)
            for c in claims.values()
            if c.kind == "metadata" and c.customer == customer and c.subject not in taken
        )
        if mine:
            rivals = sorted(
                (c.at, c.customer)
                for c in claims.values()
                if c.kind == "metadata"
                and c.subject == mine[0][1]
                and by_checkout(c.customer) is None
                and c.customer not in deleted
            )
            held[customer] = mine[0][1] if rivals[0][1] == customer else None
    return {customer: subject for customer, subject in held.items() if subject is not None}


@given(steps, st.randoms(use_true_random=False), st.integers(1, 4), st.integers(1, 3))
def test_mappings_follow_from_all_claims_in_any_order_and_batches(
    life: list[Step], random: object, size: int, most: int
) -> None:
    expected = right_mappings(life)
    shuffled = list(life)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    table = Table(most)
    for start in range(0, len(shuffled), size):
        table.apply(shuffled[start : start + size])
    assert table.mappings == expected
