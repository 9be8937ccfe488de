"""`make run`: PostgreSQL, the Stripe sandbox and the API on this machine, nothing to install.

State is kept in one folder and survives restarts and `kill -9`. The sandbox is a process of its
own that ends with ours, however we end: it watches its standard input, which only we hold open.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import orjson
import stripe
import uvicorn
from fastapi import FastAPI
from fastapi.responses import RedirectResponse
from pydantic import SecretStr
from rich.console import Console
from rich.panel import Panel

from billhook import logs
from billhook.app import create_app
from billhook.db import embedded
from billhook.demo.application import DemoConfig, open_demo
from billhook.demo.catalog import PRODUCTS, Price, Product, lookup_key, offer
from billhook.errors import BillhookError
from billhook.projections import PROJECTIONS
from billhook.settings import Settings

_STRIPE_KEY = "sk_test_billhook_sandbox"
_READY = "billhook sandbox: "


def run(state: Path, port: int) -> None:
    """Start everything, print what to do, and serve until interrupted.

    Raises:
        BillhookError: the port is taken, or a part could not be started; says which.
    """
    console = Console()
    state = state.resolve()
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    _require_free(port)
    try:
        postgres = embedded.start(state / "postgres")
    except embedded.EmbeddedPostgresError as error:
        raise BillhookError(str(error)) from error
    keys = _keys(state / "keys.json")
    with _sandbox(state / "sandbox.sqlite") as stripe_url:
        address = f"http://127.0.0.1:{port}"
        settings = _settings(postgres.create_database("billhook"), keys, stripe_url, address, port)
        console.print(_summary(address, stripe_url, keys, state))
        logs.configure(settings)
        dsn = settings.database_url.get_secret_value()
        shop = DemoConfig(dsn, keys["jwt_secret"], keys["anonymous_key"])
        app = _with_demo(create_app(settings), shop, _prices(stripe_url))
        uvicorn.run(app, host="127.0.0.1", port=port, log_config=None)
    postgres.stop()


def _keys(path: Path) -> dict[str, str]:
    """Made once, readable by the owner alone."""
    if not path.exists():
        made = {
            "jwt_secret": secrets.token_hex(32),
            "encryption_key": secrets.token_hex(32),
            "admin_key": f"ik_{secrets.token_hex(24)}",
            "anonymous_key": f"anon_{secrets.token_hex(24)}",
        }
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(handle, "wb") as file:
            file.write(orjson.dumps(made))
    return dict(orjson.loads(path.read_bytes()))


@contextlib.contextmanager
def _sandbox(data: Path) -> Iterator[str]:
    process = subprocess.Popen(  # noqa: S603
        [
            *(sys.executable, "-m", "billhook.sandbox", "--until-stdin-closes"),
            *("--port", "0", "--data", str(data)),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        line = process.stdout.readline() if process.stdout else ""
        if not line.startswith(_READY):
            raise BillhookError("The Stripe sandbox did not start; its own message is above.")
        yield line.removeprefix(_READY).strip()
    finally:
        process.terminate()
        process.wait(10)


def _settings(dsn: str, keys: dict[str, str], stripe_url: str, address: str, port: int) -> Settings:
    return Settings(
        database_url=SecretStr(dsn),
        jwt_secret=SecretStr(keys["jwt_secret"]),
        encryption_key=SecretStr(keys["encryption_key"]),
        access_api_key=SecretStr(keys["admin_key"]),
        access_anon_key=SecretStr(keys["anonymous_key"]),
        stripe_test_secret_key=SecretStr(_STRIPE_KEY),
        stripe_test_webhook_secret=SecretStr(_endpoint(stripe_url, address)),
        stripe_api_base=stripe_url,
        public_url=address,
        port=port,
        log_level="warning",
    )


def _endpoint(stripe_url: str, address: str) -> str:
    """Have the sandbox send its events to us. Returns the endpoint's signing secret."""
    client = stripe.StripeClient(_STRIPE_KEY, base_addresses={"api": stripe_url})
    for old in client.v1.webhook_endpoints.list().auto_paging_iter():
        client.v1.webhook_endpoints.delete(old.id)
    endpoint = client.v1.webhook_endpoints.create(
        {
            "url": f"{address}/api/webhooks/stripe/test",
            "enabled_events": list(PROJECTIONS),  # type: ignore[arg-type]
            "api_version": stripe.api_version,  # type: ignore[typeddict-item]
        }
    )
    if endpoint.secret is None:
        raise BillhookError("The sandbox gave no signing secret for its webhook endpoint.")
    return endpoint.secret


def _with_demo(app: FastAPI, shop: DemoConfig, prices: list[Price]) -> FastAPI:
    """Mount the demo shop once the schema that it builds upon is there."""
    start_api = app.router.lifespan_context

    @contextlib.asynccontextmanager
    async def lifespan(running: FastAPI) -> AsyncIterator[None]:
        async with start_api(running), open_demo(shop) as demo:
            await offer(shop.dsn, prices)
            running.mount(shop.path, demo)
            yield

    async def enter() -> RedirectResponse:
        return RedirectResponse(f"{shop.path}/")

    app.add_api_route(shop.path, enter, include_in_schema=False)
    app.router.lifespan_context = lifespan
    return app


def _prices(stripe_url: str) -> list[Price]:
    """What the shop sells, at the sandbox: made once, found again by id and lookup key."""
    client = stripe.StripeClient(_STRIPE_KEY, base_addresses={"api": stripe_url})
    there = {product.id for product in client.v1.products.list().auto_paging_iter()}
    found = []
    for product in PRODUCTS:
        if product.stripe_id not in there:
            client.v1.products.create({"id": product.stripe_id, "name": product.name})
        for currency, amount in product.amounts.items():
            key = lookup_key(product.slug, currency)
            known = client.v1.prices.list({"lookup_keys": [key]}).data
            price_id = known[0].id if known else _price(client, product, currency, amount)
            found.append(Price(product.slug, currency, price_id, amount))
    return found


def _price(client: stripe.StripeClient, product: Product, currency: str, amount: int) -> str:
    price: stripe.params.PriceCreateParams = {
        "product": product.stripe_id,
        "currency": currency,
        "unit_amount": amount,
        "lookup_key": lookup_key(product.slug, currency),
    }
    if product.kind == "plan":
        price["recurring"] = {"interval": "month"}
    return client.v1.prices.create(price).id


def _require_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise BillhookError(
                f"Port {port} is taken.",
                next_actions=f"Stop what listens there, or: billhook dev --port {port + 1}",
            ) from None


def _summary(address: str, stripe_url: str, keys: dict[str, str], state: Path) -> Panel:
    lines = [
        f"Demo shop      {address}/demo   ← begin here: choose, pay, see the order turn paid",
        f"API            {address}   ({address}/docs describes it)",
        f"Stripe sandbox {stripe_url}   key {_STRIPE_KEY}",
        f"Admin key      {keys['admin_key']}",
        f"Anonymous key  {keys['anonymous_key']}",
        f"State          {state} (delete it to begin anew)",
        "",
        "Cards: 4242 4242 4242 4242 pays, 4000 0000 0000 0002 is declined.",
        "Stop with Ctrl-C.",
    ]
    return Panel("\n".join(lines), title="Billhook", expand=False)
