"""Which texts PostgreSQL cannot store: with NUL, or with half of a surrogate pair."""

from __future__ import annotations

import re

UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
"""Finds one such character."""
