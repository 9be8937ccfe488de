"""A missing or malformed setting is one clear line that names it, and never quotes it."""

from __future__ import annotations

import base64
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import pytest
from pydantic import ValidationError

from billhook.credentials import why_guessable
from billhook.errors import SettingsError
from billhook.settings import Settings, load_settings

ENCRYPTION_KEY = "5f0c8e1b2d7a4936b1c8e0f7a2d95346"
GOOD: dict[str, Any] = {
    "_env_file": None,
    "DATABASE_URL": "postgresql://app:hunter2@db/app",
    "JWT_SECRET": "the JWT secret of the tests, long enough",
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
    assert settings.encryption_secret == GOOD["JWT_SECRET"]


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
        ("STRIPE_API_BASE", "http://stripe.hunter2.example"),
        ("BILLHOOK_JWKS_URL", "http://id.hunter2.example/jwks"),
        ("BILLHOOK_PUBLIC_URL", "ftp://hunter2"),
        ("BILLHOOK_JWKS_URL", "hunter2"),
        ("BILLHOOK_JWKS_URL", "http://hunter2:x/"),
        ("BILLHOOK_PUBLIC_URL", "https://[hunter2"),
        ("API_BASE_URL", "https://hunter2 hunter2"),
        ("API_BASE_URL", "https://me:hunter2@shop.example"),
        ("BILLHOOK_JWKS_URL", "https://me:hunter2@id.example/jwks"),
        ("BILLHOOK_PUBLIC_URL", "https://shop.example/?hunter2"),
        ("DATABASE_URL", "postgresql://app:hunter2@db:70000/app"),
        ("DATABASE_URL", "postgresql://app:hunter2@db/app?sslmode=hunter2"),
        ("DATABASE_URL", "postgresql://app:hunter2@d b/app"),
        ("JWT_SECRET", f"hunter2\n{'s' * 32}"),
        ("ENCRYPTION_KEY", "hunter2"),
        ("ENCRYPTION_KEY", "hunter2-hunter2-hunter2-hunter2-hunter2"),
        ("ENCRYPTION_KEY", "hunter2 please change me in production!"),
        ("STRIPE_TEST_SECRET_KEY", "pk_test_hunter2hunter2"),
        ("STRIPE_TEST_SECRET_KEY", "whsec_hunter2hunter2"),
        ("STRIPE_LIVE_SECRET_KEY", "pk_live_hunter2hunter2"),
        ("STRIPE_TEST_SECRET_KEY", "sk_test_hunter2 hunter2"),
        ("STRIPE_TEST_SECRET_KEY", "sk_test_hunter2\nhunter2"),
        ("STRIPE_TEST_SECRET_KEY", "sk_test_hunter2…"),
        ("STRIPE_TEST_WEBHOOK_SECRET", "sk_test_hunter2hunter2"),
        ("STRIPE_TEST_WEBHOOK_SECRET", "rk_live_hunter2hunter2"),
        ("STRIPE_LIVE_WEBHOOK_SECRET", "pk_live_hunter2hunter2"),
        ("STRIPE_LIVE_WEBHOOK_SECRET", "hunter2"),
        ("STRIPE_LIVE_WEBHOOK_SECRET", "whsec_"),
        ("STRIPE_LIVE_WEBHOOK_SECRET", "whsec_hunter2…"),
        ("STRIPE_LIVE_WEBHOOK_SECRET", "whsec_hunter2 hunter2"),
        ("STRIPE_LIVE_WEBHOOK_SECRET", "whsec_hunter2,sk_live_hunter2"),
        ("ACCESS_API_KEY", "ik_hunter2 hunter2 hunter2"),
        ("BILLHOOK_TRUSTED_PROXIES", "hunter2"),
        ("BILLHOOK_TRUSTED_PROXIES", "10.0.0.1/8"),
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


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("PORT", "must be a whole number."),
        ("BILLHOOK_STRIPE_TEST_RATE", "must be a number."),
        ("BILLHOOK_RECOVERY", "must be true or false."),
        ("BILLHOOK_LOG_LEVEL", "must be 'debug', 'info', 'warning' or 'error'."),
    ],
)
def test_a_malformed_setting_is_explained_in_plain_words(name: str, problem: str) -> None:
    with pytest.raises(SettingsError, match=f"^{name} {problem}$"):
        load_settings(**{**GOOD, name: "abc"})


