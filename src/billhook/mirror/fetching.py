"""Writes objects fetched from Stripe to the mirror, with the same version checks as events."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import structlog

from billhook.errors import BillhookError, PaymentConfigInvalid
from billhook.kinds import KINDS, Kind
from billhook.kinds.customers import CUSTOMER
from billhook.kinds.reading import UnreadableObject, hash_of, objects
from billhook.kinds.recurring import without_terms
from billhook.kinds.subscriptions import SUBSCRIPTION
from billhook.paths import encoded
from billhook.postgres import Connection, Database, repeat_collisions
from billhook.postgres.accounts import connected_account, hold_account
from billhook.postgres.leases import Lease, LeaseLost
from billhook.projections import Changes, Event
from billhook.projections.changes import Record
from billhook.projections.objects import claim_of, mirrored, payment_of, recurring_of
from billhook.rows import Fact, apply_facts
from billhook.settings import Environment
from billhook.stripe.gateway import Fetched, Gateway, StripeObject, refusal_of
from billhook.stripe.list_pages import list_pages

log = structlog.get_logger(__name__)

_QUEUE = """
INSERT INTO billhook.refreshes AS old
    (environment, object_type, object_id, reason, next_at, marked_at)
VALUES ($1, $2, $3, $4, pg_catalog.now() + interval '2 seconds', pg_catalog.clock_timestamp())
ON CONFLICT (environment, object_type, object_id) DO UPDATE SET
    next_at = least(old.next_at, EXCLUDED.next_at), marked_at = EXCLUDED.marked_at
