"""The lists of mirrored kinds: their models follow from the declarations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from pydantic import create_model

from billhook.kinds import KINDS, Column, Kind
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
        row: the model of an entry.
        page: the body of the response.
        query: its filters.
    """

    name: str
    kind: Kind
    listed: Listed
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


def _row(kind: Kind, title: str) -> type[MirroredRow]:
    fields: dict[str, Any] = {kind.key: str}
    if kind.subject is not None:
        fields |= {"subject_type": str | None, "subject_id": str | None}
    fields |= {column.name: _field(column) for column in kind.columns}
    fields |= dict.fromkeys(("synced_at", "created_at", "updated_at"), Timestamp)
    return create_model(title, __base__=MirroredRow, **fields)


def _query(kind: Kind, listed: Listed, title: str) -> type[MirroredQuery]:
    fields: dict[str, Any] = {
        name: (Id | None, None) for name in map(Listed.filter_of, listed.references)
    }
    chosen: Any = Literal[listed.choices] if listed.choices else Id
    fields[listed.choice] = (chosen | None, None)
    base = _OfSubject if kind.subject is not None else MirroredQuery
    return create_model(title, __base__=base, **fields)


def _list_of(kind: Kind, listed: Listed) -> MirroredList:
    title = "".join(part.title() for part in kind.word.split("_"))
    row = _row(kind, title)
    fields: dict[str, Any] = {kind.plural: list[row]}  # type: ignore[valid-type]
    page = create_model(f"{title}s", __base__=WireModel, **fields)
    return MirroredList(
        kind.plural, kind, listed, row, page, _query(kind, listed, f"{title}sQuery")
    )


LISTS: Mapping[str, MirroredList] = MappingProxyType(
    {kind.plural: _list_of(kind, kind.listed) for kind in KINDS.values() if kind.listed}
)
"""Those whose list follows from their declaration, by name."""
