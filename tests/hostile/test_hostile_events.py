"""Every kind of event that becomes money, with hostile objects in the database."""

from __future__ import annotations

from again import again

globals().update(again("database/test_transactions"))
