"""Who is calling: every shape of credential, and every way in which one can be wrong."""

from __future__ import annotations

import asyncio
import base64
import hmac
import time
from collections.abc import Iterator
from typing import Any

import jwt
import orjson
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from pydantic import SecretStr, ValidationError
from starlette.requests import HTTPConnection
from structlog.testing import capture_logs

from billhook.access.api_keys import ApiKeys
from billhook.access.auth import Auth, Caller, credential_of
from billhook.access.jwks import Jwks
from billhook.access.secrets import SecretStore
from billhook.errors import BillhookError, Unauthorized
from billhook.postgres import Database
from billhook.settings import Settings
from http_tokens import ODD_CLAIMS, raw_token
from identity import Provider, providing

SECRET = "the JWT secret of the tests, long enough"
USER = "11111111-1111-4111-8111-111111111111"
FAR = 4_000_000_000
ISSUER = "https://id.example/"


def request(bearer: str | None = None, **headers: str) -> HTTPConnection:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    if bearer is not None:
        given["authorization"] = f"Bearer {bearer}"
    raw = [(name.encode(), value.encode()) for name, value in given.items()]
    return HTTPConnection({"type": "http", "headers": raw})


def token(
    claims: dict[str, Any] | None = None,
    key: Any = SECRET,
    algorithm: str = "HS256",
    headers: dict[str, Any] | None = None,
) -> str:
    body = {"sub": USER, "role": "authenticated", "exp": time.time() + 60, **(claims or {})}
    body = {name: value for name, value in body.items() if value is not ...}
    return jwt.encode(body, key, algorithm=algorithm, headers=headers)


def auth(jwks: Jwks | None = None, **more: Any) -> Auth:
    more = {"jwks_url": "http://nowhere", "jwt_audience": "*", **more} if jwks else more
    settings = Settings(
        database_url=SecretStr("postgresql://nowhere"),
        jwt_secret=SecretStr(SECRET),
        _env_file=None,
        **more,
    )
    database = Database("postgresql://nowhere")  # never opened: tokens need no database
    return Auth(settings, ApiKeys(database, SecretStore(database, settings)), jwks)


def user(bearer: str, by: Auth | None = None) -> Caller:
    return asyncio.run((by or auth()).user(request(bearer)))


def refused(work: Any) -> tuple[int, str]:
    with pytest.raises(BillhookError) as error:
        asyncio.run(work)
    assert SECRET not in str(error.value.body())
    return error.value.status, error.value.code


def test_a_users_token_becomes_that_user_with_the_claims_that_policies_read() -> None:
    more = {
        **{"email": "a@b.test", "org_id": "org_7", "aal": "aal2", "is_anonymous": False},
        "app_metadata": {"teams": ["a", "b"], "plan": None, "limit": 10**30},
    }
    caller = user(token({**more, "exp": FAR}))
    assert (caller.kind, caller.database_role, caller.user_id) == ("user", "authenticated", USER)
    assert caller.claims == {"role": "authenticated", "sub": USER, "exp": FAR, **more}


def test_a_token_without_role_counts_as_authenticated() -> None:
    for absent in (..., None):
        claims = user(token({"role": absent, "exp": ...})).claims
        assert claims == {"role": "authenticated", "sub": USER}


def test_an_anonymous_token_passes_on_no_subject() -> None:
    caller = user(token({"role": "anon", "exp": ..., "org_id": 7}))
    assert (caller.kind, caller.database_role, caller.user_id) == ("anonymous", "anon", None)
    assert caller.claims == {"role": "anon", "org_id": 7}


def test_an_administrators_token_passes_on_no_subject_either() -> None:
    by = token({"role": "project_admin", "sub": "local:admin", "exp": ...})
    assert user(by).claims == {"role": "project_admin"}
    admin = asyncio.run(auth().admin(request(by)))
    assert (admin.kind, admin.role, admin.user_id) == ("admin", "project_admin", "local:admin")


