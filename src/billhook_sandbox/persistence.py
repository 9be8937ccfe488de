"""Write-through to SQLite: what was answered survives `kill -9`."""

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
        self.database = sqlite3.connect(path, isolation_level=None)
        # A killed process loses nothing that was written, only a power cut would: no fsync needed.
        self.database.execute("pragma journal_mode = wal")
        self.database.execute("pragma synchronous = off")
        self.database.executescript(SCHEMA)

    def load(self) -> Iterator[SavedObject]:
        for account, livemode, position, body in self.database.execute(LOAD):
            yield SavedObject(account, bool(livemode), position, orjson.loads(body))

    def settings(self) -> Json:
        rows = self.database.execute("select name, value from settings")
        return {name: orjson.loads(value) for name, value in rows}

    def set(self, values: Mapping[str, object]) -> None:
        self.database.executemany(SAVE_SETTING, [(k, orjson.dumps(v)) for k, v in values.items()])

    def save(self, data: DataSet) -> None:
        """All changes of one request in one transaction: a crash leaves all of them or none."""
        owner = (data.account, data.livemode)
        kept, gone = [], []
        for (kind, name), obj in data.unsaved.items():
            if obj is None:
                gone.append((*owner, kind, name))
            else:
                position = data.all(kind).position[name]
                kept.append((*owner, kind, name, position, orjson.dumps(obj)))
        self.database.execute("begin")
        self.database.executemany(SAVE, kept)
        self.database.executemany(DELETE, gone)
        self.database.execute("commit")

    def clear(self) -> None:
        self.database.execute("delete from objects")
        self.database.execute("delete from settings")
