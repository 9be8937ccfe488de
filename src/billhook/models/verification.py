"""Results of `billhook verify` (beyond the contract). Amounts are in the currency's minor unit."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, computed_field

from billhook.models.wire import Request, Timestamp, WireModel
from billhook.settings import Environment


class Verify(Request):
    """Body of `POST …/verify`; optional.

    Attributes:
        repair: fix differences, in the same way as normal processing.
        budget_seconds: compare only a sample of each list, for about this many seconds.
    """

    repair: bool = False
    budget_seconds: Annotated[int, Field(ge=1, le=3600)] | None = None


class Drift(WireModel):
    """One row that differs from Stripe.

    Attributes:
        problem: `missing` if only Stripe has it; `extra` if only the table has it.
        fields: the columns that differ.
        since: when it may have become wrong: when the object was created or the row last updated.
        amount: the amount that differs, for payments and refunds.
        repaired: whether it was repaired; null without `repair`.
    """

    table: str
    object_id: str
    problem: Literal["missing", "different", "extra"]
    fields: list[str] = Field(default_factory=list)
    since: Timestamp | None = None
    amount: int | None = None
    currency: str | None = None
    repaired: bool | None = None


class VerifiedTable(WireModel):
    """How one table compares with Stripe.

    Attributes:
        objects: the number of objects in Stripe that were compared.
        complete: whether all were compared. If false, rows that Stripe does not have are not
            detected.
        in_flight: the number of changes in progress: the row is newer than Stripe's response, or
            the object is so new that its event may still be in transit.
        unconfirmed: the number of other differences, whose objects were not fetched individually;
            a sync fixes them.
        error: why the list could not be read completely.
    """

    table: str
    objects: int = 0
    complete: bool = True
    in_flight: int = 0
    unconfirmed: int = 0
    drift: list[Drift] = Field(default_factory=list)
    error: str | None = None


class Money(WireModel):
    """The payments, refunds and lost disputes in one currency that were compared: since the account
    was connected, and before that as far as the history is imported."""

    currency: str
    stripe_payments: int = 0
    stripe_refunds: int = 0
    stripe_lost: int = 0
    payments: int = 0
    refunds: int = 0
    lost: int = 0

    @computed_field  # type: ignore[prop-decorator]
    @property
    def difference(self) -> int:
        """The mirror's total minus Stripe's total. The tables' `drift` lists the transactions that
        differ."""
        theirs = self.stripe_payments - self.stripe_refunds - self.stripe_lost
        return self.payments - self.refunds - self.lost - theirs


class Verification(WireModel):
    """A comparison of one environment with Stripe, and when it started and finished."""

    environment: Environment
    started_at: Timestamp
    finished_at: Timestamp
    tables: list[VerifiedTable]
    money: list[Money]

    @property
    def drift(self) -> list[Drift]:
        """All rows that differ from Stripe."""
        return [each for table in self.tables for each in table.drift]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def sound(self) -> bool:
        """Whether the mirror matches Stripe: there is no drift, or all of it was repaired."""
        return all(each.repaired for each in self.drift) and not any(
            table.unconfirmed or table.error for table in self.tables
        )


class VerificationResponse(WireModel):
    """The 200 response of `…/verify`. `GET` returns the last one, or null if there is none."""

    verification: Verification | None
