"""docs/reference/python.md: its code runs as it stands there."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from api import STRIPE_KEY, Api, connect
from http_tokens import ADMIN_KEY, JWT_SECRET, token
from stripe_events import customer, event

PAGE = Path(__file__).parents[2] / "docs/reference/python.md"


def block(holding: str) -> str:
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.M | re.S)
    (found,) = (each for each in blocks if holding in each)
    return str(found)


def test_the_mounted_application_starts_and_answers(
    database_url: str, sandbox: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    connect(database_url, sandbox, STRIPE_KEY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("JWT_SECRET", JWT_SECRET)
    monkeypatch.setenv("STRIPE_API_BASE", sandbox)
    names: dict[str, Any] = {}
    exec(block("app.mount"), names)
    app = names["app"]

    async def work() -> None:
        async with app.router.lifespan_context(app):
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://host.test") as http:
                assert (await http.get("/billing/api/health")).status_code == 200

    asyncio.run(work())


def test_the_clients_code_runs(api: Api, capsys: pytest.CaptureFixture[str]) -> None:
    assert api.deliver(event("customer.created", customer())).is_success
    operator = block("products.create").replace("https://pay.example", api.url)
    exec(operator.replace("ik_…", ADMIN_KEY), {})
    assert "cus_1@example.com None None" in capsys.readouterr().out
    names: dict[str, Any] = {}
    exec(block("async def buy").replace("https://pay.example", api.url), names)
    price = api.admin("GET", "/test/catalog/prices").json()["prices"][0]["priceId"]
    url = asyncio.run(names["buy"](token(), price, "1001"))
    assert url.startswith("http")
