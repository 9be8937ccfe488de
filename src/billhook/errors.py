"""Every error that a caller of Billhook can see: its code, status, message and next step.

The wire shape is the contract's (section 1)::

    {"error": CODE, "message": text, "statusCode": n, "nextActions": text?}

Raise one of these from anywhere below the HTTP layer; `billhook.http` turns it into the
response. A message never contains secrets: it may quote Stripe, but never a key.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FAULTS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)
"""What Python raises if Billhook itself has a bug. The affected object is skipped, and the next
ones continue."""


def fault_of(error: Exception) -> str:
    """The message for a bug: only its type, because its text may quote data."""
    return f"Billhook cannot apply it ({type(error).__name__}); please report this"


class BillhookError(Exception):
    """An error that the contract defines.

    Attributes:
        status: HTTP status.
        code: one of the contract's codes, for machines.
        message: one or two sentences, for people.
        next_actions: what to do about it, or None. A class may have a default.
        existing: what is in the way, for machines, or None.
    """

    status = 500
    code = "INTERNAL_ERROR"
    usual_next_actions: str | None = None

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        next_actions: str | None = None,
        existing: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status if status is not None else type(self).status
        self.code = code if code is not None else type(self).code
        self.next_actions = next_actions or type(self).usual_next_actions
        self.existing = existing

    def body(self) -> dict[str, Any]:
        """The response body in the contract's shape."""
        body: dict[str, Any] = {
            "error": self.code,
            "message": self.message,
            "statusCode": self.status,
        }
        if self.next_actions is not None:
            body["nextActions"] = self.next_actions
        if self.existing is not None:
            body["existing"] = self.existing
        return body


class InvalidInput(BillhookError):
    """400: the request is invalid. Each problem reads `path: message`."""

    status = 400
    code = "INVALID_INPUT"


class InvalidCredentials(BillhookError):
    """401: the request has no credentials, or credentials of the wrong kind."""

    status = 401
    code = "AUTH_INVALID_CREDENTIALS"
    usual_next_actions = "Check the token, or sign in to get a new one."


class InvalidApiKey(BillhookError):
    """401: the `ik_…` key is invalid or was revoked."""

    status = 401
    code = "AUTH_INVALID_API_KEY"
    usual_next_actions = (
        "Use a valid admin key (ik_…): `billhook keys list` shows their last characters; "
        "`billhook keys create --admin` creates a new one."
    )


class Unauthorized(BillhookError):
    """401: the token is invalid or expired. The JavaScript SDK then refreshes its token."""

    status = 401
    code = "AUTH_UNAUTHORIZED"
    usual_next_actions = "Check the token, or sign in to get a new one."


class Forbidden(BillhookError):
    """403: the caller is known, but row-level security or the route does not allow it."""

    status = 403
    code = "AUTH_UNAUTHORIZED"
    usual_next_actions = "Use an admin key (ik_…) or the token of a user who may do this."


class NotFound(BillhookError):
    """404: the route or row does not exist."""

    status = 404
    code = "NOT_FOUND"


class PaymentNotFound(NotFound):
    """404: the subject has no Stripe customer yet."""

    code = "PAYMENT_NOT_FOUND"


class CheckoutAlreadyExists(BillhookError):
    """409: the idempotency key was used for another request, or by another caller; or the subject
    may have only one subscription, and has one or is about to."""

    status = 409
    code = "PAYMENT_CHECKOUT_ALREADY_EXISTS"


class SubscriptionNotFound(NotFound):
    """404: there is no such subscription, or the caller may not see it."""

    code = "PAYMENT_NOT_FOUND"


class IdempotencyKeyReused(BillhookError):
    """409: the idempotency key was used for another request."""

    status = 409
    code = "PAYMENT_IDEMPOTENCY_KEY_REUSED"

    def __init__(self, what: str) -> None:
        """`what`: what the request creates, such as `refund`."""
        super().__init__(
            f"The idempotency key was already used for another {what}.",
            next_actions=f"Use a new idempotencyKey for each {what}, and reuse it only to repeat "
            "an unchanged request.",
        )


class PaymentConfigInvalid(BillhookError):
    """400: the environment has no Stripe key, or Stripe rejected it (with Stripe's status)."""

    status = 400
    code = "PAYMENT_CONFIG_INVALID"


class PayloadTooLarge(BillhookError):
    """413: the body is larger than the route accepts."""

    status = 413
    code = "INVALID_INPUT"


class RateLimited(BillhookError):
    """429: Stripe's rate limit was exceeded."""

    status = 429
    code = "RATE_LIMITED"


class PaymentMethodDeclined(BillhookError):
    """402: the card was declined."""

    status = 402
    code = "PAYMENT_METHOD_DECLINED"


class UpstreamFailure(BillhookError):
    """502: Stripe rejected the request or failed (with Stripe's status; 502 without a response)."""

    status = 502
    code = "UPSTREAM_FAILURE"


class DatabaseRefused(BillhookError):
    """400: a check, key or trigger of the app rejected the row."""

    status = 400
    code = "DATABASE_VALIDATION_ERROR"


class DatabaseDuplicate(BillhookError):
    """409: a unique key of the app rejected the row."""

    status = 409
    code = "DATABASE_DUPLICATE"


class SecretUnreadable(BillhookError):
    """500: a stored secret was encrypted with another key. The message names the
    secret but never shows it. Only admins get it; other callers get a 500 without details."""


class SigningKeysUnavailable(BillhookError):
    """503: the identity provider's public keys cannot be fetched, so no token can be verified."""

    status = 503


class DatabaseUnavailable(BillhookError):
    """503: PostgreSQL is unavailable; the message says whether a change may have been saved."""

    status = 503
    code = "INTERNAL_ERROR"


class DatabaseBusy(DatabaseUnavailable):
    """503: another session held a lock for too long. Nothing was changed."""


class ObjectLocked(DatabaseBusy):
    """503: an object of the event is locked; other events are not affected."""


class SettingsError(Exception):
    """A setting is missing or malformed. `str(error)` is one line that names it."""
