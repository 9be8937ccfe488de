"""Billing periods: months and years keep the anchor's day, or end on the last day of the month."""

from calendar import monthrange
from datetime import UTC, datetime, timedelta

from billhook_sandbox.store import Json

DAYS = {"day": 1, "week": 7}
MONTHS = {"month": 1, "year": 12}


def period_end(start: int, recurring: Json, anchor: int) -> int:
    """The end of a period. The anchor's day decides: 31 January, 28 February, 31 March."""
    interval, count = recurring["interval"], recurring["interval_count"]
    moment = datetime.fromtimestamp(start, UTC)
    if interval in DAYS:
        return int((moment + timedelta(days=DAYS[interval] * count)).timestamp())
    months = moment.year * 12 + moment.month - 1 + MONTHS[interval] * count
    year, month = divmod(months, 12)
    day = min(datetime.fromtimestamp(anchor, UTC).day, monthrange(year, month + 1)[1])
    return int(moment.replace(year=year, month=month + 1, day=day).timestamp())
