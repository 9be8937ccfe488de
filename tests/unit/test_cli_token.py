"""`billhook token`: a development token that the server takes."""

from __future__ import annotations

from datetime import timedelta

import jwt
import pytest
import typer
from typer.testing import CliRunner

from billhook.cli.duration import parse_duration
from billhook.cli.token import mint, token

SECRET = "the JWT secret of the tests, long enough"
USER = "11111111-1111-4111-8111-111111111111"

app = typer.Typer()
app.command()(token)
# A second command, so that the first keeps its name.
app.command("other")(lambda: None)


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["token", *arguments], env={"JWT_SECRET": SECRET})
    return result.exit_code, result.output


def test_a_token_needs_no_database_and_says_who_for_how_long() -> None:
    code, output = run("--sub", USER, "--email", "a@b.test", "--expires", "15m")
    assert code == 0
    claims = jwt.decode(output.strip(), SECRET, algorithms=["HS256"])
    assert (claims["sub"], claims["role"], claims["email"]) == (USER, "authenticated", "a@b.test")
    assert claims["exp"] - claims["iat"] == 900


def test_a_token_carries_claims_for_policies() -> None:
    code, output = run("--sub", USER, "--claims", '{"org_id": "org_7", "sub": "x", "aal": null}')
    assert code == 0
    claims = jwt.decode(output.strip(), SECRET, algorithms=["HS256"])
    assert (claims["org_id"], claims["aal"], claims["sub"]) == ("org_7", None, USER)
    for odd in ("[]", "org_7", "{"):
        assert run("--sub", USER, "--claims", odd)[0] == 2


@pytest.mark.parametrize(
    "arguments",
    [[], ["--sub", USER, "--role", "postgres"], ["--sub", USER, "--expires", "tomorrow"]],
)
def test_what_no_server_would_take_is_not_minted(arguments: list[str]) -> None:
    assert run(*arguments)[0] == 2


def test_time_is_what_it_is_told() -> None:
    claims = jwt.decode(
        mint(SECRET, USER, None, "anon", 60, now=1000),
        SECRET,
        algorithms=["HS256"],
        options={"verify_exp": False},
    )
    assert claims == {"sub": USER, "role": "anon", "iat": 1000, "exp": 1060}


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("15m", 900), (" 12h ", 43_200), ("30d", 2_592_000)]
)
def test_durations_are_a_number_and_a_unit(text: str, seconds: int) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "h", "0h", "-1h", "1.5h", "1h30m", "1w", "99999999d", "１h"])
def test_anything_else_is_no_duration(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        parse_duration(text)
