-- The public schema `payments` (contract section 4): names, types and keys are InsForge's, so that
-- an app's policies, triggers and queries run unchanged, and so that an existing InsForge schema is
-- adopted with all its rows. Billhook's own additions are at the end.
--
-- No index rejects a text that Stripe allows. A B-tree entry holds 2,704 bytes, so names, email
-- addresses and the subjects of metadata (two texts of 500 characters) are not indexed completely.
-- Eight of InsForge's indexes are not created, because they make writes slower and every query of
-- Billhook has a better one: those only by status, by time of creation and by deletion. An adopted
-- database keeps them.

CREATE TABLE IF NOT EXISTS payments.provider_connections (
    id                    uuid NOT NULL DEFAULT gen_random_uuid(),
    provider              text NOT NULL,
    environment           text NOT NULL,
    status                text NOT NULL DEFAULT 'unconfigured',
    provider_account_id   text,
    account_email         text,
    account_name          text,
    account_livemode      boolean,
    webhook_endpoint_id   text,
    webhook_endpoint_url  text,
    webhook_configured_at timestamptz,
    last_synced_at        timestamptz,
    last_sync_status      text,
    last_sync_error       text,
    last_sync_counts      jsonb NOT NULL DEFAULT '{}',
    raw                   jsonb NOT NULL DEFAULT '{}',
    created_at            timestamptz NOT NULL DEFAULT now(),
    updated_at            timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT provider_connections_environment_check CHECK (environment IN ('test', 'live')),
    CONSTRAINT provider_connections_last_sync_status_check CHECK (last_sync_status IN ('succeeded', 'failed')),
    CONSTRAINT provider_connections_pkey PRIMARY KEY (id),
    CONSTRAINT provider_connections_provider_check CHECK (provider ~ '^[a-z][a-z0-9_]*$'),
    CONSTRAINT provider_connections_provider_environment_key UNIQUE (provider, environment),
    CONSTRAINT provider_connections_status_check CHECK (status IN ('unconfigured', 'connected', 'error'))
);

CREATE TABLE IF NOT EXISTS payments.stripe_products (
    id               uuid NOT NULL DEFAULT gen_random_uuid(),
    environment      text NOT NULL,
    product_id       text NOT NULL,
    name             text NOT NULL,
    description      text,
    active           boolean NOT NULL,
    default_price_id text,
    metadata         jsonb NOT NULL DEFAULT '{}',
    synced_at        timestamptz NOT NULL DEFAULT now(),
    raw              jsonb NOT NULL DEFAULT '{}',
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT products_environment_check CHECK (environment IN ('test', 'live')),
    CONSTRAINT products_pkey PRIMARY KEY (id)
);

CREATE INDEX IF NOT EXISTS idx_payments_stripe_products_environment_active
    ON payments.stripe_products (environment, active);
CREATE INDEX IF NOT EXISTS idx_payments_stripe_products_environment_default_price
    ON payments.stripe_products (environment, default_price_id)
    WHERE default_price_id IS NOT NULL;
CREATE UNIQUE INDEX IF NOT EXISTS idx_payments_stripe_products_environment_product
    ON payments.stripe_products (environment, product_id);

CREATE TABLE IF NOT EXISTS payments.stripe_prices (
    id                       uuid NOT NULL DEFAULT gen_random_uuid(),
    environment              text NOT NULL,
    price_id                 text NOT NULL,
    product_id               text,
    active                   boolean NOT NULL,
    currency                 text NOT NULL,
    unit_amount              bigint,
    unit_amount_decimal      text,
    type                     text NOT NULL,
    lookup_key               text,
    billing_scheme           text,
    tax_behavior             text,
    recurring_interval       text,
    recurring_interval_count integer,
    metadata                 jsonb NOT NULL DEFAULT '{}',
    synced_at                timestamptz NOT NULL DEFAULT now(),
    raw                      jsonb NOT NULL DEFAULT '{}',
    created_at               timestamptz NOT NULL DEFAULT now(),
    updated_at               timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT prices_environment_check CHECK (environment IN ('test', 'live')),
    CONSTRAINT prices_pkey PRIMARY KEY (id)
);

