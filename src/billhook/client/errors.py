"""The errors of the clients: one tree, with the contract's fields."""

from __future__ import annotations

from typing import Any

from billhook.errors import BillhookError


class ApiError(BillhookError):
    """The server refused or failed.

    Attributes:
        status: the HTTP status; 0 if there was no response.
        code: for machines, such as `PAYMENT_PRODUCT_NOT_FOUND`.
        message: one or two sentences, for people.
        next_actions: what to do about it, or None.
        decline_code: why a bank declined a charge, such as `insufficient_funds`, or None.
        existing: with a 409 of a checkout, what the subject already has, such as `subscriptionId`
            and `portalUrl`, or None.
    """

    decline_code: str | None = None

    def body(self) -> dict[str, Any]:
        """The response body in the contract's shape."""
        return super().body() | ({"declineCode": self.decline_code} if self.decline_code else {})


class Unreachable(ApiError):
    """No answer came: no server there, a lost connection, or too slow."""

    status = 0
    code = "UNREACHABLE"


class UnexpectedAnswer(ApiError):
    """A response that is not Billhook's: another server, or a proxy's own page."""

    code = "UNEXPECTED_ANSWER"
