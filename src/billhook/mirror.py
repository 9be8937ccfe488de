"""Writing what was fetched from Stripe into the mirror, under the same version guard as events."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from billhook.db import Connection, Database, repeat_collisions
from billhook.errors import BillhookError
from billhook.projections.fetched import Kind, fetched_rows
from billhook.settings import Environment
from billhook.stripe.gateway import Fetched, Gateway, StripeObject

PATHS: dict[Kind, str] = {
    "product": "/v1/products",
    "price": "/v1/prices",
    "customer": "/v1/customers",
    "subscription": "/v1/subscriptions",
}
EXPAND: dict[Kind, list[str]] = {
    "customer": ["invoice_settings.default_payment_method", "default_source"]
}
"""What the mirror needs in full: the card that the customer list shows."""

_PROJECT = "SELECT billhook.project_fetched($1, $2, $3)"
_DELETE = "SELECT billhook.delete_fetched($1, $2, $3, $4)"
_ITEMS_PAGE = 100


def path_of(kind: Kind, object_id: str) -> str:
    """The path of one object; whatever the id contains, it stays one segment."""
    return f"{PATHS[kind]}/{quote(object_id, safe='')}"


async def write(
    connection: Connection,
    environment: Environment,
    kind: Kind,
    objects: list[StripeObject],
    at: int,
) -> None:
    """Write fetched objects; older states than those shown are left out."""
    if rows := fetched_rows(kind, objects, at):
        await connection.execute(_PROJECT, environment, kind, rows)


async def write_one(
    database: Database, environment: Environment, kind: Kind, fetched: Fetched
) -> None:
    """Write one fetched object in a transaction of its own."""

    async def work() -> None:
        async with database.as_service() as connection:
            await write(connection, environment, kind, [fetched.data], fetched.at)

    await repeat_collisions(work)


async def delete(
    database: Database, environment: Environment, kind: Kind, object_id: str, at: int
) -> None:
    """Remove what Stripe said, at `at`, it no longer has."""

    async def work() -> None:
        async with database.as_service() as connection:
            await connection.execute(_DELETE, environment, kind, object_id, at)

    await repeat_collisions(work)


async def refresh(
    database: Database, gateway: Gateway, environment: Environment, kind: Kind, object_id: str
) -> bool:
    """Ask Stripe for one object and show what it says. Returns whether Stripe has it.

    Raises:
        BillhookError: Stripe did not answer that question.
    """
    path = path_of(kind, object_id)
    try:
        fetched = await gateway.background(environment, kind, path, {})
        if kind in EXPAND and fetched.data.get("deleted") is not True:
            # Only now: of a deleted object there is nothing to expand, and Stripe would refuse.
            expand = {"expand": EXPAND[kind]}
            fetched = await gateway.background(environment, kind, path, expand)
    except BillhookError as error:
        if error.status != 404:
            raise
        now = (await gateway.fetch(environment, "/v1/account")).at
        await delete(database, environment, kind, object_id, now)
        return False
    if fetched.data.get("deleted") is True:
        await delete(database, environment, kind, object_id, fetched.at)
        return False
    if kind == "subscription":
        await complete_items(gateway, environment, fetched.data)
    await write_one(database, environment, kind, fetched)
    return True


async def complete_items(
    gateway: Gateway, environment: Environment, subscription: StripeObject
) -> None:
    """Add the items beyond the first page to a fetched subscription."""
    items = subscription.get("items")
    if not isinstance(items, dict) or items.get("has_more") is not True:
        return
    found: list[Any] = list(items.get("data") or [])
    more = True
    while more and found:
        params = {
            "subscription": subscription["id"],
            "limit": _ITEMS_PAGE,
            "starting_after": found[-1]["id"],
        }
        page = await gateway.background(
            environment, "subscription_item", "/v1/subscription_items", params
        )
        found += page.data.get("data") or []
        more = page.data.get("has_more") is True and bool(page.data.get("data"))
    subscription["items"] = {**items, "data": found, "has_more": False}
