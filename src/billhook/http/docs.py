"""`/openapi.json`, and `/docs`: a page that shows it without asking any other host."""

from __future__ import annotations

from html import escape
from typing import Any

import orjson
from fastapi import APIRouter, FastAPI, Request
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse
from pydantic.json_schema import models_json_schema

from billhook import __version__
from billhook.models import CreateCheckoutSession, CreateCustomerPortalSession

router = APIRouter(include_in_schema=False)

_REFERENCE = "#/components/schemas/{model}"
_EXAMPLES = {
    "CreateCheckoutSession": {
        "mode": "payment",
        "lineItems": [{"priceId": "price_1Q2w3E4r5T", "quantity": 1}],
        "successUrl": "https://shop.example/done?session={CHECKOUT_SESSION_ID}",
        "cancelUrl": "https://shop.example/cart",
        "subject": {"type": "team", "id": "8c5b6c1e-3f0e-4a55-9a31-0c6e3f1f7a10"},
        "metadata": {"order_id": "1001"},
        "idempotencyKey": "order-1001",
    },
    "CreateCustomerPortalSession": {
        "subject": {"type": "team", "id": "8c5b6c1e-3f0e-4a55-9a31-0c6e3f1f7a10"},
        "returnUrl": "https://shop.example/account",
    },
}


def install(app: FastAPI) -> None:
    """Describe every route of `app`, bodies that we parse ourselves included."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _openapi(app)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
    app.include_router(router)


def _openapi(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(
        title="Billhook",
        version=__version__,
        description="Stripe payments on your own PostgreSQL.",
        routes=app.routes,
    )
    _, bodies = models_json_schema(
        [(CreateCheckoutSession, "validation"), (CreateCustomerPortalSession, "validation")],
        by_alias=True,
        ref_template=_REFERENCE,
    )
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for name, schema in bodies["$defs"].items():
        schemas.setdefault(name, schema)
    for name, example in _EXAMPLES.items():
        schemas[name]["examples"] = [example]
    return document


@router.get("/docs")
async def docs(request: Request) -> HTMLResponse:
    """The routes as a page."""
    document = request.app.openapi()
    sections = [
        _section(method.upper(), path, operation)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    ]
    return HTMLResponse(_PAGE.format(version=__version__, sections="".join(sections)))


def _section(method: str, path: str, operation: dict[str, Any]) -> str:
    schema = (
        operation.get("requestBody", {})
        .get("content", {})
        .get("application/json", {})
        .get("schema", {})
    )
    example = _EXAMPLES.get(schema.get("$ref", "").rpartition("/")[2])
    shown = ""
    if example is not None:
        pretty = orjson.dumps(example, option=orjson.OPT_INDENT_2).decode()
        shown = f"<pre>{escape(pretty)}</pre>"
    answers = "".join(
        f"<li><b>{escape(status)}</b> {escape(answer.get('description', ''))}</li>"
        for status, answer in operation["responses"].items()
    )
    return (
        f"<section><h2><code>{method} {escape(path)}</code></h2>"
        f"<p>{escape(operation.get('summary', ''))}. {escape(operation.get('description', ''))}</p>"
        f"{shown}<ul>{answers}</ul></section>"
    )


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Billhook API</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 50rem; margin: 2rem auto; }}
section {{ border-top: 1px solid #8884; padding: 1rem 0; }}
h2 {{ font-size: 1rem; overflow-wrap: anywhere; }}
pre {{ background: #8882; padding: 1rem; border-radius: .5rem; overflow: auto; }}
</style></head>
<body><h1>Billhook API {version}</h1>
<p>Machine-readable: <a href="openapi.json">openapi.json</a>.</p>{sections}</body></html>"""
