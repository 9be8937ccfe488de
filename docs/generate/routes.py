"""The HTTP API, from the OpenAPI document that a server has at `/openapi.json`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from billhook.app import create_app
from billhook.settings import Settings
from generate.markdown import code, table

_COMMON = {"400", "401", "403", "408", "413", "414", "429", "431", "500", "502", "503"}
"""Errors that most routes share: the page describes them once."""


def document() -> dict[str, Any]:
    """The OpenAPI document."""
    settings = Settings(
        _env_file=None,
        DATABASE_URL="postgresql:///docs",
        JWT_SECRET="3f9c1b7e5a2d4086b1c8e7f60d9a4523",
    )
    return create_app(settings).openapi()


def write() -> str:
    """Each route, by group."""
    groups: dict[str, list[str]] = {}
    for path, methods in document()["paths"].items():
        for method, operation in methods.items():
            section = _route(method, path, operation)
            groups.setdefault(operation["tags"][0], []).append(section)
    return "\n\n".join(
        part for group, sections in groups.items() for part in (f"## {group}", *sections)
    )


def _route(method: str, path: str, operation: dict[str, Any]) -> str:
    parts = [f"### {method.upper()} {path}", operation.get("description", operation["summary"])]
    queries = [each for each in operation.get("parameters", ()) if each["in"] == "query"]
    if queries:
        rows = [(code(each["name"]), _described(each["schema"])) for each in queries]
        parts.append(table(("Query parameter", "Type"), rows))
    if body := operation.get("requestBody"):
        content = body["content"]["application/json"]
        parts.append(f"Body: {_link(content['schema']) or 'a Stripe event, as Stripe signed it'}.")
        parts += list(_examples(content))
    parts.append("\n".join(_responses(operation["responses"])))
    return "\n\n".join(parts)


def _examples(content: dict[str, Any]) -> Iterator[str]:
    for example in content.get("examples", {}).values():
        text = json.dumps(example["value"], indent=2)
        yield f"{example['summary']}:\n\n```json\n{text}\n```"


def _responses(responses: dict[str, Any]) -> Iterator[str]:
    for status, response in sorted(responses.items()):
        if status in _COMMON:
            continue
        if not status.startswith("2"):
            yield f"- {status}: {response['description']}"
            continue
        schema = response.get("content", {}).get("application/json", {}).get("schema", {})
        yield f"- {status}: {_link(schema) or response['description']}"
    common = sorted(_COMMON & set(responses))
    yield f"- [Errors](errors.md): {', '.join(common)}"


def write_models() -> str:
    """Each model with its fields."""
    return "\n\n".join(
        _model(name, schema) for name, schema in sorted(document()["components"]["schemas"].items())
    )


def _model(name: str, schema: dict[str, Any]) -> str:
    text, meanings = _attributes(schema.get("description", ""))
    required = schema.get("required", ())
    strict = schema.get("additionalProperties") is False
    rows = [
        (
            code(field),
            _described(found),
            ("required" if field in required else "") if strict else "",
            found.get("description") or meanings.get(field, ""),
        )
        for field, found in schema.get("properties", {}).items()
    ]
    header = ["Field", "Type", "", "Meaning"]
    kept = [i for i in range(4) if i < 2 or any(row[i] for row in rows)]
    cells = [[row[i] for i in kept] for row in rows]
    parts = [f"### {name}", table([header[i] for i in kept], cells)]
    if text:
        parts.insert(1, text)
    return "\n\n".join(parts)


def _attributes(docstring: str) -> tuple[str, dict[str, str]]:
    """A model's docstring without its attributes, and what it says about each of them."""
    text, _, listed = docstring.partition("\n\nAttributes:\n")
    attributes = re.split(r"\n    (?=\w+: )", "\n" + listed)[1:]
    found = {}
    for each in attributes:
        name, _, meaning = each.partition(": ")
        words = name.split("_")
        field = words[0] + "".join(word.title() for word in words[1:])
        found[field] = meaning[:1].upper() + meaning[1:]
    return text, found


def _link(schema: dict[str, Any]) -> str:
    name = schema.get("$ref", "").rpartition("/")[2]
    return f"[{name}](#{name.lower()})" if name else ""


_LIMITS = {
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {} items",
    "maxItems": "at most {} items",
    "maxProperties": "at most {} entries",
    "minimum": "at least {}",
    "maximum": "at most {}",
}


def _limit(words: str, number: int | float) -> str:
    """Such as `at least 1 character` or `at most 200 characters`."""
    text = words.format(number)
    return text.replace("entries", "entry").removesuffix("s") if number == 1 else text


def _described(schema: dict[str, Any]) -> str:
    """A type in a few words, such as `string or null, at most 200 characters`."""
    if several := schema.get("anyOf"):
        return " or ".join(dict.fromkeys(map(_described, several)))
    if "$ref" in schema:
        return _link(schema)
    if "const" in schema:
        return code(str(schema["const"]))
    if "enum" in schema:
        text = ", ".join(code(str(each)) for each in schema["enum"])
    elif schema.get("type") == "array":
        text = f"array of {_described(schema.get('items', {}))}"
    else:
        text = schema.get("format") or schema.get("type", "any")
    limits = [_limit(words, schema[key]) for key, words in _LIMITS.items() if key in schema]
    if schema.get("default") not in (None, {}, []):
        limits.append(f"default {json.dumps(schema['default'])}")
    return ", ".join([str(text), *limits])
