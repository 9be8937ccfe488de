"""The sandbox as an ASGI app: API, hosted pages, controls."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from billhook_sandbox.api import (
    accounts,
    balance,
    billing_portal,
    charges,
    checkout_sessions,
    coupons,
    customers,
    disputes,
    entitlements,
    events,
    invoice_items,
    invoices,
    payment_intents,
    payment_methods,
    payment_pages,
    prices,
    products,
    refunds,
    setup_intents,
    subscription_items,
    subscriptions,
    test_clocks,
    webhook_endpoints,
)
from billhook_sandbox.clock import Clock
from billhook_sandbox.controls import Controls
from billhook_sandbox.ids import Ids
from billhook_sandbox.local_access import LocalAccess
from billhook_sandbox.options import Options
from billhook_sandbox.pages.checkout_page import CheckoutPage
from billhook_sandbox.pages.portal_page import PortalPage
from billhook_sandbox.pages.rendering import HERE, Pages
from billhook_sandbox.request_handler import RequestHandler
from billhook_sandbox.routing import Operation, Routes
from billhook_sandbox.state import SandboxState

OPERATIONS: tuple[Operation, ...] = (
    *accounts.OPERATIONS,
    *balance.OPERATIONS,
    *billing_portal.OPERATIONS,
    *charges.OPERATIONS,
    *checkout_sessions.OPERATIONS,
    *coupons.OPERATIONS,
    *disputes.OPERATIONS,
    *entitlements.OPERATIONS,
    *payment_intents.OPERATIONS,
    *customers.OPERATIONS,
    *events.OPERATIONS,
    *invoice_items.OPERATIONS,
    *invoices.OPERATIONS,
    *payment_methods.OPERATIONS,
    *payment_pages.OPERATIONS,
    *prices.OPERATIONS,
    *products.OPERATIONS,
    *refunds.OPERATIONS,
    *setup_intents.OPERATIONS,
    *subscription_items.OPERATIONS,
    *subscriptions.OPERATIONS,
    *test_clocks.OPERATIONS,
    *webhook_endpoints.OPERATIONS,
)


def create_sandbox(
    options: Options | None = None,
    clock: Clock | None = None,
    entropy: Callable[[int], bytes] = os.urandom,
) -> Starlette:
    state = SandboxState(options or Options(), clock or Clock(), Ids(entropy))

    pages = Pages()

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await state.dispatcher.start()
        running = asyncio.create_task(state.run())
        yield
        running.cancel()
        await state.dispatcher.stop()

    return Starlette(
        routes=[
            *Controls(state).routes(),
            *CheckoutPage(state, pages).routes(),
            *PortalPage(state, pages).routes(),
            Mount("/_pages", app=StaticFiles(directory=HERE / "static")),
            Mount("/", app=RequestHandler(state, Routes(OPERATIONS))),
        ],
        middleware=[Middleware(LocalAccess, state.options)],
        lifespan=lifespan,
    )
