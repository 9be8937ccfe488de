"""What `billhook rebuild` finds (beyond the contract)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, computed_field

from billhook.models.wire import Request, Timestamp, WireModel
from billhook.settings import Environment


class RebuildOrder(Request):
    """Body of `POST …/rebuild`; may be left out.

    Attributes:
        swap: put the rebuilt rows in the place of those that differ.
    """

    swap: bool = False


class Difference(WireModel):
    """One row that is not what the ledger makes of it.

    Attributes:
        object_id: Stripe's id, or what else names the row.
        problem: `missing`: the ledger makes such a row and the table has none; `extra`: the other
            way round.
        fields: the columns that differ.
    """

    object_id: str
    problem: Literal["missing", "different", "extra"]
    fields: list[str] = Field(default_factory=list)


class RebuiltTable(WireModel):
    """How one table compares with what the ledger makes of it.

    Attributes:
        checksum: of all rows, without what is incidental (surrogate keys, our own clock); equal
            checksums are equal tables.
        different: how many rows differ; the first hundred are named.
    """

    table: str
    rows: int
    rebuilt_rows: int
    checksum: str
    rebuilt_checksum: str
    different: int = 0
    differences: list[Difference] = Field(default_factory=list)


class SkippedEvent(WireModel):
    """An event that could not be applied, and why."""

    event_id: str
    reason: str


class Rebuilt(WireModel):
    """A rebuild of one environment's rows from its ledger.

    Attributes:
        events: how many events were applied.
        swapped: whether the rows that differed were replaced.
    """

    environment: Environment
    started_at: Timestamp
    finished_at: Timestamp
    events: int
    skipped: list[SkippedEvent]
    tables: list[RebuiltTable]
    swapped: bool

    @computed_field  # type: ignore[prop-decorator]
    @property
    def equal(self) -> bool:
        """Whether every row is what the ledger makes of it, be it only now."""
        return self.swapped or not any(table.different for table in self.tables)


class RebuiltResponse(WireModel):
    """200 of `POST …/rebuild`."""

    rebuild: Rebuilt
