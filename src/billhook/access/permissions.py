"""What a key may do: its role, its environments, and what each route and page needs.

Whatever only reads needs the role `viewer`; whatever changes something needs `admin`, unless its
declaration says otherwise: `reads` and `changes` declare handlers of routes and pages.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar
from uuid import UUID

from billhook.errors import Forbidden
from billhook.settings import ENVIRONMENTS, Environment

KeyRole = Literal["viewer", "support", "admin"]
KEY_ROLES: tuple[KeyRole, ...] = ("viewer", "support", "admin")
"""Each may do everything that those before it may do."""

Handler = TypeVar("Handler", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Grant:
    """What an administrator may do, and how the audit log names them.

    Attributes:
        name: of the key, or of the person who signed in with a token.
        key_id: None for tokens, and for keys that InsForge stores.
    """

    name: str
    role: KeyRole = "admin"
    environments: tuple[Environment, ...] = ENVIRONMENTS
    key_id: UUID | None = None

    def may(self, need: Need, environment: Environment | None) -> bool:
        """Whether this suffices. `environment` is None for what concerns both."""
        wanted = ENVIRONMENTS if environment is None else (environment,)
        if environment is None and need.filters:
            wanted = self.environments
        has_role = KEY_ROLES.index(self.role) >= KEY_ROLES.index(need.role)
        return has_role and set(wanted) <= set(self.environments)

    def require(self, need: Need, environment: Environment | None) -> None:
        """Raises `Forbidden` unless this suffices."""
        if self.may(need, environment):
            return
        if environment is None and self.may(need, self.environments[0]):
            raise Forbidden(
                f"This concerns test and live mode, but the key is for {self.environments[0]} "
                "only.",
                next_actions="Use a key for both environments.",
            )
        if environment is not None and environment not in self.environments:
            raise Forbidden(
                f"The key is not for {environment} mode.",
                next_actions=f"Use a key for {environment}: `billhook keys list` shows them.",
            )
        raise Forbidden(
            f"The key has the role {self.role}, but this needs the role {need.role}.",
            next_actions="Ask an administrator to do it, or to create a key with that role.",
        )


@dataclass(frozen=True, slots=True)
class Row:
    """The row that a change is about: the audit log has it before and after.

    Attributes:
        table: a table of `payments` with a column `environment`.
        key: the column that has the id.
    """

    table: str
    key: str


PRODUCT = Row("stripe_products", "product_id")
PRICE = Row("stripe_prices", "price_id")
SUBSCRIPTION = Row("stripe_subscriptions", "subscription_id")
PAYMENT_METHOD = Row("stripe_payment_methods", "payment_method_id")
METER = Row("stripe_meters", "meter_id")
OFFER = Row("offers", "name")


@dataclass(frozen=True, slots=True)
class Need:
    """What a handler needs.

    Attributes:
        action: the name of the change in the audit log; None if nothing changes.
        target: the parameter of the path that has the id of what is changed.
        row: its row.
        filters: whether the response of a path without an environment has only what the key may
            see; others need a key for both environments.
        of_both: whether it concerns both environments although the path names one.
        made: where the response has the id of what was created, such as `("refund", "id")`.
    """

    role: KeyRole
    action: str | None = None
    target: str | None = None
    row: Row | None = None
    made: tuple[str, ...] = ()
    filters: bool = False
    of_both: bool = False


READ = Need("viewer")
_UNDECLARED = Need("admin")
_needs: dict[Callable[..., Any], Need] = {}


def changes(
    action: str,
    *,
    role: KeyRole = "admin",
    target: str | None = None,
    row: Row | None = None,
    made: tuple[str, ...] = (),
    of_both: bool = False,
) -> Callable[[Handler], Handler]:
    """Declare a handler that changes something. Arguments: see `Need`."""
    need = Need(role, action, target, row, made, of_both=of_both)

    def declare(handler: Handler) -> Handler:
        _needs[handler] = need
        return handler

    return declare


def reads(handler: Handler) -> Handler:
    """Declare a handler that only reads although its method is not GET."""
    _needs[handler] = READ
    return handler


def needs(role: KeyRole, *, of_both: bool = False) -> Callable[[Handler], Handler]:
    """Declare a handler that only reads, but not for every role. Arguments: see `Need`."""

    def declare(handler: Handler) -> Handler:
        _needs[handler] = Need(role, of_both=of_both)
        return handler

    return declare


def filters(role: KeyRole) -> Callable[[Handler], Handler]:
    """Declare a handler that only reads, whose path names no environment, and which shows only
    those of the key."""

    def declare(handler: Handler) -> Handler:
        _needs[handler] = Need(role, filters=True)
        return handler

    return declare


def need_of(handler: Callable[..., Any] | None, method: str) -> Need:
    """What a handler needs for a request with this method."""
    if handler is not None and handler in _needs:
        return _needs[handler]
    return READ if method in ("GET", "HEAD") else _UNDECLARED
