"""DATABASE_URL as hosts and ORMs hand it out is understood; a bad one is one clear sentence."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg
import pytest
from asyncpg.connect_utils import _parse_connect_dsn_and_args
from hypothesis import given
from hypothesis import strategies as st

from billhook.database_url import parse

_ODD = "/@#?:%&=+[]{}<>|\\^`~!$'\"();,* ä€x1"


def parameters_of(dsn: str) -> Any:
    """What asyncpg makes of it: addresses, and parameters with user, password and database."""
    return _parse_connect_dsn_and_args(
        dsn=dsn,
        **dict.fromkeys(
            (
                *("host", "port", "user", "password", "passfile", "database", "ssl", "service"),
                *("servicefile", "direct_tls", "server_settings", "target_session_attrs"),
                *("krbsrvname", "gsslib"),
            )
        ),
    )


def understood(text: str) -> tuple[Any, ...]:
    addresses, found = parameters_of(parse(text).dsn)
    return addresses, found.user, found.password, found.database


PLACE = [("db.example", 5432)]


@pytest.mark.parametrize(
    "text",
    [
        "postgres://app:pw@db.example/shop",
        "postgresql://app:pw@db.example:5432/shop",
        "POSTGRESQL://app:pw@db.example/shop",
        "postgresql+asyncpg://app:pw@db.example/shop",
        "postgresql+psycopg://app:pw@db.example/shop",
        "postgresql+psycopg2://app:pw@db.example/shop",
        "postgres+pg8000://app:pw@db.example/shop",
        "postgis://app:pw@db.example/shop",
        "jdbc:postgresql://db.example:5432/shop?user=app&password=pw&ssl=true",
        "psql 'postgresql://app:pw@db.example/shop?sslmode=require&channel_binding=require'",
        "postgresql://app:pw@db.example:5432/shop?pgbouncer=true&connection_limit=1&schema=public",
        "postgresql://app:pw@db.example/shop?connect_timeout=10&pool_timeout=5",
        "postgresql://app:pw@db.example/shop?sslmode=no-verify",
        "postgresql://app:pw@db.example/shop?application_name=me@home",
        "postgresql://app:pw@db.example/shop?prepared_statement_cache_size=0&ssl=require",
        "postgresql://db.example/shop?user=app&password=pw",
        "postgresql://app:pw@db.example/?dbname=shop",
    ],
)
def test_an_address_of_another_host_or_driver_is_understood(text: str) -> None:
    assert understood(text) == (PLACE, "app", "pw", "shop")


@pytest.mark.parametrize(
    "password",
    [
        *("p/ss", "p@ss", "p#ss", "p?ss", "p:ss", "p%ss", "p&ss=1", "/", "@", "#", "//@@##"),
        *("a/b@c", "12/34", "1?2=3", "p@w?x=1", "[x]", "50%", "p+s", "p s", "pä€", "a@b/c#d?e=f"),
        *("@host/db", "x@5432", "ends@", "/begins"),
    ],
)
def test_a_password_may_be_written_as_it_is_or_escaped(password: str) -> None:
    for written in (password, quote(password, safe="")):
        text = f"postgresql://app:{written}@db.example:5432/shop?sslmode=disable"
        assert understood(text) == (PLACE, "app", password, "shop"), written


@given(st.text(alphabet=_ODD, min_size=1, max_size=12))
def test_any_escaped_password_survives(password: str) -> None:
    written = quote(password, safe="")
    text = f"postgresql://app:{written}@db.example/shop?connect_timeout=5"
    assert understood(text) == (PLACE, "app", password, "shop")
    once = parse(text).dsn
    assert parse(once).dsn == once


@given(st.text(alphabet=_ODD, max_size=30))
def test_no_text_raises_anything_else_or_is_quoted(text: str) -> None:
    try:
        found = parse(f"postgresql://app:hunter2{text}")
    except ValueError as error:
        said = str(error)
    else:
        said = repr(found)  # its notices, too
    assert "hunter2" not in said


@pytest.mark.parametrize(
    ("text", "addresses", "user", "database"),
    [
        ("postgresql:///shop?host=/var/run/pg", ["/var/run/pg/.s.PGSQL.5432"], None, "shop"),
        ("postgresql://%2Frun%2Fpg/shop", ["/run/pg/.s.PGSQL.5432"], None, "shop"),
        ("postgresql://a@h1:1,h2:2/shop", [("h1", 1), ("h2", 2)], "a", "shop"),
        ("postgresql://a@[::1]:5433/shop", [("::1", 5433)], "a", "shop"),
        ("postgresql://a@srv:pw@db.example/shop", PLACE, "a@srv", "shop"),
        ("postgresql://a:b@db.example/a%2Fb", PLACE, "a", "a/b"),
    ],
)
def test_sockets_several_hosts_and_odd_users_are_understood(
    text: str, addresses: Any, user: str | None, database: str
) -> None:
    found = understood(text)
    assert (found[0], found[3]) == (addresses, database)
    assert user is None or found[1] == user


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("channel_binding=require", "channel_binding"),
        ("pgbouncer=true", "pgbouncer"),
        ("connection_limit=1", "connection_limit"),
        ("schema=public", "schema"),
        ("connect_timeout=10", "connect_timeout"),
        ("sslmode=no-verify", "sslmode=no-verify"),
        ("prepareThreshold=0", "preparethreshold"),
        ("made_up=hunter2", "made_up"),
        ("hunter2%20hunter2=1", "unreadable"),
    ],
)
def test_what_cannot_be_honoured_is_named_and_never_quoted(query: str, named: str) -> None:
    (notice,) = parse(f"postgresql://app:pw@db.example/shop?{query}").notices
    assert named in notice
    assert "hunter2" not in notice
    assert "\n" not in notice


def test_what_is_honoured_needs_no_notice() -> None:
    found = parse(
        "postgresql://app:pw@db.example/shop?sslmode=require&options=endpoint%3Dep-1"
        "&target_session_attrs=read-write&statement_timeout=5000"
    )
    assert found.notices == ()
    _, parameters = parameters_of(found.dsn)
    assert parameters.server_settings == {"options": "endpoint=ep-1", "statement_timeout": "5000"}
    assert parameters.sslmode.name == "require"
    _, parameters = parameters_of(parse("postgresql://a:b@c/d?sslmode=no-verify").dsn)
    assert parameters.sslmode.name == "require"


def test_a_plus_in_a_parameter_stays_one() -> None:
    found = parse("postgresql://app:pw@db.example/shop?options=-c%20a=b+c")
    assert parameters_of(found.dsn)[1].server_settings == {"options": "-c a=b+c"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hunter2", "must look like"),
        ("", "must look like"),
        ("app:hunter2@db/app", "must look like"),
        ("mysql://app:hunter2@db/app", "begins with mysql://"),
        ("prisma+postgres://accelerate.example/?api_key=hunter2", "begins with prisma+postgres://"),
        ("postgresql://app:hunter2@db:99999/app", "port"),
        ("postgresql://app:hunter2@db:54x2/app", "host or port"),
        ("postgresql://app:hunter2@d b/app", "host or port"),
        ("postgresql://app:hunter2@db/app?port=hunter2", "port"),
        ("postgresql://app:hunter2@db/app?sslmode=hunter2", "sslmode"),
        ("postgresql://app:hunter2@db/app?sslrootcert=/nowhere/hunter2", "sslrootcert"),
        ("postgresql://app:hunter2@db/app?sslcert=/nowhere/hunter2", "sslcert"),
        ("postgresql://app:hunter2%00@db/app", "NUL"),
        ("postgresql://app:hunter2\n@db/app", "line break"),
        ("postgresql://postgres:[YOUR-PASSWORD]@db/app", "placeholder"),
    ],
)
def test_a_bad_address_is_one_clear_phrase_without_the_password(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)) as refused:
        parse(text)
    assert "hunter2" not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_systems_authorities_can_be_named(tmp_path: Path, monkeypatch: Any) -> None:
    authorities = tmp_path / "ca.pem"
    authorities.write_text("")
    monkeypatch.setenv("SSL_CERT_FILE", str(authorities))
    dsn = parse("postgresql://a:b@c/d?sslmode=verify-full&sslrootcert=system").dsn
    assert str(authorities) in dsn.replace("%2F", "/")


def test_postgresql_is_reached_with_an_odd_password(postgres: Any) -> None:
    """PostgreSQL itself, and a user whose password needs escaping."""

    async def work() -> str:
        admin = await asyncpg.connect(postgres.dsn())
        try:
            await admin.execute("CREATE ROLE odd LOGIN PASSWORD 'p/s@s#w?o%r d'")
        finally:
            await admin.close()
        place = postgres.dsn().partition("@")[2]
        text = f"postgresql+asyncpg://odd:p/s@s#w?o%r d@{place}"
        connection = await asyncpg.connect(parse(text).dsn)
        try:
            return str(await connection.fetchval("SELECT current_user"))
        finally:
            await connection.close()

    assert asyncio.run(work()) == "odd"
