"""`make bench`: all benchmarks, or one, for example `python -m bench peers`."""

from __future__ import annotations

import sys

from bench import (
    access,
    beside,
    business,
    dashboard,
    events,
    history,
    lists,
    overview,
    peers,
    rebuild,
    steady,
    sync,
    usage,
    verify,
)

PARTS = {
    "events": events.main,
    "steady": steady.main,
    "sync": sync.main,
    "import": history.main,
    "lists": lists.main,
    "overview": overview.main,
    "business": business.main,
    "dashboard": dashboard.main,
    "rebuild": rebuild.main,
    "verify": verify.main,
    "usage": usage.main,
    "access": access.main,
    "peers": peers.main,
}

ALONE = {"beside": beside.main, "beside_sync": beside.sync}
"""What needs more than this commit."""

for name in sys.argv[1:] or PARTS:
    (PARTS | ALONE)[name]()
