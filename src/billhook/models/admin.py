"""Administration: keys, catalog, lists, sync and the ledger (contract section 3.2).

Amounts are integers in the currency's minor unit; times are UTC.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    StringConstraints,
    model_validator,
)
from pydantic_core import PydanticCustomError

from billhook.models.catalog_fields import (
    Amount,
    Currency,
    Description,
    Name,
    Recurring,
    TaxBehavior,
)
from billhook.models.queries import (
    ProcessingStatus,
    TransactionStatus,
    TransactionType,
)
from billhook.models.runtime import WebhookEvent
from billhook.models.wire import (
    NO_NUL,
    TRIM,
    Id,
    LookupKey,
    PlainMetadata,
    Request,
    Timestamp,
    WireModel,
    without_null,
)
from billhook.settings import Environment

IdempotencyKey = Annotated[str, StringConstraints(min_length=1, max_length=200), TRIM, NO_NUL]


def _something(model: Request) -> None:
    if not model.model_fields_set:
        raise PydanticCustomError("empty", "must have at least one field", {"path": "body"})


def _texts(value: object) -> dict[str, str]:
    found = value if isinstance(value, dict) else {}
    return {key: entry for key, entry in found.items() if isinstance(entry, str)}


StoredMetadata = Annotated[dict[str, str], BeforeValidator(_texts)]
"""Metadata from the database. Rows that another program wrote may contain more than text."""


class SetKey(Request):
    """Body of `PUT /payments/stripe/{environment}/config`."""

    secret_key: Annotated[Id, Field(repr=False, examples=["sk_test_…"])]
    replace_account: bool = Field(
        True,
        description="Whether to accept a key of an account other than the connected one, which "
        "archives the connected account's rows. If false, such a key is rejected (409).",
    )


class CreateProduct(Request):
    """Body of `POST …/catalog/products`."""

    name: Annotated[Name, Field(examples=["Tea"])]
    description: Description | None = None
    active: bool | None = Field(None, json_schema_extra=without_null)
    metadata: PlainMetadata | None = Field(None, json_schema_extra=without_null)
    idempotency_key: IdempotencyKey | None = Field(None, json_schema_extra=without_null)


class UpdateProduct(Request):
    """Body of `PATCH …/catalog/products/{productId}`. Omitted fields keep their values."""

    name: Name | None = Field(None, json_schema_extra=without_null)
    description: Description | None = None
    active: bool | None = Field(None, json_schema_extra=without_null)
    metadata: PlainMetadata | None = Field(None, json_schema_extra=without_null)

    @model_validator(mode="after")
    def _has_a_field(self) -> Self:
        _something(self)
        return self


class CreatePrice(Request):
    """Body of `POST …/catalog/prices`."""

    product_id: Annotated[Id, Field(examples=["prod_QxYz"])]
    currency: Currency
    unit_amount: Annotated[Amount, Field(examples=[1500])]
    lookup_key: LookupKey | None = None
    active: bool | None = Field(None, json_schema_extra=without_null)
    recurring: Recurring | None = Field(None, json_schema_extra=without_null)
    tax_behavior: TaxBehavior | None = Field(None, json_schema_extra=without_null)
    metadata: PlainMetadata | None = Field(None, json_schema_extra=without_null)
    idempotency_key: IdempotencyKey | None = Field(None, json_schema_extra=without_null)


class UpdatePrice(Request):
    """Body of `PATCH …/catalog/prices/{priceId}`. A price's amount and currency cannot change."""

    active: bool | None = Field(None, json_schema_extra=without_null)
    lookup_key: LookupKey | None = None
    tax_behavior: TaxBehavior | None = Field(None, json_schema_extra=without_null)
    metadata: PlainMetadata | None = Field(None, json_schema_extra=without_null)

    @model_validator(mode="after")
    def _has_a_field(self) -> Self:
        _something(self)
        return self


class ReplayEvent(Request):
    """Body of `POST …/webhook-events/{eventId}/replay`; optional.

    `refire`: whether to fire the app's triggers again for a processed event.
    """

    refire: bool = False


class ReplayEvents(Request):
    """Body of `POST …/webhook-events/replay`: which events to replay, by default `failed` ones."""

    status: ProcessingStatus = "failed"
    type: Id | None = Field(None, json_schema_extra=without_null)
    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    refire: bool = False