@pytest.mark.parametrize("name", ["DATABASE_URL", "JWT_SECRET"])
def test_a_missing_setting_is_named(name: str) -> None:
    with pytest.raises(SettingsError, match=f"^{name} is not set"):
        load_settings(**{key: value for key, value in GOOD.items() if key != name})


def test_restricted_keys_are_taken_and_trimmed() -> None:
    settings = load_settings(**GOOD, STRIPE_TEST_SECRET_KEY=" rk_test_abc ")
    assert settings.stripe_secret_key("test") == "rk_test_abc"
    assert settings.stripe_secret_key("live") is None


def test_the_encryption_key_has_its_own_setting() -> None:
    assert load_settings(**GOOD, ENCRYPTION_KEY=ENCRYPTION_KEY).encryption_secret == ENCRYPTION_KEY


def test_an_earlier_encryption_key_may_be_weak_for_it_only_reads() -> None:
    settings = load_settings(**GOOD, ENCRYPTION_KEY=ENCRYPTION_KEY, ENCRYPTION_KEY_PREVIOUS="weak")
    assert settings.earlier_encryption_secrets == ("weak", GOOD["JWT_SECRET"])


# From InsForge's and Supabase's .env.example, Supabase's command line, PostgREST's tutorial and
# our README.
PUBLISHED = [
    ("JWT_SECRET", "your secret: what user tokens are signed with", "openssl rand -hex 32"),
    ("JWT_SECRET", "your-secret-key-here-must-be-32-char-or-above", "openssl rand -hex 32"),
    ("JWT_SECRET", "your-super-secret-jwt-token-with-at-least-32-characters-long", "openssl"),
    ("JWT_SECRET", "super-secret-jwt-token-with-at-least-32-characters-long", "openssl"),
    ("JWT_SECRET", "reallyreallyreallyreallyverysafe", "openssl"),
    ("JWT_SECRET", "dev-secret-please-change-in-production", "openssl"),
    ("JWT_SECRET", "a" * 32, "openssl"),
    ("JWT_SECRET", "changeme-changeme-changeme-changeme", "openssl"),
    ("JWT_SECRET", "a-string-secret-at-least-256-bits-long", "openssl"),
    ("JWT_SECRET", "qwertyuiopasdfghjklzxcvbnm123456", "openssl"),
    ("JWT_SECRET", "replace-with-a-32-character-secret", "openssl"),
    ("JWT_SECRET", "changeme, this is only for development", "openssl"),
    ("ACCESS_API_KEY", "ik_your-api-key-here-32-chars-minimum", "echo ik_$(openssl rand -hex 24)"),
    ("ACCESS_API_KEY", "ik_" + "a" * 48, "echo ik_$("),
    ("ACCESS_API_KEY", "ik_hunter2hunter2hunter2", "echo ik_$("),
    ("ACCESS_API_KEY", "ik_0123456789abcdef", "echo ik_$("),
    ("ACCESS_ANON_KEY", "anon_your-anon-key-here", "echo anon_$(openssl rand -hex 24)"),
    ("ACCESS_ANON_KEY", "anon_changeme_changeme_change", "echo anon_$("),
]


@pytest.mark.parametrize(("name", "value", "command"), PUBLISHED)
def test_a_secret_that_can_be_guessed_is_refused_with_the_command_that_makes_another(
    name: str, value: str, command: str
) -> None:
    with pytest.raises(SettingsError, match=f"^{name} .* easy to guess") as refused:
        load_settings(**{**GOOD, name: value})
    assert command in str(refused.value)
    assert value not in str(refused.value)


@pytest.mark.parametrize("length", [8, 12, 16, 24, 32, 48])
def test_what_a_random_source_makes_is_accepted(length: int) -> None:
    source = Random(length)
    for _ in range(1000):
        made = source.randbytes(length)
        assert why_guessable(made.hex()) is None
        assert why_guessable(base64.b64encode(made).decode()) is None


def test_keys_that_insforge_and_openssl_make_are_accepted() -> None:
    digits = sha256(b"a key of the tests").hexdigest()
    for length in (16, 32, 48, 64):
        key = digits[:length]
        given = {"ACCESS_API_KEY": f"ik_{key}", "ACCESS_ANON_KEY": f"anon_{key}"}
        settings = load_settings(**{**GOOD, "JWT_SECRET": digits, **given})
        assert {f"ik_{key}", f"anon_{key}", digits} < set(settings.secret_values())


AROUND = [
    "{}\n",
    "\r\n {}",
    "\t{} ",
    '"{}"',
    "'{}'",
    "\ufeff{}",
    "\u00a0{}\u200b",
    ' "{}\n" ',
]


