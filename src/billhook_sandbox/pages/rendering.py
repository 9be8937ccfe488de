"""Renders the templates, with the headers of all pages."""

from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qsl

from jinja2 import Environment, FileSystemLoader
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from billhook_sandbox.pages.formatting import (
    billing_interval,
    grouped,
    initial,
    money,
    unit_price,
)

HERE = Path(__file__).parent
HEADERS = {
    # No `form-action`: browsers also apply it to the redirect to another site after a payment.
    # Images of products come from this machine, or are not shown.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; "
        "img-src 'self' http://localhost:* http://127.0.0.1:*; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    # Not `no-referrer`: browsers then send forms with the origin `null`.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


def date(timestamp: int) -> str:
    moment = datetime.fromtimestamp(timestamp, UTC)
    return f"{moment:%B} {moment.day}, {moment.year}"


class Pages:
    def __init__(self) -> None:
        self.templates = Environment(loader=FileSystemLoader(HERE / "templates"), autoescape=True)
        self.templates.filters.update(
            billing_interval=billing_interval,
            date=date,
            grouped=grouped,
            initial=initial,
            unit_price=unit_price,
        )
        self.templates.globals["money"] = money

    def show(self, template: str, status: int = 200, **values: object) -> Response:
        body = self.templates.get_template(template).render(**values)
        return HTMLResponse(body, status, HEADERS)

    def notice(
        self,
        title: str,
        text: str,
        link: str | None = None,
        merchant: str | None = None,
        status: int = 200,
    ) -> Response:
        values = {"title": title, "text": text, "link": link, "merchant": merchant}
        return self.show("notice.html", status, **values)


def redirect(url: str) -> Response:
    return RedirectResponse(url, 303, HEADERS)


async def read_form(request: Request) -> dict[str, str]:
    encoded = (await request.body()).decode(errors="replace")
    return {name: value.strip() for name, value in parse_qsl(encoded, keep_blank_values=True)}
