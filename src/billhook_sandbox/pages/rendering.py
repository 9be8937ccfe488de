"""Templates, and the headers that every page carries."""

from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qsl

from jinja2 import Environment, FileSystemLoader
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from billhook_sandbox.pages.formatting import every, money

HERE = Path(__file__).parent
HEADERS = {
    # No `form-action`: browsers apply it to the redirect after paying, which leaves this site.
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def day(moment: int) -> str:
    found = datetime.fromtimestamp(moment, UTC)
    return f"{found.day} {found:%B %Y}"


class Pages:
    def __init__(self) -> None:
        self.templates = Environment(loader=FileSystemLoader(HERE / "templates"), autoescape=True)
        self.templates.filters.update(day=day, every=every)
        self.templates.globals["money"] = money

    def show(self, template: str, status: int = 200, **values: object) -> Response:
        body = self.templates.get_template(template).render(**values)
        return HTMLResponse(body, status, HEADERS)

    def notice(self, title: str, text: str, link: str | None = None, status: int = 200) -> Response:
        return self.show("notice.html", status, title=title, text=text, link=link)


def go(url: str) -> Response:
    return RedirectResponse(url, 303, HEADERS)


async def form_of(request: Request) -> dict[str, str]:
    encoded = (await request.body()).decode(errors="replace")
    return {name: value.strip() for name, value in parse_qsl(encoded, keep_blank_values=True)}
