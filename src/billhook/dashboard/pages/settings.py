"""Settings of an environment: key, endpoint, sync, verification, and who may bill whom."""

from __future__ import annotations

import asyncio
from typing import get_args

import structlog
from starlette.responses import Response

from billhook.access import policies
from billhook.access.permissions import changes
from billhook.account.stripe_keys import AnotherAccount
from billhook.dashboard.visit import Visit
from billhook.errors import BillhookError, InvalidInput, NotFound
from billhook.mirror import archives, verify
from billhook.mirror.status import mirror_status
from billhook.models import Verification, Verify
from billhook.services import Services
from billhook.settings import Environment

log = structlog.get_logger(__name__)

_LOOK_EVERY = 0.02  # seconds; a sync takes its lease at once
_VERIFY_BUDGET = 20  # seconds
_VERIFY_PATIENCE = 2.0  # seconds


async def show(visit: Visit, *, status: int = 200, error: BillhookError | None = None) -> Response:
    """The connection: key, webhook endpoint and sync."""
    services, environment = visit.services, visit.environment
    connection, progress = await asyncio.gather(
        services.connections.get(environment), services.sync.progress(environment)
    )
    return visit.show(
        "settings_connection.html",
        status,
        connection=connection,
        progress=progress,
        settings=services.settings,
        key_error=error,
        other_account=isinstance(error, AnotherAccount),
    )


async def show_mirror(visit: Visit) -> Response:
    """What the mirror holds: history, verification and archives."""
    services, environment = visit.services, visit.environment
    connection, history, mirror, verifying, last, kept = await asyncio.gather(
        services.connections.get(environment),
        services.history.progress(environment),
        mirror_status(services.database, environment),
        verify.is_running(services.database, environment),
        verify.last(services.database, environment),
        archives.archives(services.database),
    )
    return visit.show(
        "settings_mirror.html",
        connection=connection,
        history=history,
        mirror=mirror,
        verification=last,
        verifying=verifying,
        archives=[each for each in kept if each.environment == environment],
    )


async def show_policies(visit: Visit) -> Response:
    """Who may bill whom, and policies to copy."""
    return visit.show(
        "settings_policies.html",
        tables=await policies.session_tables(visit.services.database),
        owners=get_args(policies.Owner),
        policy=policies.policy,
        guests=policies.GUESTS,
    )


@changes("stripe_key.set")
async def set_key(visit: Visit) -> Response:
    """Check a key with Stripe, store it, set up the endpoint; the sync continues on its own."""
    key = visit.field("secret_key")
    try:
        if not key:
            raise InvalidInput("Paste a secret key.")
        problem = await visit.services.stripe_keys.set(
            visit.environment,
            key,
            replace_account=visit.field("replace_account") == "yes",
            sync=False,
        )
    except BillhookError as error:
        if error.status >= 500 and error.code == "INTERNAL_ERROR":
            raise
        if isinstance(error, AnotherAccount):
            error.next_actions = "To connect it anyway, paste the key again and confirm."
        visit.failure = error
        return await show(visit, status=error.status, error=error)
    await _begun(visit)
    if problem is not None:
        problem.message = f"The key was saved, but the endpoint failed: {problem.message}"
        return await visit.back("/settings", problem)
    return await visit.go("/settings", "The key was saved. A sync is running …")


@changes("stripe_key.remove")
async def remove_key(visit: Visit) -> Response:
    """Forget the key and delete the managed endpoint."""
    try:
        await visit.services.stripe_keys.remove(visit.environment)
    except BillhookError as error:
        return await visit.back("/settings", error)
    return await visit.go("/settings", "The key was removed. Mirrored data stays.")


@changes("webhook_endpoint.configure")
async def configure_endpoint(visit: Visit) -> Response:
    """Create or repair the managed endpoint."""
    try:
        found = await visit.services.stripe_keys.configure_webhook(visit.environment)
    except BillhookError as error:
        return await visit.back("/settings", error)
    return await visit.go("/settings", f"The endpoint {found.webhook_endpoint_id} is set up.")


