"""`python src/billhook/client/generate.py`: generates `_sync` from `_async`.

The two differ only in `async` and `await`, so one is written and the other generated. A test
compares them.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

_WORDS = (
    (r"asyncio\.sleep", "time.sleep"),
    (r"import asyncio\nimport random", "import random\nimport time"),
    (r"AsyncIterator, Awaitable, Callable", "Callable, Iterator"),
    (r"AsyncIterator", "Iterator"),
    (r"Awaitable\[(Page\[T\])\]", r"\1"),
    (r"AsyncBaseTransport", "BaseTransport"),
    (r"httpx\.AsyncClient", "httpx.Client"),
    (r"for item in page\.items:\n +yield item", "yield from page.items"),
    (r"\bAsyncClient\b", "Client"),
    (r"\bAsync(?=[A-Z])", "Sync"),
    (r"\b_async\b", "_sync"),
    (r"\basync (def|with|for)\b", r"\1"),
    (r"`async with`", "`with`"),
    (r"\bawait ", ""),
    (r"__aenter__", "__enter__"),
    (r"__aexit__", "__exit__"),
    (r"\baclose\b", "close"),
    (r"The asynchronous client\.", "The synchronous client."),
)
_HEAD = "# Generated from {source} by `python src/billhook/client/generate.py`; don't edit.\n"


def translate(name: str, source: str) -> str:
    """The synchronous form of the asynchronous module `name`."""
    for pattern, word in _WORDS:
        source = re.sub(pattern, word, source)
    return _HEAD.format(source=f"_async/{name}") + source


def write(target: Path) -> None:
    """Make every module of `_sync` in `target`."""
    target.mkdir(exist_ok=True)
    for module in sorted(Path(__file__).with_name("_async").glob("*.py")):
        text = translate(module.name, module.read_text("utf-8"))
        (target / module.name).write_text(text, "utf-8")
    # Shorter words leave other line breaks and another order of imports.
    settings = ["--config", str(Path(__file__).parents[3] / "pyproject.toml"), str(target)]
    for step in (["check", "--quiet", "--fix", "--select", "I"], ["format", "--quiet"]):
        subprocess.run([sys.executable, "-m", "ruff", *step, *settings], check=True)  # noqa: S603


if __name__ == "__main__":
    write(Path(__file__).with_name("_sync"))