CREATE UNIQUE INDEX IF NOT EXISTS idx_payments_stripe_prices_environment_price
    ON payments.stripe_prices (environment, price_id);
CREATE INDEX IF NOT EXISTS idx_payments_stripe_prices_environment_product
    ON payments.stripe_prices (environment, product_id);

CREATE TABLE IF NOT EXISTS payments.customers (
    id                   uuid NOT NULL DEFAULT gen_random_uuid(),
    provider             text NOT NULL,
    environment          text NOT NULL,
    email                text,
    name                 text,
    phone                text,
    deleted              boolean NOT NULL DEFAULT false,
    metadata             jsonb NOT NULL DEFAULT '{}',
    synced_at            timestamptz NOT NULL DEFAULT now(),
    provider_customer_id text NOT NULL,
    provider_created_at  timestamptz,
    raw                  jsonb NOT NULL DEFAULT '{}',
    created_at           timestamptz NOT NULL DEFAULT now(),
    updated_at           timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT chk_payments_customers_provider_format CHECK (provider ~ '^[a-z][a-z0-9_]*$'),
    CONSTRAINT customers_environment_check CHECK (environment IN ('test', 'live')),
    CONSTRAINT customers_pkey PRIMARY KEY (id)
);

CREATE UNIQUE INDEX IF NOT EXISTS idx_payments_customers_provider_customer_id
    ON payments.customers (provider, environment, provider_customer_id);

CREATE TABLE IF NOT EXISTS payments.customer_mappings (
    id                   uuid NOT NULL DEFAULT gen_random_uuid(),
    provider             text NOT NULL,
    environment          text NOT NULL,
    subject_type         text NOT NULL,
    subject_id           text NOT NULL,
    provider_customer_id text NOT NULL,
    created_at           timestamptz NOT NULL DEFAULT now(),
    updated_at           timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT customer_mappings_environment_check CHECK (environment IN ('test', 'live')),
    CONSTRAINT customer_mappings_pkey PRIMARY KEY (id),
    CONSTRAINT customer_mappings_provider_check CHECK (provider ~ '^[a-z][a-z0-9_]*$'),
    CONSTRAINT customer_mappings_provider_environment_provider_customer_id_key UNIQUE (provider, environment, provider_customer_id),
    CONSTRAINT customer_mappings_provider_environment_subject_type_subject_key UNIQUE (provider, environment, subject_type, subject_id)
);

CREATE TABLE IF NOT EXISTS payments.stripe_checkout_sessions (
    id                  uuid NOT NULL DEFAULT gen_random_uuid(),
    environment         text NOT NULL,
    mode                text NOT NULL,
    status              text NOT NULL DEFAULT 'initialized',
    payment_status      text,
    subject_type        text,
    subject_id          text,
    customer_email      text,
    line_items          jsonb NOT NULL DEFAULT '[]',
    success_url         text NOT NULL,
    cancel_url          text NOT NULL,
    idempotency_key     text,
    metadata            jsonb NOT NULL DEFAULT '{}',
    checkout_session_id text,
    customer_id         text,
    payment_intent_id   text,
    subscription_id     text,
    url                 text,
    last_error          text,
    request_hash        text,
    raw                 jsonb NOT NULL DEFAULT '{}',
    created_at          timestamptz NOT NULL DEFAULT now(),
    updated_at          timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT checkout_sessions_environment_check CHECK (environment IN ('test', 'live')),
    CONSTRAINT checkout_sessions_line_items_check CHECK (jsonb_typeof(line_items) = 'array'),
    CONSTRAINT checkout_sessions_mode_check CHECK (mode IN ('payment', 'subscription')),
    CONSTRAINT checkout_sessions_payment_status_check CHECK (payment_status IN ('paid', 'unpaid', 'no_payment_required')),
    CONSTRAINT checkout_sessions_pkey PRIMARY KEY (id),
    CONSTRAINT checkout_sessions_status_check CHECK (status IN ('initialized', 'open', 'completed', 'expired', 'failed'))
);

