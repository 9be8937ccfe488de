"""Stripe's errors: four types on the wire (stripe-facts 40), each with its status."""

from typing import Any, Literal

ErrorType = Literal["api_error", "card_error", "idempotency_error", "invalid_request_error"]

DOC_URL = "https://docs.stripe.com/error-codes#"


class StripeError(Exception):
    """An answer that is not 2xx. `stored` says whether an idempotency key replays it."""

    status = 400
    type: ErrorType = "invalid_request_error"
    stored = False

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
    """The request is wrong; nothing was done and nothing is remembered (stripe-facts 37)."""


class Unauthorized(StripeError):
    status = 401


class Forbidden(StripeError):
    """A restricted key lacks a permission."""

    status = 403


class CardError(StripeError):
    """The bank said no. The attempt happened, so a replay answers the same."""

    status = 402
    type: ErrorType = "card_error"
    stored = True


class IdempotencyError(StripeError):
    type: ErrorType = "idempotency_error"


class NotSupported(StripeError):
    """Stripe has it and the sandbox does not: never to be taken for an answer of Stripe's."""

    status = 501
    type: ErrorType = "api_error"


class SchemaMismatch(StripeError):
    """The sandbox made something that the SDK's annotations don't allow: a mistake of its own."""

    status = 500
    type: ErrorType = "api_error"


class JobFailed(StripeError):
    """What was to happen by itself did not, by a mistake of the sandbox; told to whoever moves
    time, since no other request is there to fail."""

    status = 500
    type: ErrorType = "api_error"


def not_supported(route: str, name: str) -> NotSupported:
    message = f"{route} is a Stripe operation that the sandbox does not have yet ({name})."
    return NotSupported(message, code="sandbox_not_built")


def resource_missing(kind: str, identifier: str, param: str, status: int) -> InvalidRequest:
    message = f"No such {kind}: '{identifier}'"
    return InvalidRequest(message, code="resource_missing", param=param, status=status)


def unknown_route(method: str, path: str) -> InvalidRequest:
    return InvalidRequest(
        f"Unrecognized request URL ({method}: {path}). If you are trying to list objects, remove "
        "the trailing slash. If you are trying to retrieve an object, make sure you passed a valid "
        "(non-empty) identifier in your code. Please see https://stripe.com/docs or we can help at "
        "https://support.stripe.com/.",
        status=404,
    )
