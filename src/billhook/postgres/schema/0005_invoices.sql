-- Invoices, as Stripe lists them (src/billhook/kinds/invoices.py). Payments of an invoice are rows
-- of payments.transactions, whose related_object_ids contain its id.

CREATE TABLE payments.stripe_invoices (
    id                      uuid NOT NULL DEFAULT gen_random_uuid(),
    environment             text NOT NULL,
    invoice_id              text NOT NULL,
    customer_id             text,
    subscription_id         text,
    subject_type            text,
    subject_id              text,
    number                  text,
    status                  text NOT NULL,
    billing_reason          text,
    collection_method       text,
    amount_due              bigint,
    amount_paid             bigint,
    amount_remaining        bigint,
    total                   bigint,
    currency                text,
    period_start            timestamptz,
    period_end              timestamptz,
    due_date                timestamptz,
    next_payment_attempt    timestamptz,
    hosted_invoice_url      text,
    invoice_pdf             text,
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
    CONSTRAINT stripe_invoices_environment_check CHECK (environment IN ('test', 'live')),
    CONSTRAINT stripe_invoices_pkey PRIMARY KEY (id)
);

CREATE UNIQUE INDEX stripe_invoices_by_key ON payments.stripe_invoices (environment, invoice_id);
CREATE INDEX stripe_invoices_by_customer ON payments.stripe_invoices (environment, customer_id)
    WHERE customer_id IS NOT NULL;
CREATE INDEX stripe_invoices_by_subscription
    ON payments.stripe_invoices (environment, subscription_id)
    WHERE subscription_id IS NOT NULL;
CREATE INDEX stripe_invoices_by_subject ON payments.stripe_invoices (environment, subject_id)
    WHERE subject_type IS NOT NULL AND subject_id IS NOT NULL;
CREATE INDEX stripe_invoices_by_status ON payments.stripe_invoices
    (environment, status, (coalesce(provider_created_at, created_at)) DESC, id DESC);
