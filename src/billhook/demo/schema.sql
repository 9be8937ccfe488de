-- The demo shop's own schema: what an app adds to its database to sell things through Billhook.
-- Can be applied again at any time: only the triggers and policies that it replaces are dropped.

CREATE SCHEMA IF NOT EXISTS demo;

-- The shop's products. The prices are in Stripe; these are the ones that the shop offers.
CREATE TABLE IF NOT EXISTS demo.prices (
    environment text   NOT NULL,
    product     text   NOT NULL,
    currency    text   NOT NULL,
    price_id    text   NOT NULL,
    unit_amount bigint NOT NULL,
    PRIMARY KEY (environment, product, currency),
    UNIQUE (environment, price_id)
);

CREATE TABLE IF NOT EXISTS demo.orders (
    id                  text        PRIMARY KEY DEFAULT gen_random_uuid()::text,
    environment         text        NOT NULL,
    user_id             uuid,  -- null: bought as a guest
    guest_id            uuid,
    product             text        NOT NULL,
    price_id            text        NOT NULL,
    quantity            integer     NOT NULL CHECK (quantity BETWEEN 1 AND 20),
    amount              bigint      NOT NULL CHECK (amount >= 0),  -- minor units
    currency            text        NOT NULL,
    status              text        NOT NULL DEFAULT 'pending'
                        CHECK (status IN ('pending', 'processing', 'paid', 'failed')),
    checkout_session_id text,  -- the session that paid, or that failed last
    paid_at             timestamptz,
    created_at          timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX IF NOT EXISTS orders_of_user ON demo.orders (user_id, created_at DESC);
CREATE INDEX IF NOT EXISTS orders_of_guest ON demo.orders (guest_id, created_at DESC);

-- Payments that match no order, for manual review; most are refunded.
CREATE TABLE IF NOT EXISTS demo.unmatched_payments (
    environment         text        NOT NULL,
    checkout_session_id text        NOT NULL,
    order_id            text,
    reason              text        NOT NULL,
    amount              bigint,
    currency            text,
    noticed_at          timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (environment, checkout_session_id)
);

CREATE TABLE IF NOT EXISTS demo.teams (
    id   text PRIMARY KEY,
    name text NOT NULL
);

CREATE TABLE IF NOT EXISTS demo.team_members (
    team_id text NOT NULL REFERENCES demo.teams,
    user_id uuid NOT NULL,
    role    text NOT NULL CHECK (role IN ('owner', 'member')),
    PRIMARY KEY (team_id, user_id)
);

-- What a team may use: one row per team, kept in sync with its subscriptions.
CREATE TABLE IF NOT EXISTS demo.team_entitlements (
    environment          text        NOT NULL,
    team_id              text        NOT NULL REFERENCES demo.teams,
    active               boolean     NOT NULL,
    status               text        NOT NULL,  -- Stripe's word: active, past_due, canceled, …
    subscription_id      text        NOT NULL,
    current_period_end   timestamptz,
    ends_at              timestamptz,           -- null while no end is scheduled
    collection_paused    boolean     NOT NULL,
    updated_at           timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (environment, team_id)
);

-- Only the shop's server reads and writes them; some hosts grant users access to every new table.
REVOKE ALL ON ALL TABLES IN SCHEMA demo FROM PUBLIC, anon, authenticated, project_admin;


-- 1. Who may buy for whom ---------------------------------------------------------------------
-- Billhook inserts the row of each checkout and portal session with the caller's permissions, so
-- these policies decide. Users buy for themselves, owners buy for their team, and guests make
-- one-time payments without a billing subject.

CREATE OR REPLACE FUNCTION demo.may_bill(subject_type text, subject_id text) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE subject_type
        WHEN 'user' THEN subject_id = auth.uid()::text
        WHEN 'team' THEN EXISTS (
            SELECT FROM demo.team_members m
            WHERE m.team_id = subject_id AND m.user_id = auth.uid() AND m.role = 'owner')
        ELSE false
    END
$$;
REVOKE ALL ON FUNCTION demo.may_bill FROM PUBLIC, anon, authenticated;
GRANT USAGE ON SCHEMA demo TO authenticated;
GRANT EXECUTE ON FUNCTION demo.may_bill TO authenticated;

ALTER TABLE payments.stripe_checkout_sessions ENABLE ROW LEVEL SECURITY;
ALTER TABLE payments.stripe_customer_portal_sessions ENABLE ROW LEVEL SECURITY;

DROP POLICY IF EXISTS demo_checkout ON payments.stripe_checkout_sessions;
CREATE POLICY demo_checkout ON payments.stripe_checkout_sessions TO authenticated
    USING (demo.may_bill(subject_type, subject_id))
    WITH CHECK (demo.may_bill(subject_type, subject_id));

-- Guests may insert but not read: they share one role, and could read each other's checkouts.
DROP POLICY IF EXISTS demo_guest_checkout ON payments.stripe_checkout_sessions;
CREATE POLICY demo_guest_checkout ON payments.stripe_checkout_sessions FOR INSERT TO anon
    WITH CHECK (mode = 'payment' AND subject_type IS NULL AND subject_id IS NULL);

DROP POLICY IF EXISTS demo_portal ON payments.stripe_customer_portal_sessions;
CREATE POLICY demo_portal ON payments.stripe_customer_portal_sessions TO authenticated
    USING (demo.may_bill(subject_type, subject_id))
    WITH CHECK (demo.may_bill(subject_type, subject_id));


-- 2. A paid checkout fulfills its order, exactly once ---------------------------------------------
-- Billhook marks an event `processed` in the transaction in which this runs: if this raises, the
-- event is retried; if it succeeds, both are committed together.
--
-- These functions run with the shop's permissions, so other users of the database must not be able
-- to attach them to their own tables or to shadow the objects that they use
-- (docs/how-to/database-roles.md).

CREATE OR REPLACE FUNCTION demo.fulfill_order() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    session jsonb := NEW.payload #> '{data,object}';
    wanted  demo.orders;
    problem text;
BEGIN
    IF TG_RELID <> 'payments.webhook_events'::regclass THEN
        RAISE EXCEPTION 'demo.fulfill_order() is a trigger for payments.webhook_events only';
    END IF;

    -- The Stripe account may serve other apps, and this database other shops: only a session that
    -- one of our callers was allowed to open through Billhook counts.
    IF session #>> '{metadata,app}' IS DISTINCT FROM 'demo-shop' OR NOT EXISTS (
        SELECT FROM payments.stripe_checkout_sessions s
        WHERE s.environment = NEW.environment AND s.checkout_session_id = session ->> 'id'
          AND s.mode = 'payment') THEN
        RETURN NULL;
    END IF;

    SELECT * INTO wanted FROM demo.orders o
    WHERE o.id = session #>> '{metadata,order_id}' AND o.environment = NEW.environment
    FOR UPDATE;

    -- Metadata comes from the browser, so the amount paid must match the order.
    IF NOT FOUND THEN
        problem := 'there is no such order';
    ELSIF (session ->> 'amount_total')::bigint IS DISTINCT FROM wanted.amount
       OR session ->> 'currency' IS DISTINCT FROM wanted.currency THEN
        problem := 'another amount than the order''s';
    ELSIF wanted.status = 'paid' AND wanted.checkout_session_id <> session ->> 'id' THEN
        problem := 'the order was paid before';
    END IF;

    IF NEW.event_type = 'checkout.session.async_payment_failed' THEN
        IF problem IS NULL THEN
            UPDATE demo.orders SET status = 'failed', checkout_session_id = session ->> 'id'
            WHERE id = wanted.id AND status IN ('pending', 'processing');
        END IF;

    ELSIF session ->> 'payment_status' = 'unpaid' THEN  -- the bank needs days: SEPA debit, for example
        IF problem IS NULL THEN
            UPDATE demo.orders SET status = 'processing', checkout_session_id = session ->> 'id'
            WHERE id = wanted.id AND status = 'pending';
        END IF;

    ELSIF problem IS NOT NULL THEN
        INSERT INTO demo.unmatched_payments
            (environment, checkout_session_id, order_id, reason, amount, currency)
        VALUES (NEW.environment, session ->> 'id', session #>> '{metadata,order_id}', problem,
            (session ->> 'amount_total')::bigint, session ->> 'currency')
        ON CONFLICT DO NOTHING;

    ELSE  -- paid, or nothing to pay
        UPDATE demo.orders SET status = 'paid', paid_at = now(),
            checkout_session_id = session ->> 'id'
        WHERE id = wanted.id AND status <> 'paid';
        -- Add IF FOUND THEN for everything that must happen once, such as updating the stock.
    END IF;
    RETURN NULL;
