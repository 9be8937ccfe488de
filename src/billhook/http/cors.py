"""CORS: any origin may call, with credentials headers (contract section 1; the browser SDK).

Nothing here is authenticated by cookies, so an origin gains nothing but what its token allows.
"""

from __future__ import annotations

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware


def install(app: FastAPI) -> None:
    """Echo the caller's origin and allow whatever headers it asks for."""
    app.add_middleware(
        CORSMiddleware,
        allow_origin_regex=".*",
        allow_credentials=True,
        allow_methods=["*"],
        allow_headers=["*"],
        expose_headers=["link", "retry-after"],
        max_age=600,
    )
