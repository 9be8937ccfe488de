"""The Stripe sandbox of `billhook dev`: its process, and the demo shop's products in it."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import stripe

from billhook.demo import PRODUCTS, Price, Product, lookup_key
from billhook.dev.listening import Listener
from billhook.errors import BillhookError

_READY = "billhook sandbox: "


@dataclass(frozen=True, slots=True)
class Sandbox:
    """The running process, its URL and its log file."""

    process: asyncio.subprocess.Process
    url: str
    log: Path


@contextlib.asynccontextmanager
async def start_sandbox(
    at: Listener, data: Path, folder: Path, *, begin_ago: int = 0
) -> AsyncIterator[Sandbox]:
    """A sandbox process; yields when it is ready.

    It stops when its standard input closes, so it ends with this process, even by SIGKILL.

    Args:
        begin_ago: seconds by which the clock of a new sandbox is behind real time.
    """
    log = folder / "sandbox.log"
    at.socket.close()  # it only reserved the port
    with log.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            # -P: no file of the current folder is imported.
            *(sys.executable, "-P", "-m", "billhook_sandbox", "--until-stdin-closes"),
            *("--host", at.host, "--port", str(at.port), "--data", str(data)),
            *("--begin-ago", str(begin_ago)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            start_new_session=True,  # Ctrl-C must not reach it: it stops last
        )
    try:
        line = (await process.stdout.readline()).decode() if process.stdout else ""
        if not line.startswith(_READY):
            output = log.read_text(errors="replace").strip().splitlines()[-5:]
            raise BillhookError("\n".join(["The Stripe sandbox did not start.", *output]))
        yield Sandbox(process, line.removeprefix(_READY).strip(), log)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def seed(stripe_url: str, key: str) -> list[Price]:
    """The demo shop's prices; creates the products and prices that do not exist yet."""
    client = client_of(stripe_url, key)
    ids = [product.stripe_id for product in PRODUCTS]
    there = {each.id for each in (await client.v1.products.list_async({"ids": ids})).data}
    keys = {lookup_key(p.slug, currency): p for p in PRODUCTS for currency in p.amounts}
    prices: dict[str, str] = {}
    for some in _tens(list(keys)):  # Stripe takes ten lookup keys at a time
        found = await client.v1.prices.list_async({"lookup_keys": some, "limit": 100})
        prices |= {each.lookup_key: each.id for each in found.data if each.lookup_key}
    for product in PRODUCTS:
        if product.stripe_id not in there:
            await client.v1.products.create_async(
                {
                    "id": product.stripe_id,
                    "name": product.name,
                    "description": product.blurb,
                }
            )
        for currency in product.amounts:
            wanted = lookup_key(product.slug, currency)
            if wanted not in prices:
                prices[wanted] = await _price(client, product, currency)
    return [
        Price(product.slug, currency, prices[lookup_key(product.slug, currency)], amount)
        for product in PRODUCTS
        for currency, amount in product.amounts.items()
    ]


async def show_pictures(stripe_url: str, key: str, shop: str) -> None:
    """Give the products their pictures, which the shop serves. Its port may change between runs."""
    client = client_of(stripe_url, key)
    pictures = {p.stripe_id: f"{shop}{p.picture}" for p in PRODUCTS if p.picture}
    for product in (await client.v1.products.list_async({"ids": list(pictures)})).data:
        if product.images != [pictures[product.id]]:
            await client.v1.products.update_async(product.id, {"images": [pictures[product.id]]})


async def name_account(stripe_url: str, key: str, name: str) -> None:
    """The name that customers see on the sandbox's pages."""
    async with httpx.AsyncClient(base_url=stripe_url, trust_env=False) as http:
        answer = await http.post("/_sandbox/account", json={"key": key, "name": name})
        answer.raise_for_status()


async def _price(client: stripe.StripeClient, product: Product, currency: str) -> str:
    price: stripe.params.PriceCreateParams = {
        "product": product.stripe_id,
        "currency": currency,
        "unit_amount": product.amounts[currency],
        "lookup_key": lookup_key(product.slug, currency),
    }
    if product.kind == "plan":
        price["recurring"] = {"interval": "month"}
    return (await client.v1.prices.create_async(price)).id


def client_of(stripe_url: str, key: str) -> stripe.StripeClient:
    """A client for the API of a sandbox."""
    return stripe.StripeClient(
        key, base_addresses={"api": stripe_url}, http_client=stripe.HTTPXClient()
    )


def _tens(values: list[str]) -> list[list[str]]:
    return [values[i : i + 10] for i in range(0, len(values), 10)]
