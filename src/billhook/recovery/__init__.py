"""The recovery worker (docs/explanation/recovery.md).

It sends usage, retries failed events, pulls missed events from Stripe's event list, fetches objects
that need a refresh, compares the mirror with Stripe, and archives old events. Its work is stored
and claimed in PostgreSQL: any number of workers may run, in the servers or alone (`billhook
worker`), and if one dies, the others take over its work.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

import asyncpg
import structlog

from billhook.access.secrets import SecretStore
from billhook.errors import BillhookError, PaymentConfigInvalid, SecretUnreadable
from billhook.ledger import Ledger
from billhook.metrics import Metrics
from billhook.mirror import assignments, fetching, gaps, refreshes, verify
from billhook.mirror.history import History
from billhook.mirror.sync import Sync
from billhook.models import Verify
from billhook.postgres.leases import LeaseLost
from billhook.recovery import housekeeping, pulling, retries
from billhook.settings import ENVIRONMENTS, Environment, Settings
from billhook.stripe.gateway import Gateway
from billhook.usage import UsageSender, batches, retention

log = structlog.get_logger(__name__)

_LOOK_EVERY = 1.0  # seconds between checks for due work; each is one short index scan
_HOUSEKEEPING_EVERY = 60.0
_WAKE_EVERY = 5.0
_AFTER_ERROR = 5.0
_VERIFY_BUDGET = 60  # seconds
_FINISH_WITHIN = 1.0  # seconds at shutdown; an event without slow triggers takes milliseconds

Work = Callable[[], Awaitable[bool]]
"""Does a part of the due work; returns whether there may be more."""


class Recovery:
    """The worker of one process. `start` it, and `close` it at shutdown."""

    def __init__(
        self,
        ledger: Ledger,
        secrets: SecretStore,
        gateway: Gateway,
        sync: Sync,
        history: History,
        settings: Settings,
        metrics: Metrics | None = None,
    ) -> None:
        self._ledger = ledger
        self._database = ledger.database
        self._secrets = secrets
        self._gateway = gateway
        self._sync = sync
        self._history = history
        self._settings = settings
        self._usage = UsageSender(ledger.database, gateway, metrics or Metrics())
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = asyncio.Event()
        self._pulled: set[Environment] = set()
        self._woken_upto: dict[Environment, batches.Subject] = {}

    def start(self) -> None:
        """Start working, in the background."""
        looks: list[tuple[str, float, Work]] = [
            ("retry events", _LOOK_EVERY, self.retry),
        ]
        for each in ENVIRONMENTS:
            looks += [
                (f"pull {each} events", _LOOK_EVERY, partial(self.pull, each)),
                (f"sync the {each} mirror", _LOOK_EVERY, partial(self.sync_gap, each)),
                (f"refresh {each} objects", _LOOK_EVERY, partial(self.refresh, each)),
                (f"assign {each} customers", _LOOK_EVERY, partial(self.assign, each)),
                (f"send {each} usage", _LOOK_EVERY, partial(self.send_usage, each)),
                (f"find customers of {each} usage", _WAKE_EVERY, partial(self.wake_usage, each)),
                (f"compact {each} usage", _HOUSEKEEPING_EVERY, partial(self.compact, each)),
                (f"import the {each} history", _LOOK_EVERY, partial(self.import_history, each)),
                (f"take up {each} events", _HOUSEKEEPING_EVERY, partial(self.take_up, each)),
                (f"archive {each} events", _HOUSEKEEPING_EVERY, partial(self.archive, each)),
                (f"verify the {each} mirror", _HOUSEKEEPING_EVERY, partial(self.verify, each)),
            ]
        self._tasks = [asyncio.create_task(_repeat(*each, self._stopping)) for each in looks]

    async def close(self) -> None:
        """Stop after the current work. Work that takes longer than a second is rolled back."""
        self._stopping.set()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_FINISH_WITHIN)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def retry(self) -> bool:
        """Retry failed events that are due."""
        return await retries.retry_due(self._ledger, self._settings.retry_attempts)

    async def take_up(self, environment: Environment) -> bool:
        """Schedule a retry for unfinished events that have none."""
        await retries.take_up(self._database, environment)
        return False

    async def pull(self, environment: Environment) -> bool:
        """Read Stripe's event list, at startup and when it is due."""
        if await self._has_key(environment):
            # Regardless of earlier pulls: the process that did them may have just died.
            every = self._settings.pull_every if environment in self._pulled else None
            self._pulled.add(environment)
            await pulling.pull_due(self._ledger, self._gateway, environment, every)
        return False

    async def sync_gap(self, environment: Environment) -> bool:
        """Sync if events were missed that Stripe no longer lists."""
        if await gaps.sync_is_due(self._database, environment) and await self._has_key(environment):
            found = await self._sync.run(environment)
            complete = found.connection.last_sync_status == "succeeded"
            await gaps.synced(self._database, environment, complete=complete)
        return False

    async def refresh(self, environment: Environment) -> bool:
        """Fetch the objects that are queued for refresh."""
        if not await refreshes.any_due(self._database, environment):
            return False
        if not await self._has_key(environment):
            return False
        reader = await fetching.reader_in_background(self._database, self._gateway, environment)
        return await refreshes.settle_due(reader) > 0

    async def assign(self, environment: Environment) -> bool:
        """Apply the assignments of customers that the app inserted."""
        return await assignments.apply_due(self._database, environment)

    async def send_usage(self, environment: Environment) -> bool:
        """Send usage that was not sent yet."""
        if await batches.any_due(self._database, environment) and await self._has_key(environment):
            await self._usage.send_due(environment)
        return False

    async def wake_usage(self, environment: Environment) -> bool:
        """Schedule usage that waited for its subject's customer."""
        after = self._woken_upto.get(environment, batches.FIRST)
        upto, more = await batches.wake(self._database, environment, after)
        self._woken_upto[environment] = upto
        return more

    async def compact(self, environment: Environment) -> bool:
        """Compact usage that is older than the retention."""
        days = self._settings.usage_retention_days
        return days is not None and await retention.compact(self._database, environment, days)

    async def import_history(self, environment: Environment) -> bool:
        """Import what happened before the account was connected, or continue an import."""
        if await self._has_key(environment):
            await self._history.continue_due(environment)
        return False

    async def archive(self, environment: Environment) -> bool:
        """Archive events that are older than the retention."""
        days = self._settings.event_retention_days
        return days is not None and await housekeeping.archive(self._database, environment, days)

    async def verify(self, environment: Environment) -> bool:
        """Compare a sample of the mirror with Stripe, when it is time to."""
        hours = self._settings.verify_hours
        if not hours or not await verify.is_due(self._database, environment, hours):
            return False
        if await self._has_key(environment):
            order = Verify(budgetSeconds=_VERIFY_BUDGET)
            await verify.verify(self._ledger, self._gateway, environment, order)
        return False

    async def _has_key(self, environment: Environment) -> bool:
        try:
            return await self._secrets.stripe_key(environment) is not None
        except SecretUnreadable:
            return False  # the status and the doctor report this


async def _repeat(name: str, pause: float, work: Work, stopping: asyncio.Event) -> None:
    """Work until `stopping`. Errors are logged, repeated ones only once."""
    said = ""
    while not stopping.is_set():
        wait = pause
        try:
            if await work():
                wait = 0
            said = ""
        except LeaseLost:
            pass  # the key was changed, or another worker took over
        except (BillhookError, asyncpg.PostgresError) as error:
            wait = max(pause, _AFTER_ERROR)
            if str(error) != said:
                said = str(error)
                level = log.info if isinstance(error, PaymentConfigInvalid) else log.warning
                level("recovery is held up", work=name, reason=said)
        except Exception as error:  # a bug in Billhook; the other work must continue
            wait = max(pause, _AFTER_ERROR)
            if repr(error) != said:
                said = repr(error)
                log.exception("recovery is held up", work=name)
        # With jitter, so that several workers don't check at the same moment.
        with suppress(TimeoutError):
            async with asyncio.timeout(wait * random.uniform(0.8, 1.2)):  # noqa: S311
                await stopping.wait()
