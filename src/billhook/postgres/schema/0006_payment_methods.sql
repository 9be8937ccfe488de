-- Payment methods that customers have saved (src/billhook/kinds/payment_methods.py). Detached ones
-- are removed.

CREATE TABLE payments.stripe_payment_methods (
    id                      uuid NOT NULL DEFAULT gen_random_uuid(),
    environment             text NOT NULL,
    payment_method_id       text NOT NULL,
    customer_id             text NOT NULL,
    type                    text NOT NULL,
    brand                   text,
    last4                   text,
    exp_month               integer,
    exp_year                integer,
    metadata                jsonb NOT NULL DEFAULT '{}',
    provider_created_at     timestamptz,
    synced_at               timestamptz NOT NULL DEFAULT now(),
    raw                     jsonb NOT NULL DEFAULT '{}',
    created_at              timestamptz NOT NULL DEFAULT now(),
    updated_at              timestamptz NOT NULL DEFAULT now(),
    provider_event_at       timestamptz,
    provider_event_rank     smallint,
    provider_event_id       text,
    provider_event_previous jsonb,
    CONSTRAINT stripe_payment_methods_environment_check CHECK (environment IN ('test', 'live')),
    CONSTRAINT stripe_payment_methods_pkey PRIMARY KEY (id)
);

CREATE UNIQUE INDEX stripe_payment_methods_by_key
    ON payments.stripe_payment_methods (environment, payment_method_id);
CREATE INDEX stripe_payment_methods_by_customer
    ON payments.stripe_payment_methods (environment, customer_id);
CREATE INDEX stripe_payment_methods_by_type ON payments.stripe_payment_methods
    (environment, type, (coalesce(provider_created_at, created_at)) DESC, id DESC);
