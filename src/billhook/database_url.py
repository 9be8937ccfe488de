"""Converts `DATABASE_URL`, as provided by hosts and ORMs, to one that asyncpg understands.
Passwords may be unescaped and contain `/`, `@`, `#`, `?` or `%`; the scheme may name another
driver; the query may have parameters of libpq, Prisma, SQLAlchemy, JDBC and others. Unsupported
parameters are omitted, and a notice names them. Errors and notices never quote a value, because any
part may belong to the password.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, unquote

from billhook.errors import SettingsError

_EXAMPLE = "postgresql://user:password@host:5432/database"
_MUST_LOOK = f"it must look like {_EXAMPLE}"

_SCHEME = re.compile(
    r"(?P<command>psql\s+['\"]?)?(?:jdbc:)?(postgres|postgresql|postgis|pgsql|psql)(?:\+\w+)?://",
    re.IGNORECASE,
)
_OTHER_SCHEME = re.compile(r"([a-z][a-z0-9+.-]{0,19})://", re.IGNORECASE)
_HOST = r"(?:\[[0-9A-Fa-f:.%\w]+\]|(?:[\w.-]|%[0-9A-Fa-f]{2})*)(?::\d*)?"
# What may follow the user and password. A database name has neither `/` nor `@` unescaped.
_PLACE = re.compile(
    rf"(?P<hosts>{_HOST}(?:,{_HOST})*)(?:/(?P<database>[^/?#@]*))?/?(?:\?(?P<query>[^#]*))?",
    re.ASCII,
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_PLACEHOLDER = re.compile(r"[\[<{(]?your[-_ ]?password[\]>})]?", re.IGNORECASE)

_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_OWN_TIMEOUT = "Billhook waits 10 seconds for a connection"
_OWN_POOL = "BILLHOOK_POOL_SIZE sets the number of connections"
_NO_STATEMENTS = "Billhook detects poolers automatically"
_OWN_SCHEMAS = "Billhook's tables are in their own schemas"

# Passed on: asyncpg reads them, or PostgreSQL uses them as session settings.
_HONOURED = frozenset(
    {
        *("host", "port", "user", "password", "passfile", "service", "target_session_attrs"),
        *("sslmode", "sslcert", "sslkey", "sslrootcert", "sslcrl", "sslpassword", "sslnegotiation"),
        *("ssl_min_protocol_version", "ssl_max_protocol_version", "krbsrvname", "gsslib"),
        *("options", "search_path", "timezone"),
        *("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"),
    }
)
# Omitted parameters that users may rely on, with the reason. Billhook's driver does not support any
# others either.
_DROPPED: dict[str, str] = {
    "channel_binding": "Billhook's driver does not support channel binding; TLS follows sslmode",
    "connect_timeout": _OWN_TIMEOUT,
    "client_encoding": "Billhook always uses UTF-8",
    **dict.fromkeys(
        ("application_name", "applicationname", "fallback_application_name"),
        "Billhook's connections are named billhook",
    ),
    **dict.fromkeys(("schema", "currentschema", "current_schema", "schemas"), _OWN_SCHEMAS),
    **dict.fromkeys(
        (
            *("connection_limit", "pool_size", "max_overflow", "pool", "pool_max_conns"),
            *("pool_min_conns", "max_connections", "maxconn", "minconn", "min_size", "max_size"),
            *("conn_max_age", "conn_health_checks", "single_use_connections", "pool_recycle"),
            *("pool_pre_ping", "max", "min", "pooltimeout"),
        ),
        _OWN_POOL,
    ),
    **dict.fromkeys(
        ("pool_timeout", "socket_timeout", "command_timeout", "timeout", "logintimeout"),
        "Billhook has its own time limits",
    ),
    **dict.fromkeys(
        (
            *("pgbouncer", "prepared_statements", "prepared_statement_cache_size"),
            *("statement_cache_size", "statement_cache_capacity", "statement_cache_mode"),
            *("preparethreshold", "default_query_exec_mode", "binary_parameters"),
            *("prepared_statement_name_func", "prepare", "supa", "workaround"),
        ),
        _NO_STATEMENTS,
    ),
}
# Other names of supported parameters.
_RENAMED = {"dbname": "database", "username": "user"}


@dataclass(frozen=True, slots=True)
class DatabaseUrl:
    """An address that asyncpg understands.

    Attributes:
        dsn: correctly escaped.
        passwords: the password as it was written and as PostgreSQL gets it, for the log to hide.
        notices: one line for each parameter that was omitted or replaced.
    """

    dsn: str = field(repr=False)
    passwords: tuple[str, ...] = field(repr=False)
    notices: tuple[str, ...]


def dsn_of(text: str) -> str:
    """The address that asyncpg understands.

    Raises:
        SettingsError: it is not a valid URL.
    """
    try:
        return parse(text).dsn
    except ValueError as error:
        raise SettingsError(f"DATABASE_URL {error}.") from None


def parse(text: str) -> DatabaseUrl:
    """Read an address.

    Raises:
        ValueError: it is not a valid URL. The reason is a phrase that begins with a verb and quotes
        nothing.
    """
    scheme = _SCHEME.match(text)
    if scheme is None:
        other = _OTHER_SCHEME.match(text)
        if other is not None:
            raise ValueError(f"begins with {other[1]}://, which is not PostgreSQL; {_MUST_LOOK}")
        raise ValueError(f"must look like {_EXAMPLE}")
    if _CONTROL.search(text):
        raise ValueError(f"contains a line break or another control character; {_MUST_LOOK}")
    rest = text[scheme.end() :]
    # A command that some hosts show: psql '…'
    user_info, place = _split(rest.rstrip("'\"") if scheme["command"] else rest)
    hosts, database = place["hosts"], place["database"] or ""
    _check_ports(hosts)
    parameters, notices = _parameters(place["query"] or "")
    database = parameters.pop("database", "") or unquote(database)
    user, colon, password = user_info.partition(":")
    if _PLACEHOLDER.fullmatch(unquote(password)):
        raise ValueError("still has a placeholder as its password")
    if "\0" in unquote(user + password + database + hosts):
        raise ValueError("contains a NUL character (%00)")
    given = [password, parameters.get("password", "")]
    known = tuple(dict.fromkeys(p for each in given for p in (each, unquote(each)) if p))
    dsn = "postgresql://"
    if user_info:
        dsn += _escaped(unquote(user)) + (f":{_escaped(unquote(password))}" if colon else "") + "@"
    dsn += f"{hosts}/{_escaped(database)}"
    if parameters:
        dsn += "?" + "&".join(f"{name}={_escaped(value)}" for name, value in parameters.items())
    return DatabaseUrl(dsn, known, tuple(notices))


def _escaped(text: str) -> str:
    return quote(text, safe="")


def _split(rest: str) -> tuple[str, re.Match[str]]:
    """The user and password, and what follows them.

    The password may contain unescaped separators, so the first `@` that is followed by a complete
    address counts. An `@` in the query belongs to the query only if all its parameters are known.
    """
    place = _place(rest)
    if place is not None:
        return "", place
    at = rest.find("@")
    while at >= 0:
        place = _place(rest[at + 1 :])
        if place is not None:
            return rest[:at], place
        at = rest.find("@", at + 1)
    raise ValueError(
        "has a host or port that cannot be read; escape special characters in the password "
        f"(@ as %40, / as %2F, # as %23), {_MUST_LOOK}"
    )


def _place(text: str) -> re.Match[str] | None:
    found = _PLACE.fullmatch(text)
    if found is not None and "@" in (found["query"] or ""):
        names = (each.partition("=")[0].lower() for each in (found["query"] or "").split("&"))
        if not all(name in _HONOURED or name in _DROPPED or name in _RENAMED for name in names):
            return None
    return found


def _check_ports(hosts: str) -> None:
    for host in hosts.split(","):
        port = re.search(r":(\d*)$", host if "]" not in host else host.rpartition("]")[2])
        if port is not None and port[1] and not 0 < int(port[1]) < 65536:
            raise ValueError("has a port that is not between 1 and 65535")


def _parameters(query: str) -> tuple[dict[str, str], list[str]]:
    """The parameters that asyncpg is given, and a notice for each of the others."""
    found: dict[str, str] = {}
    notices: list[str] = []
    for part in filter(None, query.split("&")):
        written, _, raw = part.partition("=")
        name = unquote(written).lower()
        name = _RENAMED.get(name, name)
        value = unquote(raw)
        if _CONTROL.search(value):
            raise ValueError(f"has a control character in the parameter {_shown(name)}")
        if name in _TRANSLATED:
            _TRANSLATED[name](value, found, notices)
        elif name == "database" or (name in _HONOURED and value != ""):
            found[name] = value
        elif name not in _HONOURED:
            reason = _DROPPED.get(name, "Billhook's driver does not support it")
            notices.append(f"The parameter {_shown(name)} is ignored: {reason}.")
    _check_port_parameter(found)
    return found, notices


def _check_port_parameter(found: dict[str, str]) -> None:
    for port in found.get("port", "").split(","):
        if port and not (port.isascii() and port.isdecimal() and 0 < int(port[:6]) < 65536):
            raise ValueError("has a port that is not between 1 and 65535")


def _shown(name: str) -> str:
    """A parameter's name, as long as it looks like one."""
    return name if re.fullmatch(r"[a-z][a-z0-9_.-]{0,39}", name) else "with an unreadable name"