CREATE INDEX IF NOT EXISTS idx_payments_stripe_checkout_sessions_environment_customer
    ON payments.stripe_checkout_sessions (environment, customer_id)
    WHERE customer_id IS NOT NULL;
-- An idempotency key belongs to a subject, and sessions without one share theirs. InsForge's index,
-- where one caller's key blocks all others', is replaced; rows that satisfy it also satisfy this
-- one.
DROP INDEX IF EXISTS payments.idx_payments_stripe_checkout_sessions_environment_idempotency;
CREATE UNIQUE INDEX IF NOT EXISTS idx_payments_stripe_checkout_sessions_subject_idempotency
    ON payments.stripe_checkout_sessions (
        environment, coalesce(subject_type, ''), coalesce(subject_id, ''), idempotency_key)
    WHERE idempotency_key IS NOT NULL;
CREATE UNIQUE INDEX IF NOT EXISTS idx_payments_stripe_checkout_sessions_environment_session
    ON payments.stripe_checkout_sessions (environment, checkout_session_id)
    WHERE checkout_session_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS idx_payments_stripe_checkout_sessions_environment_subject
    ON payments.stripe_checkout_sessions (environment, subject_type, subject_id)
    WHERE subject_type IS NOT NULL AND subject_id IS NOT NULL;

CREATE TABLE IF NOT EXISTS payments.stripe_customer_portal_sessions (
    id               uuid NOT NULL DEFAULT gen_random_uuid(),
    environment      text NOT NULL,
    status           text NOT NULL DEFAULT 'initialized',
    subject_type     text NOT NULL,
    subject_id       text NOT NULL,
    customer_id      text,
    return_url       text,
    configuration_id text,
    url              text,
    last_error       text,
    raw              jsonb NOT NULL DEFAULT '{}',
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT customer_portal_sessions_environment_check CHECK (environment IN ('test', 'live')),
    CONSTRAINT customer_portal_sessions_pkey PRIMARY KEY (id),
    CONSTRAINT customer_portal_sessions_status_check CHECK (status IN ('initialized', 'created', 'failed'))
);

CREATE INDEX IF NOT EXISTS idx_payments_stripe_customer_portal_sessions_environment_custom
    ON payments.stripe_customer_portal_sessions (environment, customer_id)
    WHERE customer_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS idx_payments_stripe_customer_portal_sessions_environment_subjec
    ON payments.stripe_customer_portal_sessions (environment, subject_type, subject_id);

CREATE TABLE IF NOT EXISTS payments.stripe_subscriptions (
    id                   uuid NOT NULL DEFAULT gen_random_uuid(),
    environment          text NOT NULL,
    subscription_id      text NOT NULL,
    customer_id          text NOT NULL,
    subject_type         text,
    subject_id           text,
    status               text NOT NULL,
    current_period_start timestamptz,
    current_period_end   timestamptz,
    cancel_at_period_end boolean NOT NULL DEFAULT false,
    cancel_at            timestamptz,
    canceled_at          timestamptz,
    trial_start          timestamptz,
    trial_end            timestamptz,
    latest_invoice_id    text,
    metadata             jsonb NOT NULL DEFAULT '{}',
    synced_at            timestamptz NOT NULL DEFAULT now(),
    raw                  jsonb NOT NULL DEFAULT '{}',
    created_at           timestamptz NOT NULL DEFAULT now(),
    updated_at           timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT subscriptions_environment_check CHECK (environment IN ('test', 'live')),
    CONSTRAINT subscriptions_pkey PRIMARY KEY (id)
);

CREATE INDEX IF NOT EXISTS idx_payments_stripe_subscriptions_environment_customer
    ON payments.stripe_subscriptions (environment, customer_id);