class Connection(WireModel):
    """One environment's connection to Stripe."""

    environment: Environment
    status: Literal["unconfigured", "connected", "error"]
    account_id: str | None
    account_email: str | None
    account_livemode: bool | None
    webhook_endpoint_id: str | None
    webhook_endpoint_url: str | None
    webhook_configured_at: Timestamp | None
    masked_key: str | None
    last_synced_at: Timestamp | None
    last_sync_status: Literal["succeeded", "failed"] | None
    last_sync_error: str | None
    last_sync_counts: dict[str, int]


class Status(WireModel):
    """The 200 response of `GET /payments/stripe/status`: both environments, or the only one that
    the key is for."""

    connections: list[Connection]


class ConfiguredKey(WireModel):
    """An environment's masked key, or null if there is none."""

    environment: Environment
    value: str | None


class Config(WireModel):
    """The 200 response of the config routes."""

    keys: list[ConfiguredKey]


class ConnectionResponse(WireModel):
    """The 200 response of `POST …/webhook`."""

    connection: Connection


EventType = Annotated[
    str,
    StringConstraints(min_length=1, max_length=200),
    TRIM,
    NO_NUL,
    Field(examples=["payout.paid"]),
]


class AddEvents(Request):
    """Body of `POST …/webhook/events`."""

    types: Annotated[list[EventType], Field(min_length=1, max_length=100)]


class EndpointEvents(WireModel):
    """The 200 response of `…/webhook/events`: the event types that Billhook receives."""

    always: list[str]
    added: list[str]


class SubscriptionsSummary(WireModel):
    """A sync's results for subscriptions."""

    environment: Environment
    synced: int
    unmapped: int
    deleted: int


class SyncResult(WireModel):
    """The result of syncing one environment."""

    environment: Environment
    connection: Connection
    subscriptions: SubscriptionsSummary | None


class SyncResponse(WireModel):
    """The 200 response of the sync routes."""

    results: list[SyncResult]


class SyncProgress(WireModel):
    """The progress of a sync: how many objects it has read from each list."""

    environment: Environment
    running: bool
    started_at: Timestamp | None
    counts: dict[str, int]


class Product(WireModel):
    """A Stripe Product as last mirrored."""

    environment: Environment
    product_id: str
    name: str
    description: str | None
    active: bool
    default_price_id: str | None
    metadata: StoredMetadata
    synced_at: Timestamp


class Price(WireModel):
    """A Stripe Price as last mirrored. `unitAmount` is in the currency's minor unit."""

    environment: Environment
    price_id: str
    product_id: str | None
    active: bool
    currency: str
    unit_amount: int | None
    unit_amount_decimal: str | None
    type: str
    lookup_key: str | None
    billing_scheme: str | None
    tax_behavior: str | None
    recurring_interval: str | None
    recurring_interval_count: int | None
    metadata: StoredMetadata
    synced_at: Timestamp


class PublicPrice(WireModel):
    """An active price in the public catalog."""

    price_id: str
    currency: str
    unit_amount: int | None
    unit_amount_decimal: str | None
    type: str
    lookup_key: str | None
    billing_scheme: str | None
    tax_behavior: str | None
    recurring_interval: str | None
    recurring_interval_count: int | None


class PublicProduct(WireModel):
    """An active product with its active prices in the public catalog."""

    product_id: str
    name: str
    description: str | None
    default_price_id: str | None
    prices: list[PublicPrice]


class PublicCatalog(WireModel):
    """The 200 response of the public catalog."""

    products: list[PublicProduct]


class Products(WireModel):
    products: list[Product]


class Prices(WireModel):
    prices: list[Price]


class Catalog(WireModel):
    products: list[Product]
    prices: list[Price]


class ProductResponse(WireModel):
    product: Product


class ProductWithPrices(WireModel):
    product: Product
    prices: list[Price]


class DeletedProduct(WireModel):
    product_id: str
    deleted: bool


class PriceResponse(WireModel):
    price: Price


class ArchivedPrice(WireModel):
    price: Price
    archived: bool


class SubscriptionItem(WireModel):
    environment: Environment
    subscription_item_id: str
    subscription_id: str
    product_id: str | None
    price_id: str | None
    quantity: int | None
    metadata: StoredMetadata
    created_at: Timestamp
    updated_at: Timestamp


class PauseCollection(WireModel):
    """How invoices are handled while a subscription's collection is paused, and until when."""

    behavior: str | None
    resumes_at: Timestamp | None


