"""Which rows a batch of events touches: the keys of what is locked and loaded."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from billhook.projections.changes import Changes
from billhook.reducers.claims import ClaimKey
from billhook.reducers.missing import Missing, ObjectKey, Subject
from billhook.settings import Environment

SOME = 16
"""Claims of each kind that are loaded of a customer or subject. Hardly any has more that count."""


@dataclass(slots=True)
class Wanted:
    """The wanted keys: grows with each event, and with what a rule finds missing.

    Attributes:
        claims_of, claims_on: how many claims of each kind; None: all.
        locks: the keys to lock.
    """

    environment: Environment
    locks: set[str] = field(default_factory=set)
    events: set[str] = field(default_factory=set)
    old_events: set[str] = field(default_factory=set)
    objects: dict[str, set[str]] = field(default_factory=dict)
    ties: dict[str, set[str]] = field(default_factory=dict)
    claims_of: dict[str, int | None] = field(default_factory=dict)
    claims_on: dict[Subject, int | None] = field(default_factory=dict)
    claims: set[ClaimKey] = field(default_factory=set)
    unnamed: set[str] = field(default_factory=set)
    sessions: dict[str, str | None] = field(default_factory=dict)
    refs: set[ObjectKey] = field(default_factory=set)
    new_payments: int = 0

    def add(self, changes: Changes) -> None:
        """What one event's changes touch."""
        if changes.mirror is not None:
            kind = changes.mirror.kind
            self._want_object((kind.name, changes.mirror.object_id))
            if kind.customer is not None and changes.mirror.subject is None:
                self._want_customer(changes.mirror.row[kind.customer])
        if changes.deleted is not None:
            self._want_object(changes.deleted)
            if changes.deleted[0] == "customer":
                self._want_customer(changes.deleted[1])
        if (claim := changes.claim) is not None:
            subject = (claim.subject_type, claim.subject_id)
            self._want_customer(claim.customer_id)
            self._want_subject(subject)
            self.claims.add((claim.customer_id, claim.kind, subject, claim.ref))
        if (session := changes.checkout_session) is not None:
            self.sessions[session.session_id] = session.row_id
            self.locks.add(f"checkout.session:{session.session_id}")
        if (payment := changes.payment) is not None:
            self.new_payments += 1
            keys = [(kind, each) for kind, ids in payment.refs.items() for each in ids]
            self.refs.update(keys)
            self.locks.update(f"{kind}:{object_id}" for kind, object_id in keys)
            source = payment.source
            if source is not None and source.customer_id and source.subject_id is None:
                self._want_customer(source.customer_id)

    def add_missing(self, missing: Missing) -> None:
        """Add what a rule found missing."""
        for customer in missing.customers:
            self._want_customer(customer)
            self.claims_of[customer] = None
        for subject in missing.subjects:
            self._want_subject(subject)
            self.claims_on[subject] = None
        for kind, object_id in missing.ties:
            self.ties.setdefault(kind, set()).add(object_id)
        self.unnamed |= missing.unnamed

    def _want_object(self, key: ObjectKey) -> None:
        self.objects.setdefault(key[0], set()).add(key[1])
        self.locks.add(f"{key[0]}:{key[1]}")

    def _want_customer(self, customer: object) -> None:
        if isinstance(customer, str):
            self.claims_of.setdefault(customer, SOME)
            self.locks.add(f"customer:{customer}")

    def _want_subject(self, subject: Subject) -> None:
        self.claims_on.setdefault(subject, SOME)
        self.locks.add(f"subject:{subject[0]}:{subject[1]}")

    def lock_keys(self) -> list[int]:
        """The advisory locks, in the fixed order in which all transactions take them."""
        return sorted(_key(f"{self.environment}:{name}") for name in self.locks)

    def as_json(self, held: frozenset[int]) -> dict[str, Any]:
        """What `billhook.load_batch` takes. Locks that are held already are left out."""
        found: dict[str, Any] = {
            # As texts: a JSON reader may not keep 64 bits.
            "locks": [str(key) for key in self.lock_keys() if key not in held],
            "objects": {kind: sorted(ids) for kind, ids in self.objects.items()},
        }
        if self.ties:
            found["ties"] = {kind: sorted(ids) for kind, ids in self.ties.items()}
        for name in ("events", "old_events", "unnamed"):
            if ids := getattr(self, name):
                found[name] = sorted(ids)
        if self.claims_of:
            found["claims_of"] = [
                {"customer": customer, "most": most} for customer, most in self.claims_of.items()
            ]
        if self.claims_on:
            found["claims_on"] = [
                {"type": type, "id": id, "most": most}
                for (type, id), most in self.claims_on.items()
            ]
        if self.claims:
            found["claims"] = [
                {"customer": customer, "kind": kind, "type": type, "id": id, "ref": ref}
                for customer, kind, (type, id), ref in self.claims
            ]
        if self.sessions:
            found["sessions"] = [
                {"session_id": session_id, "row_id": row_id}
                for session_id, row_id in self.sessions.items()
            ]
        if self.refs:
            found["refs"] = [{"type": type, "id": id} for type, id in self.refs]
            found["new_payments"] = self.new_payments
        return found


def _key(name: str) -> int:
    digest = blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, signed=True)