END $$;

CREATE OR REPLACE TRIGGER demo_fulfill_order
    AFTER INSERT OR UPDATE ON payments.webhook_events
    FOR EACH ROW
    WHEN (NEW.processing_status = 'processed' AND NEW.event_type IN (
        'checkout.session.completed',
        'checkout.session.async_payment_succeeded',
        'checkout.session.async_payment_failed'))
    EXECUTE FUNCTION demo.fulfill_order();


-- 3. Teams get what they subscribe to -----------------------------------------------------
-- Events arrive in any order. So this reads the subscriptions as Billhook mirrors them (newest
-- wins), not the event: the result is correct whichever event comes last.

CREATE OR REPLACE FUNCTION demo.entitle_team() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    team text;
BEGIN
    IF TG_RELID <> 'payments.webhook_events'::regclass THEN
        RAISE EXCEPTION 'demo.entitle_team() is a trigger for payments.webhook_events only';
    END IF;

    SELECT t.id INTO team
    FROM payments.stripe_subscriptions s JOIN demo.teams t ON t.id = s.subject_id
    WHERE s.environment = NEW.environment AND s.subscription_id = NEW.object_id
      AND s.subject_type = 'team'
    FOR UPDATE OF t;  -- one event of a team at a time
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;

    -- Only our plan counts; of several subscriptions, an active one takes precedence.
    INSERT INTO demo.team_entitlements (environment, team_id, active, status, subscription_id,
        current_period_end, ends_at, collection_paused)
    SELECT s.environment, team, s.status IN ('active', 'trialing'), s.status, s.subscription_id,
        s.current_period_end,
        -- A cancellation in Stripe's portal may only set `cancel_at`.
        coalesce(s.cancel_at, CASE WHEN s.cancel_at_period_end THEN s.current_period_end END),
        s.pause_collection IS NOT NULL
    FROM payments.stripe_subscriptions s
    WHERE s.environment = NEW.environment AND s.subject_type = 'team' AND s.subject_id = team
      AND EXISTS (
          SELECT FROM payments.stripe_subscription_items i
          JOIN demo.prices p ON p.environment = i.environment AND p.price_id = i.price_id
          WHERE i.environment = s.environment AND i.subscription_id = s.subscription_id
            AND p.product = 'team')
    ORDER BY s.status IN ('active', 'trialing') DESC, s.current_period_end DESC NULLS LAST
    LIMIT 1
    ON CONFLICT (environment, team_id) DO UPDATE SET
        active = excluded.active,
        status = excluded.status,
        subscription_id = excluded.subscription_id,
        current_period_end = excluded.current_period_end,
        ends_at = excluded.ends_at,
        collection_paused = excluded.collection_paused,
        updated_at = now();
    RETURN NULL;
END $$;

CREATE OR REPLACE TRIGGER demo_entitle_team
    AFTER INSERT OR UPDATE ON payments.webhook_events
    FOR EACH ROW
    WHEN (NEW.processing_status = 'processed' AND NEW.event_type IN (
        'customer.subscription.created',
        'customer.subscription.updated',
        'customer.subscription.deleted',
        'customer.subscription.paused',
        'customer.subscription.resumed'))
    EXECUTE FUNCTION demo.entitle_team();

REVOKE ALL ON FUNCTION demo.fulfill_order(), demo.entitle_team() FROM PUBLIC, anon, authenticated;
