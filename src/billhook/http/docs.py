"""`/docs`: the API's description as a page to try it out (Swagger UI, included in Billhook). It
loads nothing from other hosts."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from fastapi import APIRouter
from starlette.responses import FileResponse, HTMLResponse

router = APIRouter(include_in_schema=False)

_FILES = Path(__file__).with_name("swagger_ui")
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Billhook API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<noscript><p>This page needs JavaScript. The API is described in
<a href="openapi.json">openapi.json</a>.</p></noscript>
<div id="swagger-ui"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
_HEADERS = {
    # Swagger UI sets styles on elements, and its icons are data.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; connect-src 'self'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}


@router.get("/docs")
async def docs() -> HTMLResponse:
    """The routes and models as a page."""
    return HTMLResponse(_PAGE, headers=_HEADERS)


@router.get("/docs/{name}")
async def docs_file(
    name: Literal["swagger-ui.css", "swagger-ui-bundle.js", "start.js"],
) -> FileResponse:
    """A file of the page."""
    return FileResponse(_FILES / name, headers={"Cache-Control": "max-age=3600"} | _HEADERS)
