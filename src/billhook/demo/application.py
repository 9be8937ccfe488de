"""The demo shop's pages, and the JSON routes that its script calls."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.templating import Jinja2Templates

from billhook.demo import orders
from billhook.demo.catalog import CURRENCIES, PRODUCTS, product
from billhook.demo.money import money
from billhook.demo.people import PEOPLE, TEAM_ID, TEAM_NAME, Visitor, remember, token, visitor

if TYPE_CHECKING:
    from billhook.demo.orders import Pool

_HERE = Path(__file__).parent

# Nothing from other hosts, nothing inline: a checkout does not need it.
_CONTENT_SECURITY_POLICY = (
    "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)


@dataclass(frozen=True, slots=True)
class DemoConfig:
    """The shop's settings, which any app that uses Billhook needs.

    Attributes:
        dsn: the app's database, in which Billhook keeps its tables too.
        jwt_secret: signs the tokens of the app's users.
        anon_key: what guests call Billhook with.
        path: where the shop is mounted.
    """

    dsn: str
    jwt_secret: str
    anon_key: str
    path: str = "/demo"


@asynccontextmanager
async def open_demo(config: DemoConfig) -> AsyncIterator[Starlette]:
    """The shop, ready to be mounted at `config.path`; its schema is installed first."""
    await orders.install(config.dsn)
    async with asyncpg.create_pool(config.dsn, min_size=1, max_size=5) as pool:
        yield _application(_Shop(config, pool))


def _application(shop: _Shop) -> Starlette:
    return Starlette(
        routes=[
            Route("/", shop.front, name="front"),
            Route("/people", shop.become, methods=["POST"]),
            Route("/session", shop.session),
            Route("/orders", shop.orders),
            Route("/orders", shop.place, methods=["POST"]),
            Route("/orders/{order_id}", shop.order),
            Route("/orders/{order_id}/cancelled", shop.cancelled),
            Route("/orders/{order_id}/status", shop.order_status),
            Route("/team", shop.team),
            Route("/team/status", shop.team_status),
            Mount("/static", StaticFiles(directory=_HERE / "static"), name="static"),
        ]
    )


class _Shop:
    """The handlers; owns the pool and the templates."""

    def __init__(self, config: DemoConfig, pool: Pool) -> None:
        self._config = config
        self._pool = pool
        self._templates = Jinja2Templates(directory=_HERE / "templates")
        self._templates.env.filters["money"] = money

    async def front(self, request: Request) -> Response:
        """The products."""
        currency = request.query_params.get("currency", CURRENCIES[0])
        if currency not in CURRENCIES:
            currency = CURRENCIES[0]
        return self._page(
            request,
            "shop.html",
            currency=currency,
            currencies=CURRENCIES,
            products=[each for each in PRODUCTS if each.kind == "item"],
            prices=await orders.prices(self._pool, currency),
        )

    async def become(self, request: Request) -> Response:
        """Sign in as one of the demo's users, or become a guest again."""
        form = await request.form()
        person = next((each for each in PEOPLE if each.key == form.get("person")), PEOPLE[0])
        back = str(form.get("back", ""))
        if not back.startswith(f"{self._config.path}/"):
            back = f"{self._config.path}/"
        response = RedirectResponse(back, status_code=303)
        remember(response, Visitor(person, visitor(request).guest_id), self._config.path)
        return response

    async def session(self, request: Request) -> Response:
        """The visitor's token: short-lived, requested before each call to Billhook."""
        person = visitor(request).person
        value = token(person, self._config.jwt_secret, self._config.anon_key)
        answer = {"token": value, "userId": person.user_id, "email": person.email}
        return JSONResponse(answer, headers={"Cache-Control": "no-store"})

    async def orders(self, request: Request) -> Response:
        """The visitor's orders."""
        mine = await orders.orders(self._pool, visitor(request))
        return self._page(request, "orders.html", orders=mine, product=product)

    async def place(self, request: Request) -> Response:
        """Store an order before it is paid."""
        try:
            wanted = await request.json()
            slug, currency = str(wanted["product"]), str(wanted["currency"])
            quantity = int(wanted["quantity"])
        except (ValueError, KeyError, TypeError):
            return JSONResponse({"message": "The order is not valid."}, status_code=400)
        if not 1 <= quantity <= 20:
            return JSONResponse({"message": "Choose a quantity between 1 and 20."}, status_code=400)
        thing = product(slug)
        if thing is None or thing.kind != "item":
            return JSONResponse({"message": "This product is not available."}, status_code=404)
        who = visitor(request)
        placed = await orders.place(self._pool, who, slug, currency, quantity)
        if placed is None:
            return JSONResponse({"message": "This product is not available."}, status_code=404)
        response = JSONResponse(_checkout_of(placed, request), status_code=201)
        remember(response, who, self._config.path)
        return response

    async def order(self, request: Request) -> Response:
        """One order, with its current state."""
        return await self._order_page(request, "order.html")

    async def cancelled(self, request: Request) -> Response:
        """The page for customers who canceled the payment."""
        return await self._order_page(request, "cancelled.html")

    async def order_status(self, request: Request) -> Response:
        """The order's status, which its page polls until the trigger has updated it."""
        found = await self._order(request)
        status = found["status"] if found else None
        return JSONResponse(
            {"status": status},
            status_code=200 if found else 404,
            headers={"Cache-Control": "no-store"},
        )

    async def team(self, request: Request) -> Response:
        """The team, its plan and its entitlement."""
        prices = await orders.prices(self._pool, "usd")
        entitlement = await orders.entitlement(self._pool)
        return self._page(
            request,
            "team.html",
            team_id=TEAM_ID,
            team_name=TEAM_NAME,
            members=[each for each in PEOPLE if each.role],
            plan=product("team"),
            price=prices.get("team"),
            entitlement=entitlement,
            state=_state_of(entitlement),
            returned=request.query_params.get("returned") == "1",
        )

    async def team_status(self, request: Request) -> Response:
        """The team's status, which its page polls until the entitlement is there."""
        found = await orders.entitlement(self._pool)
        answer = {"status": _state_of(found)}
        return JSONResponse(answer, headers={"Cache-Control": "no-store"})

    async def _order(self, request: Request) -> asyncpg.Record | None:
        return await orders.order(
            self._pool, visitor(request), str(request.path_params["order_id"])
        )

    async def _order_page(self, request: Request, template: str) -> Response:
        found = await self._order(request)
        if found is None:
            return self._page(request, "missing.html", status=404)
        return self._page(
            request,
            template,
            order=found,
            product=product(found["product"]),
            checkout=_checkout_of(found, request),
            returned=request.query_params.get("returned") == "1",
        )

    def _page(
        self, request: Request, template: str, *, status: int = 200, **context: Any
    ) -> Response:
        who = visitor(request)
        response = self._templates.TemplateResponse(
            request,
            template,
            {"base": self._config.path, "who": who, "people": PEOPLE, **context},
            status_code=status,
            headers={
                "Content-Security-Policy": _CONTENT_SECURITY_POLICY,
                "Cache-Control": "no-store",
                "X-Content-Type-Options": "nosniff",
                "Referrer-Policy": "same-origin",
            },
        )
        remember(response, who, self._config.path)
        return response


def _state_of(entitlement: asyncpg.Record | None) -> str:
    """Everything that the team's page shows of the entitlement, as one text to compare."""
    if entitlement is None:
        return "none"
    shown = ("status", "current_period_end", "ends_at", "collection_paused")
    return " ".join(str(entitlement[name]) for name in shown)


def _checkout_of(order: asyncpg.Record, request: Request) -> dict[str, Any]:
    """What the page needs to create a checkout for `order`. The idempotency key belongs to the
    order: a double click, a reload or a second tab leads to the same session, which is paid once.
    It contains the host, because the return URLs are part of the request. After a payment that
    failed permanently, the session cannot be used again, so its id becomes part of the key. Guests
    may not read earlier sessions (they share one role), so each page view has its own key.
    """
    key = f"order-{order['id']}@{request.url.netloc}"
    if order["status"] == "failed":
        key += f"-after-{order['checkout_session_id']}"
    if order["user_id"] is None:
        key += f"-{secrets.token_hex(4)}"
    return {
        "orderId": order["id"],
        "priceId": order["price_id"],
        "quantity": order["quantity"],
        "idempotencyKey": key[:200],
    }
