"""A database as InsForge makes it, before Billhook adopts it."""

from __future__ import annotations

from billhook.postgres.migrate import migrations
from books import Books

# One key for everybody, where ours belongs to a subject.
_IDEMPOTENCY = """
    DROP INDEX payments.idx_payments_stripe_checkout_sessions_subject_idempotency;
    CREATE UNIQUE INDEX idx_payments_stripe_checkout_sessions_environment_idempotency
        ON payments.stripe_checkout_sessions (environment, idempotency_key)
        WHERE idempotency_key IS NOT NULL;
"""


def schema() -> str:
    """InsForge's schema `payments`: ours, without the parts that Billhook adds."""
    (ours,) = (m.sql for m in migrations() if m.name == "payments")
    theirs, _ = ours.split("-- Up to here, the schema is InsForge's")
    return "CREATE SCHEMA payments;" + theirs


def make_payments(books: Books) -> None:
    """Create it."""
    books.execute(schema())
    books.execute(_IDEMPOTENCY)
