"""Write-through to SQLite: whatever a response reported survives `kill -9`."""

import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import orjson

from billhook_sandbox.store import DataSet, Json

SCHEMA = """
create table if not exists objects (
    account text not null, livemode integer not null, kind text not null, id text not null,
    position integer not null, body blob not null,
    primary key (account, livemode, kind, id)
) without rowid;
create table if not exists settings (name text primary key, value blob not null) without rowid;
"""

SAVE = """
insert into objects (account, livemode, kind, id, position, body) values (?, ?, ?, ?, ?, ?)
on conflict (account, livemode, kind, id) do update set body = excluded.body
"""
DELETE = "delete from objects where account = ? and livemode = ? and kind = ? and id = ?"
LOAD = """
select account, livemode, position, body from objects order by account, livemode, kind, position
"""
SAVE_SETTING = "insert or replace into settings (name, value) values (?, ?)"


class SavedObject(NamedTuple):
    account: str
    livemode: bool
    position: int
    obj: Json


class Database:
    def __init__(self, path: Path) -> None:
        self.connection = sqlite3.connect(path, isolation_level=None)
        # Without fsync, only a power failure loses data; a killed process does not.
        self.connection.execute("pragma journal_mode = wal")
        self.connection.execute("pragma synchronous = off")
        self.connection.executescript(SCHEMA)

    def load(self) -> Iterator[SavedObject]:
        for account, livemode, position, body in self.connection.execute(LOAD):
            yield SavedObject(account, bool(livemode), position, orjson.loads(body))

    def settings(self) -> Json:
        rows = self.connection.execute("select name, value from settings")
        return {name: orjson.loads(value) for name, value in rows}

    def save_settings(self, values: Mapping[str, object]) -> None:
        self.connection.executemany(SAVE_SETTING, [(k, orjson.dumps(v)) for k, v in values.items()])

    def save(self, data: DataSet) -> None:
        """Saves all changes of one request in one transaction."""
        owner = (data.account, data.livemode)
        saved, deleted = [], []
        for (kind, object_id), obj in data.unsaved.items():
            if obj is None:
                deleted.append((*owner, kind, object_id))
            else:
                position = data.all(kind).position[object_id]
                saved.append((*owner, kind, object_id, position, orjson.dumps(obj)))
        self.connection.execute("begin")
        self.connection.executemany(SAVE, saved)
        self.connection.executemany(DELETE, deleted)
        self.connection.execute("commit")

    def clear(self) -> None:
        self.connection.execute("delete from objects")
        self.connection.execute("delete from settings")
