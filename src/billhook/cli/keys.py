"""`billhook keys`: admin keys and anonymous keys."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar
from uuid import UUID

import typer

from billhook.cli.dev_run import server_settings
from billhook.cli.duration import parse_duration
from billhook.cli.options import AsJson
from billhook.cli.output import as_wire, show_json, show_table
from billhook.cli.recording import recorded
from billhook.errors import BillhookError
from billhook.settings import ENVIRONMENTS, Environment

# Imported when a command runs, to keep shell completion fast.
if TYPE_CHECKING:
    from billhook.access.api_keys import ApiKey, ApiKeys, Kind
    from billhook.postgres import Database

app = typer.Typer(help="Create, list and revoke admin and anonymous keys.", no_args_is_help=True)

T = TypeVar("T")
KeyRole = Literal["viewer", "support", "admin"]


@app.command(epilog="Example: billhook keys create --admin --name ci")
def create(
    admin: Annotated[bool, typer.Option("--admin", help="Create an admin key (ik_…).")] = False,
    anonymous: Annotated[
        bool,
        typer.Option(
            "--anonymous",
            help="Create an anonymous key (anon_…), for visitors who are not signed in.",
        ),
    ] = False,
    name: Annotated[str | None, typer.Option(help="A name that identifies the key.")] = None,
    role: Annotated[
        KeyRole,
        typer.Option(
            help="What an admin key may do: `viewer` only reads, `support` also refunds and "
            "replays events, `admin` does everything."
        ),
    ] = "admin",
    environment: Annotated[
        Environment | None,
        typer.Option("--environment", "-e", help="Only for this environment. Default: both."),
    ] = None,
    expires: Annotated[
        str | None, typer.Option(help="Lifetime, such as 30d or 12h. Default: no expiry.")
    ] = None,
) -> None:
    """Create a key and print it. The key is shown only once, because only its hash is stored."""
    if admin == anonymous:
        raise typer.BadParameter("pass either --admin or --anonymous")
    if anonymous and (role != "admin" or environment is not None):
        raise typer.BadParameter("--role and --environment are for admin keys")
    kind: Kind = "admin" if admin else "anonymous"
    until = datetime.now(UTC) + parse_duration(expires) if expires else None
    environments = (environment,) if environment else ENVIRONMENTS

    async def work(keys: ApiKeys) -> tuple[ApiKey, str]:
        return await keys.create(
            kind, name=name, role=role, environments=environments, expires_at=until
        )

    _, key = _changed("key.create", work, lambda made: made[0])
    print(key)


@app.command("list", epilog="Example: billhook keys list")
def list_keys(as_json: AsJson = False) -> None:
    """List all keys with their last characters. The keys themselves are not stored."""
    keys = _with_keys(lambda keys, _: keys.all())
    if as_json:
        show_json({"keys": [as_wire(each) for each in keys]})
        return
    show_table(
        ["id", "kind", "key", "name", "role", "for", "created", "last used", "state"],
        (
            [
                key.id,
                key.kind,
                key.hint,
                key.name,
                key.role if key.kind == "admin" else None,
                ", ".join(key.environments),
                key.created_at,
                key.last_used_at,
                _state(key),
            ]
            for key in keys
        ),
        none="There are no keys yet: billhook keys create --admin",
    )


@app.command(epilog="Example: billhook keys revoke 3fa85f64-5717-4562-b3fc-2c963f66afa6")
def revoke(
    key_id: Annotated[UUID, typer.Argument(help="The id that `billhook keys list` shows.")],
) -> None:
    """Revoke a key permanently. Running servers notice within 30 seconds."""

    key = _changed("key.revoke", lambda keys: keys.revoke(key_id), lambda key: key, key_id)
    print(f"{key.hint} is revoked.")


@app.command(
    epilog="Example: billhook keys rotate 3fa85f64-5717-4562-b3fc-2c963f66afa6 --overlap 7d"
)
def rotate(
    key_id: Annotated[UUID, typer.Argument(help="The id that `billhook keys list` shows.")],
    overlap: Annotated[
        str, typer.Option(help="How long the old key remains valid, such as 1h or 7d.")
    ] = "1d",
) -> None:
    """Replace a key: print a new one with the same name, role and lifetime. The old key expires
    after the overlap, so that you can deploy the new one in the meantime."""
    remains = parse_duration(overlap)

    _, key = _changed(
        "key.rotate", lambda keys: keys.rotate(key_id, remains), lambda made: made[0], key_id
    )
    print(key)


def _state(key: ApiKey) -> str:
    if key.revoked_at is not None:
        return "revoked"
    if key.expires_at is None:
        return "valid"
    until = f"{key.expires_at:%Y-%m-%d %H:%M}"
    return f"expired {until}" if key.expires_at <= datetime.now(UTC) else f"valid until {until}"


def _changed(
    action: str,
    work: Callable[[ApiKeys], Awaitable[T]],
    key_of: Callable[[T], ApiKey],
    key_id: UUID | None = None,
) -> T:
    """Do `work`, with an entry in the audit log.

    Args:
        key_of: the key in what `work` returns.
        key_id: the key that is changed; None if one is created.
    """

    async def entered(keys: ApiKeys, database: Database) -> T:
        async with recorded(database, action, key_id) as change:
            found = await work(keys)
            change.result = as_wire(key_of(found))
            return found

    return _with_keys(entered)


def _with_keys(work: Callable[[ApiKeys, Database], Awaitable[T]]) -> T:
    import asyncpg

    from billhook.access.api_keys import ApiKeys
    from billhook.access.secrets import SecretStore
    from billhook.postgres import Database

    async def run() -> T:
        settings = server_settings()
        database = Database(settings.database_url.get_secret_value(), pool_size=1)
        await database.open()
        try:
            return await work(ApiKeys(database, SecretStore(database, settings)), database)
        except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError) as error:
            raise BillhookError(
                "The database has no Billhook schema yet.", next_actions="Run: billhook migrate"
            ) from error
        finally:
            await database.close()

    return asyncio.run(run())
