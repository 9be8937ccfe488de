-- Users change subscriptions of their own. The app's policies on payments.stripe_subscriptions decide
-- who may: Billhook locks the row as the caller, to which PostgreSQL applies the SELECT and the
-- UPDATE policies, and which needs the privilege to update one column.

-- A database that was given back to InsForge may still have them.
DROP POLICY IF EXISTS billhook_refuse_changes ON payments.stripe_subscriptions;
DROP POLICY IF EXISTS billhook_readers ON payments.stripe_subscriptions;
DROP POLICY IF EXISTS billhook_not_users ON payments.stripe_subscriptions;
DROP POLICY IF EXISTS billhook_readers ON payments.stripe_subscription_items;
DROP POLICY IF EXISTS billhook_not_users ON payments.stripe_subscription_items;

-- Whoever reads the tables now keeps reading them, also through their views, for which PostgreSQL takes
-- the policies of the view's owner; so do roles that are granted SELECT later. Where an app has turned
-- row-level security on already, its own policies decide.
DO $$ DECLARE open record; BEGIN
    FOR open IN
        SELECT c.oid::regclass AS tab, string_agg(DISTINCT quote_ident(role.rolname), ', ') AS readers
        FROM pg_class c, pg_roles role
        WHERE c.oid IN ('payments.stripe_subscriptions'::regclass::oid, 'payments.stripe_subscription_items'::regclass::oid)
          AND NOT c.relrowsecurity AND (role.rolname = 'project_admin' OR role.oid IN (
              SELECT grantee FROM aclexplode(c.relacl) WHERE privilege_type = 'SELECT'))
          AND role.rolname NOT IN ('anon', 'authenticated')
        GROUP BY c.oid
    LOOP EXECUTE format('ALTER TABLE %1$s ENABLE ROW LEVEL SECURITY;
        CREATE POLICY billhook_readers ON %1$s FOR SELECT TO %2$s USING (true);
        CREATE POLICY billhook_not_users ON %1$s FOR SELECT
            USING (current_user NOT IN (''anon'', ''authenticated''))', open.tab, open.readers);
    END LOOP;
END $$;

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
    created_at      timestamptz NOT NULL DEFAULT now(),
    finished_at     timestamptz,
    PRIMARY KEY (environment, subscription_id, idempotency_key)
);
CREATE INDEX subscription_requests_by_age ON billhook.subscription_requests (created_at);

-- The flow of a portal session, as the request named it. Null: the whole portal.
ALTER TABLE payments.stripe_customer_portal_sessions ADD COLUMN IF NOT EXISTS flow_data jsonb;