@pytest.mark.parametrize("around", AROUND)
def test_what_travels_with_a_value_is_removed(around: str) -> None:
    given = {
        "DATABASE_URL": "postgresql://app:hunter2@db/app",
        "JWT_SECRET": "the secret of the tests, long enough",
        "ENCRYPTION_KEY": ENCRYPTION_KEY,
        "STRIPE_TEST_SECRET_KEY": "sk_test_hunter2",
        "STRIPE_TEST_WEBHOOK_SECRET": "whsec_hunter2",
        "ACCESS_API_KEY": "ik_5f0c8e1b2d7a4936",
        "BILLHOOK_PUBLIC_URL": "https://pay.shop.example",
        "BILLHOOK_JWKS_URL": "https://id.shop.example/jwks",
        "BILLHOOK_JWT_AUDIENCE": "shop",
        "STRIPE_API_BASE": "https://stripe.example",
        "PORT": "8080",
    }
    clean = load_settings(_env_file=None, **given)
    odd: Any = {name: around.format(value) for name, value in given.items()}
    assert load_settings(_env_file=None, **odd) == clean
    assert clean.port == 8080


@pytest.mark.parametrize("nothing", ["", " ", "\n", '""', "\ufeff", "' '"])
def test_a_setting_that_holds_nothing_is_not_set(nothing: str) -> None:
    optional = ("ENCRYPTION_KEY", "STRIPE_TEST_WEBHOOK_SECRET", "BILLHOOK_PUBLIC_URL", "PORT")
    assert load_settings(**GOOD, **dict.fromkeys(optional, nothing)) == load_settings(**GOOD)
    with pytest.raises(SettingsError, match=r"^JWT_SECRET is not set"):
        load_settings(**{**GOOD, "JWT_SECRET": nothing})


def test_env_files_of_windows_editors_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = f"JWT_SECRET={GOOD['JWT_SECRET']}\r\nDATABASE_URL='postgresql://app@db/app'\r\n"
    Path(".env").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert load_settings().jwt_secret.get_secret_value() == GOOD["JWT_SECRET"]
    Path(".env").write_bytes(text.encode("utf-16"))
    with pytest.raises(SettingsError, match="UTF-8"):
        load_settings()


def test_several_signing_secrets_may_be_given() -> None:
    given = 'whsec_one, "whsec_two"\nwhsec_one;whsec_three,'
    settings = load_settings(**GOOD, STRIPE_TEST_WEBHOOK_SECRET=given)
    secrets = settings.stripe_webhook_secrets("test")
    assert secrets == ("whsec_one", "whsec_two", "whsec_three")
    assert set(secrets) < set(settings.secret_values())
    assert settings.stripe_webhook_secrets("live") == ()


def test_insforges_name_for_the_public_address_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_BASE_URL", "https://api.shop.example/")
    assert load_settings(**GOOD).reachable_url == "https://api.shop.example"
    ours = load_settings(**GOOD, BILLHOOK_PUBLIC_URL="https://pay.shop.example")
    assert ours.reachable_url == "https://pay.shop.example"


PRIVATE = [
    *("localhost:7130", "LOCALHOST", "localhost.", "api.localhost", "127.0.0.1:7130", "127.1"),
    *("2130706433", "0.0.0.0:7130", "10.1.2.3", "172.16.0.9", "192.168.1.2:80", "169.254.1.1"),
    *("100.64.0.1", "[::1]:7130", "[fe80::1%25eth0]", "[fd00::1]", "[::ffff:127.0.0.1]", "[::]"),
    *("insforge:7130", "backend", "shop.local", "host.docker.internal:7130", "shop.home.arpa"),
]


@pytest.mark.parametrize("host", PRIVATE)
def test_a_private_address_is_no_public_one(host: str) -> None:
    address = f"http://{host}"
    for name in ("API_BASE_URL", "BILLHOOK_PUBLIC_URL"):
        settings = load_settings(**GOOD, **{name: address})
        assert settings.reachable_url is None
        assert settings.pull_every == 3
        assert [address in notice for notice in settings.notices] == [True]
    # A sandbox beside us does reach it, if it is meant to.
    beside = {**GOOD, "STRIPE_API_BASE": "http://127.0.0.1:12111"}
    assert load_settings(**beside, BILLHOOK_PUBLIC_URL=address).reachable_url == address
    assert load_settings(**beside, API_BASE_URL=address).reachable_url is None