@pytest.mark.parametrize(
    "claims",
    [
        {"role": "postgres"},
        {"role": "AUTHENTICATED"},
        {"role": "anon; DROP TABLE x"},
        {"role": ""},
        {"role": ["authenticated"]},
        {"role": 1},
        {"sub": ...},
        {"sub": ""},
        {"sub": None},
        {"sub": 7},
        {"sub": "a\0b"},
        {"exp": [1]},
        {"exp": {}},
        {"nbf": [1]},
        {"exp": 1},
        {"exp": "soon"},
        {"nbf": time.time() + 3600},
    ],
)
def test_a_token_that_is_expired_or_says_nothing_usable_is_unauthorized(claims: Any) -> None:
    for entry in (auth().user, auth().admin):
        assert refused(entry(request(token(claims)))) == (401, "AUTH_UNAUTHORIZED")


@pytest.mark.parametrize("odd", ODD_CLAIMS)
def test_a_claim_that_postgresql_cannot_hold_is_unauthorized(odd: str) -> None:
    bearer = raw_token(f'{{"sub": "{USER}", {odd}}}')
    for entry in (auth().user, auth().admin):
        assert refused(entry(request(bearer))) == (401, "AUTH_UNAUTHORIZED")


@pytest.mark.parametrize("odd", [r"\ud800", r"\ud83d\ud83d", r"a\u0000b"])
def test_a_subject_that_postgresql_cannot_hold_is_unauthorized(odd: str) -> None:
    bearer = raw_token(f'{{"sub": "{odd}"}}')
    for entry in (auth().user, auth().admin):
        assert refused(entry(request(bearer))) == (401, "AUTH_UNAUTHORIZED")


@pytest.mark.parametrize(
    "bearer",
    [
        "nonsense",
        "a.b.c",
        "..",
        token(key="another secret that is long enough too"),
        token(algorithm="HS512"),
        token(key="", algorithm="none"),
        token()[:-4] + "AAAA",
        token() + ".x",
        "e30." * 3,
        base64.urlsafe_b64encode(b'{"alg":"HS256"' + b"[" * 5000).decode() + ".e30.x",
    ],
)
def test_a_token_that_is_none_or_not_ours_is_unauthorized(bearer: str) -> None:
    for entry in (auth().user, auth().admin):
        assert refused(entry(request(bearer))) == (401, "AUTH_UNAUTHORIZED")


@pytest.mark.parametrize("headers", [{}, {"authorization": ""}, {"authorization": "Basic YTpi"}])
def test_a_request_without_credentials_says_so(headers: dict[str, str]) -> None:
    for entry in (auth().user, auth().admin):
        assert refused(entry(request(**headers))) == (401, "AUTH_INVALID_CREDENTIALS")


def test_an_anonymous_key_never_opens_admin_routes_and_is_not_even_looked_up() -> None:
    assert refused(auth().admin(request("anon_whatever"))) == (401, "AUTH_UNAUTHORIZED")


def test_a_good_token_of_a_user_is_forbidden_on_admin_routes() -> None:
    for role in ("anon", "authenticated"):
        assert refused(auth().admin(request(token({"role": role})))) == (403, "AUTH_UNAUTHORIZED")


@pytest.mark.parametrize(
    ("headers", "kind"),
    [
        ({"authorization": "Bearer ik_1"}, "api_key"),
        ({"authorization": "bearer  ik_1 "}, "api_key"),
        ({"x-api-key": "ik_1"}, "api_key"),
        ({"x-api-key": "ik_1", "authorization": "Bearer anon_1"}, "api_key"),
        ({"x-api-key": " ", "authorization": "Bearer anon_1"}, "anonymous_key"),
        ({"authorization": "Bearer anon_1"}, "anonymous_key"),
        ({"authorization": "Bearer eyJ"}, "token"),
        ({"authorization": "Bearer "}, None),
        ({}, None),
    ],
)
def test_the_shape_decides_what_a_credential_is(headers: dict[str, str], kind: str | None) -> None:
    found = credential_of(headers)
    assert (found.kind if found else None) == kind
    assert found is None or found.value not in repr(found)


@pytest.fixture
def provider() -> Iterator[Provider]:
    with providing() as found:
        yield found


