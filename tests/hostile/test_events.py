"""Events, with hostile objects in the database."""

from __future__ import annotations

from database.test_transactions import *  # noqa: F403
