-- Disputes, as Stripe lists them (src/billhook/kinds/disputes.py). A dispute does not change
-- payments.transactions.

CREATE TABLE payments.stripe_disputes (
    id                      uuid NOT NULL DEFAULT gen_random_uuid(),
    environment             text NOT NULL,
    dispute_id              text NOT NULL,
    charge_id               text,
    payment_intent_id       text,
    amount                  bigint,
    currency                text,
    reason                  text,
    status                  text NOT NULL,
    evidence_due_by         timestamptz,
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
    CONSTRAINT stripe_disputes_environment_check CHECK (environment IN ('test', 'live')),
    CONSTRAINT stripe_disputes_pkey PRIMARY KEY (id)
);

CREATE UNIQUE INDEX stripe_disputes_by_key ON payments.stripe_disputes (environment, dispute_id);
CREATE INDEX stripe_disputes_by_charge ON payments.stripe_disputes (environment, charge_id)
    WHERE charge_id IS NOT NULL;
CREATE INDEX stripe_disputes_by_payment_intent
    ON payments.stripe_disputes (environment, payment_intent_id)
    WHERE payment_intent_id IS NOT NULL;
CREATE INDEX stripe_disputes_by_status ON payments.stripe_disputes
    (environment, status, (coalesce(provider_created_at, created_at)) DESC, id DESC);
