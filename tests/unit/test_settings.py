"""A missing or malformed setting is one clear line that names it, and never quotes it."""

from __future__ import annotations

from typing import Any

import pytest

from billhook.errors import SettingsError
from billhook.settings import Settings, load_settings

GOOD: dict[str, Any] = {
    "_env_file": None,
    "DATABASE_URL": "postgresql://app:hunter2@db/app",
    "JWT_SECRET": "s" * 32,
}


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for field in Settings.model_fields.values():
        for name in (field.alias, *getattr(field.validation_alias, "choices", ())):
            if isinstance(name, str):
                monkeypatch.delenv(name, raising=False)


def test_two_settings_are_enough() -> None:
    settings = load_settings(**GOOD)
    assert (settings.host, settings.port) == ("127.0.0.1", 7130)
    assert settings.encryption_secret == "s" * 32


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "mysql://app:hunter2@db/app"),
        ("DATABASE_URL", "hunter2"),
        ("JWT_SECRET", "hunter2"),
        ("STRIPE_TEST_SECRET_KEY", "sk_live_hunter2hunter2"),
        ("STRIPE_LIVE_SECRET_KEY", "sk_test_hunter2hunter2"),
        ("STRIPE_LIVE_SECRET_KEY", "hunter2"),
        ("ACCESS_API_KEY", "anon_hunter2hunter2hunter2"),
        ("ACCESS_API_KEY", "ik_hunter2"),
        ("ACCESS_ANON_KEY", "ik_hunter2hunter2hunter2"),
        ("STRIPE_API_BASE", "hunter2"),
        ("BILLHOOK_PUBLIC_URL", "ftp://hunter2"),
        ("BILLHOOK_JWKS_URL", "hunter2"),
        ("PORT", "hunter2"),
        ("PORT", "70000"),
        ("BILLHOOK_POOL_SIZE", "0"),
    ],
)
def test_a_malformed_setting_is_named_but_not_quoted(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"^{name} ") as refused:
        load_settings(**{**GOOD, name: value})
    assert "hunter2" not in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["DATABASE_URL", "JWT_SECRET"])
def test_a_missing_setting_is_named(name: str) -> None:
    with pytest.raises(SettingsError, match=f"^{name} is not set"):
        load_settings(**{key: value for key, value in GOOD.items() if key != name})


def test_restricted_keys_are_taken_and_trimmed() -> None:
    settings = load_settings(**GOOD, STRIPE_TEST_SECRET_KEY=" rk_test_abc ")
    assert settings.stripe_secret_key("test") == "rk_test_abc"
    assert settings.stripe_secret_key("live") is None


def test_the_encryption_key_has_its_own_setting() -> None:
    assert load_settings(**GOOD, ENCRYPTION_KEY="e" * 32).encryption_secret == "e" * 32


def test_insforges_name_for_the_public_address_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_BASE_URL", "https://api.shop.example/")
    assert load_settings(**GOOD).public_url == "https://api.shop.example"


def test_settings_do_not_print_their_secrets() -> None:
    settings = load_settings(**GOOD, STRIPE_TEST_SECRET_KEY="sk_test_hunter2")
    assert "hunter2" not in repr(settings)
    assert "sk_test_hunter2" in settings.secret_values()