@pytest.fixture(scope="module")
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture(scope="module")
def ec_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def by_new_name(key: ed25519.Ed25519PrivateKey, kid: str) -> str:
    """A token whose header says Ed25519, as RFC 9864 wants it."""
    header = {"alg": "Ed25519", "kid": kid}
    parts = [orjson.dumps(header), orjson.dumps({"sub": USER, "exp": FAR})]
    signed = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    signature = base64.urlsafe_b64encode(key.sign(signed)).rstrip(b"=")
    return (signed + b"." + signature).decode()


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_tokens_of_an_identity_provider_work_beside_our_own(
    provider: Provider, rsa_key: Any, ec_key: Any
) -> None:
    provider.add(rsa_key, "r1", alg="RS256", use="sig")
    provider.add(ec_key, "e1")
    ed_key = ed25519.Ed25519PrivateKey.generate()
    provider.add(ed_key, "d1")
    provider.add(ed_key, "d2", alg="Ed25519")
    by = auth(Jwks(provider.url))

    async def work() -> None:
        for bearer in (
            token(key=rsa_key, algorithm="RS256", headers={"kid": "r1"}),
            token({"aud": "authenticated"}, ec_key, "ES256", {"kid": "e1"}),
            token(key=ed_key, algorithm="EdDSA", headers={"kid": "d1"}),
            token(key=ed_key, algorithm="EdDSA", headers={"kid": "d2"}),
            by_new_name(ed_key, "d1"),
            by_new_name(ed_key, "d2"),
            token(),
        ):
            assert (await by.user(request(bearer))).user_id == USER

    asyncio.run(work())
    assert provider.fetches == 1


def test_a_token_cannot_choose_another_algorithm_for_a_key(
    provider: Provider, rsa_key: rsa.RSAPrivateKey, ec_key: Any
) -> None:
    provider.add(rsa_key, "r1")
    public = rsa_key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    # The classic: the provider's public key taken for a shared secret.
    header = base64.urlsafe_b64encode(b'{"alg":"HS256","kid":"r1"}').rstrip(b"=")
    body = token().encode().split(b".")[1]
    mac = hmac.new(public, header + b"." + body, "sha256").digest()
    forged = b".".join([header, body, base64.urlsafe_b64encode(mac).rstrip(b"=")]).decode()
    for bearer in (
        forged,
        token(key=rsa_key, algorithm="RS512", headers={"kid": "r1"}),
        token(key=rsa_key, algorithm="PS256", headers={"kid": "r1"}),
        token(key=ec_key, algorithm="ES256", headers={"kid": "r1"}),
        token(key=rsa_key, algorithm="RS256", headers={"kid": "unknown"}),
    ):
        work = auth(Jwks(provider.url)).user(request(bearer))
        assert refused(work) == (401, "AUTH_UNAUTHORIZED")


def test_a_token_meant_for_another_app_of_the_provider_is_refused(
    provider: Provider, rsa_key: Any
) -> None:
    provider.add(rsa_key, "r1")
    more = {"jwt_audience": "shop", "jwt_issuer": ISSUER}

    def bearer(**claims: Any) -> str:
        return token(claims, rsa_key, "RS256", {"kid": "r1"})

    good = auth(Jwks(provider.url), **more)
    assert user(bearer(aud=["shop", "x"], iss=ISSUER), good).user_id == USER
    for claims in ({"aud": "other", "iss": ISSUER}, {"aud": "shop", "iss": "x"}, {"aud": "shop"}):
        work = auth(Jwks(provider.url), **more).user(request(bearer(**claims)))
        assert refused(work) == (401, "AUTH_UNAUTHORIZED")
    for claims, reason in (
        ({"aud": "other", "iss": ISSUER}, "issued for another application"),
        ({"aud": "shop", "iss": "x"}, "issued by another issuer"),
    ):
        with pytest.raises(Unauthorized, match=reason):
            user(bearer(**claims), auth(Jwks(provider.url), **more))
    assert user(token(), good).user_id == USER  # our own tokens name neither


def test_a_key_that_the_provider_adds_works_soon_and_made_up_ones_cost_few_fetches(
    provider: Provider, rsa_key: Any, ec_key: Any
) -> None:
    clock = Clock()
    provider.add(rsa_key, "r1")
    jwks = Jwks(provider.url, min_interval=15, lifetime=600, clock=clock)

    async def work() -> None:
        assert await jwks.find("r1")
        provider.add(ec_key, "e1")
        for number in range(20):
            assert await jwks.find(f"made up {number}") is None
        assert provider.fetches == 1
        clock.now = 16
        assert all(await asyncio.gather(*(jwks.find("e1") for _ in range(10))))
        assert provider.fetches == 2
        clock.now = 700
        provider.keys.clear()
        assert await jwks.find("r1") is None  # withdrawn keys stop working
        await jwks.close()

    asyncio.run(work())


