"""Errors in the contract's shape, and Stripe's errors as ours."""

from __future__ import annotations

from typing import Any

import pytest
import stripe

from billhook import errors
from billhook.stripe.gateway import Refusal, refusal_of, translate


def test_an_error_is_the_contracts_body() -> None:
    error = errors.PaymentNotFound("No customer.", next_actions="Buy something first.")
    assert error.body() == {
        "error": "PAYMENT_NOT_FOUND",
        "message": "No customer.",
        "statusCode": 404,
        "nextActions": "Buy something first.",
    }
    assert "nextActions" not in errors.NotFound("x").body()


def test_every_error_has_a_code_of_the_contract() -> None:
    known = {
        "INVALID_INPUT", "AUTH_INVALID_CREDENTIALS", "AUTH_INVALID_API_KEY", "AUTH_UNAUTHORIZED",
        "NOT_FOUND", "RATE_LIMITED", "INTERNAL_ERROR", "UPSTREAM_FAILURE",
        "PAYMENT_CONFIG_INVALID", "PAYMENT_CONFIG_NOT_FOUND", "PAYMENT_NOT_FOUND",
        "PAYMENT_PRODUCT_NOT_FOUND", "PAYMENT_PRICE_NOT_FOUND",
        "PAYMENT_CHECKOUT_ALREADY_EXISTS", "PAYMENT_IDEMPOTENCY_KEY_REUSED",
        "PAYMENT_METHOD_DECLINED", "DATABASE_DUPLICATE", "DATABASE_VALIDATION_ERROR",
    }  # fmt: skip
    kinds = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.BillhookError)
    ]
    assert len(kinds) > 10
    for kind in kinds:
        assert kind.code in known
        assert 400 <= kind.status < 600


@pytest.mark.parametrize(
    "kind", [errors.InvalidCredentials, errors.InvalidApiKey, errors.Unauthorized, errors.Forbidden]
)
def test_whoever_is_refused_is_told_what_to_do_next(kind: type[errors.BillhookError]) -> None:
    assert kind("No.").body()["nextActions"]
    assert kind("No.", next_actions="Ask Ada.").body()["nextActions"] == "Ask Ada."


def answered(kind: Any, status: int, **error: Any) -> stripe.StripeError:
    said = {"error": {"message": "Stripe says so.", **error}}
    message = said["error"]["message"]
    if kind in (stripe.InvalidRequestError, stripe.CardError):
        return kind(message, error.get("param"), error.get("code"), None, status, said)
    return kind(message, None, status, said)


@pytest.mark.parametrize(
    ("said", "kind", "status", "code"),
    [
        (answered(stripe.RateLimitError, 429), errors.RateLimited, 429, "RATE_LIMITED"),
        (answered(stripe.RateLimitError, 400), errors.RateLimited, 429, "RATE_LIMITED"),
        (
            answered(stripe.AuthenticationError, 401),
            errors.PaymentConfigInvalid,
            401,
            "PAYMENT_CONFIG_INVALID",
        ),
        (
            answered(stripe.PermissionError, 403),
            errors.PaymentConfigInvalid,
            403,
            "PAYMENT_CONFIG_INVALID",
        ),
        (
            answered(stripe.CardError, 402, code="card_declined"),
            errors.PaymentMethodDeclined,
            402,
            "PAYMENT_METHOD_DECLINED",
        ),
        (
            answered(stripe.InvalidRequestError, 404),
            errors.UpstreamFailure,
            404,
            "UPSTREAM_FAILURE",
        ),
        (answered(stripe.IdempotencyError, 400), errors.UpstreamFailure, 400, "UPSTREAM_FAILURE"),
        (answered(stripe.APIError, 409), errors.UpstreamFailure, 409, "UPSTREAM_FAILURE"),
        (answered(stripe.APIError, 500), errors.UpstreamFailure, 500, "UPSTREAM_FAILURE"),
    ],
)
def test_stripes_errors_keep_their_status_and_words(
    said: stripe.StripeError, kind: type, status: int, code: str
) -> None:
    error = translate(said)
    assert type(error) is kind
    assert (error.status, error.code, error.message) == (status, code, "Stripe says so.")


def test_no_answer_at_all_is_a_502() -> None:
    error = translate(stripe.APIConnectionError("Unexpected error communicating with Stripe."))
    assert (error.status, error.code) == (502, "UPSTREAM_FAILURE")
    assert "could not be reached" in error.message


@pytest.mark.parametrize(("status", "ours"), [(200, 502), (302, 502), (503, 503), (403, 403)])
def test_a_proxys_page_is_not_passed_on(status: int, ours: int) -> None:
    page = f"Invalid response body from API: <html>secret</html> (HTTP response code was {status})"
    error = translate(stripe.APIError(page, "<html>secret</html>", status, None))
    assert error.status == ours
    assert "secret" not in error.message


def test_a_key_in_stripes_message_is_struck_out() -> None:
    said = answered(
        stripe.AuthenticationError, 401, message="Invalid API Key provided: sk_test_Planted12345"
    )
    assert translate(said).message == "Invalid API Key provided: sk_test_****"


def test_what_stripe_said_can_be_asked_of_our_error() -> None:
    said = answered(stripe.InvalidRequestError, 400, code="resource_missing", param="customer")
    ours = translate(said)
    ours.__cause__ = said
    assert refusal_of(ours) == Refusal(400, None, "resource_missing", "customer", False)
    assert refusal_of(errors.NotFound("x")) is None
