"""`make bench`: all of it, or `python -m bench events` or `sync` alone."""

from __future__ import annotations

import sys

from bench import events, sync

PARTS = {"events": events.main, "sync": sync.main}

for name in sys.argv[1:] or PARTS:
    PARTS[name]()
