"""Which pages and scripts of other origins may read what Billhook answers."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from billhook.app import create_app
from billhook.dev import _mount
from billhook.settings import Settings
from http_tokens import JWT_SECRET


@pytest.mark.parametrize(
    ("path", "is_allowed"),
    [("/api/nothing", True), ("/demo/session", False), ("/dashboard", False), ("/docs", False)],
)
def test_other_origins_may_read_the_api_and_not_what_cookies_open(
    path: str, is_allowed: bool
) -> None:
    settings: dict[str, Any] = {
        "database_url": SecretStr("postgresql://u@h/d"),
        "jwt_secret": SecretStr(JWT_SECRET),
    }
    app = create_app(Settings(**settings, _env_file=None))
    _mount(app, Starlette(routes=[Route("/session", lambda _: PlainTextResponse("a token"))]))
    origin = {"origin": "http://127.0.0.1:3000"}

    async def work() -> None:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://host.test") as http:
            answer = await http.get(path, headers=origin)
            asked = {**origin, "access-control-request-method": "POST"}
            preflight = await http.options(path, headers=asked)
        for each in (answer, preflight):
            assert ("access-control-allow-origin" in each.headers) == is_allowed

    asyncio.run(work())