@changes("mirror.sync")
async def sync(visit: Visit) -> Response:
    """Start a sync; the page shows its progress."""
    await _begun(visit)
    return await visit.go("/settings")


async def _begun(visit: Visit) -> None:
    """Start a sync unless one is running, and wait until the page can show it."""
    task = visit.services.sync.start(visit.environment)
    while not task.done():
        if (await visit.services.sync.progress(visit.environment)).running:
            return
        await asyncio.wait({task}, timeout=_LOOK_EVERY)


async def progress(visit: Visit) -> Response:
    """The part of the page that shows the sync, for the page's script."""
    services, environment = visit.services, visit.environment
    connection, found = await asyncio.gather(
        services.connections.get(environment), services.sync.progress(environment)
    )
    return visit.show("sync.html", connection=connection, progress=found)


@changes("mirror.verify")
async def verify_now(visit: Visit) -> Response:
    """Compare a sample of the mirror with Stripe. The page does not wait longer than a moment for
    the result, and then shows that it is running."""
    services, environment = visit.services, visit.environment
    task = asyncio.create_task(_verify(services, environment))
    visit.work.add(task)
    task.add_done_callback(visit.work.discard)
    task.add_done_callback(_report)
    done, _ = await asyncio.wait({task}, timeout=_VERIFY_PATIENCE)
    if not done:
        return await visit.go("/settings/mirror#verify")
    try:
        found = task.result()
    except BillhookError as error:
        return await visit.back("/settings/mirror", error)
    if found is None:  # the server stops
        return await visit.go("/settings/mirror#verify")
    objects = sum(each.objects for each in found.tables)
    return await visit.go(
        "/settings/mirror", f"{objects:,} objects compared with Stripe; {len(found.drift)} differ."
    )


async def _verify(services: Services, environment: Environment) -> Verification | None:
    """The result; None if the server stops before."""
    order = Verify.model_validate({"budgetSeconds": _VERIFY_BUDGET})
    work = asyncio.ensure_future(
        verify.verify(services.ledger, services.gateway, environment, order)
    )
    stop = asyncio.ensure_future(services.stopping.wait())
    await asyncio.wait({work, stop}, return_when=asyncio.FIRST_COMPLETED)
    stop.cancel()
    if not work.done():
        work.cancel()
        await asyncio.wait({work})
        return None
    return work.result()


def _report(task: asyncio.Task[Verification | None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.warning("a verification failed", reason=str(error))


async def verification(visit: Visit) -> Response:
    """The part of the page that shows the verification, for the page's script."""
    database, environment = visit.services.database, visit.environment
    running, last = await asyncio.gather(
        verify.is_running(database, environment), verify.last(database, environment)
    )
    return visit.show("verification.html", verifying=running, verification=last)


@changes("history.import")
async def import_history(visit: Visit) -> Response:
    """Import what happened before the connection; the page shows the progress."""
    try:
        await visit.services.history.request(visit.environment, None)
    except BillhookError as error:
        return await visit.back("/settings/mirror", error)
    return await visit.go("/settings/mirror#history")


async def imported(visit: Visit) -> Response:
    """The part of the page that shows the import, for the page's script."""
    history = await visit.services.history.progress(visit.environment)
    return visit.show("import.html", history=history)


@changes("archive.restore", target="archive")
async def restore(visit: Visit) -> Response:
    """Restore the archived rows of an account."""
    database, wanted = visit.services.database, visit.request.path_params["archive"]
    try:
        kept = await archives.archives(database)
        if wanted not in [each.id for each in kept if each.environment == visit.environment]:
            raise NotFound(f"There is no such archive in {visit.environment}.")
        rows = await archives.restore(database, wanted)
    except BillhookError as error:
        return await visit.back("/settings/mirror", error)
    return await visit.go("/settings/mirror", f"{rows:,} rows were restored.")
