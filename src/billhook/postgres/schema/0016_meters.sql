-- Meters, as Stripe lists them (src/billhook/kinds/meters.py).

CREATE TABLE payments.stripe_meters (
    id                      uuid NOT NULL DEFAULT gen_random_uuid(),
    environment             text NOT NULL,
    meter_id                text NOT NULL,
    event_name              text NOT NULL,
    display_name            text,
    formula                 text NOT NULL,
    status                  text NOT NULL,
    customer_key            text NOT NULL,
    value_key               text NOT NULL,
    event_time_window       text,
    provider_created_at     timestamptz,
    synced_at               timestamptz NOT NULL DEFAULT now(),
    raw                     jsonb NOT NULL DEFAULT '{}',
    created_at              timestamptz NOT NULL DEFAULT now(),
    updated_at              timestamptz NOT NULL DEFAULT now(),
    provider_event_at       timestamptz,
    provider_event_rank     smallint,
    provider_event_id       text,
    provider_event_previous jsonb,
    CONSTRAINT stripe_meters_environment_check CHECK (environment IN ('test', 'live')),
    CONSTRAINT stripe_meters_pkey PRIMARY KEY (id)
);

CREATE UNIQUE INDEX stripe_meters_by_key ON payments.stripe_meters (environment, meter_id);
CREATE INDEX stripe_meters_by_event_name ON payments.stripe_meters (environment, event_name);
CREATE INDEX stripe_meters_by_status ON payments.stripe_meters
    (environment, status, (coalesce(provider_created_at, created_at)) DESC, id DESC);