"""


@dataclass(frozen=True, slots=True)
class StripeReader:
    """Reads from Stripe with one key, as long as the results may be written.

    Attributes:
        key: one for a whole sync, so that it never mixes two accounts; None for the stored one.
        lease: nothing is written once it is lost; a change of the account revokes it.
        account: nothing is written once another account is connected.
    """

    database: Database
    gateway: Gateway
    environment: Environment
    key: str | None = None
    lease: Lease | None = None
    account: str | None = None

    async def get(self, list_name: str, path: str, params: dict[str, Any]) -> Fetched:
        """`GET path`, when the rate governor allows. Raises as `Gateway.background` does."""
        return await self.gateway.background(
            self.environment, list_name, path, params, key=self.key
        )

    async def find(
        self, list_name: str, path: str, params: dict[str, Any] | None = None
    ) -> Fetched | None:
        """As `get`; None if Stripe has no such object."""
        try:
            return await self.get(list_name, path, params or {})
        except BillhookError as error:
            if error.status != 404:
                raise
            return None

    async def check(self, connection: Connection) -> None:
        """Raises `LeaseLost` if nothing may be written any more."""
        if self.lease is not None:
            await self.lease.check(connection)
        if self.account is None:
            return
        if await hold_account(connection, self.environment) != self.account:
            raise LeaseLost(
                "Another Stripe account was connected in the meantime. The mirror was not changed.",
                next_actions="Try again: the request then goes to the account that is connected.",
            )


async def reader_of_account(
    database: Database, gateway: Gateway, environment: Environment
) -> StripeReader:
    """A reader of the connected account.

    Raises:
        PaymentConfigInvalid: there is no key.
    """
    # The account first: if it changes in between, nothing is written.
    async with database.connection() as connection:
        account = await connected_account(connection, environment)
    key = await gateway.key(environment)
    return StripeReader(database, gateway, environment, key, account=account)


async def reader_in_background(
    database: Database, gateway: Gateway, environment: Environment, lease: Lease | None = None
) -> StripeReader:
    """As `reader_of_account`, for work in the background. Before a sync has connected an account,
    it must not use a key from the settings.

    Raises:
        PaymentConfigInvalid: there is no key, or it belongs to another account.
        BillhookError: Stripe did not say to which account the key belongs.
    """
    reader = await reader_of_account(database, gateway, environment)
    assert reader.key is not None
    owner = await gateway.account_id(environment, reader.key)
    if reader.account and owner != reader.account:
        raise PaymentConfigInvalid(
            f"The key belongs to another account: {owner}, but {reader.account} is connected in "
            f"{environment}.",
            next_actions=f"Run `billhook sync --environment {environment}` to connect it. The "
            "rows of the current account are archived, and can be restored.",
        )
    return replace(reader, lease=lease)


def path_of(kind: Kind, object_id: str) -> str:
    """The path of one object; the id stays one segment, whatever it contains."""
    return f"{kind.path}/{encoded(object_id)}"


def facts_of(
    kind: Kind, fetched: Sequence[StripeObject], at: int, record: Record = "if changed"
) -> list[Fact]:
    """Fetched objects as facts.

    An object that cannot be read is logged and skipped: it must not stop the others.

    Args:
        at: epoch seconds at which the objects certainly had this state.
        record: whether the worth of a subscription is recorded.
    """
    facts = []
    for each in fetched:
        try:
            shown = without_terms(each) if kind is SUBSCRIPTION else each
            mirror = mirrored(kind, shown)
        except UnreadableObject as error:
            log.warning("a Stripe object cannot be read", kind=kind.name, reason=str(error))
            continue
        if mirror is not None:
            changes = Changes(
                mirror=mirror,
                claim=claim_of(kind, mirror),
                payment=payment_of(kind, each),
                recurring=recurring_of(kind, each, at, record=record),
            )
            facts.append(Fact(Event("", kind.name, at, shown), changes))
    return facts


def facts_in(kind: Kind, fetched: Sequence[StripeObject], at: int) -> list[Fact]:
    """Fetched objects as facts, and the objects of mirrored kinds that they contain in full."""
    facts = facts_of(kind, fetched, at)
    for path in kind.expand:
        for each in fetched:
            shown: Any = each
            for name in path.split("."):
                shown = hash_of(shown).get(name)
            of = KINDS.get(str(hash_of(shown).get("object")))
            if of is not None:
                facts += facts_of(of, [shown], at)
    return facts


def facts_of_answer(kind: Kind, answer: StripeObject, at: int) -> list[Fact]:
    """An object as Stripe answers a request that changed it.

    Events of the same second may still arrive that are older than the answer. So it counts as the
    end of its second: nothing of that second overwrites it. In return it must be fetched again,
    because somebody else may have changed it later in that second.

    Args:
        at: epoch seconds of the answer.
    """
    return [
        # The least of all ranks in the next second.
        replace(fact, event=replace(fact.event, type=f"{kind.name}.created"))
        for fact in facts_of(kind, [answer], at + 1)
    ]


async def write_one(reader: StripeReader, kind: Kind, stripe_object: StripeObject, at: int) -> None:
    """Write one fetched object, in its own transaction, unless the row shows a newer state."""
    await write(reader, facts_of(kind, [stripe_object], at))


async def write(
    reader: StripeReader,
    facts: Sequence[Fact],
    also: Callable[[Connection], Awaitable[None]] | None = None,
) -> None:
    """Write fetched objects, in their own transaction.

    Args:
        also: what else to write in it.
    """

    async def work() -> None:
        async with reader.database.as_service() as connection:
            await reader.check(connection)
            await apply_facts(connection, reader.environment, facts, outside_ledger=True)
            if also is not None:
                await also(connection)

    await repeat_collisions(work)


async def delete(reader: StripeReader, kind: Kind, object_id: str, at: int) -> None:
    """Remove an object that, according to Stripe, no longer existed at `at`."""
    event = Event("", kind.name, at, {"id": object_id})
    await write(reader, [Fact(event, Changes(deleted=(kind.name, object_id)))])


async def forget_customer(reader: StripeReader, customer: str) -> None:
    """Remove a customer that does not exist at Stripe, with its mappings; a late event does not
    restore them. Ids are unique, so this is correct whichever account is connected."""
    await delete(reader, CUSTOMER, customer, int(time.time()))


async def queue_refresh(
    connection: Connection, environment: Environment, kind: Kind, object_id: str, reason: str
) -> None:
    """Have an object fetched in two seconds."""
    await connection.execute(_QUEUE, environment, kind.name, object_id, reason)


async def fetch(reader: StripeReader, kind: Kind, object_id: str) -> Fetched | None:
    """One object with all its children; None if Stripe has no such object.

    Raises:
        BillhookError: the request failed.
    """
    if kind.is_its_children:
        return await _fetch_children(reader, kind, object_id)
    # Stripe rejects expanding a deleted object.
    params = {} if kind.keeps_deleted else _expanded(kind)
    fetched = await reader.find(kind.name, path_of(kind, object_id), params)
    if fetched is not None and kind.exists(fetched.data):
        await complete_children(reader, kind, fetched.data)
    return fetched


def _expanded(kind: Kind) -> dict[str, Any]:
    return {"expand": list(kind.expand)} if kind.expand else {}


async def _fetch_children(reader: StripeReader, kind: Kind, object_id: str) -> Fetched | None:
    """An object that Stripe only shows as the list of its children."""
    children = kind.children
    assert children is not None
    found: list[StripeObject] = []
    at: int | None = None
    of_parent = {children.parameter: object_id}
    try:
        async for page in list_pages(reader.get, kind.plural, children.path, of_parent):
            # The first page's time: what changes while the others are read is reported by an event.
            at = page.at if at is None else at
            found += page.objects
    except BillhookError as error:
        said = refusal_of(error)
        if said is None or said.code != "resource_missing":
            raise
        return None
    assert at is not None
    listed = {"object": "list", "data": found, "has_more": False}
    data = {"object": kind.name, children.parameter: object_id, children.field: listed}
    return Fetched(data, at)


@dataclass(frozen=True, slots=True)
class Refreshed:
    """A fetched object, and when it was fetched."""

    exists: bool
    at: int


async def refresh(reader: StripeReader, kind: Kind, object_id: str) -> Refreshed:
    """Fetch one object from Stripe and mirror it.

    Raises:
        BillhookError: the request failed.
    """
    fetched = await fetch(reader, kind, object_id)
    if kind.keeps_deleted and fetched is not None and fetched.data.get("deleted") is not True:
        fetched = await reader.find(kind.name, path_of(kind, object_id), _expanded(kind))
    if fetched is None:
        # The SDK does not expose the time of a 404.
        at = (await reader.get("account", "/v1/account", {})).at
        await delete(reader, kind, object_id, at)
        return Refreshed(False, at)
    if not kind.exists(fetched.data):
        await delete(reader, kind, object_id, fetched.at)
        return Refreshed(False, fetched.at)
    await write_one(reader, kind, fetched.data, fetched.at)
    return Refreshed(True, fetched.at)


async def complete_children(reader: StripeReader, kind: Kind, parent: StripeObject) -> None:
    """Add the children of a fetched object that are not on the first page of its list."""
    children = kind.children
    if children is None or children.complete(parent):
        return
    listed = parent[children.field]
    if found := objects(listed):
        of_parent = {children.parameter: parent["id"]}
        async for page in list_pages(
            reader.get, children.name, children.path, of_parent, after=found[-1]["id"]
        ):
            found += page.objects
    parent[children.field] = {**listed, "data": found, "has_more": False}
