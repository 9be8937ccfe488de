-- Recurring revenue: what each subscription is worth a month, over time
-- (src/billhook/reducers/recurring.py, docs/decisions/0022-mrr-history.md).

-- Its MRR now, and what it pays for its next period; both 0 if it does not count.
ALTER TABLE payments.stripe_subscriptions
    ADD COLUMN currency       text,
    ADD COLUMN mrr            bigint,
    ADD COLUMN renewal_amount bigint;

-- Those that pay, and when they renew. An overview reads nothing else.
CREATE INDEX subscriptions_renewing ON payments.stripe_subscriptions
    (environment, current_period_end) INCLUDE (currency, renewal_amount) WHERE renewal_amount > 0;

CREATE INDEX subscriptions_trialing ON payments.stripe_subscriptions (environment, customer_id)
    WHERE status = 'trialing';

-- The same index, with all that counting new customers reads.
DROP INDEX payments.customers_by_time;
CREATE INDEX customers_by_time ON payments.customers
    (environment, (coalesce(provider_created_at, created_at)) DESC, id DESC)
    INCLUDE (provider, provider_created_at, created_at);

-- Disputes by currency, and by day.
CREATE INDEX stripe_disputes_by_currency ON payments.stripe_disputes (environment, currency);
CREATE INDEX stripe_disputes_by_time ON payments.stripe_disputes
    (environment, (coalesce(provider_created_at, created_at)));

-- Each known state of a subscription: from then on, it is worth so much. Rows are never changed.
CREATE TABLE billhook.subscription_states (
    environment     text NOT NULL,
    subscription_id text NOT NULL,
    at              timestamptz NOT NULL,
    rank            smallint NOT NULL,    -- within one second: created < updated < deleted
    event_id        text NOT NULL,        -- empty: it was fetched
    customer_id     text NOT NULL,
    currency        text NOT NULL,
    period_amount   bigint NOT NULL,
    gross           bigint NOT NULL,      -- a month, before discounts; 0 if it does not count
    discounts       jsonb NOT NULL,
    before          text,                 -- what the event says about the state before
    had             bigint NOT NULL,      -- its worth before, for the first state
    had_from        timestamptz,
    had_to          timestamptz,
    PRIMARY KEY (environment, subscription_id, at, rank, event_id)
);

-- What discounts take off. That never changes.
CREATE TABLE billhook.discounts (
    environment text NOT NULL,
    discount_id text NOT NULL,
    percent_off text,
    amount_off  bigint,
    currency    text,
    forever     boolean NOT NULL,
    PRIMARY KEY (environment, discount_id)
);

-- How the MRR of a customer changed within a UTC day, and what it was when the day ended.
CREATE TABLE payments.mrr_movements (
    id          uuid NOT NULL DEFAULT gen_random_uuid(),
    environment text NOT NULL,
    customer_id text NOT NULL,
    currency    text NOT NULL,
    day         date NOT NULL,
    kind        text NOT NULL,
    amount      bigint NOT NULL,
    mrr         bigint NOT NULL,
    latest      boolean NOT NULL DEFAULT false,  -- the customer's last one: its MRR now
    CONSTRAINT mrr_movements_environment_check CHECK (environment IN ('test', 'live')),
    CONSTRAINT mrr_movements_kind_check CHECK (
        kind IN ('new', 'reactivation', 'expansion', 'contraction', 'churn')),
    CONSTRAINT mrr_movements_pkey PRIMARY KEY (id)
);
CREATE UNIQUE INDEX mrr_movements_by_customer
    ON payments.mrr_movements (environment, customer_id, currency, day);
-- All that an overview reads.
CREATE INDEX mrr_movements_by_day
    ON payments.mrr_movements (environment, day, currency, kind) INCLUDE (amount);
CREATE INDEX mrr_movements_now
    ON payments.mrr_movements (environment, currency) INCLUDE (mrr) WHERE latest AND mrr > 0;
CREATE INDEX mrr_movements_by_kind
    ON payments.mrr_movements (environment, kind, day DESC, id DESC);
