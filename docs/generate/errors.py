"""The error codes, from `billhook.errors` and the modules that add their own."""

from __future__ import annotations

from collections.abc import Iterator

import billhook.app  # noqa: F401  # and with it every module that declares an error
from billhook.errors import BillhookError
from generate.markdown import code, table


def write() -> str:
    kinds = sorted(_kinds(BillhookError), key=lambda each: (each.status, each.code, each.__name__))
    return table(
        ("Status", "Code", "Meaning", "What to do"),
        [
            (str(each.status), code(each.code), _meaning(each), each.usual_next_actions or "")
            for each in kinds
        ],
    )


def _kinds(kind: type[BillhookError]) -> Iterator[type[BillhookError]]:
    """The errors of the API; those of the Python client are its own."""
    for each in kind.__subclasses__():
        package = each.__module__.rpartition(".")[0]
        is_listed = each.__module__ == BillhookError.__module__ or "code" in vars(each)
        if is_listed and package.startswith("billhook") and package != "billhook.client":
            yield each
        yield from _kinds(each)


def _meaning(kind: type[BillhookError]) -> str:
    """The docstring, without the status at its beginning."""
    text = " ".join((kind.__doc__ or "").split()).replace("``", "`")
    status, colon, meaning = text.partition(": ")
    text = meaning if colon and status.isdigit() else text
    return text[:1].upper() + text[1:]
