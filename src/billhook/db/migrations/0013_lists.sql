-- The lists in every order, with filters that combine, and searched: each page is a short walk along
-- one of these indexes, or a few of them merged.

-- Of a type and a status, by time. All lists of transactions by time walk it, those of several types
-- or statuses once for each; so the index by time alone has nothing left to do.
CREATE INDEX transactions_by_time ON payments.transactions
    (environment, type, status, (coalesce(provider_created_at, created_at)) DESC, id DESC);
DROP INDEX payments.transactions_newest;
-- The same by amount; equal amounts (most products have one price) by time.
CREATE INDEX transactions_by_amount ON payments.transactions
    (environment, type, status, (coalesce(amount, 0)) DESC,
     (coalesce(provider_created_at, created_at)) DESC, id DESC);

-- Subscriptions of a status, by change and by renewal. One without a period comes last.
CREATE INDEX subscriptions_by_change ON payments.stripe_subscriptions
    (environment, status, updated_at DESC, id DESC);
DROP INDEX payments.subscriptions_last_changed;
CREATE INDEX subscriptions_by_renewal ON payments.stripe_subscriptions
    (environment, status, (coalesce(current_period_end, timestamptz '9999-12-31 00:00:00+00')), id);

-- What an e-mail or a name begins with, whatever the case. In the order of their bytes, the texts
-- that begin alike stand together in any database; equality is found here as well. Not only where
-- there is one: PostgreSQL does not look at the statistics of such an index.
CREATE INDEX customers_by_email ON payments.customers
    (environment, (lower(email) COLLATE "C"), provider_customer_id);
DROP INDEX payments.customers_of_email;
CREATE INDEX customers_by_name ON payments.customers
    (environment, (lower(name) COLLATE "C"), provider_customer_id);
CREATE INDEX customers_by_time ON payments.customers
    (environment, (coalesce(provider_created_at, created_at)) DESC, id DESC);

-- By name for people, and what a name begins with.
CREATE INDEX products_by_lower_name ON payments.stripe_products
    (environment, active, (lower(name) COLLATE "C"), product_id);

-- Of a type and a status, by time; and which types there are. Each event is inserted as pending and
-- updated in the same transaction: without that first state it is written once instead of twice,
-- and no dead entries stand in the way. What is pending is found by the index of the status.
CREATE INDEX webhook_events_by_type ON payments.webhook_events
    (environment, event_type, processing_status, received_at DESC, id DESC)
    WHERE processing_status <> 'pending';
