"""Mirrored kinds: one declaration each, from which everything else is derived.

The upsert of a batch, the sync, verify, rebuild, archive, refresh and the lists are driven by these
declarations. A new kind is one declaration, one migration and its tests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from billhook.kinds import reading
from billhook.kinds.reading import StripeObject, Subject

Value = str | int | bool | dict[str, str] | StripeObject | None
Row = dict[str, Value]
"""Column name to value. Times are epoch seconds, amounts are in the currency's minor unit."""
Type = Literal["text", "bigint", "integer", "boolean", "jsonb", "timestamptz"]


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a mirrored table.

    Attributes:
        type: its PostgreSQL type. A `timestamptz` is read as epoch seconds.
        read: takes the column's value from a Stripe object.
        keep: a later state without this fact keeps the earlier one.
        required: it is never null.
        amount: it is an amount of money in the currency's minor unit.
    """

    name: str
    type: Type
    read: Callable[[StripeObject], Value]
    keep: bool = False
    required: bool = False
    amount: bool = False


@dataclass(frozen=True, slots=True)
class Children:
    """Objects with their own rows that Stripe sends in their parent, such as subscription items.

    Attributes:
        name: Stripe's name of a child.
        parent: the column that names the parent.
        field: of the parent's object, a list of its first children.
        path: where Stripe lists all children of the parent that `parameter` names.
        listed: their list.
    """

    name: str
    table: str
    key: str
    parent: str
    columns: tuple[Column, ...]
    field: str
    path: str
    parameter: str
    listed: Listed | None = None

    def entries(self, parent: StripeObject) -> Sequence[StripeObject]:
        """The children in the parent's object."""
        return reading.entries(parent.get(self.field))

    def complete(self, parent: StripeObject) -> bool:
        """Whether the object shows all of them; Stripe sends the first page only."""
        return reading.hash_of(parent.get(self.field)).get("has_more") is not True

    def rows(self, parent: StripeObject) -> dict[str, Row]:
        """The children by id."""
        found = {}
        for entry in self.entries(parent):
            if (entry_id := reading.id_of(entry)) is not None:
                found[entry_id] = {each.name: each.read(entry) for each in self.columns}
                found[entry_id]["raw"] = entry
        return found


@dataclass(frozen=True, slots=True)
class Listed:
    """The list of a kind in the API, the Python clients and the command line, the newest first.

    Its table has an index on (environment, column) for each of `references`, and one on
    (environment, choice, time DESC, id DESC), where the time is `Entries.time`.

    Attributes:
        about: what is listed.
        references: columns with ids of other objects, by which it is filtered.
        choice: a column, never null, with few different values, by which it is filtered.
        choices: those values; empty where Stripe has too many to name.
        summary: the columns that a person looks at first.
        users_read: users may list those of a subject, if the policies of the table allow it.
    """

    about: str
    references: tuple[str, ...]
    choice: str
    choices: tuple[str, ...]
    summary: tuple[str, ...]
    users_read: bool = False

    @staticmethod
    def filter_of(column: str) -> str:
        """The filter by a column of `references`: `customer` for `customer_id`."""
        return column.removesuffix("_id")


@dataclass(frozen=True, slots=True)
class Entries:
    """What a list shows: the rows of a kind, or those of its children.

    Attributes:
        name: the list's, such as `payment_methods`.
        title: the name of an entry's model.
        columns: all but the key.
        has_subject: the rows have a subject.
    """

    name: str
    title: str
    table: str
    key: str
    columns: tuple[Column, ...]
    listed: Listed
    has_subject: bool = False
    has_synced_at: bool = True

    @property
    def time(self) -> str:
        """When an entry was created, in SQL; if Stripe does not say so, when it was mirrored."""
        if any(column.name == "provider_created_at" for column in self.columns):
            return "coalesce(t.provider_created_at, t.created_at)"
        return "t.created_at"


