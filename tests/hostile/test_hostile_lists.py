"""The lists, with hostile objects in the database."""

from __future__ import annotations

from again import again

globals().update(again("http/test_lists"))