CREATE UNIQUE INDEX IF NOT EXISTS idx_payments_stripe_subscriptions_environment_subscription
    ON payments.stripe_subscriptions (environment, subscription_id);

CREATE TABLE IF NOT EXISTS payments.stripe_subscription_items (
    id                   uuid NOT NULL DEFAULT gen_random_uuid(),
    environment          text NOT NULL,
    subscription_item_id text NOT NULL,
    subscription_id      text NOT NULL,
    product_id           text,
    price_id             text,
    quantity             bigint,
    metadata             jsonb NOT NULL DEFAULT '{}',
    raw                  jsonb NOT NULL DEFAULT '{}',
    created_at           timestamptz NOT NULL DEFAULT now(),
    updated_at           timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT subscription_items_environment_check CHECK (environment IN ('test', 'live')),
    CONSTRAINT subscription_items_pkey PRIMARY KEY (id)
);

CREATE UNIQUE INDEX IF NOT EXISTS idx_payments_stripe_subscription_items_environment_item
    ON payments.stripe_subscription_items (environment, subscription_item_id);
CREATE INDEX IF NOT EXISTS idx_payments_stripe_subscription_items_environment_price
    ON payments.stripe_subscription_items (environment, price_id)
    WHERE price_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS idx_payments_stripe_subscription_items_environment_subscription
    ON payments.stripe_subscription_items (environment, subscription_id);

CREATE TABLE IF NOT EXISTS payments.webhook_events (
    id                  uuid NOT NULL DEFAULT gen_random_uuid(),
    provider            text NOT NULL,
    environment         text NOT NULL,
    event_type          text NOT NULL,
    livemode            boolean NOT NULL,
    object_type         text,
    object_id           text,
    processing_status   text NOT NULL DEFAULT 'pending',
    attempt_count       integer NOT NULL DEFAULT 0,
    last_error          text,
    payload             jsonb NOT NULL,
    received_at         timestamptz NOT NULL DEFAULT now(),
    processed_at        timestamptz,
    provider_event_id   text NOT NULL,
    provider_account_id text,
    created_at          timestamptz NOT NULL DEFAULT now(),
    updated_at          timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT chk_payments_webhook_events_provider_format CHECK (provider ~ '^[a-z][a-z0-9_]*$'),
    CONSTRAINT webhook_events_environment_check CHECK (environment IN ('test', 'live')),
    CONSTRAINT webhook_events_pkey PRIMARY KEY (id),
    CONSTRAINT webhook_events_processing_status_check CHECK (processing_status IN ('pending', 'processed', 'failed', 'ignored'))
);

CREATE INDEX IF NOT EXISTS idx_payments_webhook_events_environment_object
    ON payments.webhook_events (environment, object_type, object_id)
    WHERE object_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS idx_payments_webhook_events_environment_status
    ON payments.webhook_events (environment, processing_status);
CREATE UNIQUE INDEX IF NOT EXISTS idx_payments_webhook_events_provider_event
    ON payments.webhook_events (provider, environment, provider_event_id);

CREATE TABLE IF NOT EXISTS payments.transactions (
    id                          uuid NOT NULL DEFAULT gen_random_uuid(),
    provider                    text NOT NULL,
    environment                 text NOT NULL,
    type                        text NOT NULL,
    status                      text NOT NULL,
    subject_type                text,
    subject_id                  text,
    provider_customer_id        text,
    customer_email_snapshot     text,
    provider_object_type        text,
    provider_object_id          text,
    provider_parent_object_type text,
    provider_parent_object_id   text,
    related_object_ids          jsonb NOT NULL DEFAULT '{}',
    amount                      bigint,
    amount_refunded             bigint NOT NULL DEFAULT 0,
    currency                    text,
    description                 text,
    paid_at                     timestamptz,
    failed_at                   timestamptz,
    refunded_at                 timestamptz,
    provider_created_at         timestamptz,
    raw                         jsonb NOT NULL DEFAULT '{}',
    created_at                  timestamptz NOT NULL DEFAULT now(),
    updated_at                  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT transactions_environment_check CHECK (environment IN ('test', 'live')),
    CONSTRAINT transactions_pkey PRIMARY KEY (id),
    CONSTRAINT transactions_provider_check CHECK (provider ~ '^[a-z][a-z0-9_]*$'),
    CONSTRAINT transactions_status_check CHECK (status IN ('succeeded', 'failed', 'pending', 'refunded', 'partially_refunded')),
    CONSTRAINT transactions_type_check CHECK (type IN ('one_time_payment', 'subscription_invoice', 'refund', 'failed_payment'))
);

