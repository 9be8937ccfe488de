"""A browser page of whose errors, and of what it asks others for, a list is kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, ConsoleMessage, Page, Request


@contextmanager
def watched(browser: Browser, **options: Any) -> Iterator[Page]:
    """A page in a context that nobody used before. It must find all it needs on this machine, and
    keep its own content security policy."""
    context = browser.new_context(**options)
    context.set_default_timeout(20_000)
    page = context.new_page()
    wrong: list[str] = []

    def asks(request: Request) -> None:
        if not request.url.startswith(("http://127.0.0.1:", "data:")):
            wrong.append(f"asked elsewhere: {request.url}")

    def says(message: ConsoleMessage) -> None:
        if "Content Security Policy" in message.text:
            wrong.append(message.text)

    page.on("request", asks)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", says)
    yield page
    context.close()
    assert wrong == []