def _ssl_mode(value: str, found: dict[str, str], notices: list[str]) -> None:
    value = value.lower()
    if value == "no-verify":
        # node-postgres: TLS without checking the certificate, which is what `require` means.
        found["sslmode"] = "require"
        notices.append("The parameter sslmode=no-verify is treated as sslmode=require.")
    elif value in _SSL_MODES:
        found["sslmode"] = value
    elif value:
        raise ValueError(f"has an unknown sslmode; it must be one of {', '.join(_SSL_MODES)}")


def _ssl(value: str, found: dict[str, str], notices: list[str]) -> None:
    """`ssl=true` of node-postgres and JDBC, `ssl=require` of SQLAlchemy."""
    value = value.lower()
    meaning = {"true": "require", "1": "require", "": "require", "false": "disable", "0": "disable"}
    if "sslmode" not in found:
        _ssl_mode(meaning.get(value, value), found, notices)


def _root_certificate(value: str, found: dict[str, str], notices: list[str]) -> None:
    """A file, or `system`: the authorities that the operating system trusts (libpq 16)."""
    trusted = ssl.get_default_verify_paths().cafile if value == "system" else value
    if trusted is None:
        raise ValueError("has sslrootcert=system, but this system has no CA certificates file")
    _file("sslrootcert", trusted, found)


def _file(name: str, path: str, found: dict[str, str]) -> None:
    if path:
        if not Path(path).is_file():
            raise ValueError(f"has the parameter {name}, which names a file that does not exist")
        found[name] = path


_TRANSLATED: dict[str, Callable[[str, dict[str, str], list[str]], None]] = {
    "sslmode": _ssl_mode,
    "ssl": _ssl,
    "sslrootcert": _root_certificate,
    **{
        name: lambda value, found, _, name=name: _file(name, value, found)  # type: ignore[misc]
        for name in ("sslcert", "sslkey", "sslcrl")
    },
}
