"""The lists of mirrored kinds: their models follow from the declarations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from pydantic import create_model

from billhook.kinds import LISTED, Column, Entries
from billhook.kinds.kind import Listed
from billhook.models.admin import StoredMetadata
from billhook.models.queries import ListQuery, Moment, OfSubject
from billhook.models.wire import Id, Timestamp, WireModel
from billhook.settings import Environment


class MirroredRow(WireModel):
    """A Stripe object as last mirrored. Amounts are in the currency's minor unit.

    Its fields are the columns of its table.
    """

    environment: Environment

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...


class MirroredQuery(ListQuery):
    """Query of such a list. `since` ≤ when it was created < `until`."""

    since: Moment | None = None
    until: Moment | None = None


class _OfSubject(MirroredQuery, OfSubject):
    pass


@dataclass(frozen=True, slots=True)
class MirroredList:
    """The list of a mirrored kind.

    Attributes:
        name: of the list, such as `payment_methods`, and of its field in `page`.
        of: what it shows.
        row: the model of an entry.
        page: the body of the response.
        query: its filters.
    """

    name: str
    of: Entries
    row: type[MirroredRow]
    page: type[WireModel]
    query: type[MirroredQuery]

    @property
    def route(self) -> str:
        """The list's name in addresses and commands."""
        return self.name.replace("_", "-")


_TYPES: Mapping[str, Any] = {
    "text": str,
    "bigint": int,
    "integer": int,
    "boolean": bool,
    "timestamptz": Timestamp,
    "jsonb": dict[str, Any],
}


def _field(column: Column) -> Any:
    type_ = StoredMetadata if column.name == "metadata" else _TYPES[column.type]
    return type_ if column.required else type_ | None


def _row(of: Entries) -> type[MirroredRow]:
    fields: dict[str, Any] = {of.key: str}
    if of.has_subject:
        fields |= {"subject_type": str | None, "subject_id": str | None}
    fields |= {column.name: _field(column) for column in of.columns}
    times = ("synced_at", "created_at", "updated_at")[0 if of.has_synced_at else 1 :]
    fields |= dict.fromkeys(times, Timestamp)
    return create_model(of.title, __base__=MirroredRow, **fields)


def _query(of: Entries) -> type[MirroredQuery]:
    fields: dict[str, Any] = {
        name: (Id | None, None) for name in map(Listed.filter_of, of.listed.references)
    }
    chosen: Any = Literal[of.listed.choices] if of.listed.choices else Id
    fields[of.listed.choice] = (chosen | None, None)
    base = _OfSubject if of.has_subject else MirroredQuery
    return create_model(f"{of.title}sQuery", __base__=base, **fields)


def _list_of(of: Entries) -> MirroredList:
    row = _row(of)
    fields: dict[str, Any] = {of.name: list[row]}  # type: ignore[valid-type]
    page = create_model(f"{of.title}s", __base__=WireModel, **fields)
    return MirroredList(of.name, of, row, page, _query(of))


LISTS: Mapping[str, MirroredList] = MappingProxyType({of.name: _list_of(of) for of in LISTED})
"""Those whose list follows from their declaration, by name."""
