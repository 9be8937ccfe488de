"""`make run`: PostgreSQL, the Stripe sandbox, the API and a demo shop on this machine.

Nothing has to be installed or configured. All state is in one folder and survives restarts and
`kill -9`: PostgreSQL is adopted or recovers, the sandbox ends with this process, and the webhook
endpoint stays the same, so that the sandbox sends its pending deliveries.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from fastapi.responses import RedirectResponse
from pydantic import SecretStr
from rich.console import Console
from starlette.applications import Starlette

from billhook import logs
from billhook.app import create_app
from billhook.database_url import dsn_of
from billhook.demo import SHOP_NAME, DemoConfig, offer, open_demo
from billhook.dev.filling import Filling
from billhook.dev.listening import Listener, listen
from billhook.dev.sandbox import Sandbox, name_account, seed, show_pictures, start_sandbox
from billhook.dev.state import Keys, State
from billhook.dev.summary import show
from billhook.errors import BillhookError
from billhook.http.server import OPTIONS
from billhook.postgres import embedded
from billhook.postgres.migrate import migrate
from billhook.settings import Settings

API_PORT = 7130
SANDBOX_PORT = 12111


@dataclass(frozen=True, slots=True)
class Options:
    """The options of `billhook dev`.

    Attributes:
        state: the folder for all data.
        port: the API's; None means `API_PORT` or the next free one, 0 any.
        sandbox_port: the Stripe sandbox's, likewise.
        database_url: a PostgreSQL to use instead of the embedded one.
        demo: whether the demo shop runs, too. Its policies are in the same database.
        with_history: whether a new folder is filled with a year of history.
    """

    state: Path
    port: int | None = None
    sandbox_port: int | None = None
    database_url: str | None = None
    demo: bool = True
    with_history: bool = False


def run(options: Options) -> None:
    """Start everything, print a summary, and serve until interrupted.

    Raises:
        BillhookError: a port is taken, or a part could not be started; the message names it.
    """
    console = Console(highlight=False)
    with State(options.state) as state, contextlib.ExitStack() as at_end:
        keys = state.keys()
        api = at_end.enter_context(listen(options.port, API_PORT))
        sandbox = at_end.enter_context(listen(options.sandbox_port, SANDBOX_PORT))
        state.announce(api.address)
        state.remove_environment()  # of a run that was killed
        at_end.callback(state.remove_environment)
        with console.status("Starting PostgreSQL …"):
            if options.database_url is None:
                dsn = at_end.enter_context(_postgres(state.folder))
            else:
                dsn = dsn_of(options.database_url)
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            filling = Filling(state, state.folder / "sandbox.sqlite", wanted=options.with_history)
            serving = _serve(console, state, keys, dsn, filling, api, sandbox, demo=options.demo)
            runner.run(_until_interrupted(serving))
        console.print("Stopped. All data is kept.")


@contextlib.contextmanager
def _postgres(folder: Path) -> Iterator[str]:
    try:
        server = embedded.start(folder / "postgres")
        try:
            # Not "billhook": tables that name no schema would be created in Billhook's own.
            yield server.create_database("app", owner="app")
        finally:
            server.stop()
    except embedded.EmbeddedPostgresError as error:
        raise BillhookError(str(error)) from error


async def _serve(
    console: Console,
    state: State,
    keys: Keys,
    dsn: str,
    filling: Filling,
    api: Listener,
    sandbox_at: Listener,
    *,
    demo: bool,
) -> None:
    async with contextlib.AsyncExitStack() as at_end:
        with console.status("Starting the Stripe sandbox …"):
            await migrate(dsn)
            # The API's port is already open: deliveries of the last run wait there and don't fail.
            sandbox = await at_end.enter_async_context(
                start_sandbox(sandbox_at, filling.data, state.folder, begin_ago=filling.begin_ago)
            )
        if filling.begin_ago:
            with console.status("Filling the sandbox with a year of history (once) …"):
                await filling.fill_sandbox(sandbox.url, keys.stripe_key)
        with console.status("Starting the API …"):
            settings = _settings(keys, dsn, sandbox.url, api)
            logs.configure(settings)
            app = create_app(settings)
            if demo:
                shop = await at_end.enter_async_context(
                    open_demo(DemoConfig(dsn, keys.jwt_secret, keys.anonymous_key))
                )
                _mount(app, shop)
            server = await at_end.enter_async_context(_serving(app, api))
            # Also done in the background; waiting for it makes sure that nothing is missed.
            await app.state.services.stripe_keys.configure_webhook("test")
            if demo:
                await name_account(sandbox.url, keys.stripe_key, SHOP_NAME)
                await offer(dsn, await seed(sandbox.url, keys.stripe_key))
                await show_pictures(sandbox.url, keys.stripe_key, f"{api.address}/demo")
            await filling.fill_mirror(sandbox.url, keys.stripe_key, app.state.services)
        state.write_environment(_environment(settings, api))
        show(console, state, keys, api, sandbox_at, dsn, demo=demo)
        await _first_end(server, sandbox)


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: several parts are stopped in order."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def _serving(app: FastAPI, api: Listener) -> AsyncIterator[asyncio.Task[None]]:
    """The running server; entered when it has started."""
    config = uvicorn.Config(app, timeout_graceful_shutdown=3, proxy_headers=False, **OPTIONS)
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[api.socket]))
    try:
        while not server.started:
            if task.done():
                raise BillhookError("The API did not start; see its error message above.")
            await asyncio.sleep(0.01)
        yield task
    finally:
        server.should_exit = True
        await asyncio.wait({task})


async def _first_end(server: asyncio.Task[None], sandbox: Sandbox) -> None:
    """Wait until a part ends unexpectedly."""
    gone = asyncio.create_task(sandbox.process.wait())
    try:
        await asyncio.wait({server, gone}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        gone.cancel()
    if sandbox.process.returncode is not None:
        raise BillhookError(
            f"The Stripe sandbox has ended (exit code {sandbox.process.returncode}).",
            next_actions=f"Its last output is in {sandbox.log}",
        )
    raise BillhookError("The API has ended.")


async def _until_interrupted(work: Coroutine[None, None, None]) -> None:
    """Run `work`; Ctrl-C, a closed terminal and `kill` stop it gracefully."""
    task = asyncio.create_task(work)
    loop = asyncio.get_running_loop()
    with contextlib.suppress(NotImplementedError):  # Windows only has Ctrl-C
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task


def _settings(keys: Keys, dsn: str, stripe_url: str, api: Listener) -> Settings:
    """All settings, set explicitly: a live key in the environment must not be used here."""
    return Settings(
        _env_file=None,
        database_url=SecretStr(dsn),
        jwt_secret=SecretStr(keys.jwt_secret),
        encryption_key=SecretStr(keys.encryption_key),
        access_api_key=SecretStr(keys.admin_key),
        access_anon_key=SecretStr(keys.anonymous_key),
        stripe_test_secret_key=SecretStr(keys.stripe_key),
        stripe_test_webhook_secret=None,
        stripe_live_secret_key=None,
        stripe_live_webhook_secret=None,
        stripe_api_base=stripe_url,
        public_url=api.address,
        jwks_url=None,
        host=api.host,
        port=api.port,
        stripe_list_rate=0,  # the sandbox has no limits
        stripe_test_rate=0,
        log_level="warning",
    )


def _environment(settings: Settings, api: Listener) -> dict[str, str]:
    """What the command line needs: the server's settings, its URL and its key."""
    secrets = {
        "DATABASE_URL": settings.database_url,
        "JWT_SECRET": settings.jwt_secret,
        "ENCRYPTION_KEY": settings.encryption_key,
        "BILLHOOK_API_KEY": settings.access_api_key,
    }
    return {
        **{name: value.get_secret_value() for name, value in secrets.items() if value},
        "STRIPE_API_BASE": settings.stripe_api_base,
        "BILLHOOK_PUBLIC_URL": api.address,
        "BILLHOOK_URL": api.address,
    }


def _mount(app: FastAPI, shop: Starlette) -> None:
    """Mount the shop next to the API, and redirect `/`."""

    async def enter() -> RedirectResponse:
        return RedirectResponse("/demo/")

    for path in ("/", "/demo"):
        app.add_api_route(path, enter, include_in_schema=False)
    app.mount("/demo", shop)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if sys.platform == "win32":
        return None
    import uvloop

    return uvloop.new_event_loop
