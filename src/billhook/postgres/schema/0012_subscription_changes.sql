-- Users change subscriptions of their own. The app's policies on payments.stripe_subscriptions decide
-- who may: Billhook locks the row as the caller, to which PostgreSQL applies the SELECT and the
-- UPDATE policies, and which needs the privilege to update one column.

-- A database that was given back to InsForge may still have them.
DROP POLICY IF EXISTS billhook_refuse_changes ON payments.stripe_subscriptions;
DROP POLICY IF EXISTS billhook_readers ON payments.stripe_subscriptions;
DROP POLICY IF EXISTS billhook_not_users ON payments.stripe_subscriptions;
DROP POLICY IF EXISTS billhook_readers ON payments.stripe_subscription_items;
DROP POLICY IF EXISTS billhook_not_users ON payments.stripe_subscription_items;

-- Row-level security is turned on by postgres/readers.py: all others read as before.

-- Only Billhook changes the rows, whatever an app's policies and grants are.
CREATE POLICY billhook_refuse_changes ON payments.stripe_subscriptions
    AS RESTRICTIVE FOR UPDATE TO anon, authenticated
    USING (true) WITH CHECK (current_user NOT IN ('anon', 'authenticated'));

GRANT SELECT, UPDATE (updated_at) ON payments.stripe_subscriptions TO authenticated;

-- Requests with an idempotency key: what is sent to Stripe is decided once, so that a repeated
-- request sends the same. Rows are removed after 30 days.
CREATE TABLE billhook.subscription_requests (
    environment     text NOT NULL,
    subscription_id text NOT NULL,
    idempotency_key text NOT NULL,
    request_hash    text NOT NULL,
    calls           jsonb NOT NULL,  -- to Stripe, in order
    attempt         integer NOT NULL DEFAULT 1,  -- incremented when Stripe fails, which it repeats for a day
    created_at      timestamptz NOT NULL DEFAULT now(),
    finished_at     timestamptz,
    PRIMARY KEY (environment, subscription_id, idempotency_key)
);
CREATE INDEX subscription_requests_by_age ON billhook.subscription_requests (created_at);

-- The flow of a portal session, as the request named it. Null: the whole portal.
ALTER TABLE payments.stripe_customer_portal_sessions ADD COLUMN IF NOT EXISTS flow_data jsonb;