CREATE INDEX IF NOT EXISTS idx_payments_transactions_provider_customer
    ON payments.transactions (provider, environment, provider_customer_id)
    WHERE provider_customer_id IS NOT NULL;
CREATE UNIQUE INDEX IF NOT EXISTS idx_payments_transactions_provider_object
    ON payments.transactions (provider, environment, provider_object_type, provider_object_id)
    WHERE provider_object_type IS NOT NULL AND provider_object_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS idx_payments_transactions_related_object_ids
    ON payments.transactions USING gin (related_object_ids);

-- These four have InsForge's names, but other definitions: InsForge's reject long texts.
DROP INDEX IF EXISTS payments.idx_payments_stripe_prices_environment_lookup_key,
    payments.idx_payments_customers_environment_email,
    payments.idx_payments_stripe_subscriptions_environment_subject,
    payments.idx_payments_transactions_provider_subject;
CREATE INDEX idx_payments_stripe_prices_environment_lookup_key
    ON payments.stripe_prices USING hash (lookup_key) WHERE lookup_key IS NOT NULL;
CREATE INDEX idx_payments_customers_environment_email
    ON payments.customers USING hash (email) WHERE email IS NOT NULL;
CREATE INDEX idx_payments_stripe_subscriptions_environment_subject
    ON payments.stripe_subscriptions (environment, subject_id)
    WHERE subject_type IS NOT NULL AND subject_id IS NOT NULL;
CREATE INDEX idx_payments_transactions_provider_subject
    ON payments.transactions (provider, environment, subject_id)
    WHERE subject_type IS NOT NULL AND subject_id IS NOT NULL;

-- Up to here, the schema is InsForge's; from here on, Billhook's own columns and indexes.

-- Each mirrored row has the version of the state that it shows (docs/explanation/ordering.md): the
-- time of the event (whole seconds), the kind's rank within that second, and what breaks a tie.
DO $$
DECLARE
    mirrored text;
