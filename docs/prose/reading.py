"""The prose in a file: the rest is blanked out, so that lines and columns stay as they are."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Callable, Iterator

CODE = "·"
"""In the place of each character of code, so that the words around it are not adjacent."""

_MARKDOWN = re.compile(
    r"^\s*(?P<fence>```|~~~).*?^\s*(?P=fence)|`[^`]*`|(?<=\])\([^)\s]*\)|<[^>]*>",
    re.DOTALL | re.MULTILINE,
)
_TEMPLATE = re.compile(
    r"\{%.*?%\}|\{\{.*?\}\}|<style.*?</style>|(?<==)(?P<quote>[\"'])[\w/#.:-]*(?P=quote)",
    re.DOTALL,
)
_TAG = re.compile(r"</?[a-z][\w-]*|/?>|\b[a-z][\w-]*(?==)", re.IGNORECASE)
_MARKS = re.compile(r"^\s*(?:--|//|/?\*+/?|#+)|[\"'`]", re.MULTILINE)
_CONTINUED = re.compile(r"[\s#\"']+")


def prose_of(suffix: str, text: str) -> str:
    """The prose of a file with this suffix."""
    return _READERS.get(suffix, _of_comments)(text)


def _of_markdown(text: str) -> str:
    return _MARKDOWN.sub(_blanked, text)


def _of_template(text: str) -> str:
    return _TAG.sub(_blanked, _TEMPLATE.sub(_blanked, text))


def _of_comments(text: str) -> str:
    """SQL, JavaScript, CSS and configuration: all of it, but without the marks of comments."""
    return _MARKS.sub(lambda mark: re.sub(r"\S", " ", mark[0]), text)


def _of_python(text: str) -> str:
    lines = text.splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    kept: list[str] = []
    end = 0
    for start, stop in _prose_tokens(text, starts):
        kept.append(_code(text[end:start]))
        kept.append(re.sub(r"^\W+", _spaces, text[start:stop]))
        end = stop
    kept.append(_code(text[end:]))
    return "".join(kept)


def _prose_tokens(text: str, starts: list[int]) -> Iterator[tuple[int, int]]:
    """Where comments and strings are. Quotes are in them, and the `f` before one is not."""
    kinds = {tokenize.COMMENT, tokenize.STRING}
    kinds.add(getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING))
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in kinds:
            start = starts[token.start[0] - 1] + token.start[1]
            stop = starts[token.end[0] - 1] + token.end[1]
            yield start, stop


def _code(text: str) -> str:
    """Blanked out. Blanks and quotes alone are no code: the text goes on after them."""
    return _spaces(text) if _CONTINUED.fullmatch(text) else _blanked(text)


def _blanked(text: str | re.Match[str]) -> str:
    text = text if isinstance(text, str) else text[0]
    return re.sub(r"\S", CODE, text)


def _spaces(text: str | re.Match[str]) -> str:
    text = text if isinstance(text, str) else text[0]
    return re.sub(r"\S", " ", text)


_READERS: dict[str, Callable[[str], str]] = {
    ".md": _of_markdown,
    ".html": _of_template,
    ".py": _of_python,
}
