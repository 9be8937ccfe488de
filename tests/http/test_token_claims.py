"""Policies decide on every claim of a verified token; an odd token is refused, never an error."""

from __future__ import annotations

import json
from typing import Any

import pytest
from structlog.testing import capture_logs

from api import serving
from http_tokens import ANONYMOUS_KEY, ODD_CLAIMS, USER, raw_token, token

TABLE = "payments.stripe_checkout_sessions"
ORG = "org_7"
POLICIES = {
    "org_id": "auth.jwt() ->> 'org_id' = subject_id",
    "app_metadata": "auth.jwt() -> 'app_metadata' -> 'orgs' ? subject_id",
    "aal": "auth.jwt() ->> 'aal' = 'aal2'",
    "negation": "coalesce((auth.jwt() ->> 'is_anonymous')::boolean, false) IS NOT TRUE",
    "negated list": "NOT auth.jwt() -> 'app_metadata' @> '{\"blocked\": true}'",
}


def order(price: str) -> dict[str, Any]:
    return {
        "mode": "payment",
        "lineItems": [{"priceId": price}],
        "successUrl": "https://shop.example/done",
        "cancelUrl": "https://shop.example/cart",
        "subject": {"type": "organization", "id": ORG},
    }


@pytest.mark.parametrize(
    ("policy", "good", "bad"),
    [
        ("org_id", {"org_id": ORG}, {"org_id": "org_8"}),
        ("org_id", {"org_id": ORG}, {}),
        ("app_metadata", {"app_metadata": {"orgs": [ORG]}}, {"app_metadata": {"orgs": ["o"]}}),
        ("aal", {"aal": "aal2"}, {"aal": "aal1"}),
        ("negation", {"is_anonymous": False}, {"is_anonymous": True}),
        ("negation", {}, {"is_anonymous": True}),
        ("negated list", {"app_metadata": {}}, {"app_metadata": {"blocked": True}}),
    ],
)
def test_a_policy_on_another_claim_admits_and_refuses_whom_it_should(
    api: Any, price: str, policy: str, good: dict[str, Any], bad: dict[str, Any]
) -> None:
    api.books.execute(
        f"ALTER TABLE {TABLE} ENABLE ROW LEVEL SECURITY; "
        f"CREATE POLICY claims ON {TABLE} TO authenticated "
        f"USING ({POLICIES[policy]}) WITH CHECK ({POLICIES[policy]})"
    )
    refused = api.checkout(order(price), token(**bad))
    assert (refused.status_code, refused.json()["error"]) == (403, "AUTH_UNAUTHORIZED")
    assert api.checkout(order(price), token(**good)).status_code == 201


def test_the_role_that_counts_and_the_subject_cannot_be_replaced_by_claims(
    api: Any, price: str
) -> None:
    seen = "auth.role() = current_user AND auth.uid() IS NOT DISTINCT FROM "
    api.books.execute(
        f"ALTER TABLE {TABLE} ENABLE ROW LEVEL SECURITY; "
        f"CREATE POLICY users ON {TABLE} TO authenticated USING ({seen}'{USER}'); "
        f"CREATE POLICY guests ON {TABLE} TO anon USING ({seen}NULL)"
    )
    for bearer in (token(), token(role=None), token(role="anon"), ANONYMOUS_KEY):
        assert api.checkout(order(price), bearer).status_code == 201


# Larger headers are refused as such, before anybody looks at a token.
@pytest.mark.sampled(3)
@pytest.mark.parametrize("odd", [each for each in ODD_CLAIMS if len(each) < 10_000])
def test_an_odd_claim_is_refused_on_every_route(api: Any, price: str, odd: str) -> None:
    for role in ("authenticated", "project_admin"):
        bearer = raw_token(f'{{"sub": "{USER}", "role": "{role}", {odd}}}')
        answers = (
            api.checkout(order(price), bearer),
            api.http.get("/api/payments/stripe/status", headers={"x-none": "", **_as(bearer)}),
        )
        for answer in answers:
            assert (answer.status_code, answer.json()["error"]) == (401, "AUTH_UNAUTHORIZED"), odd


def _as(bearer: str) -> dict[str, str]:
    return {"authorization": f"Bearer {bearer}"}


@pytest.mark.parametrize(
    "claims",
    [
        {"n": 10**400, "small": 1e-300, "nested": json.loads("[" * 50 + "]" * 50)},
        {"emoji": "👩‍🚀", "ctrl": "\x01\x1f\x7f", "quote": "\"'\\\\u0000 \\u0000", "": ""},
        {"long": "x" * 5000, "__proto__": {}, "request.jwt.claims": "{}"},
    ],
)
def test_an_unusual_claim_that_postgresql_can_hold_passes(
    api: Any, price: str, claims: dict[str, Any]
) -> None:
    check = f"auth.jwt() @> $json${json.dumps(claims)}$json$::jsonb"
    api.books.execute(
        f"ALTER TABLE {TABLE} ENABLE ROW LEVEL SECURITY; "
        f"CREATE POLICY claims ON {TABLE} TO authenticated USING ({check})"
    )
    assert api.checkout(order(price), token(**claims)).status_code == 201


def test_a_rejected_token_is_logged_with_the_reason_and_never_itself(
    database_url: str, sandbox: str
) -> None:
    foreign = token(secret="another secret that is long enough too")
    expired = token(exp=1)
    with capture_logs() as logged, serving(database_url, sandbox) as api:
        for bearer in (foreign, expired):
            assert api.checkout({}, bearer).status_code == 401
    lines = [line for line in logged if line["event"] == "request rejected"]
    assert [(line["log_level"], line["reason"]) for line in lines] == [
        ("info", "The token's signature is not valid."),
        ("info", "The token has expired."),
    ]
    assert not any(each in str(logged) for each in (foreign, expired))


def test_a_rejected_request_cannot_fill_the_log_with_its_path(
    database_url: str, sandbox: str
) -> None:
    with capture_logs() as logged, serving(database_url, sandbox) as api:
        path = f"/api/payments/stripe/test/checkout-sessions/{'x' * 1000}"
        assert api.http.get(path).status_code == 401
    (line,) = (line for line in logged if line["event"] == "request rejected")
    assert len(line["path"]) <= 220