def test_a_short_outage_of_the_provider_signs_nobody_out(provider: Provider, rsa_key: Any) -> None:
    clock = Clock()
    provider.add(rsa_key, None)
    jwks = Jwks(provider.url, clock=clock)

    async def work() -> None:
        assert await jwks.find(None)  # the only key needs no id
        provider.broken = True
        clock.now = 3000
        assert await jwks.find(None)
        clock.now = 4000
        with pytest.raises(BillhookError) as error:
            await jwks.find(None)
        assert error.value.status == 503
        provider.broken = False
        clock.now = 4020
        assert await jwks.find(None)
        await jwks.close()

    asyncio.run(work())


def test_a_provider_that_was_never_reached_is_our_failure_not_the_tokens(rsa_key: Any) -> None:
    bearer = token(key=rsa_key, algorithm="RS256", headers={"kid": "r1"})
    assert refused(auth(Jwks("http://127.0.0.1:9/jwks")).user(request(bearer)))[0] == 503


def test_keys_for_encryption_or_of_other_kinds_sign_nobody_in(
    provider: Provider, rsa_key: Any, ec_key: Any
) -> None:
    provider.add(rsa_key, "enc", use="enc")
    provider.add(ec_key, "wrong", alg="RS256")
    provider.keys += [{"kty": "oct", "kid": "o", "k": "AAAA", "alg": "HS256"}, {"kid": "x"}]
    jwks = Jwks(provider.url)

    async def work() -> None:
        for kid in ("enc", "wrong", "o", "x", None):
            assert await jwks.find(kid) is None
        await jwks.close()

    asyncio.run(work())


def test_a_jwks_without_an_audience_accepts_no_token(provider: Provider, rsa_key: Any) -> None:
    with pytest.raises(ValidationError, match="set the audience"):
        auth(jwks_url=provider.url)
    # Should an application hand one in all the same, its tokens count for nothing.
    provider.add(rsa_key, "r1")
    by = auth(Jwks(provider.url), jwks_url=None, jwt_audience=None)
    for claims in ({}, {"aud": "shop"}, {"aud": "other", "role": "project_admin"}):
        bearer = token(claims, rsa_key, "RS256", {"kid": "r1"})
        for entry in (by.user, by.admin):
            assert refused(entry(request(bearer)))[0] == 401


def test_one_of_several_audiences_is_enough(provider: Provider, rsa_key: Any) -> None:
    provider.add(rsa_key, "r1")
    by = auth(Jwks(provider.url), jwt_audience="web, mobile")
    for audience in ("web", "mobile", ["x", "mobile"]):
        assert user(token({"aud": audience}, rsa_key, "RS256", {"kid": "r1"}), by).user_id == USER
    for audience in ("web, mobile", "x", [], None, 7, ...):
        bearer = token({"aud": audience}, rsa_key, "RS256", {"kid": "r1"})
        work = auth(Jwks(provider.url), jwt_audience="web, mobile").user(request(bearer))
        assert refused(work) == (401, "AUTH_UNAUTHORIZED")


def test_keys_that_cannot_be_used_are_logged_once_and_leave_the_others(
    provider: Provider, rsa_key: Any
) -> None:
    clock = Clock()
    provider.keys += [
        {"kty": "EC", "crv": "P-384", "kid": "p384", "alg": "ES384"},
        {"kty": "OKP", "crv": "Ed448", "kid": "e448", "x": "AAAA"},
        {"kty": "OKP", "crv": "Ed25519", "kid": "broken", "x": 7},
        {"kty": "RSA", "kid": ["odd"], "n": "%%%", "e": 1},
    ]
    provider.add(rsa_key, "r1")
    jwks = Jwks(provider.url, clock=clock)

    async def work() -> None:
        assert await jwks.find("r1")
        clock.now = 16
        assert await jwks.find("p384") is None
        await jwks.close()

    with capture_logs() as lines:
        asyncio.run(work())
    (line,) = lines
    assert line["unusable"] == (
        *("p384 (ES384)", "e448 (Ed448)", "broken (Ed25519)", "None (RSA)"),
    )
    assert line["usable"] == 1