BEGIN
    FOREACH mirrored IN ARRAY ARRAY[
        'stripe_products', 'stripe_prices', 'customers', 'stripe_subscriptions', 'stripe_checkout_sessions'
    ] LOOP
        EXECUTE format('ALTER TABLE payments.%I
            ADD COLUMN IF NOT EXISTS provider_event_at       timestamptz,
            ADD COLUMN IF NOT EXISTS provider_event_rank     smallint,
            ADD COLUMN IF NOT EXISTS provider_event_id       text,
            ADD COLUMN IF NOT EXISTS provider_event_previous jsonb', mirrored);
    END LOOP;
END $$;

-- Stripe's `pause_collection`: the subscription continues, but its invoices are not collected.
ALTER TABLE payments.stripe_subscriptions ADD COLUMN IF NOT EXISTS pause_collection jsonb;

-- Which payment a row belongs to: one payment has one row, and one more for each of its refunds.
ALTER TABLE payments.transactions ADD COLUMN IF NOT EXISTS payment_id bigint;
-- The amount paid outside Stripe, which is not in any total. And when a payment was canceled
-- without a failed attempt, such as an authorization that was never captured: it is `failed`, but
-- does not count as a failure.
ALTER TABLE payments.transactions
    ADD COLUMN IF NOT EXISTS amount_out_of_band bigint NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS canceled_at        timestamptz;
CREATE INDEX IF NOT EXISTS idx_payments_transactions_payment ON payments.transactions (payment_id);

-- The lists in every order, with combined filters and search: each page is a short scan of one of
-- these indexes, or of a few of them, merged.

CREATE INDEX transactions_of_email ON payments.transactions
    (environment, (left(lower(customer_email_snapshot), 200)))
    WHERE provider_customer_id IS NULL AND customer_email_snapshot IS NOT NULL;
CREATE INDEX customers_by_display_name ON payments.customers
    (environment, deleted, (left(coalesce(email, name, provider_customer_id), 200)),
     provider_customer_id);
CREATE INDEX webhook_events_newest ON payments.webhook_events
    (environment, received_at DESC, id DESC);

-- By type, status and time. All lists of transactions by time scan it, those of several types or
-- statuses once for each, so an index by time alone is not needed.
CREATE INDEX transactions_by_time ON payments.transactions
    (environment, type, status, (coalesce(provider_created_at, created_at)) DESC, id DESC);

-- The same by amount; equal amounts (most products have one price) by time.
CREATE INDEX transactions_by_amount ON payments.transactions
    (environment, type, status, (coalesce(amount, 0)) DESC,
     (coalesce(provider_created_at, created_at)) DESC, id DESC);

-- What counts in an overview, by UTC day. An overview reads nothing else
-- (docs/decisions/0014-daily-totals.md); billhook/reports/overview.py has the same expressions.
CREATE INDEX transactions_by_day ON payments.transactions
    (environment,
     ((coalesce(
        CASE WHEN type = 'refund' THEN refunded_at
             WHEN status = 'failed' THEN failed_at
             ELSE paid_at END,
        provider_created_at, created_at) AT TIME ZONE 'UTC')::date),
     currency, type, status)
    INCLUDE (amount, paid_at, failed_at, refunded_at, provider_created_at, created_at)
    WHERE provider = 'stripe' AND currency <> '' AND status <> 'pending'
      AND canceled_at IS NULL AND (amount_out_of_band = 0 OR amount > 0)
      AND (type <> 'refund' OR status = 'refunded');
-- For pages that changed since the last vacuum it also reads the rows: at most a few percent.
ALTER TABLE payments.transactions SET (
    autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_insert_threshold = 1000, autovacuum_vacuum_insert_scale_factor = 0.02);

-- Subscriptions by status, by change and by renewal. Those without a period come last.
CREATE INDEX subscriptions_by_change ON payments.stripe_subscriptions
    (environment, status, updated_at DESC, id DESC);
CREATE INDEX subscriptions_by_renewal ON payments.stripe_subscriptions
    (environment, status, (coalesce(current_period_end, timestamptz '9999-12-31 00:00:00+00')), id);

-- The start of an email address or a name, ignoring case. In byte order, texts with the same start
-- are adjacent in any database; equality uses this index as well. Lists and cursors use the first
-- 200 characters; texts that are equal in those are ordered by id. The index includes rows without
-- such a text, because PostgreSQL does not use the statistics of a partial index.
CREATE INDEX customers_by_email ON payments.customers
    (environment, (left(lower(email), 200) COLLATE "C"), provider_customer_id);
CREATE INDEX customers_by_name ON payments.customers
    (environment, (left(lower(name), 200) COLLATE "C"), provider_customer_id);
CREATE INDEX customers_by_time ON payments.customers
    (environment, (coalesce(provider_created_at, created_at)) DESC, id DESC);

-- By name ignoring case, and by the start of a name.
CREATE INDEX products_by_lower_name ON payments.stripe_products
    (environment, active, (left(lower(name), 200) COLLATE "C"), product_id);

-- By type, status and time; and to find the existing types. Each event is inserted as pending and
-- updated in the same transaction. Without pending events, the index is written once instead of
-- twice, and has no dead entries. Pending events are found by the index of the status.
CREATE INDEX webhook_events_by_type ON payments.webhook_events
    (environment, event_type, processing_status, received_at DESC, id DESC)
    WHERE processing_status <> 'pending';
