"""Rows that a rule needs but that were not loaded."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

Subject = tuple[str, str]
"""A subject's type and id."""
Account = tuple[str, str]
"""A customer and a currency."""
ObjectKey = tuple[str, str]
"""A Stripe object's type and id."""


class Missing(Exception):
    """A rule needs rows that were not loaded. The batch loads them, too, and reduces again.

    Rare by design: the first load contains what events usually need.

    Attributes:
        customers: all claims of these customers.
        subjects: all claims on these subjects.
        ties: the full state of mirrored objects that two events of one second changed.
        unnamed: these customers' subscriptions and invoices without a subject of their own.
        histories: all states of these subscriptions.
        discounts: the terms of these discounts.
        movements: the movements of a customer's MRR from these days on.
    """

    def __init__(
        self,
        *,
        customers: Iterable[str] = (),
        subjects: Iterable[Subject] = (),
        ties: Iterable[ObjectKey] = (),
        unnamed: Iterable[str] = (),
        histories: Iterable[str] = (),
        discounts: Iterable[str] = (),
        movements: Mapping[Account, int] | None = None,
    ) -> None:
        super().__init__()
        self.customers = frozenset(customers)
        self.subjects = frozenset(subjects)
        self.ties = frozenset(ties)
        self.unnamed = frozenset(unnamed)
        self.histories = frozenset(histories)
        self.discounts = frozenset(discounts)
        self.movements = dict(movements or {})

    @classmethod
    def together(cls, found: Collection[Missing]) -> Missing:
        """What several of them lack."""
        return cls(
            customers={each for missing in found for each in missing.customers},
            subjects={each for missing in found for each in missing.subjects},
            ties={each for missing in found for each in missing.ties},
            unnamed={each for missing in found for each in missing.unnamed},
            histories={each for missing in found for each in missing.histories},
            discounts={each for missing in found for each in missing.discounts},
            movements={
                account: min(
                    missing.movements[account] for missing in found if account in missing.movements
                )
                for account in {each for missing in found for each in missing.movements}
            },
        )
