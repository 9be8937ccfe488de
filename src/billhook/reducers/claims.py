"""Which customer pays for which subject (docs/explanation/ordering.md).

Completed checkouts, and the metadata of subscriptions and invoices, claim that a customer pays for
a subject. `payments.customer_mappings`, and the subject of every row that names none, are derived
from these claims, so their order of arrival does not matter:

- A customer has one subject and a subject one customer: the newest checkout wins both ways.
- Metadata applies where no checkout does; the oldest claim wins.
- A deleted customer has no subject.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal, NamedTuple

from billhook.reducers.missing import Missing, Subject

ClaimKind = Literal["checkout", "metadata"]
ClaimKey = tuple[str, ClaimKind, Subject, str]


class Claim(NamedTuple):
    """A customer pays for a subject, as of a time (epoch seconds).

    Attributes:
        ref: the Checkout Session; empty for metadata, whose oldest claim counts.
    """

    at: int
    ref: str
    customer: str
    subject: Subject
    kind: ClaimKind

    @property
    def key(self) -> ClaimKey:
        """A claim with the same key replaces this one."""
        return self.customer, self.kind, self.subject, self.ref

    @property
    def size(self) -> int:
        """Its length in bytes."""
        return sum(len(each.encode()) for each in (self.customer, *self.subject, self.ref))


@dataclass(slots=True)
class Known:
    """The claims of one customer, or on one subject, as far as they were loaded.

    Attributes:
        whole: what to load to know all of them.
        checkouts_after: all checkouts after this second are known; None: all are.
        metadata_before: all metadata before this second is known; None: all is.
    """

    whole: Missing
    checkouts: set[Claim] = field(default_factory=set)
    metadata: set[Claim] = field(default_factory=set)
    checkouts_after: int | None = None
    metadata_before: int | None = None

    @classmethod
    def of(cls, claims: Iterable[Claim], most: int | None, whole: Missing) -> Known:
        """Of each kind `most` claims were loaded, the newest checkouts and the oldest metadata;
        None: all."""
        known = cls(whole)
        for claim in claims:
            known.of_kind(claim.kind).add(claim)
        if most is not None and len(known.checkouts) >= most:
            known.checkouts_after = min(claim.at for claim in known.checkouts)
        if most is not None and len(known.metadata) >= most:
            known.metadata_before = max(claim.at for claim in known.metadata)
        return known

    def of_kind(self, kind: ClaimKind) -> set[Claim]:
        return self.checkouts if kind == "checkout" else self.metadata

    def newest_checkout(self, until: int | None = None) -> Claim | None:
        """The newest checkout, or the newest of those until a time."""
        fitting = (c for c in self.checkouts_by_age() if until is None or c.at <= until)
        return next(fitting, None)

    def checkouts_by_age(self) -> Iterator[Claim]:
        """The checkouts, the newest first."""
        for claim in sorted(self.checkouts, reverse=True):
            if self.checkouts_after is not None and claim.at <= self.checkouts_after:
                break
            yield claim
        if self.checkouts_after is not None:
            raise self.whole

    def metadata_by_age(self) -> Iterator[Claim]:
        """The metadata, the oldest first."""
        for claim in sorted(
            self.metadata, key=lambda claim: (claim.at, claim.customer, claim.subject)
        ):
            if self.metadata_before is not None and claim.at >= self.metadata_before:
                break
            yield claim
        if self.metadata_before is not None:
            raise self.whole

    def all_metadata(self) -> set[Claim]:
        if self.metadata_before is not None:
            raise self.whole
        return self.metadata


class Claims:
    """The claims that a batch touches, and what follows from them.

    Attributes:
        mappings: customer to subject, as in `payments.customer_mappings`.
        holders: the reverse, subject to customer.
        recorded: the claims to save.
        moved: customers whose rows without a subject of their own may get another one.
    """

    def __init__(self) -> None:
        self.by_customer: dict[str, Known] = {}
        self.by_subject: dict[Subject, Known] = {}
        self.deleted_customers: set[str] = set()
        self.mappings: dict[str, Subject] = {}
        self.holders: dict[Subject, str] = {}
        self.recorded: dict[ClaimKey, Claim] = {}
        self.moved: set[str] = set()
        self._unsettled: set[str] = set()

    # --- what changes ------------------------------------------------------------------------

    def record(self, claim: Claim) -> None:
        """Add a claim. A claim without news changes nothing."""
        of_customer = self._of_customer(claim.customer).of_kind(claim.kind)
        on_subject = self._on_subject(claim.subject).of_kind(claim.kind)
        earlier = next((each for each in of_customer if each.key == claim.key), None)
        if earlier is not None and earlier.at <= claim.at:
            return
        if earlier is not None or self.subject_at(claim.customer, claim.at) != claim.subject:
            self.moved.add(claim.customer)
        # Only a claim that is dated back may leave its subject to another customer.
        left = [] if earlier is None else [claim.subject]
        before = self._held_by_checkout_around(claim.customer, left)
        if (rival := self._newest_on(claim.subject)) is not None:
            before[rival.customer] = self.held_by_checkout(rival.customer)
        for claims in (of_customer, on_subject):
            if earlier is not None:
                claims.discard(earlier)
            claims.add(claim)
        self.recorded[claim.key] = claim
        self._unsettled.add(claim.customer)
        if (holder := self.holders.get(claim.subject)) is not None:
            self._unsettled.add(holder)
        for customer, held in before.items():
            self._note_change(customer, held)

    def delete_customer(self, customer: str) -> None:
        """Stripe deleted a customer: none of its claims counts, not even later ones."""
        if customer in self.deleted_customers:
            return
        subjects = {claim.subject for claim in self._of_customer(customer).checkouts_by_age()}
        before = self._held_by_checkout_around(customer, sorted(subjects))
        self.deleted_customers.add(customer)
        self._unsettled.add(customer)
        for each, subject in before.items():
            self._note_change(each, subject)
        if before[customer] is None:
            self._note_rivals(customer)

    def _held_by_checkout_around(
        self, customer: str, subjects: Iterable[Subject]
    ) -> dict[str, Subject | None]:
        """What the checkouts hold of a customer, and of those who would hold these subjects
        without it."""
        customers = {customer}
        for subject in subjects:
            others = (c for c in self._checkouts_on(subject) if c.customer != customer)
            customers |= {claim.customer for claim in islice(others, 1)}
        return {each: self.held_by_checkout(each) for each in customers}

    def _note_change(self, customer: str, before: Subject | None) -> None:
        """Mark the customers whose mappings depend on this customer's changed checkouts."""
        after = self.held_by_checkout(customer)
        if after == before:
            return
        self._unsettled.add(customer)
        for subject in (before, after):
            if subject is not None:
                self._note_claimants(subject)
        if before is None or after is None:
            self._note_rivals(customer)

    def _note_rivals(self, customer: str) -> None:
        """Mark the customers whose metadata names the same subjects as this customer's."""
        for claim in self._of_customer(customer).all_metadata():
            self._note_claimants(claim.subject)

    def _note_claimants(self, subject: Subject) -> None:
        claims = self._on_subject(subject).all_metadata()
        self._unsettled.update(claim.customer for claim in claims)

    def settle(self) -> tuple[list[str], dict[str, Subject]]:
        """Compute the mappings that changed.

        Returns:
            Customers that lose their mapping, and the new mappings by customer.
        """
        while True:
            held = {customer: self.held(customer) for customer in sorted(self._unsettled)}
            new = {
                customer: subject
                for customer, subject in held.items()
                if subject is not None and self.mappings.get(customer) != subject
            }
            displaced = {self.holders[each] for each in new.values() if each in self.holders}
            if displaced <= self._unsettled:
                break
            self._unsettled |= displaced
        lost = [
            customer
            for customer, subject in held.items()
            if self.mappings.get(customer) not in (None, subject)
        ]
        return lost, new

    # --- the rules -----------------------------------------------------------------------------

    def held(self, customer: str) -> Subject | None:
        """The subject that a customer pays for now."""
        if customer in self.deleted_customers:
            return None
        return self.held_by_checkout(customer) or self._held_by_metadata(customer)

    def held_by_checkout(self, customer: str) -> Subject | None:
        """The subject of the customer's newest checkout, unless that of another customer, who is
        not deleted, is newer."""
        newest = self._of_customer(customer).newest_checkout()
        if newest is None or customer in self.deleted_customers:
            return None
        return newest.subject if self._newest_on(newest.subject) == newest else None

    def _held_by_metadata(self, customer: str) -> Subject | None:
        """The oldest subject of the customer's metadata that no checkout claims, unless another
        customer's metadata named it earlier."""
        for claim in self._of_customer(customer).metadata_by_age():
            if self._is_held_by_checkout(claim.subject):
                continue
            first = self._first_that_counts(claim.subject)
            return claim.subject if first == customer else None
        return None

    def _first_that_counts(self, subject: Subject) -> str | None:
        for claim in self._on_subject(subject).metadata_by_age():
            if self._metadata_counts(claim.customer):
                return claim.customer
        return None

    def _metadata_counts(self, customer: str) -> bool:
        return customer not in self.deleted_customers and self.held_by_checkout(customer) is None

    def _is_held_by_checkout(self, subject: Subject) -> bool:
        newest = self._newest_on(subject)
        return newest is not None and self.held_by_checkout(newest.customer) == subject

    def subject_at(self, customer: str, at: int) -> Subject | None:
        """The subject that a customer paid for at a time: that of the newest checkout until then,
        else the first that metadata named until then, else whatever was named first afterwards."""
        known = self._of_customer(customer)
        if (paid := known.newest_checkout(until=at)) is not None:
            return paid.subject
        named = next(known.metadata_by_age(), None)
        if named is not None and named.at <= at:
            return named.subject
        later = known.checkouts if named is None else known.checkouts | {named}
        if later:
            return min((claim.at, claim.kind, claim.ref, claim.subject) for claim in later)[3]
        return None

    # --- what was loaded ---------------------------------------------------------------------

    def _of_customer(self, customer: str) -> Known:
        if (known := self.by_customer.get(customer)) is None:
            raise Missing(customers=[customer])
        return known

    def _on_subject(self, subject: Subject) -> Known:
        if (known := self.by_subject.get(subject)) is None:
            raise Missing(subjects=[subject])
        return known

    def _newest_on(self, subject: Subject) -> Claim | None:
        return next(self._checkouts_on(subject), None)

    def _checkouts_on(self, subject: Subject) -> Iterator[Claim]:
        """The checkouts that count on a subject, the newest first."""
        for claim in self._on_subject(subject).checkouts_by_age():
            self._of_customer(claim.customer)  # whether it is deleted is known with its claims
            if claim.customer not in self.deleted_customers:
                yield claim
