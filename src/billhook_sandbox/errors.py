"""Stripe's errors: four types (stripe-facts 40), and one of `/v2`, each with its HTTP status."""

from typing import Any, Literal

ErrorType = Literal[
    "api_error",
    "card_error",
    "idempotency_error",
    "invalid_request_error",
    "temporary_session_expired",  # of /v2
]

DOC_URL = "https://docs.stripe.com/error-codes#"


class StripeError(Exception):
    """A response that is not 2xx."""

    status = 400
    type: ErrorType = "invalid_request_error"
    stored = False
    """Whether an idempotency key replays it."""
    keeps_effect = False
    """Whether what was stored before it stays; otherwise, the request has no effect."""

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        status: int | None = None,
        **details: Any,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.param = param
        self.status = status or self.status
        self.details = details

    def body(self, request_log_url: str) -> dict[str, Any]:
        error: dict[str, Any] = {"message": self.message, "type": self.type, **self.details}
        if self.code:
            error |= {"code": self.code, "doc_url": DOC_URL + self.code.replace("_", "-")}
        if self.param:
            error["param"] = self.param
        error["request_log_url"] = request_log_url
        return {"error": error}


class InvalidRequest(StripeError):
    """The request is invalid. It has no effect and is not stored (stripe-facts 37)."""


class Unauthorized(StripeError):
    status = 401


class Forbidden(StripeError):
    """A restricted key lacks a permission."""

    status = 403


class CardError(StripeError):
    """The payment was declined. The attempt exists, so a retry gets the same response."""

    status = 402
    type: ErrorType = "card_error"
    stored = True
    keeps_effect = True


class CardRefused(CardError):
    """The card is declined before the request has an effect: it cannot be attached, or a payment
    with `error_if_incomplete` would fail."""

    keeps_effect = False


class IdempotencyError(StripeError):
    type: ErrorType = "idempotency_error"


class NotSupported(StripeError):
    """The sandbox lacks something that Stripe has. 501 cannot be mistaken for Stripe's response."""

    status = 501
    type: ErrorType = "api_error"


class SchemaMismatch(StripeError):
    """The sandbox created an object that Stripe's types don't allow: a bug in the sandbox."""

    status = 500
    type: ErrorType = "api_error"


class JobFailed(StripeError):
    """A job failed because of a bug in the sandbox. Reported by the next control that advances
    time, since jobs run outside of requests."""

    status = 500
    type: ErrorType = "api_error"
    keeps_effect = True


def not_supported(route: str, name: str) -> NotSupported:
    message = f"{route} is a Stripe operation that the sandbox does not support yet ({name})."
    return NotSupported(message, code="sandbox_not_built")


def resource_missing(kind: str, object_id: str, param: str, status: int) -> InvalidRequest:
    message = f"No such {kind}: '{object_id}'"
    return InvalidRequest(message, code="resource_missing", param=param, status=status)


def unknown_route(method: str, path: str) -> InvalidRequest:
    return InvalidRequest(
        f"Unrecognized request URL ({method}: {path}). If you are trying to list objects, remove "
        "the trailing slash. If you are trying to retrieve an object, make sure you passed a valid "
        "(non-empty) identifier in your code. Please see https://stripe.com/docs or we can help at "
        "https://support.stripe.com/.",
        status=404,
    )
