"""`/docs`: the API's description as a page that loads nothing from other hosts."""

from __future__ import annotations

from html import escape
from typing import Any

import orjson
from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse

router = APIRouter(include_in_schema=False)

_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
details { border: 1px solid #8885; border-radius: .5rem; margin: .6rem 0; padding: .6rem 1rem; }
summary { cursor: pointer; font-family: ui-monospace, monospace; overflow-wrap: anywhere; }
summary b { display: inline-block; min-width: 4.5rem; }
pre { background: #8881; padding: .8rem; border-radius: .4rem; overflow: auto; font-size: .85rem; }
td { vertical-align: top; padding: .15rem .8rem .15rem 0; }
"""


@router.get("/docs")
async def docs(request: Request) -> HTMLResponse:
    """The routes and models as a page."""
    return HTMLResponse(render(request.app.openapi()))


def render(document: dict[str, Any]) -> str:
    """An OpenAPI document as HTML."""
    info = document["info"]
    operations = "".join(
        _operation(method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    )
    schemas = "".join(
        f'<details id="{escape(name)}"><summary>{escape(name)}</summary>{_json(schema)}</details>'
        for name, schema in document["components"]["schemas"].items()
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(info['title'])} API</title><style>{_STYLE}</style></head><body>"
        f"<h1>{escape(info['title'])} {escape(info['version'])}</h1>"
        f"<p>{escape(info.get('summary', ''))}. {escape(info.get('description', ''))}</p>"
        '<p>OpenAPI document: <a href="openapi.json">openapi.json</a></p>'
        f"<h2>Routes</h2>{operations}<h2>Models</h2>{schemas}</body></html>"
    )


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    parts = [f"<p>{escape(operation.get('description', operation.get('summary', '')))}</p>"]
    body = operation.get("requestBody")
    if body:
        content = body["content"]["application/json"]
        parts.append(f"<h4>Request</h4>{_schema_link(content.get('schema', {}))}")
        parts += [
            f"<p>{escape(example['summary'])}</p>{_json(example['value'])}"
            for example in content.get("examples", {}).values()
        ]
        if "example" in content:
            parts.append(_json(content["example"]))
    rows = "".join(_response(*item) for item in operation["responses"].items())
    parts.append(f"<h4>Answers</h4><table>{rows}</table>")
    return (
        f"<details><summary><b>{escape(method.upper())}</b> {escape(path)}</summary>"
        f"{''.join(parts)}</details>"
    )


def _response(status: str, response: dict[str, Any]) -> str:
    content = response.get("content", {}).get("application/json", {})
    example = content.get("example")
    shown = _json(example) if example else _schema_link(content.get("schema", {}))
    return (
        f"<tr><td><b>{escape(status)}</b></td>"
        f"<td>{escape(response.get('description', ''))}{shown}</td></tr>"
    )


def _schema_link(schema: dict[str, Any]) -> str:
    name = schema.get("$ref", "").rpartition("/")[2]
    return f' <a href="#{escape(name)}">{escape(name)}</a>' if name else ""


def _json(value: object) -> str:
    return f"<pre>{escape(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())}</pre>"
