"""Results of `billhook rebuild` (beyond the contract)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, computed_field

from billhook.models.wire import Request, Timestamp, WireModel
from billhook.settings import Environment


class RebuildOrder(Request):
    """Body of `POST …/rebuild`; optional.

    Attributes:
        swap: replace rows that differ with the rebuilt ones.
    """

    swap: bool = False


class Difference(WireModel):
    """One row that differs from the rebuilt one.

    Attributes:
        object_id: Stripe's id, or another identifier of the row.
        problem: `missing` if only the rebuild has the row; `extra` if only the table has it.
        fields: the columns that differ.
    """

    object_id: str
    problem: Literal["missing", "different", "extra"]
    fields: list[str] = Field(default_factory=list)


class RebuiltTable(WireModel):
    """A table compared with the rebuilt one.

    Attributes:
        checksum: the checksum of all rows, without incidental columns (surrogate keys, local
            times). Equal checksums mean equal tables.
        different: the number of rows that differ. The first hundred are listed.
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
        events: the number of events that were applied.
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
        """Whether every row now matches the ledger."""
        return self.swapped or not any(table.different for table in self.tables)


class RebuiltResponse(WireModel):
    """The 200 response of `POST …/rebuild`."""

    rebuild: Rebuilt
