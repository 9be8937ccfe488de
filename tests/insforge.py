"""A database as InsForge makes it, before Billhook adopts it."""

from __future__ import annotations

from billhook.db.migrate import migrations
from books import Books


def make_payments(books: Books) -> None:
    """Create InsForge's schema `payments`: ours, without the parts that Billhook adds."""
    (schema,) = (m.sql for m in migrations() if m.name == "payments")
    books.execute("CREATE SCHEMA payments;" + schema.split("-- Each mirrored row carries")[0])