@pytest.mark.parametrize("host", PRIVATE)
def test_a_private_host_needs_no_tls(host: str) -> None:
    there = f"http://{host}"
    audience = {"BILLHOOK_JWT_AUDIENCE": "shop"}
    settings = load_settings(**GOOD, STRIPE_API_BASE=there, BILLHOOK_JWKS_URL=there, **audience)
    assert (settings.stripe_api_base, settings.jwks_url) == (there, there)


@pytest.mark.parametrize("host", ["stripe.shop.example", "8.8.8.8", "[2606:4700::1]", "a.co:8443"])
@pytest.mark.parametrize("name", ["STRIPE_API_BASE", "BILLHOOK_JWKS_URL"])
def test_a_public_host_needs_tls(name: str, host: str) -> None:
    with pytest.raises(SettingsError, match=f"^{name} must be an https:// address"):
        load_settings(**GOOD, **{name: f"http://{host}"})


@pytest.mark.parametrize("host", ["pay.shop.example", "8.8.8.8", "[2606:4700::1]", "a.co:8443"])
def test_a_public_address_is_one(host: str) -> None:
    settings = load_settings(**GOOD, API_BASE_URL=f"https://{host}")
    assert settings.reachable_url == f"https://{host}"
    assert settings.notices == []


def test_tokens_of_a_jwks_need_an_audience_or_an_explicit_any() -> None:
    jwks = {"BILLHOOK_JWKS_URL": "https://id.example/jwks"}
    with pytest.raises(SettingsError, match=r"^BILLHOOK_JWT_AUDIENCE is not set"):
        load_settings(**GOOD, **jwks)
    assert load_settings(**GOOD, **jwks, BILLHOOK_JWT_AUDIENCE="a, b").jwt_audiences == ("a", "b")
    assert load_settings(**GOOD, **jwks, BILLHOOK_JWT_AUDIENCE="*").jwt_audiences is None
    assert load_settings(**GOOD).jwt_audiences == ()


def test_what_is_ignored_in_the_database_address_is_a_notice() -> None:
    address = "postgresql://app:hunter2@db/app?pgbouncer=true&channel_binding=require"
    notices = load_settings(**{**GOOD, "DATABASE_URL": address}).notices
    assert [each.split(" is ignored")[0] for each in notices] == [
        "DATABASE_URL: The parameter pgbouncer",
        "DATABASE_URL: The parameter channel_binding",
    ]


def test_the_log_hides_the_databases_password_however_it_is_written() -> None:
    address = "postgresql://app:hun%2Fter@2/x@db/app"
    secrets = load_settings(**{**GOOD, "DATABASE_URL": address}).secret_values()
    assert {"hun%2Fter@2/x", "hun/ter@2/x"} < set(secrets)
    usual = load_settings(**{**GOOD, "DATABASE_URL": "postgresql://postgres:postgres@db/postgres"})
    assert "postgres" not in usual.secret_values()


def test_a_settings_error_of_pydantics_quotes_no_value() -> None:
    with pytest.raises(ValidationError) as refused:
        Settings(**{**GOOD, "DATABASE_URL": "mysql://app:hunter2@db/app"})
    assert "hunter2" not in str(refused.value)


def test_settings_do_not_print_their_secrets() -> None:
    settings = load_settings(**GOOD, STRIPE_TEST_SECRET_KEY="sk_test_hunter2")
    assert "hunter2" not in repr(settings)
    assert "sk_test_hunter2" in settings.secret_values()


@pytest.mark.parametrize(
    ("given", "prefix"), [("/billing", "/billing"), ("/a/b/", "/a/b"), ("", ""), (" ", "")]
)
def test_a_root_path_is_a_prefix_of_paths(given: str, prefix: str) -> None:
    assert load_settings(**GOOD, BILLHOOK_ROOT_PATH=given).root_path == prefix


@pytest.mark.parametrize(
    "given", ["billing", "https://your.app/billing", "/billing?", "//", "/a b"]
)
def test_other_root_paths_are_rejected(given: str) -> None:
    with pytest.raises(SettingsError, match="BILLHOOK_ROOT_PATH must be a path"):
        load_settings(**GOOD, BILLHOOK_ROOT_PATH=given)


def test_an_argument_that_is_no_setting_is_refused_with_the_closest_one() -> None:
    with pytest.raises(
        SettingsError, match="Unknown setting webhook_secrets: did you mean stripe_"
    ):
        Settings(webhook_secrets="whsec_1", _env_file=None)
    with pytest.raises(SettingsError, match=r"Unknown setting colour\."):
        Settings(colour="red", _env_file=None)
