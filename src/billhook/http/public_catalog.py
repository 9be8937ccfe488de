"""The catalog for pricing pages: without credentials, for browsers and caches (beyond the
contract)."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from billhook.errors import NotFound
from billhook.http.openapi import errors
from billhook.http.routes import NO_QUERY
from billhook.models import PublicCatalog
from billhook.services import ServicesOf
from billhook.settings import Environment

_FRESH = "public, max-age=60"

router = APIRouter(prefix="/api/payments/stripe/{environment}", tags=["Catalog"])


@router.get(
    "/public-catalog",
    dependencies=NO_QUERY,
    response_model=PublicCatalog,
    responses={304: {"description": "The catalog has not changed."}, **errors(400, 404, 503)},
    openapi_extra={"security": []},
)
async def public_catalog(
    environment: Environment, request: Request, services: ServicesOf
) -> Response:
    """List the active products with their active prices, for a pricing page. No credentials are
    needed, and the response may be cached. It does not include metadata.

    This route returns a 404 unless `BILLHOOK_PUBLIC_CATALOG` is true.
    """
    if not services.settings.public_catalog:
        raise NotFound(
            "The public catalog is off.",
            next_actions="To show active products and prices to anyone, set "
            "BILLHOOK_PUBLIC_CATALOG=true.",
        )
    found = await services.public_catalogs.offered(environment)
    headers = {"etag": found.tag, "cache-control": _FRESH}
    if _is_known(request.headers.get("if-none-match", ""), found.tag):
        return Response(status_code=304, headers=headers)
    return Response(found.body, headers=headers, media_type="application/json")


def _is_known(if_none_match: str, tag: str) -> bool:
    known = {each.strip().removeprefix("W/") for each in if_none_match.split(",")}
    return bool(known & {tag, "*"})