class Subscription(WireModel):
    """A Stripe Subscription with its items. Its period is from the earliest start to the latest end
    of its items' periods.

    A cancellation scheduled in Stripe's customer portal may set `cancelAt` and leave
    `cancelAtPeriodEnd` false. `endsAt` takes both into account.
    """

    environment: Environment
    subscription_id: str
    customer_id: str
    subject_type: str | None
    subject_id: str | None
    status: str
    current_period_start: Timestamp | None
    current_period_end: Timestamp | None
    cancel_at_period_end: bool
    cancel_at: Timestamp | None
    canceled_at: Timestamp | None
    trial_start: Timestamp | None
    trial_end: Timestamp | None
    latest_invoice_id: str | None
    metadata: StoredMetadata
    synced_at: Timestamp
    created_at: Timestamp
    updated_at: Timestamp
    items: list[SubscriptionItem]
    ends_at: Timestamp | None = Field(
        None, description="When it ends or has ended; null while no end is scheduled."
    )
    pause_collection: PauseCollection | None = Field(
        None, description="Set while Stripe does not collect the subscription's invoices."
    )
    currency: str | None = None
    mrr: int | None = Field(
        None, description="Its monthly recurring revenue; 0 if it does not count."
    )
    renewal_amount: int | None = Field(
        None,
        description="What its next period costs, before tax; 0 if it is not going to renew.",
    )

    @property
    def renews_at(self) -> datetime | None:
        """The end of the period, where another one follows."""
        renews_at = self.current_period_end
        if self.status not in _RENEWING or renews_at is None:
            return None
        return renews_at if self.ends_at is None or renews_at < self.ends_at else None


_RENEWING = frozenset({"active", "trialing", "past_due", "unpaid"})


class Subscriptions(WireModel):
    subscriptions: list[Subscription]


class Transaction(WireModel):
    """A payment or a refund. Amounts are in the currency's minor unit.

    Attributes:
        amount_out_of_band: the amount paid outside Stripe; not part of `amount` or of any total.
        amount_disputed: the amount of open and lost disputes.
        amount_lost: the amount of lost disputes; not part of `amountRefunded`.
        dispute_status: Stripe's status of the newest dispute.
        dispute_due_by: until when Stripe accepts evidence; null if the dispute is closed.
        failed_at: when a payment attempt failed; kept even if a later attempt succeeds.
        canceled_at: when a payment without a failed attempt was canceled, such as an
            authorization that was never captured. Its status is `failed`.
    """

    environment: Environment
    provider: str
    type: TransactionType
    status: TransactionStatus
    subject_type: str | None
    subject_id: str | None
    provider_customer_id: str | None
    customer_email_snapshot: str | None
    provider_reference_id: str | None
    provider_reference_type: str | None
    amount: int | None
    amount_refunded: int
    amount_out_of_band: int
    amount_disputed: int
    amount_lost: int
    currency: str | None
    description: str | None
    paid_at: Timestamp | None
    failed_at: Timestamp | None
    refunded_at: Timestamp | None
    canceled_at: Timestamp | None
    dispute_status: str | None
    dispute_reason: str | None
    dispute_due_by: Timestamp | None
    disputed_at: Timestamp | None
    provider_created_at: Timestamp | None
    created_at: Timestamp
    updated_at: Timestamp


class Transactions(WireModel):
    transactions: list[Transaction]


class Payment(Transaction):
    """A payment with its refunds, oldest first. `related_object_ids`: its objects in Stripe, by
    type."""

    related_object_ids: dict[str, str]
    refunds: list[Payment]


class Customer(WireModel):
    """A Stripe Customer, with the totals of its transactions.

    `totalSpend` is the amount paid minus the amount refunded, or null if there are several
    currencies.
    """

    environment: Environment
    provider: str
    provider_customer_id: str
    email: str | None
    name: str | None
    phone: str | None
    deleted: bool
    metadata: StoredMetadata
    provider_created_at: Timestamp | None
    synced_at: Timestamp
    payments_count: int
    last_payment_at: Timestamp | None
    total_spend: int | None
    total_spend_currency: str | None
    payment_method_brand: str | None
    payment_method_last4: str | None
    country_code: str | None


class Customers(WireModel):
    customers: list[Customer]


class WebhookEvents(WireModel):
    webhook_events: list[WebhookEvent]


class WebhookEventWithPayload(WebhookEvent):
    """A ledger entry with Stripe's original event."""

    payload: dict[str, Any]


class WebhookEventResponse(WireModel):
    webhook_event: WebhookEventWithPayload


class Replayed(WireModel):
    """The result of a replay: the event's updated ledger entry."""

    webhook_event: WebhookEvent


class ReplayedEvents(WireModel):
    """The result of replaying several events: how many were applied, and which failed again."""

    replayed: int
    failed: list[WebhookEvent]
