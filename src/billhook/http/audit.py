"""The audit log (beyond the contract)."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from billhook.access.permissions import filters
from billhook.http.openapi import errors
from billhook.http.routes import Admin, answer, page_headers
from billhook.models import AuditEntries, AuditQuery
from billhook.reports import lists
from billhook.services import ServicesOf

router = APIRouter(prefix="/api/payments/stripe/audit-log", tags=["Audit log"])


@router.get("", response_model=AuditEntries, responses=errors(400, 401, 403, 503))
@filters("admin")
async def audit_log(
    sender: Admin,
    request: Request,
    services: ServicesOf,
    query: Annotated[AuditQuery, Query()],
) -> Response:
    """List who changed what, newest first, through the API, the dashboard or the command line. A
    key for one environment sees the changes in that environment. The `Link` header contains the
    next page."""
    assert sender.grant is not None
    page = await lists.audit_log(services.database, sender.grant, query)
    return answer(AuditEntries(entries=page.rows), headers=page_headers(request, page))
