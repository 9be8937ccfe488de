"""Every setting, its default and its meaning. Nothing else in Billhook reads the environment.

Names are those of the contract's section 7, the same as InsForge's where it has them, so that
a `.env` carries over.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from difflib import get_close_matches
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from billhook import database_url
from billhook.credentials import (
    SHORTEST_API_KEY,
    problem_of_stripe_key,
    signing_secrets,
    trimmed,
    weakness_of,
    why_guessable,
)
from billhook.errors import SettingsError

Environment = Literal["test", "live"]
ENVIRONMENTS: tuple[Environment, ...] = ("test", "live")

STRIPE_API_BASE = "https://api.stripe.com"

ANY_AUDIENCE = "*"
"""As BILLHOOK_JWT_AUDIENCE: tokens that the identity provider issues for any application count."""
# Stripe's keys go to one, and the other says whose tokens are trusted.
_NEED_TLS = ("stripe_api_base", "jwks_url")
_LOCAL_NAMES = (".localhost", ".local", ".internal", ".lan", ".home.arpa", ".localdomain")


class FromEnvironment(BaseSettings):
    """Values of the environment and `.env`.

    White space, quotes and byte-order marks around a value are removed; if nothing remains, the
    variable counts as not set.
    """

    model_config = SettingsConfigDict(
        env_file=".env",
        env_file_encoding="utf-8-sig",  # Windows editors begin a file with a byte-order mark
        env_ignore_empty=True,
        extra="ignore",
        populate_by_name=True,
        hide_input_in_errors=True,
    )

    def __init__(self, **values: Any) -> None:
        """Read them.

        Raises:
            SettingsError: `.env` is not UTF-8, or an argument is not the name of a setting.
        """
        known = {*type(self).model_fields, *self._aliases()}
        for name in values:
            if name not in known and not name.startswith("_"):
                close = get_close_matches(name, known, 1)
                hint = f": did you mean {close[0]}?" if close else ""
                raise SettingsError(f"Unknown setting {name}{hint or '.'}")
        try:
            super().__init__(**values)
        except UnicodeDecodeError:
            raise SettingsError(".env is not UTF-8: save it in that encoding.") from None

    @classmethod
    def _aliases(cls) -> set[str]:
        """The names of the settings in the environment."""
        return {field.alias for field in cls.model_fields.values() if field.alias}

    @model_validator(mode="before")
    @classmethod
    def _trim(cls, values: Any) -> Any:
        """Remove characters around a value that are not part of it."""
        if not isinstance(values, Mapping):
            return values
        cleaned = {name: _trimmed(value) for name, value in values.items()}
        return {name: value for name, value in cleaned.items() if value != ""}


class Settings(FromEnvironment):
    """The settings of one Billhook process. Secrets are `SecretStr`: they don't print."""

    database_url: SecretStr = Field(
        alias="DATABASE_URL",
        description="The PostgreSQL database of your app, version 14 or newer.",
    )
    jwt_secret: SecretStr = Field(
        alias="JWT_SECRET",
        description="The secret with which your app signs user tokens (HS256): one line, 32 "
        "characters or more.",
    )
    encryption_key: SecretStr | None = Field(
        None,
        alias="ENCRYPTION_KEY",
        description="Encrypts stored Stripe keys and signing secrets: 32 characters or more. If "
        "not set, `JWT_SECRET` is used.",
    )
    previous_encryption_key: SecretStr | None = Field(
        None,
        alias="ENCRYPTION_KEY_PREVIOUS",
        description="The previous `ENCRYPTION_KEY`. Used only for decryption, so that you can "
        "change the key.",
    )
    access_api_key: SecretStr | None = Field(
        None,
        alias="ACCESS_API_KEY",
        description="An admin key: `ik_` and 16 characters or more. Stored at startup if there "
        "is no valid admin key.",
    )
    access_anon_key: SecretStr | None = Field(
        None,
        alias="ACCESS_ANON_KEY",
        description="An anonymous key: `anon_` and 16 characters or more. Stored at startup if "
        "there is no anonymous key.",
    )
    stripe_test_secret_key: SecretStr | None = Field(
        None,
        alias="STRIPE_TEST_SECRET_KEY",
        description="A secret or restricted key for test mode (`sk_test_…`, `rk_test_…`). Stored "
        "at startup if no key is stored. After that, change it with `billhook config set`.",
    )
    stripe_live_secret_key: SecretStr | None = Field(
        None,
        alias="STRIPE_LIVE_SECRET_KEY",
        description="The same for live mode (`sk_live_…`, `rk_live_…`).",
    )
    stripe_test_webhook_secret: SecretStr | None = Field(
        None,
        alias="STRIPE_TEST_WEBHOOK_SECRET",
        description="The signing secret (`whsec_…`) of a test mode webhook endpoint that you "
        "manage yourself, or several, separated by commas. A signature with any of "
        "them is valid.",
    )
    stripe_live_webhook_secret: SecretStr | None = Field(
        None,
        alias="STRIPE_LIVE_WEBHOOK_SECRET",
        description="The same for live mode.",
    )
    stripe_api_base: str = Field(
        STRIPE_API_BASE,
        alias="STRIPE_API_BASE",
        description="The base URL of Stripe's API. Change it to use a sandbox or a proxy. "
        "`http://` is accepted only for this machine and private networks.",
    )
    # InsForge's name for it: its stock .env says http://localhost:7130, which is not public.
    api_base_url: str | None = Field(
        None,
        alias="API_BASE_URL",
        description="InsForge's name for `BILLHOOK_PUBLIC_URL`. Used if the latter is not set.",
    )
    public_url: str | None = Field(
        None,
        alias="BILLHOOK_PUBLIC_URL",
        description="The URL at which Stripe can reach Billhook. Without it, there is no managed "
        "webhook endpoint, and events are pulled.",
    )
    # An identity provider signs for all of its customers and applications with one key: the
    # audience says which of its tokens are meant for this app, so it must be set with a JWKS.
    # Both are checked on tokens of the JWKS only.
    jwks_url: str | None = Field(
        None,
        alias="BILLHOOK_JWKS_URL",
        description="The URL of the identity provider's keys, such as "
        "`https://PROJECT.supabase.co/auth/v1/.well-known/jwks.json`. RS256, ES256 "
        "and EdDSA (Ed25519) are accepted.",
    )
    jwt_audience: str | None = Field(
        None,
        alias="BILLHOOK_JWT_AUDIENCE",
        validate_default=True,
        description="The audience (`aud`) of tokens for this application, or several, separated "
        "by commas. Required with a JWKS.",
    )
    jwt_issuer: str | None = Field(
        None,
        alias="BILLHOOK_JWT_ISSUER",
        description="The issuer (`iss`) that tokens must contain, character for character.",
    )
    host: str = Field(
        "127.0.0.1",
        alias="HOST",
        description="The address that `billhook serve` listens on.",
    )
    port: int = Field(
        7130,
        alias="PORT",
        ge=0,
        le=65535,
        description="The port that `billhook serve` and `billhook dev` listen on; 0 for any free "
        "port.",
    )
    root_path: str = Field(
        "",
        alias="BILLHOOK_ROOT_PATH",
        description="The prefix, such as `/billing`, that a reverse proxy removes from the path "
        "before it passes a request to `billhook serve`.",
    )
    trusted_proxies: str | None = Field(
        None,
        alias="BILLHOOK_TRUSTED_PROXIES",
        description="IP addresses and networks of reverse proxies whose `X-Forwarded-For` and "
        "`X-Forwarded-Proto` are trusted, separated by commas; `*` trusts all clients. By "
        "default, none are trusted.",
    )
    pool_size: int = Field(
        10,
        alias="BILLHOOK_POOL_SIZE",
        ge=1,
        le=1000,
        description="The maximum number of connections to PostgreSQL per process.",
    )
    # Stripe allows 25 requests a second to a list, and 100 in total, in test mode 25 and 25
    # (stripe-facts 41).
    stripe_list_rate: float = Field(
        25,
        alias="BILLHOOK_STRIPE_LIST_RATE",
        ge=0,
        description="Maximum requests per second that a sync sends to one list endpoint. "
        "0 or more; 0 means no limit.",
    )
    stripe_live_rate: float = Field(
        80,
        alias="BILLHOOK_STRIPE_LIVE_RATE",
        ge=0,
        description="Maximum requests per second from one process to a live mode account, for "
        "syncs and everything else. 0 or more; 0 means no limit.",
    )
    stripe_test_rate: float = Field(
        22,
        alias="BILLHOOK_STRIPE_TEST_RATE",
        ge=0,
        description="The same for test mode.",
    )
    stripe_usage_rate: float = Field(
        950,
        alias="BILLHOOK_STRIPE_USAGE_RATE",
        ge=0,
        description="Maximum meter events per second in live mode, where Stripe allows 1,000. In "
        "test mode, they count toward the total. 0 or more; 0 means no limit.",
    )
    recovery: bool = Field(
        True,
        alias="BILLHOOK_RECOVERY",
        description="Whether `billhook serve` also runs a recovery worker.",
    )
    retry_attempts: int = Field(
        20,
        alias="BILLHOOK_RETRY_ATTEMPTS",
        ge=1,
        le=100,
        description="How many times the recovery worker retries a failed event before it becomes a "
        "dead letter.",
    )
    pull_seconds: float | None = Field(
        None,
        alias="BILLHOOK_PULL_SECONDS",
        ge=0.1,
        le=86400,
        description="Seconds between reads of Stripe's event list. If not set: 3 without a "
        "public URL, 300 with one.",
    )
    # Stripe may deliver an event again for 30 days.
    event_retention_days: int | None = Field(
        None,
        alias="BILLHOOK_EVENT_RETENTION_DAYS",
        ge=31,
        le=36500,
        description="Finished events older than this many days are archived. If not set, none are.",
    )
    # Stripe takes usage of the last 35 days; a month's totals must not be compacted.
    usage_retention_days: int | None = Field(
        None,
        alias="BILLHOOK_USAGE_RETENTION_DAYS",
        ge=40,
        le=36500,
        description="Sent usage older than this many days is compacted to one row per day. If not "
        "set, none is.",
    )
    public_catalog: bool = Field(
        False,
        alias="BILLHOOK_PUBLIC_CATALOG",
        description="Whether anyone may read the active products and prices "
        "(`GET …/public-catalog`), for a pricing page.",
    )
    import_history: bool = Field(
        True,
        alias="BILLHOOK_IMPORT_HISTORY",
        description="Whether to import the payments, refunds and checkouts from before the Stripe "
        "account was connected, after the first sync. `false`: only on request.",
    )
    verify_hours: int = Field(
        24,
        alias="BILLHOOK_VERIFY_HOURS",
        ge=0,
        le=8760,
        description="Hours between verifications, which compare a sample of the mirror with "
        "Stripe; 0 turns them off.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info",
        alias="BILLHOOK_LOG_LEVEL",
        description="The minimum level of log messages: `debug`, `info`, `warning` or `error`.",
    )

    @field_validator("database_url")
    @classmethod
    def _is_postgres(cls, value: SecretStr) -> SecretStr:
        database_url.parse(value.get_secret_value())
        return value

    @field_validator("jwt_secret", "encryption_key")
    @classmethod
    def _is_strong(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        weakness = value and weakness_of(value.get_secret_value())
        if weakness:
            signs = info.field_name == "jwt_secret"
            where = ", here and where user tokens are signed" if signs else ""
            raise ValueError(
                f"{weakness}: use 32 random bytes, for example from `openssl rand -hex 32`{where}. "
                "If stored secrets are encrypted with the current value, set "
                "ENCRYPTION_KEY_PREVIOUS to that"
            )
        return value

    @field_validator("jwt_secret", "encryption_key", "previous_encryption_key")
    @classmethod
    def _is_one_line(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and _has_control_character(value.get_secret_value()):
            raise ValueError("must be one line without control characters")
        return value

    @field_validator("access_api_key", "access_anon_key")
    @classmethod
    def _has_its_prefix(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if value is None:
            return None
        prefix = "ik_" if info.field_name == "access_api_key" else "anon_"
        key = value.get_secret_value()
        if not key.startswith(prefix) or len(key) < len(prefix) + SHORTEST_API_KEY:
            raise ValueError(
                f"must begin with {prefix} and have {SHORTEST_API_KEY} characters or more after it"
            )
        if not key.isascii() or not key.isprintable() or " " in key:
            raise ValueError("must not contain white space or characters beyond ASCII")
        if weakness := why_guessable(key.removeprefix(prefix)):
            raise ValueError(
                f"{weakness}: generate another, for example with "
                f"`echo {prefix}$(openssl rand -hex 24)`"
            )
        return value

    @field_validator("stripe_test_secret_key", "stripe_live_secret_key")
    @classmethod
    def _is_a_stripe_key(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if value is None:
            return None
        mode: Environment = "test" if "test" in (info.field_name or "") else "live"
        if problem := problem_of_stripe_key(mode, value.get_secret_value()):
            raise ValueError(f"{problem}; it must begin with sk_{mode}_ or rk_{mode}_")
        return value

    @field_validator("stripe_test_webhook_secret", "stripe_live_webhook_secret")
    @classmethod
    def _are_signing_secrets(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return None
        return SecretStr(",".join(signing_secrets(value.get_secret_value()))) or None

    @field_validator("stripe_api_base", "public_url", "api_base_url", "jwks_url")
    @classmethod
    def _is_http(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None:
            return None
        try:
            parts = urlsplit(value)
            sound = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:  # an invalid port or IPv6 address
            sound = False
        if not sound or _has_control_character(value) or " " in value:
            raise ValueError("must be an http:// or https:// address")
        if "@" in parts.netloc:
            raise ValueError("must not have a user or password in the address")
        if parts.scheme == "http" and info.field_name in _NEED_TLS and not is_private(value):
            raise ValueError(
                "must be an https:// address, because others on the network can read and change "
                "what http:// carries; only private hosts need no TLS"
            )
        if info.field_name != "jwks_url" and (parts.query or parts.fragment):
            raise ValueError("must be an address without a query (?) or a fragment (#)")
        return value.rstrip("/")

    @field_validator("jwt_audience")
    @classmethod
    def _is_said_with_a_jwks(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None and info.data.get("jwks_url"):
            raise ValueError(
                "is not set, but BILLHOOK_JWKS_URL is: set the audience (aud) of the tokens for "
                "this application, so that tokens of others are rejected, or "
                f"{ANY_AUDIENCE} to accept every token that the provider signs"
            )
        return value

    @field_validator("root_path")
    @classmethod
    def _is_a_prefix(cls, value: str) -> str:
        if value and not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+/?", value):
            raise ValueError("must be a path such as /billing")
        return value.rstrip("/")

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, value: str | None) -> str | None:
        if value is None or value == "*":
            return value
        try:
            return ",".join(str(ip_network(each.strip())) for each in value.split(",") if each)
        except ValueError:
            raise ValueError(
                "must be IP addresses or networks, separated by commas, such as "
                "10.0.0.1,192.168.0.0/16"
            ) from None

    @property
    def reachable_url(self) -> str | None:
        """The address at which Stripe reaches Billhook; None where it doesn't. A Stripe that is
        itself at a private address, as our sandbox is, may reach one that is named for it."""
        url = self.public_url or self.api_base_url
        if url is None or not is_private(url):
            return url
        return self.public_url if is_private(self.stripe_api_base) else None

    @property
    def notices(self) -> list[str]:
        """Settings that have no effect, one line each; without secrets."""
        found = self.database_notices
        url = self.public_url or self.api_base_url
        if url is not None and self.reachable_url is None:
            found.append(
                f"Stripe cannot reach {url}, so there is no webhook endpoint and "
                "events are pulled: set BILLHOOK_PUBLIC_URL to a public address to have them sent."
            )
        return found

    @property
    def database_notices(self) -> list[str]:
        """Ignored and replaced parameters of DATABASE_URL, one line each."""
        parsed = database_url.parse(self.database_url.get_secret_value())
        return [f"DATABASE_URL: {notice}" for notice in parsed.notices]

    @property
    def encryption_secret(self) -> str:
        """What the secret store's key is derived from (contract section 7)."""
        return (self.encryption_key or self.jwt_secret).get_secret_value()

    @property
    def earlier_encryption_secrets(self) -> tuple[str, ...]:
        """What stored secrets may have been encrypted with before: a previous key, and JWT_SECRET
        where an ENCRYPTION_KEY was added later."""
        known = (self.previous_encryption_key, self.jwt_secret)
        return tuple(each.get_secret_value() for each in known if each is not None)

    @property
    def jwt_audiences(self) -> tuple[str, ...] | None:
        """The audiences of which a token of the JWKS must have one; None for any."""
        if self.jwt_audience == ANY_AUDIENCE:
            return None
        return tuple(each.strip() for each in (self.jwt_audience or "").split(",") if each.strip())

    @property
    def pull_every(self) -> float:
        """Seconds between reads of Stripe's event list. If Stripe cannot reach this server, events
        arrive only this way."""
        if self.pull_seconds is not None:
            return self.pull_seconds
        return 3.0 if self.reachable_url is None else 300.0

    def secret_values(self) -> list[str]:
        """Every secret in these settings, so that the log can strike them out."""
        values = (getattr(self, name) for name in type(self).model_fields)
        found = [value.get_secret_value() for value in values if isinstance(value, SecretStr)]
        for environment in ENVIRONMENTS:
            found += self.stripe_webhook_secrets(environment)
        address = database_url.parse(self.database_url.get_secret_value())
        # A password such as `postgres` is in half of all lines, and no secret.
        public = address.dsn.rpartition("@")[2]
        return [*found, *(each for each in address.passwords if each not in public)]

    def stripe_secret_key(self, environment: Environment) -> str | None:
        """The key that seeds `environment` at start, or None."""
        value = (
            self.stripe_test_secret_key if environment == "test" else self.stripe_live_secret_key
        )
        return value.get_secret_value() if value else None

    def stripe_webhook_secrets(self, environment: Environment) -> tuple[str, ...]:
        """The signing secrets of endpoints managed by hand."""
        value = (
            self.stripe_test_webhook_secret
            if environment == "test"
            else self.stripe_live_webhook_secret
        )
        return signing_secrets(value.get_secret_value()) if value else ()


def _trimmed(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return SecretStr(trimmed(value.get_secret_value()))
    return trimmed(value) if isinstance(value, str) else value


def _has_control_character(text: str) -> bool:
    return any(ord(each) < 32 or ord(each) == 127 for each in text)


def is_private(url: str) -> bool:
    """Whether an address leads to this machine or a private network, as far as its name tells."""
    host = (urlsplit(url).hostname or "").rstrip(".")
    found = _ip_address(host)
    if found is not None:
        return not found.is_global
    # A name without a dot is that of a machine or a container beside us.
    return "." not in host or f".{host}".endswith(_LOCAL_NAMES)


def _ip_address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        found = ip_address(host.partition("%")[0])
    except ValueError:
        try:
            return IPv4Address(socket.inet_aton(host))  # 127.1, 2130706433, 0x7f.1
        except (OSError, UnicodeError):
            return None
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        return found.ipv4_mapped
    return found


def load_settings(**overrides: object) -> Settings:
    """Read the settings from the environment and `.env`.

    Raises:
        SettingsError: one line that names the first setting that is missing or malformed; the
            value itself is never quoted, it may be a secret.
    """
    try:
        return Settings(**overrides)  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        name = _variable(str(first["loc"][0])) if first["loc"] else "settings"
        if first["type"] == "missing":
            raise SettingsError(f"{name} is not set. {_hint(name)}".strip()) from None
        reason = _NOT_PARSED.get(first["type"]) or first["msg"].removeprefix("Value error, ")
        raise SettingsError(f"{name} {reason.replace('Input should', 'must', 1)}.") from None


_NOT_PARSED = {
    "int_parsing": "must be a whole number",
    "float_parsing": "must be a number",
    "bool_parsing": "must be true or false",
}


def _variable(name: str) -> str:
    """The environment variable of a field; pydantic names some problems by the field."""
    field = Settings.model_fields.get(name)
    return field.alias or name if field else name


def _hint(name: str) -> str:
    return {
        "DATABASE_URL": "Set it to the URL of a PostgreSQL (14 or newer), for example "
        "postgresql://user:password@localhost:5432/app; `make run` includes one.",
        "JWT_SECRET": "Set it to the secret (32 characters or more) that your user tokens are "
        "signed with.",
    }.get(name, "")
