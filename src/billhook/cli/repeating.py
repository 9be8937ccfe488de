"""Commands that move money can be repeated with their idempotency key."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from billhook.cli.output import note
from billhook.errors import BillhookError


@contextmanager
def repeatable_with(key: str) -> Iterator[None]:
    """If it is not known whether the request in this block took effect, say how to find out."""
    try:
        yield
    except BillhookError as error:
        if error.status == 0 or error.status >= 500:
            note(
                f"To complete it or find out what happened, repeat it with --idempotency-key {key}"
            )
        raise
