# Generated from _async/client.py by `python src/billhook/client/generate.py`; don't edit.
"""`Client`: one object for the whole API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from types import TracebackType
from typing import Literal, Self

import httpx

from billhook import __version__
from billhook.client._sync.audit import SyncAuditLog
from billhook.client._sync.catalog import SyncPrices, SyncProducts
from billhook.client._sync.connection import SyncConfig, SyncWebhooks
from billhook.client._sync.granted import SyncAccess
from billhook.client._sync.lists import (
    SyncCustomers,
    SyncEvents,
    SyncMirrored,
    SyncMrrMovements,
    SyncSubscriptions,
    SyncTransactions,
)
from billhook.client._sync.offers import SyncOffers
from billhook.client._sync.refunds import SyncCharges, SyncRefunds
from billhook.client._sync.transport import SyncTransport
from billhook.client._sync.usage import SyncCredits, SyncMeters, SyncUsage
from billhook.client.inputs import (
    ActAsInput,
    FlowDataInput,
    LineItemInput,
    OptionsInput,
    SubjectInput,
    camel,
    deep_camel,
    given,
    query,
)
from billhook.client.request import Call, address, headers, path
from billhook.models import (
    Bucket,
    Business,
    BusinessResponse,
    Catalog,
    CheckoutSession,
    CheckoutSessionResponse,
    CreatedCheckoutSession,
    CreatedCheckoutSessionResponse,
    CustomerPortalSession,
    CustomerPortalSessionResponse,
    Health,
    ImportProgress,
    MirroredRow,
    MirrorStatus,
    MirrorStatusResponse,
    Overview,
    OverviewResponse,
    PaymentMethodResponse,
    PeriodName,
    Rebuilt,
    RebuiltResponse,
    Status,
    SyncProgress,
    SyncResponse,
    SyncResult,
    Verification,
    VerificationResponse,
    iso,
)
from billhook.settings import Environment


class Client:
    """A client for one Billhook server. Close it, or use it in `with`.

    Every method raises `ApiError` if the server refuses, fails or cannot be reached.

    Args:
        base_url: the URL before `/api`.
        key_or_token: an admin key (`ik_…`) for administration; a user's token or an anonymous key
            (`anon_…`) for `create_checkout_session`, `create_customer_portal_session` and the
            changes in `subscriptions`, which act with that user's permissions.
        timeout: seconds to wait for a response; a sync may take longer.
        retries: how often a call is repeated after a temporary failure (502, 503, 504, a lost
            connection), if repeating it is safe.
        application: the name of your program, for the `User-Agent` header.
        transport: replaces the network: `httpx.ASGITransport(app)` in tests, or a proxy.

    Raises:
        ValueError: `base_url` is not a URL, or `key_or_token` is malformed; it is not quoted.
    """

    def __init__(
        self,
        base_url: str,
        key_or_token: str,
        *,
        timeout: float = 30.0,
        retries: int = 2,
        application: str | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.base_url = address(base_url)
        http = httpx.Client(
            headers=headers(key_or_token, __version__, application),
            timeout=httpx.Timeout(timeout, connect=min(timeout, 10.0)),
            transport=transport,
        )
        self._transport = SyncTransport(http, self.base_url, retries)
        self.config = SyncConfig(self._transport)
        self.webhooks = SyncWebhooks(self._transport)
        self.products = SyncProducts(self._transport)
        self.prices = SyncPrices(self._transport)
        self.offers = SyncOffers(self._transport)
        self.customers = SyncCustomers(self._transport)
        self.subscriptions = SyncSubscriptions(self._transport)
        self.transactions = SyncTransactions(self._transport)
        self.mrr_movements = SyncMrrMovements(self._transport)
        self.events = SyncEvents(self._transport)
        self.refunds = SyncRefunds(self._transport)
        self.charges = SyncCharges(self._transport)
        self.usage = SyncUsage(self._transport)
        self.meters = SyncMeters(self._transport)
        self.credits = SyncCredits(self._transport)
        self.access = SyncAccess(self._transport)
        self.audit_log = SyncAuditLog(self._transport)

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
        mode: Literal["payment", "subscription", "setup"],
        line_items: Sequence[LineItemInput] | None = None,
        success_url: str | None = None,
        cancel_url: str | None = None,
        options: OptionsInput | None = None,
        offer: str | None = None,
        subject: SubjectInput | None = None,
        customer_email: str | None = None,
        metadata: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
        act_as: ActAsInput | None = None,
    ) -> CreatedCheckoutSession:
        """Create a Checkout Session as the user of this client's token; send them to its `url`.

        With an `idempotency_key`, repeating returns the same session, so the call is retried.

        Args:
            line_items: required, except in the mode `setup`.
            success_url, cancel_url: required, unless `options["ui_mode"]` says that the buyer pays
                on your page.
            options: see docs/how-to/checkout-options.md; names are in Python's style.
            offer: the name of terms that an administrator has defined.
            act_as: with an admin key, the user for whom it is.
        """
        body = given(
            mode=mode,
            lineItems=None if line_items is None else [camel(item) for item in line_items],
            successUrl=success_url,
            cancelUrl=cancel_url,
            options=None if options is None else camel(options),
            offer=offer,
            subject=subject,
            customerEmail=customer_email,
            metadata=metadata,
            idempotencyKey=idempotency_key,
            actAs=act_as,
        )
        call = Call(
            "POST",
            path(environment, "checkout-sessions"),
            CreatedCheckoutSessionResponse,
            body=body,
            repeatable=idempotency_key is not None,
        )
        return (self._transport.send(call)).model.checkout_session

    def checkout_session(
        self, environment: Environment, session_id: str, *, wait: float = 0
    ) -> CheckoutSession:
        """A checkout of the user of this client's token, once it is no longer open or `wait`
        seconds (at most 30) have passed.

        Args:
            session_id: the row's id, or Stripe's from the success URL.
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
        flow_data: FlowDataInput | None = None,
        act_as: ActAsInput | None = None,
    ) -> CustomerPortalSession:
        """Create a customer portal session for a subject that has paid before.

        Args:
            flow_data: a deep link: the portal offers only this action.
            act_as: with an admin key, the user for whom it is.
        """
        body = given(
            subject=subject,
            returnUrl=return_url,
            configuration=configuration,
            flowData=deep_camel(flow_data),
            actAs=act_as,
        )
        call = Call(
            "POST",
            path(environment, "customer-portal-sessions"),
            CustomerPortalSessionResponse,
            body=body,
        )
        return (self._transport.send(call)).model.customer_portal_session

    def make_default_payment_method(
        self, environment: Environment, payment_method_id: str, *, act_as: ActAsInput | None = None
    ) -> MirroredRow:
        """Make a payment method the default of its customer's invoices and subscriptions.

        Args:
            act_as: with an admin key, the user whose rights decide; None: the server's.
        """
        return self._change_payment_method(environment, payment_method_id, "default", act_as)

    def detach_payment_method(
        self, environment: Environment, payment_method_id: str, *, act_as: ActAsInput | None = None
    ) -> MirroredRow:
        """Remove a saved payment method from its customer. It can't be attached again.

        Args:
            act_as: as for `make_default_payment_method`.
        """
        return self._change_payment_method(environment, payment_method_id, "detach", act_as)

    def _change_payment_method(
        self,
        environment: Environment,
        payment_method_id: str,
        change: str,
        act_as: ActAsInput | None,
    ) -> MirroredRow:
        call = Call(
            "POST",
            path(environment, "payment-methods", payment_method_id, change),
            PaymentMethodResponse,
            body=given(actAs=act_as),
            repeatable=change == "default",
        )
        found: MirroredRow = (self._transport.send(call)).model.payment_method
        return found

    def health(self) -> Health:
        """Whether the server and its database work. Needs no key."""
        return (self._transport.send(Call("GET", "/api/health", Health))).model

    def status(self) -> Status:
        """Both environments: account, webhook endpoint, and the result of the last sync."""
        return (self._transport.send(Call("GET", path("status"), Status, repeatable=True))).model

    def sync(self, environment: Environment) -> SyncResult:
        """Read everything from Stripe, or join a running sync. This may take a while.

        Stripe's errors are in the result's connection and not raised.
        """
        call = Call("POST", path(environment, "sync"), SyncResponse, repeatable=True, slow=True)
        (result,) = (self._transport.send(call)).model.results
        return result

    def sync_progress(self, environment: Environment) -> SyncProgress:
        """The progress of the running sync, or of the last one."""
        call = Call("GET", path(environment, "sync"), SyncProgress, repeatable=True)
        return (self._transport.send(call)).model

    def start_import(
        self, environment: Environment, *, since: datetime | None = None
    ) -> ImportProgress:
        """Import the account's history in the background, or continue an import that is not
        finished.

        Args:
            since: import what was created from then on; None: everything.
        """
        call = Call(
            "POST",
            path(environment, "import"),
            ImportProgress,
            body={} if since is None else {"since": iso(since)},
            repeatable=True,
        )
        return (self._transport.send(call)).model

    def import_progress(self, environment: Environment) -> ImportProgress:
        """The progress of the running import of the history, or of the last one."""
        call = Call("GET", path(environment, "import"), ImportProgress, repeatable=True)
        return (self._transport.send(call)).model

    def mirror(self, environment: Environment) -> MirrorStatus:
        """The state of the mirror: its lag, failed events, objects that need a refresh."""
        call = Call("GET", path(environment, "mirror"), MirrorStatusResponse, repeatable=True)
        return (self._transport.send(call)).model.mirror

    def overview(self, environment: Environment, *, days: int = 30) -> Overview:
        """Payments, refunds and failures per currency and UTC day, and subscriptions by status.

        Args:
            days: the number of days, including today; compared with as many days before.
        """
        call = Call(
            "GET",
            path(environment, "overview"),
            OverviewResponse,
            query={"days": str(days)},
            repeatable=True,
        )
        return (self._transport.send(call)).model.overview

    def business(
        self,
        environment: Environment,
        *,
        period: PeriodName | None = None,
        since: date | None = None,
        until: date | None = None,
        bucket: Bucket | None = None,
    ) -> Business:
        """The figures of the business per currency, compared with the previous period.

        Args:
            period: default: 30 days.
            since, until: instead of a period, its first and last day, in UTC.
            bucket: the length of its parts; by default, it depends on the length of the period.
        """
        call = Call(
            "GET",
            path(environment, "business"),
            BusinessResponse,
            query=query(
                period=period,
                since=since,
                until=until,
                bucket=bucket,
            ),
            repeatable=True,
        )
        return (self._transport.send(call)).model.business

    def verify(
        self, environment: Environment, *, repair: bool = False, budget_seconds: int | None = None
    ) -> Verification:
        """Compare all mirrored objects except payment methods, and all payments, with Stripe. This
        may take a while.

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
        """Recreate every projected row from the ledger, and compare. This may take a while.

        Args:
            swap: replace rows that differ with the rebuilt ones.
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