@dataclass(frozen=True, slots=True)
class Kind:
    """A Stripe object that the schema `payments` mirrors.

    Attributes:
        name: Stripe's name of the object, as in its field `object`.
        table: the mirrored table, without its schema.
        key: the column of Stripe's id.
        columns: all others that are read from the object.
        path: where Stripe lists it; `{path}/{id}` retrieves it.
        list_name: what its list is called, if that is not the name with an `s`.
        has_list: Stripe lists all of an account's. Others are known by their events, and where an
            object of another kind shows them in full (`expand`): no sync and no verification reads
            them.
        by_created: its list can be limited to a range of `created`.
        variants: the requests that give the whole list together.
        expand: what a sync and a refresh ask for in full.
        keeps_expanded: its row keeps that until an event names another id.
        changed_by: event types whose object is its new state.
        deleted_by: event types after which it no longer exists at Stripe.
        keeps_deleted: deleted objects keep their row, marked `deleted`, instead of losing it.
        has_provider: the table has InsForge's column `provider`.
        customer: the column of its customer: rows without a subject of their own get the one that
            the customer pays for.
        subject: the subject that the object names itself.
        claims: whether the object also claims that its customer pays for that subject
            (docs/explanation/ordering.md).
        identify: the id of an object; None if it cannot be read.
        is_its_children: Stripe has no request for the object: the list of its children is what a
            request returns.
        readable: false for objects that get no row, such as a payment method without a customer.
        progress: how far along a one-way lifecycle a state is. Of two states in the same second,
            the one further along is the later.
        listed: its list, where that follows from the declaration.
        derived: columns that do not follow from the object alone, with their types.
    """

    name: str
    table: str
    key: str
    columns: tuple[Column, ...]
    path: str
    changed_by: tuple[str, ...]
    deleted_by: tuple[str, ...] = ()
    list_name: str | None = None
    has_list: bool = True
    by_created: bool = True
    variants: tuple[Mapping[str, Any], ...] = ({},)
    expand: tuple[str, ...] = ()
    keeps_expanded: bool = False
    keeps_deleted: bool = False
    has_provider: bool = False
    customer: str | None = None
    subject: Callable[[StripeObject], Subject | None] | None = None
    claims: bool = False
    children: Children | None = None
    identify: Callable[[StripeObject], str | None] = field(default=reading.id_of)
    is_its_children: bool = False
    readable: Callable[[StripeObject], bool] = field(default=lambda _: True)
    progress: Callable[[StripeObject], int] = field(default=lambda _: 0)
    listed: Listed | None = None
    derived: Mapping[str, Type] = field(default_factory=dict)

    @property
    def plural(self) -> str:
        """The name of its list."""
        return self.list_name or f"{self.name}s"

    @property
    def label(self) -> str:
        """The name as part of an identifier in SQL."""
        return self.name.replace(".", "_")

    @property
    def tables(self) -> tuple[str, ...]:
        """Its table, and that of its children."""
        return (self.table, self.children.table) if self.children else (self.table,)

    @property
    def lists(self) -> tuple[Entries, ...]:
        """Its list, or that of its children, where the declaration says how."""
        title = "".join(part.title() for part in self.plural.removesuffix("s").split("_"))
        found = []
        if self.listed is not None:
            of_customer = self.subject is not None
            found.append(
                Entries(
                    *(self.plural, title, self.table, self.key, self.columns, self.listed),
                    has_subject=of_customer,
                )
            )
        if (children := self.children) is not None and children.listed is not None:
            columns = (required(children.parent), *children.columns)
            found.append(
                Entries(
                    *(self.plural, title, children.table, children.key, columns, children.listed),
                    has_synced_at=False,
                )
            )
        return tuple(found)

    def exists(self, stripe_object: StripeObject) -> bool:
        """Whether a fetched object says that there is something to show."""
        return stripe_object.get("deleted") is not True and self.readable(stripe_object)

    def row(self, stripe_object: StripeObject) -> Row | None:
        """The row of an object; None if there is nothing to show.

        Raises:
            UnreadableObject: it lacks a required field.
        """
        if self.identify(stripe_object) is None or not self.readable(stripe_object):
            return None
        return {column.name: column.read(stripe_object) for column in self.columns}


def text(name: str, source: str | None = None) -> Column:
    """A string; empty ones count as missing."""
    source = source or name
    return Column(name, "text", lambda found: reading.text(found.get(source)))


def required(name: str, source: str | None = None) -> Column:
    """A required string."""
    source = source or name
    return Column(name, "text", lambda found: reading.required(found, source), required=True)


def reference(name: str, source: str, *, required: bool = False) -> Column:
    """The id of another object, which may come expanded."""
    return Column(name, "text", lambda found: reading.id_of(found.get(source)), required=required)


def integer(name: str, source: str | None = None, *, type: Type = "bigint") -> Column:
    """An integer."""
    source = source or name
    return Column(name, type, lambda found: reading.integer(found.get(source)))


def amount(name: str, source: str | None = None) -> Column:
    """An amount in the currency's minor unit."""
    return replace(integer(name, source), amount=True)


def flag(name: str, source: str | None = None) -> Column:
    """True or false; missing is false."""
    source = source or name
    return Column(name, "boolean", lambda found: found.get(source) is True, required=True)


def time(name: str, source: str | None = None, *, keep: bool = False) -> Column:
    """A time in epoch seconds."""
    source = source or name
    return Column(name, "timestamptz", lambda found: reading.timestamp(found.get(source)), keep)


def metadata() -> Column:
    """The object's metadata."""
    return Column(
        "metadata", "jsonb", lambda found: reading.metadata(found.get("metadata")), required=True
    )


def computed(
    name: str, type: Type, read: Callable[[StripeObject], Value], *, required: bool = False
) -> Column:
    """A column with a rule of its own."""
    return Column(name, type, read, required=required)


def by_name(kinds: Iterable[Kind]) -> dict[str, Kind]:
    return {kind.name: kind for kind in kinds}
