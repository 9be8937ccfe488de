"""A browser without a screen: it keeps cookies, and sends forms with what the page holds."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import httpx

from http_tokens import ADMIN_KEY

_CSRF = re.compile(r'name="csrf" value="([^"]+)"')


class Visitor:
    """Somebody who looks at the dashboard of a running Billhook."""

    def __init__(self, url: str) -> None:
        self.http = httpx.Client(base_url=f"{url}/dashboard", timeout=60)

    def sign_in(self, credential: str = ADMIN_KEY, **fields: str) -> httpx.Response:
        return self.http.post("/sign-in", data={"credential": credential, **fields})

    def get(self, path: str, **more: Any) -> httpx.Response:
        return self.http.get(path, **more)

    def read(self, path: str) -> str:
        """A page that is there, as its HTML."""
        answer = self.http.get(path)
        assert answer.status_code == 200, (answer.status_code, answer.text)
        return answer.text

    def text(self, path: str) -> str:
        """What a person reads on a page."""
        return said(self.read(path))

    def csrf(self) -> str:
        found = _CSRF.search(self.read("/test/keys"))
        assert found is not None
        return found[1]

    def send(
        self, path: str, headers: dict[str, str] | None = None, **fields: Any
    ) -> httpx.Response:
        """Send a form as the page would, and don't follow where it leads."""
        data = {"csrf": self.csrf(), **fields}
        return self.http.post(path, data=data, headers=headers)

    def do(self, path: str, **fields: Any) -> str:
        """Send a form, follow it, and return what the next page says."""
        answer = self.send(path, **fields)
        assert answer.status_code == 303, (answer.status_code, said(answer.text))
        followed = self.http.get(
            httpx.URL(answer.headers["location"]).raw_path.decode().removeprefix("/dashboard")
        )
        assert followed.status_code == 200
        return said(followed.text)


def said(html: str) -> str:
    """The text of a page, spaces folded."""
    without = re.sub(r"<(script|style)\b.*?</\1>", " ", html, flags=re.S)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", without)).split())
