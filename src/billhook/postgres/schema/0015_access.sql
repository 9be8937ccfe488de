-- Stripe's entitlements (src/billhook/kinds/entitlements.py), and which environment gives access.

DROP INDEX payments.idx_payments_stripe_subscriptions_environment_subject;
DROP INDEX payments.stripe_invoices_by_subscription;

CREATE TABLE payments.stripe_features (
    id                      uuid NOT NULL DEFAULT gen_random_uuid(),
    environment             text NOT NULL,
    feature_id              text NOT NULL,
    lookup_key              text NOT NULL,
    name                    text NOT NULL,
    active                  boolean NOT NULL,
    metadata                jsonb NOT NULL DEFAULT '{}',
    synced_at               timestamptz NOT NULL DEFAULT now(),
    raw                     jsonb NOT NULL DEFAULT '{}',
    created_at              timestamptz NOT NULL DEFAULT now(),
    updated_at              timestamptz NOT NULL DEFAULT now(),
    provider_event_at       timestamptz,
    provider_event_rank     smallint,
    provider_event_id       text,
    provider_event_previous jsonb,
    CONSTRAINT stripe_features_environment_check CHECK (environment IN ('test', 'live')),
    CONSTRAINT stripe_features_pkey PRIMARY KEY (id)
);

CREATE UNIQUE INDEX stripe_features_by_key ON payments.stripe_features (environment, feature_id);
CREATE INDEX stripe_features_by_lookup_key ON payments.stripe_features
    (environment, lookup_key, created_at DESC, id DESC);

-- Which state of a customer's entitlements is mirrored. One without any has a row, too.
CREATE TABLE payments.stripe_entitlement_summaries (
    id                      uuid NOT NULL DEFAULT gen_random_uuid(),
    environment             text NOT NULL,
    customer_id             text NOT NULL,
    synced_at               timestamptz NOT NULL DEFAULT now(),
    raw                     jsonb NOT NULL DEFAULT '{}',
    created_at              timestamptz NOT NULL DEFAULT now(),
    updated_at              timestamptz NOT NULL DEFAULT now(),
    provider_event_at       timestamptz,
    provider_event_rank     smallint,
    provider_event_id       text,
    provider_event_previous jsonb,
    CONSTRAINT stripe_entitlement_summaries_environment_check CHECK (environment IN ('test', 'live')),
    CONSTRAINT stripe_entitlement_summaries_pkey PRIMARY KEY (id)
);

CREATE UNIQUE INDEX stripe_entitlement_summaries_by_key
    ON payments.stripe_entitlement_summaries (environment, customer_id);

CREATE TABLE payments.stripe_active_entitlements (
    id             uuid NOT NULL DEFAULT gen_random_uuid(),
    environment    text NOT NULL,
    entitlement_id text NOT NULL,
    customer_id    text NOT NULL,
    feature_id     text NOT NULL,
    lookup_key     text NOT NULL,
    raw            jsonb NOT NULL DEFAULT '{}',
    created_at     timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT stripe_active_entitlements_environment_check CHECK (environment IN ('test', 'live')),
    CONSTRAINT stripe_active_entitlements_pkey PRIMARY KEY (id)
);

CREATE UNIQUE INDEX stripe_active_entitlements_by_key
    ON payments.stripe_active_entitlements (environment, entitlement_id);
CREATE INDEX stripe_active_entitlements_by_customer
    ON payments.stripe_active_entitlements (environment, customer_id);
CREATE INDEX stripe_active_entitlements_by_feature
    ON payments.stripe_active_entitlements (environment, feature_id);
CREATE INDEX stripe_active_entitlements_by_lookup_key ON payments.stripe_active_entitlements
    (environment, lookup_key, created_at DESC, id DESC);

-- One row. Until someone chooses the environment, it changes from test to live, once, when a live
-- account is connected (docs/decisions/0017-access-environment.md).
CREATE TABLE payments.access_settings (
    id          boolean NOT NULL DEFAULT true,
    environment text NOT NULL DEFAULT 'test',
    is_chosen   boolean NOT NULL DEFAULT false,
    grace       interval NOT NULL DEFAULT '0',
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT access_settings_environment_check CHECK (environment IN ('test', 'live')),
    CONSTRAINT access_settings_grace_check CHECK (grace >= interval '0'),
    CONSTRAINT access_settings_one_row_check CHECK (id),
    CONSTRAINT access_settings_pkey PRIMARY KEY (id)
);

INSERT INTO payments.access_settings (environment)
SELECT CASE WHEN EXISTS (
    SELECT FROM payments.provider_connections
    WHERE provider = 'stripe' AND environment = 'live' AND provider_account_id IS NOT NULL
) THEN 'live' ELSE 'test' END;
