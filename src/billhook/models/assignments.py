"""Which subjects existing customers pay for (docs/how-to/existing-customers.md)."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from billhook.models.runtime import BillingSubject
from billhook.models.wire import Email, Id, Request, WireModel, without_null

Outcome = Literal["assigned", "unchanged", "conflict", "ambiguous", "unknown"]


class Assignment(Request):
    """A customer, by id or by email address, and the subject that it pays for."""

    customer_id: Id | None = Field(None, json_schema_extra=without_null, examples=["cus_123"])
    email: Email | None = Field(
        None,
        json_schema_extra=without_null,
        description="Instead of `customerId`: the only customer with this email address, "
        "ignoring case.",
    )
    subject: BillingSubject

    @model_validator(mode="after")
    def _names_one_customer(self) -> Self:
        if (self.customer_id is None) == (self.email is None):
            raise PydanticCustomError("customer", "must have either a customerId or an email")
        return self


class AssignCustomers(Request):
    """Body of `POST …/customers/assignments`."""

    assignments: Annotated[list[Assignment], Field(min_length=1, max_length=1000)]
    overwrite: bool = Field(
        False,
        description="Whether to assign customers and subjects that are already mapped to others. "
        "If false, their outcome is `conflict`.",
    )
    dry_run: bool = Field(False, description="Only report what would be assigned.")


class AssignedCustomer(WireModel):
    """The outcome of an assignment.

    `unknown`: no customer has this id or email address. `ambiguous`: several have the email
    address. `conflict`: the customer or the subject is already mapped to a
    different one, or was named by an earlier assignment in the request. The `current…` fields show
    the mapping before the request.
    """

    customer_id: str | None
    email: str | None
    subject: BillingSubject
    outcome: Outcome
    current_subject: BillingSubject | None
    current_customer_id: str | None


class AssignedCustomers(WireModel):
    """The 200 response of `POST …/customers/assignments`."""

    assignments: list[AssignedCustomer]
