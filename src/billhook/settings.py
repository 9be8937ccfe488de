"""Every setting, its default and its meaning. Nothing else in Billhook reads the environment.

Names are those of the contract's section 7, the same as InsForge's where it has them, so that
a `.env` carries over.
"""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlsplit

from pydantic import (
    AliasChoices,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from billhook.errors import SettingsError

Environment = Literal["test", "live"]
ENVIRONMENTS: tuple[Environment, ...] = ("test", "live")

STRIPE_API_BASE = "https://api.stripe.com"


class Settings(BaseSettings):
    """The settings of one Billhook process. Secrets are `SecretStr`: they don't print."""

    model_config = SettingsConfigDict(
        env_file=".env", env_ignore_empty=True, extra="ignore", populate_by_name=True
    )

    database_url: SecretStr = Field(alias="DATABASE_URL")
    jwt_secret: SecretStr = Field(alias="JWT_SECRET")
    encryption_key: SecretStr | None = Field(None, alias="ENCRYPTION_KEY")
    access_api_key: SecretStr | None = Field(None, alias="ACCESS_API_KEY")
    access_anon_key: SecretStr | None = Field(None, alias="ACCESS_ANON_KEY")
    stripe_test_secret_key: SecretStr | None = Field(None, alias="STRIPE_TEST_SECRET_KEY")
    stripe_live_secret_key: SecretStr | None = Field(None, alias="STRIPE_LIVE_SECRET_KEY")
    stripe_test_webhook_secret: SecretStr | None = Field(None, alias="STRIPE_TEST_WEBHOOK_SECRET")
    stripe_live_webhook_secret: SecretStr | None = Field(None, alias="STRIPE_LIVE_WEBHOOK_SECRET")
    stripe_api_base: str = Field(STRIPE_API_BASE, alias="STRIPE_API_BASE")
    public_url: str | None = Field(
        None, validation_alias=AliasChoices("BILLHOOK_PUBLIC_URL", "API_BASE_URL")
    )
    jwks_url: str | None = Field(None, alias="BILLHOOK_JWKS_URL")
    # An identity provider signs for all of its customers and applications with one key: these two
    # say which of its tokens are meant for this app. Checked on JWKS tokens only, when set.
    jwt_audience: str | None = Field(None, alias="BILLHOOK_JWT_AUDIENCE")
    jwt_issuer: str | None = Field(None, alias="BILLHOOK_JWT_ISSUER")
    host: str = Field("127.0.0.1", alias="HOST")
    port: int = Field(7130, alias="PORT", ge=0, le=65535)
    pool_size: int = Field(10, alias="BILLHOOK_POOL_SIZE", ge=1, le=1000)
    # Requests a second that the sync of one process may send: to one list, and in all, of which
    # live traffic takes its share. Stripe allows 25 and 100, in test mode 25 and 25
    # (stripe-facts 41). 0 lifts the limit.
    stripe_list_rate: float = Field(25, alias="BILLHOOK_STRIPE_LIST_RATE", ge=0)
    stripe_live_rate: float = Field(80, alias="BILLHOOK_STRIPE_LIVE_RATE", ge=0)
    stripe_test_rate: float = Field(22, alias="BILLHOOK_STRIPE_TEST_RATE", ge=0)
    # The recovery worker: whether this process runs one, and how it works.
    recovery: bool = Field(True, alias="BILLHOOK_RECOVERY")
    retry_attempts: int = Field(20, alias="BILLHOOK_RETRY_ATTEMPTS", ge=1, le=100)
    pull_seconds: float | None = Field(None, alias="BILLHOOK_PULL_SECONDS", ge=0.1, le=86400)
    # Finished events older than this leave the ledger for billhook.archived_events. Stripe may
    # tell of an event again for 30 days.
    event_retention_days: int | None = Field(
        None, alias="BILLHOOK_EVENT_RETENTION_DAYS", ge=31, le=36500
    )
    # The books are compared with Stripe so often, a sample each time; 0: only by hand.
    verify_hours: int = Field(24, alias="BILLHOOK_VERIFY_HOURS", ge=0, le=8760)
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", alias="BILLHOOK_LOG_LEVEL"
    )

    @field_validator("database_url")
    @classmethod
    def _is_postgres(cls, value: SecretStr) -> SecretStr:
        if urlsplit(value.get_secret_value()).scheme not in ("postgres", "postgresql"):
            raise ValueError("must look like postgresql://user:password@host:5432/database")
        return value

    @field_validator("jwt_secret")
    @classmethod
    def _is_long_enough(cls, value: SecretStr) -> SecretStr:
        if len(value.get_secret_value()) < 32:
            raise ValueError("must have at least 32 characters")
        return value

    @field_validator("access_api_key", "access_anon_key")
    @classmethod
    def _has_its_prefix(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if value is None:
            return None
        prefix = "ik_" if info.field_name == "access_api_key" else "anon_"
        key = value.get_secret_value().strip()
        if not key.startswith(prefix) or len(key) < len(prefix) + 16:
            raise ValueError(f"must begin with {prefix} and have 16 characters or more after it")
        return SecretStr(key)

    @field_validator("stripe_test_secret_key", "stripe_live_secret_key")
    @classmethod
    def _is_a_stripe_key(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if value is None:
            return None
        mode = "test" if "test" in (info.field_name or "") else "live"
        if not value.get_secret_value().strip().startswith((f"sk_{mode}_", f"rk_{mode}_")):
            raise ValueError(f"must begin with sk_{mode}_ or rk_{mode}_")
        return SecretStr(value.get_secret_value().strip())

    @field_validator("stripe_api_base", "public_url", "jwks_url")
    @classmethod
    def _is_http(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ValueError("must be an http:// or https:// address")
        return value.rstrip("/")

    @property
    def encryption_secret(self) -> str:
        """What the secret store's key is derived from (contract section 7)."""
        return (self.encryption_key or self.jwt_secret).get_secret_value()

    @property
    def pull_every(self) -> float:
        """Seconds between two looks at Stripe's event list. Where Stripe cannot reach us, that is
        how events come."""
        if self.pull_seconds is not None:
            return self.pull_seconds
        return 3.0 if self.public_url is None else 300.0

    def secret_values(self) -> list[str]:
        """Every secret in these settings, so that the log can strike them out."""
        values = (getattr(self, name) for name in type(self).model_fields)
        return [value.get_secret_value() for value in values if isinstance(value, SecretStr)]

    def stripe_secret_key(self, environment: Environment) -> str | None:
        """The key that seeds `environment` at start, or None."""
        value = (
            self.stripe_test_secret_key if environment == "test" else self.stripe_live_secret_key
        )
        return value.get_secret_value() if value else None

    def stripe_webhook_secret(self, environment: Environment) -> str | None:
        """The signing secret of an endpoint managed by hand, or None."""
        value = (
            self.stripe_test_webhook_secret
            if environment == "test"
            else self.stripe_live_webhook_secret
        )
        return value.get_secret_value() if value else None


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
        name = str(first["loc"][0]) if first["loc"] else "settings"
        if first["type"] == "missing":
            raise SettingsError(f"{name} is not set. {_hint(name)}".strip()) from None
        reason = first["msg"].removeprefix("Value error, ")
        raise SettingsError(f"{name} {reason}.") from None


def _hint(name: str) -> str:
    return {
        "DATABASE_URL": "Give the address of a PostgreSQL (14 or newer), for example "
        "postgresql://user:password@localhost:5432/app; `make run` brings its own.",
        "JWT_SECRET": "Give the secret (32 characters or more) that your user tokens are "
        "signed with.",
    }.get(name, "")
