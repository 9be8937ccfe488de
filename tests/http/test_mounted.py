"""Billhook inside somebody's own application: own lifespan, own prefix, a given database."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from api import STRIPE_KEY, connect
from billhook import ApiError, AsyncClient, Settings, create_app, prepare_connection, running
from billhook.client import Unreachable
from billhook.errors import SettingsError
from billhook.postgres import Database
from books import Books
from http_tokens import ADMIN_KEY, JWT_SECRET, SIGNING_SECRET, USER, signature, token
from stripe_events import customer, event, payload

PREFIX = "/billing"


@pytest.fixture
def settings(direct_database_url: str, sandbox: str) -> Settings:
    connect(direct_database_url, sandbox, STRIPE_KEY)
    return Settings(
        database_url=SecretStr(direct_database_url),
        jwt_secret=SecretStr(JWT_SECRET),
        access_api_key=SecretStr(ADMIN_KEY),
        stripe_test_webhook_secret=SecretStr(SIGNING_SECRET),
        stripe_api_base=sandbox,
        _env_file=None,
    )


def in_fastapi(settings: Settings) -> Any:
    billhook = create_app(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with running(billhook):
            app.state.started = True
            yield

    app = FastAPI(lifespan=lifespan)
    app.mount(PREFIX, billhook)

    @app.get("/own")
    async def own(request: Request) -> dict[str, bool]:
        return {"started": request.app.state.started}

    return app


def in_starlette(settings: Settings) -> Any:
    billhook = create_app(settings)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with running(billhook):
            app.state.started = True
            yield

    async def own(request: Request) -> JSONResponse:
        return JSONResponse({"started": request.app.state.started})

    return Starlette(routes=[Route("/own", own), Mount(PREFIX, billhook)], lifespan=lifespan)


@pytest.fixture(params=[in_fastapi, in_starlette])
def run(request: pytest.FixtureRequest, settings: Settings) -> Callable[..., Any]:
    """Runs work on the host application while it is up."""

    def within(work: Callable[[httpx.ASGITransport], Coroutine[Any, Any, Any]]) -> Any:
        async def up() -> Any:
            host = request.param(settings)
            async with host.router.lifespan_context(host):
                return await work(httpx.ASGITransport(host))

        return asyncio.run(up())

    return within


def test_the_host_keeps_its_routes_and_billhook_has_its_prefix(run: Callable[..., Any]) -> None:
    async def work(transport: httpx.ASGITransport) -> None:
        async with httpx.AsyncClient(transport=transport, base_url="http://host.test") as http:
            assert (await http.get("/own")).json() == {"started": True}
            assert (await http.get(f"{PREFIX}/api/health")).json()["status"] == "ok"
            assert (await http.get("/api/health")).status_code == 404
            missing = await http.get(f"{PREFIX}/api/nothing")
            assert (missing.status_code, missing.json()["error"]) == (404, "NOT_FOUND")
            described = (await http.get(f"{PREFIX}/openapi.json")).json()
            assert "/api/payments/stripe/status" in described["paths"]
            assert described["servers"] == [{"url": PREFIX}]
            page = (await http.get(f"{PREFIX}/docs")).text
            files = re.findall(r'src="([^"]+)"', page)  # relative to the prefix
            assert files
            for name in files:
                assert (await http.get(f"{PREFIX}/{name}")).is_success

    run(work)


def test_mounted_last_without_a_prefix_its_paths_are_those_that_the_javascript_sdk_calls(
    settings: Settings,
) -> None:
    """The SDK drops the path of its base URL."""

    async def work() -> None:
        billhook = create_app(settings)
        host = FastAPI(lifespan=lambda _: running(billhook))

        @host.get("/api/own")
        async def own() -> str:
            return "the host's"

        host.mount("", billhook)
        transport = httpx.ASGITransport(host)
        async with (
            host.router.lifespan_context(host),
            httpx.AsyncClient(transport=transport, base_url="http://host.test") as http,
        ):
            assert (await http.get("/api/own")).json() == "the host's"
            assert (await http.get("/api/health")).json()["status"] == "ok"
            refused = await http.post("/api/payments/stripe/test/checkout-sessions", json={})
            assert (refused.status_code, refused.json()["error"]) == (
                401,
                "AUTH_INVALID_CREDENTIALS",
            )

    asyncio.run(work())


def test_the_dashboard_stands_below_the_prefix(run: Callable[..., Any]) -> None:
    async def work(transport: httpx.ASGITransport) -> None:
        async with httpx.AsyncClient(
            transport=transport, base_url="http://host.test", follow_redirects=True
        ) as http:
            asked = await http.get(f"{PREFIX}/dashboard")
            assert asked.url.path == f"{PREFIX}/dashboard/sign-in"
            page = await http.post(
                str(asked.url), data={"credential": ADMIN_KEY, "next": "/live/customers"}
            )
            assert page.url.path == f"{PREFIX}/dashboard/live/customers"
            assert 'data-environment="live"' in page.text
            leads = re.findall(r'(?:href|src|action)="(/[^"]*)"', page.text)
            assert all(each.startswith(f"{PREFIX}/dashboard/") for each in leads)
            for each in leads:
                if "sign-out" not in each:
                    assert (await http.get(each)).status_code == 200, each
            foreign = {"origin": "https://evil.example"}
            read = await http.get(f"{PREFIX}/dashboard/test", headers=foreign)
            assert "access-control-allow-origin" not in read.headers

    run(work)


def test_users_buy_and_events_arrive_under_the_prefix(
    run: Callable[..., Any], settings: Settings
) -> None:
    async def work(transport: httpx.ASGITransport) -> None:
        url = f"http://host.test{PREFIX}"
        async with AsyncClient(url, ADMIN_KEY, transport=transport) as admin:
            product = await admin.products.create("test", name="Tea")
            price = await admin.prices.create(
                "test", product_id=product.product_id, currency="eur", unit_amount=1500
            )
        async with AsyncClient(url, token(), transport=transport) as user:
            order = await user.create_checkout_session(
                "test",
                mode="payment",
                line_items=[{"price_id": price.price_id}],
                success_url="https://shop.test/done",
                cancel_url="https://shop.test/cart",
                subject={"type": "user", "id": USER},
            )
            assert order.status == "open"
        body = payload(event("customer.created", customer()))
        async with httpx.AsyncClient(transport=transport, base_url=url) as stripe:
            answer = await stripe.post(
                "/api/webhooks/stripe/test",
                content=body,
                headers={"stripe-signature": signature(body)},
            )
        assert answer.json()["event"]["processingStatus"] == "processed"

    run(work)
    rows = Books(settings.database_url.get_secret_value()).rows("SELECT * FROM payments.customers")
    assert [row["provider_customer_id"] for row in rows] == ["cus_1"]


def test_pages_and_errors_lead_where_the_caller_is(
    run: Callable[..., Any], settings: Settings
) -> None:
    Books(settings.database_url.get_secret_value()).apply(
        *(event("customer.created", customer(f"cus_{n:03d}")) for n in range(120))
    )

    async def work(transport: httpx.ASGITransport) -> None:
        url = f"http://host.test{PREFIX}"
        async with AsyncClient(url, ADMIN_KEY, transport=transport) as admin:
            names = [each.provider_customer_id async for each in admin.customers.all("test")]
            assert names == [f"cus_{n:03d}" for n in range(120)]
            with pytest.raises(ApiError) as caught:
                await admin.products.get("test", "prod_none")
            assert caught.value.code == "PAYMENT_PRODUCT_NOT_FOUND"
        async with httpx.AsyncClient(transport=transport, base_url="http://host.test") as http:
            headers = {"authorization": f"Bearer {ADMIN_KEY}"}
            path = f"{PREFIX}/api/payments/stripe/test/customers"
            first = await http.get(path, params={"limit": 100}, headers=headers)
            # Whoever follows the header as it stands must arrive at the next page, too.
            following = await http.get(first.links["next"]["url"], headers=headers)
            assert len(following.json()["customers"]) == 20

    run(work)


def test_what_billhook_opened_is_closed_with_the_host(
    run: Callable[..., Any], settings: Settings
) -> None:
    async def work(transport: httpx.ASGITransport) -> None:
        async with httpx.AsyncClient(transport=transport, base_url="http://host.test") as http:
            assert (await http.get(f"{PREFIX}/health")).status_code == 200

    run(work)

    async def others(database: Database) -> None:
        async with asyncio.timeout(10), database.connection() as connection:
            # PostgreSQL takes a moment to see that the other side is gone.
            while await connection.fetchval(  # noqa: ASYNC110
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
                "AND application_name = 'billhook' AND pid <> pg_backend_pid()"
            ):
                await asyncio.sleep(0.01)

    Books(settings.database_url.get_secret_value()).run(others)


def test_a_database_that_is_away_stops_the_host_with_a_clear_error(settings: Settings) -> None:
    away = settings.model_copy(
        update={"database_url": SecretStr("postgresql://nobody@127.0.0.1:9/none")}
    )
    host = in_fastapi(away)

    async def up() -> None:
        async with host.router.lifespan_context(host):
            pass

    with pytest.raises(Exception, match="PostgreSQL does not respond"):
        asyncio.run(up())


def test_a_client_of_a_host_without_billhook_says_so() -> None:
    async def work() -> None:
        host = FastAPI()
        transport = httpx.ASGITransport(host)
        async with AsyncClient("http://host.test", ADMIN_KEY, transport=transport) as admin:
            await admin.status()

    with pytest.raises(ApiError, match="not in Billhook's format") as caught:
        asyncio.run(work())
    assert not isinstance(caught.value, Unreachable)


def test_billhook_works_on_the_hosts_own_pool_and_leaves_it_open(settings: Settings) -> None:
    async def up() -> None:
        dsn = settings.database_url.get_secret_value()
        async with asyncpg.create_pool(dsn, min_size=1, max_size=3, init=prepare_connection) as own:
            billhook = create_app(settings, pool=own)
            async with running(billhook):
                transport = httpx.ASGITransport(billhook)
                async with AsyncClient("http://host.test", ADMIN_KEY, transport=transport) as admin:
                    assert (await admin.status()).connections[0].status == "connected"
                others = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'billhook'"
                assert await own.fetchval(others) == 0
            assert await own.fetchval("SELECT 1") == 1

    asyncio.run(up())


def test_a_pool_that_reads_json_otherwise_is_refused_with_the_remedy(settings: Settings) -> None:
    async def up() -> None:
        dsn = settings.database_url.get_secret_value()
        async with (
            asyncpg.create_pool(dsn, min_size=1, max_size=2) as own,
            running(create_app(settings, pool=own)),
        ):
            pass

    with pytest.raises(SettingsError, match=r"init=billhook\.prepare_connection"):
        asyncio.run(up())
