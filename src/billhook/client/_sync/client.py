# Made of _async/client.py by `python src/billhook/client/generate.py`. Change that one.
"""`Client`: one object for the whole API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Literal, Self

import httpx

from billhook import __version__
from billhook.client._sync.catalog import SyncPrices, SyncProducts
from billhook.client._sync.connection import SyncConfig, SyncWebhooks
from billhook.client._sync.lists import (
    SyncCustomers,
    SyncEvents,
    SyncMirrored,
    SyncSubscriptions,
    SyncTransactions,
)
from billhook.client._sync.transport import SyncTransport
from billhook.client.inputs import LineItemInput, SubjectInput, camel, given
from billhook.client.request import Call, address, headers, path
from billhook.models import (
    Catalog,
    CheckoutSession,
    CheckoutSessionResponse,
    CustomerPortalSession,
    CustomerPortalSessionResponse,
    Health,
    MirrorStatus,
    MirrorStatusResponse,
    Overview,
    OverviewResponse,
    Rebuilt,
    RebuiltResponse,
    Status,
    SyncProgress,
    SyncResponse,
    SyncResult,
    Verification,
    VerificationResponse,
)
from billhook.settings import Environment


class Client:
    """A client of one Billhook. Close it, or use it in `with`.

    Every method raises `ApiError` where the server refuses, fails or is not there.

    Args:
        base_url: the address that comes before `/api`.
        key_or_token: an admin key (`ik_…`) for administration; a user's token or an anonymous key
            (`anon_…`) for `create_checkout_session` and `create_customer_portal_session`, which
            act with that user's rights.
        timeout: seconds to wait for an answer; a sync may take longer.
        retries: how often a call is repeated that failed for the moment (502, 503, 504, a lost
            connection), where repeating cannot do anything twice.
        transport: instead of the network: `httpx.ASGITransport(app)` in tests, a proxy of yours.

    Raises:
        ValueError: `base_url` is no address, or `key_or_token` can be none; it is not quoted.
    """

    def __init__(
        self,
        base_url: str,
        key_or_token: str,
        *,
        timeout: float = 30.0,
        retries: int = 2,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.base_url = address(base_url)
        http = httpx.Client(
            headers=headers(key_or_token, __version__),
            timeout=httpx.Timeout(timeout, connect=min(timeout, 10.0)),
            transport=transport,
        )
        self._transport = SyncTransport(http, self.base_url, retries)
        self.config = SyncConfig(self._transport)
        self.webhooks = SyncWebhooks(self._transport)
        self.products = SyncProducts(self._transport)
        self.prices = SyncPrices(self._transport)
        self.customers = SyncCustomers(self._transport)
        self.subscriptions = SyncSubscriptions(self._transport)
        self.transactions = SyncTransactions(self._transport)
        self.events = SyncEvents(self._transport)

    def mirrored(self, name: str) -> SyncMirrored:
        """The list of a mirrored kind that has none of its own here, by the name that its table
        has without `stripe_`.

        Raises:
            ValueError: there is no such list.
        """
        return SyncMirrored(self._transport, name)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.base_url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def create_checkout_session(
        self,
        environment: Environment,
        *,
        mode: Literal["payment", "subscription"],
        line_items: Sequence[LineItemInput],
        success_url: str,
        cancel_url: str,
        subject: SubjectInput | None = None,
        customer_email: str | None = None,
        metadata: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> CheckoutSession:
        """Open a Stripe Checkout as the user whose token this client has; send them to its `url`.

        With an `idempotency_key` a repetition returns the same session, so it is retried.
        """
        body = given(
            mode=mode,
            lineItems=[camel(item) for item in line_items],
            successUrl=success_url,
            cancelUrl=cancel_url,
            subject=subject,
            customerEmail=customer_email,
            metadata=metadata,
            idempotencyKey=idempotency_key,
        )
        call = Call(
            "POST",
            path(environment, "checkout-sessions"),
            CheckoutSessionResponse,
            body=body,
            repeatable=idempotency_key is not None,
        )
        return (self._transport.send(call)).model.checkout_session

    def checkout_session(
        self, environment: Environment, session_id: str, *, wait: float = 0
    ) -> CheckoutSession:
        """A checkout of the user whose token this client has, once it is no longer open or `wait`
        seconds (at most 30) have passed.

        Args:
            session_id: ours or Stripe's, which the success URL brings.
        """
        call = Call(
            "GET",
            path(environment, "checkout-sessions", session_id),
            CheckoutSessionResponse,
            query={"wait": str(wait)},
            repeatable=True,
            slow=True,
        )
        return (self._transport.send(call)).model.checkout_session

    def create_customer_portal_session(
        self,
        environment: Environment,
        *,
        subject: SubjectInput,
        return_url: str | None = None,
        configuration: str | None = None,
    ) -> CustomerPortalSession:
        """Open Stripe's customer portal for a subject that has paid before."""
        body = given(subject=subject, returnUrl=return_url, configuration=configuration)
        call = Call(
            "POST",
            path(environment, "customer-portal-sessions"),
            CustomerPortalSessionResponse,
            body=body,
        )
        return (self._transport.send(call)).model.customer_portal_session

    def health(self) -> Health:
        """Whether the server and its database work. Needs no key."""
        return (self._transport.send(Call("GET", "/api/health", Health))).model

    def status(self) -> Status:
        """Both environments: account, webhook endpoint, and how the last sync went."""
        return (self._transport.send(Call("GET", path("status"), Status, repeatable=True))).model

    def sync(self, environment: Environment) -> SyncResult:
        """Read everything from Stripe. One that runs already is joined. Takes its time.

        What Stripe refuses is told in the result's connection, not raised.
        """
        call = Call("POST", path(environment, "sync"), SyncResponse, repeatable=True, slow=True)
        (result,) = (self._transport.send(call)).model.results
        return result

    def sync_progress(self, environment: Environment) -> SyncProgress:
        """How far the sync is that runs, or the last one was."""
        call = Call("GET", path(environment, "sync"), SyncProgress, repeatable=True)
        return (self._transport.send(call)).model

    def mirror(self, environment: Environment) -> MirrorStatus:
        """How the mirror follows Stripe: its lag, failed events, objects that need a refresh."""
        call = Call("GET", path(environment, "mirror"), MirrorStatusResponse, repeatable=True)
        return (self._transport.send(call)).model.mirror

    def overview(self, environment: Environment, *, days: int = 30) -> Overview:
        """Payments, refunds and failures per currency and UTC day, and subscriptions by status.

        Args:
            days: so many, today included; they stand beside as many before them.
        """
        call = Call(
            "GET",
            path(environment, "overview"),
            OverviewResponse,
            query={"days": str(days)},
            repeatable=True,
        )
        return (self._transport.send(call)).model.overview

    def verify(
        self, environment: Environment, *, repair: bool = False, budget_seconds: int | None = None
    ) -> Verification:
        """Compare every mirrored object and every payment with Stripe. Takes its time.

        Args:
            repair: fix what drifted.
            budget_seconds: compare a sample of each list for about so long; None: everything.
        """
        body = {"repair": repair, "budgetSeconds": budget_seconds}
        call = Call(
            "POST",
            path(environment, "verify"),
            VerificationResponse,
            body={name: value for name, value in body.items() if value is not None},
            repeatable=True,
            slow=True,
        )
        found = (self._transport.send(call)).model.verification
        assert found is not None
        return found

    def rebuild(self, environment: Environment, *, swap: bool = False) -> Rebuilt:
        """Make every projected row anew from the ledger, and compare. Takes its time.

        Args:
            swap: put the rebuilt rows in the place of those that differ.
        """
        call = Call(
            "POST",
            path(environment, "rebuild"),
            RebuiltResponse,
            body={"swap": swap},
            repeatable=True,
            slow=True,
        )
        return (self._transport.send(call)).model.rebuild

    def catalog(self, environment: Environment) -> Catalog:
        """All products and prices as mirrored."""
        call = Call("GET", path(environment, "catalog"), Catalog, repeatable=True)
        return (self._transport.send(call)).model
